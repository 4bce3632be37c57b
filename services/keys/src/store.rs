//! The key database. Holds wrapped and sealed keys only.
//!
//! SQLite or PostgreSQL: types and statements are those that both understand. All writing goes
//! through one [`Writer`] at a time, also across processes, so that what a writer has read stays true
//! until it commits. Each table has a module with its row and its statements.

pub mod destroyed_key;
pub mod doomed_secret;
pub mod epoch;
pub mod epoch_key;
pub mod held_key;
pub mod hold;
mod intake_key;
pub mod kept_key;
mod key_version;
pub mod layer_key;
pub mod note;
pub mod pending_receipt;
pub mod receipt_key;
pub mod retention;
pub mod shred_receipt;
pub mod shredded_span;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use obscura_clock::Timestamp;
use obscura_database::{Database, Location, Migration, create_table};
use obscura_ids::ZoneId;
use obscura_outbox::{Outbox, staged};
use obscura_proto::audit::v1::Event;
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, EntityTrait as _, PaginatorTrait as _,
    Statement,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use writer::Writer;

use crate::{
    error::Error,
    journal::Journal,
    key_encryption::{KeyVersion, WrappedSecret},
};

/// Schema on a server.
pub const SCHEMA: &str = "keys";
/// Rows or ids in one statement: both databases take many times as many parameters.
const CHUNK: usize = 500;

/// How the tables came to be.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "epoch keys, layer keys, intake keys", statements: first_tables },
    Migration {
        version: 2,
        name: "hourly epochs, holds, receipts of destruction",
        statements: custody_tables,
    },
    Migration { version: 3, name: "staged audit events", statements: staged::create_table },
    Migration { version: 4, name: "leaves of epoch keys", statements: leaves },
    Migration { version: 5, name: "spans that were destroyed early", statements: shredded_spans },
];

/// The database.
pub struct Store {
    database: Arc<Database>,
    /// Told when an audit event was staged.
    staged: Arc<Notify>,
    journal: Arc<Journal>,
    /// Tests live in another time than their server, unless they say otherwise.
    #[cfg(test)]
    listens: std::sync::atomic::AtomicBool,
}

/// The intake key as stored.
pub struct IntakeRow {
    pub public_key: Vec<u8>,
    pub private_key: WrappedSecret,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub layer_keys: u64,
    pub epoch_keys: u64,
    pub holds: u64,
    pub shred_receipts: u64,
}

impl Store {
    /// Opens the database, which makes its tables where there are none.
    pub async fn open(location: &Location) -> Result<Self, obscura_database::Error> {
        let database = Arc::new(Database::open(location, MIGRATIONS).await?);
        let staged = Arc::<Notify>::default();
        Ok(Self {
            journal: Arc::new(Journal::new(Arc::clone(&database), Arc::clone(&staged))),
            database,
            staged,
            #[cfg(test)]
            listens: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// Hands staged audit events over to the outbox, until `shutdown`.
    pub async fn pump(&self, outbox: Outbox, shutdown: CancellationToken) {
        staged::pump(Arc::clone(&self.database), outbox, Arc::clone(&self.staged), shutdown).await;
    }

    /// Stages an audit event about an act that has no transaction; it is durable on return.
    ///
    /// # Errors
    /// As [`Journal::tell`]; the act must not be done then.
    pub async fn tell(&self, event: Event) -> Result<(), Error> {
        self.journal.tell(event).await
    }

    /// Tells that an audit event was staged.
    pub fn staged(&self) {
        self.staged.notify_one();
    }

    /// To read with.
    pub fn reader(&self) -> &DatabaseConnection {
        self.database.readers()
    }

    /// Whether no key has ever been made here.
    pub async fn is_empty(&self) -> Result<bool, DbErr> {
        let reader = self.reader();
        let kept = epoch::count(reader).await? + kept_key::count(reader).await?;
        let before = epoch_key::count(reader).await? + layer_key::count(reader).await?;
        Ok(kept + before + intake_key::Entity::find().count(reader).await? == 0)
    }

    /// How much is kept.
    pub async fn counts(&self) -> Result<Counts, DbErr> {
        let reader = self.reader();
        Ok(Counts {
            layer_keys: kept_key::count(reader).await?,
            epoch_keys: epoch::count(reader).await?,
            holds: hold::count(reader).await?,
            shred_receipts: shred_receipt::count(reader).await?,
        })
    }

    /// The intake key of the zone.
    pub async fn intake_key(&self, zone: &ZoneId) -> Result<Option<IntakeRow>, Error> {
        let row = intake_key::Entity::find_by_id(zone.as_str()).one(self.reader()).await?;
        row.map(intake_row).transpose()
    }

    /// What time the database server has; `None` where the database is a file of this machine.
    pub async fn server_time(&self) -> Result<Option<Timestamp>, DbErr> {
        #[cfg(test)]
        if !self.listens.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(None);
        }
        if self.database.backend() != DbBackend::Postgres {
            return Ok(None);
        }
        let query = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
        let row = self.reader().query_one_raw(Statement::from_string(DbBackend::Postgres, query)).await?;
        let micros: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
        Ok(micros.map(|micros| Timestamp::from_unix_nanos(micros.saturating_mul(1_000))))
    }

    /// Begins to write; waits for whoever writes now. Dropping the writer undoes what it did.
    pub async fn write(&self) -> Result<Writer<'_>, DbErr> {
        Ok(Writer::new(self.database.write().await?))
    }

    /// From now on the server's clock counts.
    #[cfg(test)]
    pub fn listen_to_server(&self) {
        self.listens.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Closes the file, after which nothing can be read: for tests that look at its bytes.
    #[cfg(test)]
    pub async fn close_for_test(&self) {
        self.database.close().await.unwrap();
    }
}

/// Databases from before versions were counted have these tables already.
fn first_tables(backend: DbBackend) -> Vec<Statement> {
    [
        create_table(backend, key_version::Entity),
        create_table(backend, intake_key::Entity),
        create_table(backend, epoch_key::Entity),
        create_table(backend, layer_key::Entity),
    ]
    .concat()
}

/// What the daily tables of version 1 hold moves here at the next start (`crate::daily`).
fn custody_tables(backend: DbBackend) -> Vec<Statement> {
    [
        create_table(backend, epoch::Entity),
        kept_keys_without_leaves(backend),
        create_table(backend, hold::Entity),
        create_table(backend, held_key::Entity),
        create_table(backend, destroyed_key::Entity),
        create_table(backend, doomed_secret::Entity),
        create_table(backend, pending_receipt::Entity),
        create_table(backend, shred_receipt::Entity),
        create_table(backend, receipt_key::Entity),
        create_table(backend, retention::Entity),
        create_table(backend, note::Entity),
    ]
    .concat()
}

/// The table of version 2, before a row had a leaf.
fn kept_keys_without_leaves(backend: DbBackend) -> Vec<Statement> {
    let bytes = if backend == DbBackend::Postgres { "bytea" } else { "blob" };
    let table = format!(
        "CREATE TABLE IF NOT EXISTS kept_key (key_id varchar NOT NULL PRIMARY KEY, camera_id varchar NOT NULL, \
         layer smallint NOT NULL, hour bigint NOT NULL, zone varchar NOT NULL, writer_epoch bigint NOT NULL, \
         expiry_hour bigint NOT NULL, sealed_key {bytes} NOT NULL, imported_unix_ns bigint NOT NULL)"
    );
    [
        &*table,
        "CREATE INDEX IF NOT EXISTS \"idx-kept_key-camera_id\" ON kept_key (camera_id)",
        "CREATE INDEX IF NOT EXISTS \"idx-kept_key-expiry_hour\" ON kept_key (expiry_hour)",
    ]
    .map(|statement| Statement::from_string(backend, statement))
    .into()
}

/// Rows that are there stay under the roots of their epochs.
fn leaves(backend: DbBackend) -> Vec<Statement> {
    [
        "ALTER TABLE kept_key ADD COLUMN leaf smallint",
        "DROP INDEX \"idx-kept_key-expiry_hour\"",
        "CREATE INDEX \"idx-kept_key-expiry_hour-leaf\" ON kept_key (expiry_hour, leaf)",
    ]
    .map(|statement| Statement::from_string(backend, statement))
    .into()
}

fn shredded_spans(backend: DbBackend) -> Vec<Statement> {
    create_table(backend, shredded_span::Entity)
}

fn intake_row(row: intake_key::Model) -> Result<IntakeRow, Error> {
    let name = || format!("the intake key of zone {}", row.zone);
    let private_key = secret(row.key_version, row.wrapped_private_key).ok_or_else(|| damaged(name()))?;
    Ok(IntakeRow { public_key: row.public_key, private_key })
}

fn secret(version: i64, bytes: Vec<u8>) -> Option<WrappedSecret> {
    Some(WrappedSecret { version: KeyVersion(u32::try_from(version).ok()?), bytes })
}

/// A stored number that is never negative; `what` names its column.
fn unsigned(number: i64, what: &str) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| damaged(format!("the row with {what} {number}")))
}

fn damaged(row: String) -> Error {
    Error::Damaged { row }
}
