//! The database: sites, cameras and the newest snapshot.
//!
//! SQLite in one file of the data directory (WAL, every commit on disk before it returns); nothing
//! here is particular to it except [`Store::open`].

mod schema;

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use obscura_proto::registry::v1::{Camera, SignedSnapshot};
use prost::Message as _;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectOptions, ConnectionTrait, Database, DatabaseConnection,
    DatabaseTransaction, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    SqlErr, TransactionTrait as _,
};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    error::Error,
    site::{Attestation, Coordinates, Site},
    words::Name,
};

/// Name of the database file in the data directory.
const FILE: &str = "registry.sqlite";
/// Connections at once: one writer and a few readers.
const MAX_CONNECTIONS: u32 = 4;
/// How long a statement waits for another process that holds the file, for example a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most sites.
pub const MAX_SITES: u64 = 10_000;
/// Most cameras that are not removed.
pub const MAX_CAMERAS: usize = 10_000;

/// The database of the registry.
#[derive(Debug)]
pub struct Store {
    database: DatabaseConnection,
    /// One writer at a time: SQLite would refuse a second one in the middle of its transaction.
    writing: Mutex<()>,
}

impl Store {
    /// Opens the database in `data_dir` and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::NewerSchema`] or [`Error::Store`].
    pub async fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        // SQLite gives its side files the mode of this one: names of people are in here.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|cause| Error::File { path: path.display().to_string(), cause })?;
        let mut options = ConnectOptions::new("sqlite:");
        options.max_connections(MAX_CONNECTIONS).sqlx_logging(false).map_sqlx_sqlite_opts(move |options| {
            options
                .filename(&path)
                .busy_timeout(BUSY_TIMEOUT)
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "FULL")
        });
        let database = Database::connect(options).await?;
        schema::migrate(&database).await?;
        Ok(Self { database, writing: Mutex::new(()) })
    }

    /// Adds a site.
    ///
    /// # Errors
    /// [`Error::Exists`] where the name is taken, [`Error::Full`], [`Error::Store`].
    pub async fn add_site(&self, site: &Site) -> Result<(), Error> {
        let _turn = self.writing.lock().await;
        if schema::site::Entity::find().count(&self.database).await? >= MAX_SITES {
            return Err(Error::Full("10 000 sites"));
        }
        schema::site::Entity::insert(site_row(site))
            .exec(&self.database)
            .await
            .map_err(|error| taken(error, "site", site.name.as_str()))?;
        Ok(())
    }

    /// All sites by name.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn sites(&self) -> Result<Vec<Site>, Error> {
        let rows = schema::site::Entity::find()
            .order_by_asc(schema::site::Column::NameKey)
            .all(&self.database)
            .await?;
        rows.into_iter().map(site_of).collect()
    }

    /// The site with this name.
    ///
    /// # Errors
    /// [`Error::NoSuchSite`], [`Error::Store`] or [`Error::Damaged`].
    pub async fn site(&self, name: &Name) -> Result<Site, Error> {
        let row = schema::site::Entity::find()
            .filter(schema::site::Column::NameKey.eq(name.key()))
            .one(&self.database)
            .await?;
        row.map_or_else(|| Err(Error::NoSuchSite(name.to_string())), site_of)
    }

    /// Cameras by name; removed ones only on request.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn cameras(&self, include_removed: bool) -> Result<Vec<Camera>, Error> {
        cameras(&self.database, include_removed).await
    }

    /// The newest snapshot exactly as it was published; `None` before the first.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn snapshot(&self) -> Result<Option<SignedSnapshot>, Error> {
        let row = schema::snapshot::Entity::find()
            .order_by_desc(schema::snapshot::Column::Version)
            .one(&self.database)
            .await?;
        row.map(|row| SignedSnapshot::decode(row.signed.as_slice()).map_err(|_| Error::Damaged("snapshot")))
            .transpose()
    }

    /// Begins a change of cameras and snapshot. Nothing of it is visible before
    /// [`Change::commit`]; dropping it undoes it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn begin(&self) -> Result<Change<'_>, Error> {
        let turn = self.writing.lock().await;
        Ok(Change { transaction: self.database.begin().await?, turn })
    }
}

/// A change that is not committed yet.
#[derive(Debug)]
pub struct Change<'s> {
    transaction: DatabaseTransaction,
    turn: MutexGuard<'s, ()>,
}

impl Change<'_> {
    /// The camera with this id, removed or not.
    ///
    /// # Errors
    /// [`Error::NoSuchCamera`], [`Error::Store`] or [`Error::Damaged`].
    pub async fn camera(&self, id: CameraId) -> Result<Camera, Error> {
        let row = schema::camera::Entity::find_by_id(id.to_string()).one(&self.transaction).await?;
        camera_of(&row.ok_or(Error::NoSuchCamera(id))?)
    }

    /// Cameras that are not removed, by name.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn cameras(&self) -> Result<Vec<Camera>, Error> {
        cameras(&self.transaction, false).await
    }

    /// Adds a camera.
    ///
    /// # Errors
    /// [`Error::Exists`] where the name is taken, [`Error::Store`].
    pub async fn add_camera(&self, name: &Name, camera: &Camera) -> Result<(), Error> {
        let row = schema::camera::ActiveModel {
            camera_id: Set(camera.camera_id.clone()),
            name: Set(name.to_string()),
            live_name_key: Set(Some(name.key())),
            record: Set(camera.encode_to_vec()),
        };
        let added = schema::camera::Entity::insert(row).exec(&self.transaction).await;
        added.map_err(|error| taken(error, "camera", name.as_str()))?;
        Ok(())
    }

    /// Stores a camera as removed; its name becomes free.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn remove_camera(&self, camera: &Camera) -> Result<(), Error> {
        let row = schema::camera::ActiveModel {
            camera_id: Set(camera.camera_id.clone()),
            name: Set(camera.name.clone()),
            live_name_key: Set(None),
            record: Set(camera.encode_to_vec()),
        };
        schema::camera::Entity::update(row).exec(&self.transaction).await?;
        Ok(())
    }

    /// Stores the snapshot in the place of the one before.
    ///
    /// # Errors
    /// [`Error::Store`], also where another writer made the same version.
    pub async fn put_snapshot(&self, version: u64, signed: &SignedSnapshot) -> Result<(), Error> {
        let version = i64::try_from(version).map_err(|_| Error::Full("2^63 snapshots"))?;
        let row =
            schema::snapshot::ActiveModel { version: Set(version), signed: Set(signed.encode_to_vec()) };
        schema::snapshot::Entity::insert(row).exec(&self.transaction).await?;
        schema::snapshot::Entity::delete_many()
            .filter(schema::snapshot::Column::Version.lt(version))
            .exec(&self.transaction)
            .await?;
        Ok(())
    }

    /// Makes the change durable, then calls `committed`, and only then lets the next change begin.
    ///
    /// # Errors
    /// [`Error::Store`]; then `committed` was not called.
    pub async fn commit(self, committed: impl FnOnce()) -> Result<(), Error> {
        let Self { transaction, turn } = self;
        transaction.commit().await?;
        committed();
        drop(turn);
        Ok(())
    }
}

async fn cameras(database: &impl ConnectionTrait, include_removed: bool) -> Result<Vec<Camera>, Error> {
    let mut query = schema::camera::Entity::find();
    if !include_removed {
        query = query.filter(schema::camera::Column::LiveNameKey.is_not_null());
    }
    let rows = query
        .order_by_asc(schema::camera::Column::Name)
        .order_by_asc(schema::camera::Column::CameraId)
        .all(database)
        .await?;
    rows.iter().map(camera_of).collect()
}

fn camera_of(row: &schema::camera::Model) -> Result<Camera, Error> {
    Camera::decode(row.record.as_slice()).map_err(|_| Error::Damaged("camera"))
}

fn site_row(site: &Site) -> schema::site::ActiveModel {
    schema::site::ActiveModel {
        site_id: Set(site.id.to_string()),
        name: Set(site.name.to_string()),
        name_key: Set(site.name.key()),
        latitude: Set(site.attestation.coordinates.latitude()),
        longitude: Set(site.attestation.coordinates.longitude()),
        attested_by: Set(site.attestation.attested_by.clone()),
        attested_unix_ns: Set(site.attestation.attested.unix_nanos()),
        country: Set(site.country.map(|country| country.to_string())),
    }
}

fn site_of(row: schema::site::Model) -> Result<Site, Error> {
    let damaged = || Error::Damaged("site");
    Ok(Site {
        id: row.site_id.parse().map_err(|_| damaged())?,
        name: Name::read("the name of the site", &row.name).map_err(|_| damaged())?,
        attestation: Attestation {
            coordinates: Coordinates::new(row.latitude, row.longitude).map_err(|_| damaged())?,
            attested_by: row.attested_by,
            attested: Timestamp::from_unix_nanos(row.attested_unix_ns),
        },
        country: row.country.map(|code| code.parse()).transpose().map_err(|_| damaged())?,
    })
}

/// A broken unique constraint is a name that is taken; anything else is a fault.
fn taken(error: DbErr, kind: &'static str, name: &str) -> Error {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => Error::Exists { kind, name: name.to_owned() },
        _ => Error::Store(error),
    }
}

#[cfg(test)]
mod tests;
