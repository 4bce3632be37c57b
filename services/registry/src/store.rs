//! The database: sites, cameras and the newest snapshot.
//!
//! SQLite in one file of the data directory, or PostgreSQL; every commit is on disk before it returns.

mod schema;

use std::sync::Arc;

use obscura_clock::Timestamp;
use obscura_database::{Database, Location, Write};
use obscura_ids::CameraId;
use obscura_outbox::{Outbox, staged};
use obscura_proto::{
    audit::v1::Event,
    registry::v1::{Camera, SignedSnapshot},
};
use prost::Message as _;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, SqlErr,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    site::{Attestation, Coordinates, Site},
    words::Name,
};

/// Name of the database file in the data directory.
pub const FILE: &str = "registry.sqlite";
/// Schema on a server.
pub const SCHEMA: &str = "registry";
/// Most sites.
pub const MAX_SITES: u64 = 10_000;
/// Most cameras that are not removed.
pub const MAX_CAMERAS: usize = 10_000;

/// The database of the registry.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    /// Told when an audit event was staged.
    staged: Arc<Notify>,
}

impl Store {
    /// Opens the database and brings its tables up to date.
    ///
    /// # Errors
    /// [`obscura_database::Error`].
    pub async fn open(location: &Location) -> Result<Self, obscura_database::Error> {
        let database = Database::open(location, schema::MIGRATIONS).await?;
        Ok(Self { database: Arc::new(database), staged: Arc::default() })
    }

    /// Hands staged audit events over to the outbox, until `shutdown`.
    pub async fn pump(&self, outbox: Outbox, shutdown: CancellationToken) {
        staged::pump(Arc::clone(&self.database), outbox, Arc::clone(&self.staged), shutdown).await;
    }

    /// Adds a site, and the event that tells so.
    ///
    /// # Errors
    /// [`Error::Exists`] where the name is taken, [`Error::Full`], [`Error::Store`].
    pub async fn add_site(&self, site: &Site, event: &Event) -> Result<(), Error> {
        let transaction = self.database.write().await?;
        if schema::site::Entity::find().count(&*transaction).await? >= MAX_SITES {
            return Err(Error::Full("10 000 sites"));
        }
        schema::site::Entity::insert(site_row(site))
            .exec_without_returning(&*transaction)
            .await
            .map_err(|error| taken(error, "site", site.name.as_str()))?;
        staged::stage(&*transaction, event).await?;
        transaction.commit().await?;
        self.staged.notify_one();
        Ok(())
    }

    /// All sites by name.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn sites(&self) -> Result<Vec<Site>, Error> {
        let rows = schema::site::Entity::find()
            .order_by_asc(schema::site::Column::NameKey)
            .all(self.database.readers())
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
            .one(self.database.readers())
            .await?;
        row.map_or_else(|| Err(Error::NoSuchSite(name.to_string())), site_of)
    }

    /// Cameras by name; removed ones only on request.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn cameras(&self, include_removed: bool) -> Result<Vec<Camera>, Error> {
        cameras(self.database.readers(), include_removed).await
    }

    /// The newest snapshot exactly as it was published; `None` before the first.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn snapshot(&self) -> Result<Option<SignedSnapshot>, Error> {
        snapshot(self.database.readers()).await
    }

    /// Begins a change of cameras and snapshot. Nothing of it is visible before
    /// [`Change::commit`]; dropping it undoes it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn begin(&self) -> Result<Change<'_>, Error> {
        Ok(Change { transaction: self.database.write().await?, staged: &self.staged })
    }
}

/// A change that is not committed yet.
#[derive(Debug)]
pub struct Change<'s> {
    transaction: Write<'s>,
    staged: &'s Notify,
}

impl Change<'_> {
    /// The camera with this id, removed or not.
    ///
    /// # Errors
    /// [`Error::NoSuchCamera`], [`Error::Store`] or [`Error::Damaged`].
    pub async fn camera(&self, id: CameraId) -> Result<Camera, Error> {
        let row = schema::camera::Entity::find_by_id(id.to_string()).one(&*self.transaction).await?;
        camera_of(&row.ok_or(Error::NoSuchCamera(id))?)
    }

    /// Cameras that are not removed, by name.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn cameras(&self) -> Result<Vec<Camera>, Error> {
        cameras(&*self.transaction, false).await
    }

    /// The newest snapshot, as in [`Store::snapshot`].
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn snapshot(&self) -> Result<Option<SignedSnapshot>, Error> {
        snapshot(&*self.transaction).await
    }

    /// Version of the newest snapshot; 0 before the first.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Damaged`].
    pub async fn newest_version(&self) -> Result<u64, Error> {
        let query = schema::snapshot::Entity::find().select_only().column(schema::snapshot::Column::Version);
        let newest = query.order_by_desc(schema::snapshot::Column::Version).into_tuple::<i64>();
        let newest = newest.one(&*self.transaction).await?.unwrap_or(0);
        u64::try_from(newest).map_err(|_| Error::Damaged("snapshot"))
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
        let added = schema::camera::Entity::insert(row).exec_without_returning(&*self.transaction).await;
        added.map_err(|error| taken(error, "camera", name.as_str()))?;
        Ok(())
    }

    /// Stores the event that tells of this change, with it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn stage(&self, event: &Event) -> Result<(), Error> {
        Ok(staged::stage(&*self.transaction, event).await?)
    }

    /// Stores a camera in the place of the one with its id and name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn put_camera(&self, camera: &Camera) -> Result<(), Error> {
        schema::camera::Entity::update_many()
            .col_expr(schema::camera::Column::Record, camera.encode_to_vec().into())
            .filter(schema::camera::Column::CameraId.eq(&camera.camera_id))
            .exec(&*self.transaction)
            .await?;
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
        schema::camera::Entity::update(row).exec(&*self.transaction).await?;
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
        schema::snapshot::Entity::insert(row).exec_without_returning(&*self.transaction).await?;
        schema::snapshot::Entity::delete_many()
            .filter(schema::snapshot::Column::Version.lt(version))
            .exec(&*self.transaction)
            .await?;
        Ok(())
    }

    /// Makes the change durable, then calls `committed`, and only then lets the next change begin.
    ///
    /// # Errors
    /// [`Error::Store`]; then `committed` was not called.
    pub async fn commit(self, committed: impl FnOnce()) -> Result<(), Error> {
        self.transaction.commit_then(committed).await?;
        self.staged.notify_one();
        Ok(())
    }
}

async fn snapshot(database: &impl ConnectionTrait) -> Result<Option<SignedSnapshot>, Error> {
    let newest = schema::snapshot::Entity::find().order_by_desc(schema::snapshot::Column::Version);
    let row = newest.one(database).await?;
    row.map(|row| SignedSnapshot::decode(row.signed.as_slice()).map_err(|_| Error::Damaged("snapshot")))
        .transpose()
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
