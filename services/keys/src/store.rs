//! The key database. Holds wrapped and sealed keys only.
//!
//! SQLite in WAL mode with `synchronous = FULL`: what is committed survives a power failure. Types
//! and statements are those that PostgreSQL understands as well. All writing goes through one
//! [`Writer`] at a time, so that what a writer has read stays true until it commits.

mod epoch_key;
mod intake_key;
mod key_version;
mod layer_key;
mod writer;

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use obscura_ids::{Layer, LayerKeyId, WriterEpoch, ZoneId};
use obscura_seal::{Hour, LayerKeyContext};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, EntityTrait, PaginatorTrait as _,
    Schema, TransactionTrait as _,
};
use tokio::sync::Mutex;

pub use writer::Writer;

use crate::{
    epoch::ExpiryDay,
    error::Error,
    key_encryption::{KeyVersion, WrappedSecret},
};

const MAX_CONNECTIONS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The database.
pub struct Store {
    database: DatabaseConnection,
    writing: Mutex<()>,
}

/// The intake key as stored.
pub struct IntakeRow {
    pub public_key: Vec<u8>,
    pub private_key: WrappedSecret,
}

/// A layer key as stored.
#[derive(Clone, Debug)]
pub struct LayerKeyRow {
    pub context: LayerKeyContext,
    pub day: ExpiryDay,
    pub sealed: Vec<u8>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub layer_keys: u64,
    pub epoch_keys: u64,
    pub intake_keys: u64,
}

impl Store {
    /// Opens the database, which makes file (mode 0600) and tables where there are none.
    pub async fn open(path: &Path) -> Result<Self, DbErr> {
        create_private(path).map_err(|error| DbErr::Custom(format!("{}: {error}", path.display())))?;
        let store = Self { database: Database::connect(options(path)).await?, writing: Mutex::new(()) };
        store.create_tables().await?;
        Ok(store)
    }

    /// Whether no key has ever been made here.
    pub async fn is_empty(&self) -> Result<bool, DbErr> {
        let counts = self.counts().await?;
        Ok(counts.intake_keys + counts.epoch_keys + counts.layer_keys == 0)
    }

    /// How much is kept.
    pub async fn counts(&self) -> Result<Counts, DbErr> {
        Ok(Counts {
            layer_keys: layer_key::Entity::find().count(&self.database).await?,
            epoch_keys: epoch_key::Entity::find().count(&self.database).await?,
            intake_keys: intake_key::Entity::find().count(&self.database).await?,
        })
    }

    /// The intake key of the zone.
    pub async fn intake_key(&self, zone: &ZoneId) -> Result<Option<IntakeRow>, Error> {
        let row = intake_key::Entity::find_by_id(zone.as_str()).one(&self.database).await?;
        row.map(intake_row).transpose()
    }

    /// One epoch key.
    pub async fn epoch_key(&self, zone: &ZoneId, day: ExpiryDay) -> Result<Option<WrappedSecret>, Error> {
        epoch_key(&self.database, zone, day).await
    }

    /// One layer key.
    pub async fn layer_key(&self, id: LayerKeyId) -> Result<Option<LayerKeyRow>, Error> {
        layer_key(&self.database, id).await
    }

    /// Begins to write; waits for whoever writes now. Dropping the writer undoes what it did.
    pub async fn write(&self) -> Result<Writer<'_>, DbErr> {
        let turn = self.writing.lock().await;
        Ok(Writer::new(self.database.begin().await?, turn))
    }

    /// Closes the file, after which nothing can be read: for tests that look at its bytes.
    #[cfg(test)]
    pub async fn close_for_test(&self) {
        self.database.close_by_ref().await.unwrap();
    }

    async fn create_tables(&self) -> Result<(), DbErr> {
        let schema = Schema::new(self.database.get_database_backend());
        create_table(&self.database, &schema, key_version::Entity).await?;
        create_table(&self.database, &schema, intake_key::Entity).await?;
        create_table(&self.database, &schema, epoch_key::Entity).await?;
        create_table(&self.database, &schema, layer_key::Entity).await
    }
}

fn options(path: &Path) -> ConnectOptions {
    let path = path.to_owned();
    let mut options = ConnectOptions::new("sqlite://");
    options.max_connections(MAX_CONNECTIONS).sqlx_logging(false);
    // The name is given here and not in the URL, where `?`, `#` and `%` would mean something.
    options.map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite.filename(&path).busy_timeout(BUSY_TIMEOUT);
        sqlite.pragma("journal_mode", "WAL").pragma("synchronous", "FULL")
    });
    options
}

/// SQLite gives its side files the mode of the database.
fn create_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(|_| ())
}

async fn create_table<E: EntityTrait>(
    database: &DatabaseConnection,
    schema: &Schema,
    entity: E,
) -> Result<(), DbErr> {
    database.execute(schema.create_table_from_entity(entity).if_not_exists()).await?;
    for mut index in schema.create_index_from_entity(entity) {
        database.execute(index.if_not_exists()).await?;
    }
    Ok(())
}

async fn layer_key(database: &impl ConnectionTrait, id: LayerKeyId) -> Result<Option<LayerKeyRow>, Error> {
    let row = layer_key::Entity::find_by_id(id.to_string()).one(database).await?;
    row.map(|row| layer_key_row(row).ok_or_else(|| damaged(format!("layer key {id}")))).transpose()
}

async fn epoch_key(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    day: ExpiryDay,
) -> Result<Option<WrappedSecret>, Error> {
    let id = (zone.to_string(), i64::from(day.number()));
    let row = epoch_key::Entity::find_by_id(id).one(database).await?;
    row.map(epoch_secret).transpose()
}

/// Reads a row back into types; `None` where a column holds what was never stored.
fn layer_key_row(row: layer_key::Model) -> Option<LayerKeyRow> {
    let context = LayerKeyContext {
        key_id: row.key_id.parse().ok()?,
        camera: row.camera_id.parse().ok()?,
        layer: Layer::from_code(u8::try_from(row.layer).ok()?)?,
        hour: Hour::new(u32::try_from(row.hour).ok()?).ok()?,
        zone: row.zone.parse().ok()?,
        writer_epoch: WriterEpoch(u64::try_from(row.writer_epoch).ok()?),
    };
    Some(LayerKeyRow { context, day: day(row.expiry_day).ok()?, sealed: row.sealed_key })
}

fn intake_row(row: intake_key::Model) -> Result<IntakeRow, Error> {
    let name = || format!("the intake key of zone {}", row.zone);
    let private_key = secret(row.key_version, row.wrapped_private_key).ok_or_else(|| damaged(name()))?;
    Ok(IntakeRow { public_key: row.public_key, private_key })
}

fn epoch_secret(row: epoch_key::Model) -> Result<WrappedSecret, Error> {
    let name = || format!("epoch key {}/{}", row.zone, row.expiry_day);
    secret(row.key_version, row.wrapped_key).ok_or_else(|| damaged(name()))
}

fn secret(version: i64, bytes: Vec<u8>) -> Option<WrappedSecret> {
    Some(WrappedSecret { version: KeyVersion(u32::try_from(version).ok()?), bytes })
}

fn day(number: i64) -> Result<ExpiryDay, Error> {
    let number = u32::try_from(number).map_err(|_| damaged(format!("the row with expiry day {number}")))?;
    Ok(ExpiryDay::from_number(number))
}

fn damaged(row: String) -> Error {
    Error::Damaged { row }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use obscura_clock::Timestamp;
    use sea_orm::{DbBackend, QueryResult, Statement};

    use super::*;

    async fn query(store: &Store, sql: &str) -> QueryResult {
        let statement = Statement::from_string(DbBackend::Sqlite, sql.to_owned());
        store.database.query_one_raw(statement).await.unwrap().unwrap()
    }

    async fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        // A name that would mean something else in a URL.
        let store = Store::open(&directory.path().join("ke?ys%20#.sqlite")).await.unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn every_connection_writes_ahead_and_waits_for_the_disk() {
        let (_directory, store) = store().await;
        for _ in 0..MAX_CONNECTIONS {
            let mode: String = query(&store, "PRAGMA journal_mode").await.try_get_by_index(0).unwrap();
            let synchronous: i64 = query(&store, "PRAGMA synchronous").await.try_get_by_index(0).unwrap();
            assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        }
    }

    #[tokio::test]
    async fn every_file_of_the_database_is_private() {
        let (directory, store) = store().await;
        store.write().await.unwrap().commit().await.unwrap();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
        }
    }

    #[tokio::test]
    async fn a_writer_that_is_dropped_leaves_nothing_behind() {
        let (_directory, store) = store().await;
        let zone = "eea".parse().unwrap();
        let key = WrappedSecret { version: KeyVersion(1), bytes: vec![1] };
        let writer = store.write().await.unwrap();
        writer.put_epoch_key(&zone, ExpiryDay::from_number(7), key.clone()).await.unwrap();
        drop(writer);
        assert!(store.is_empty().await.unwrap());
        let writer = store.write().await.unwrap();
        writer.put_epoch_key(&zone, ExpiryDay::from_number(7), key.clone()).await.unwrap();
        writer.commit().await.unwrap();
        assert_eq!(store.epoch_key(&zone, ExpiryDay::from_number(7)).await.unwrap(), Some(key));
        assert!(!store.is_empty().await.unwrap());
    }

    #[tokio::test]
    async fn versions_are_written_down_once_and_retired_once() {
        let (_directory, store) = store().await;
        let at = Timestamp::from_unix_nanos;
        let writer = store.write().await.unwrap();
        for (version, seen) in [(1, 10), (2, 20), (1, 30)] {
            writer.record_version(KeyVersion(version), at(seen)).await.unwrap();
        }
        writer.record_retired_before(KeyVersion(2), at(40)).await.unwrap();
        writer.record_retired_before(KeyVersion(2), at(50)).await.unwrap();
        writer.commit().await.unwrap();
        let rows = key_version::Entity::find().all(&store.database).await.unwrap();
        let rows: Vec<_> =
            rows.iter().map(|row| (row.version, row.created_unix_ns, row.retired_unix_ns)).collect();
        assert_eq!(rows, [(1, 10, Some(40)), (2, 20, None)]);
    }

    #[test]
    fn the_schema_is_one_that_postgresql_takes() {
        let schema = Schema::new(DbBackend::Postgres);
        let table = schema.create_table_from_entity(layer_key::Entity);
        let sql = DbBackend::Postgres.build(&table).to_string();
        assert!(sql.contains("\"sealed_key\" bytea NOT NULL"), "{sql}");
        assert!(sql.contains("\"writer_epoch\" bigint NOT NULL"), "{sql}");
    }
}
