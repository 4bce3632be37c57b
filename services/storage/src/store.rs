//! The index: packs, runs and gaps in SQLite.
//!
//! Writing goes through one connection, so that transactions queue up instead of failing, and every
//! commit is synced (WAL, `synchronous=FULL`): a recorder frees its spool on our word. Everything is
//! said through sea-orm in words that PostgreSQL knows too; there, one writer becomes a serialisable
//! transaction.

mod gap;
mod pack;
mod run;
mod schema;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use obscura_clock::Span;
use obscura_ids::{CameraId, PackId};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};

use crate::{gap::Gap, index::PackRow, run::Run};

pub use pack::{PackSummary, Slice};
pub use run::CameraRun;

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a statement waits for a lock.
const BUSY: Duration = Duration::from_secs(10);

/// Why the index failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// A row holds what was never written.
    #[error("a row holds {0}, which was never written: restore the index or rebuild it")]
    Corrupt(&'static str),
}

/// What came of offering a pack to the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the index now.
    New,
    /// A pack with this id is there already.
    Before(Box<PackRow>),
}

/// The index. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    writer: DatabaseConnection,
    readers: DatabaseConnection,
}

impl Store {
    /// Opens the index, creates it where there is none.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let writer = connect(path, 1).await?;
        schema::create(&writer).await?;
        let readers = connect(path, READERS).await?;
        Ok(Self { writer, readers })
    }

    /// The pack with this id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn pack(&self, id: PackId) -> Result<Option<PackRow>, Error> {
        pack::by_id(&self.readers, id).await
    }

    /// Those of the packs that are in the index, without their directories.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn summaries(&self, ids: &[PackId]) -> Result<Vec<PackSummary>, Error> {
        pack::summaries(&self.readers, ids).await
    }

    /// A slice of the packs of one camera and layer, by start and id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn packs(&self, slice: &Slice) -> Result<Vec<PackRow>, Error> {
        pack::slice(&self.readers, slice).await
    }

    /// Adds a pack and its runs in one transaction, durably.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`]; nothing is changed then.
    pub async fn insert_pack(&self, row: &PackRow, runs: &[Run]) -> Result<Inserted, Error> {
        let transaction = self.begin().await?;
        if let Some(before) = pack::by_id(&transaction, row.pack).await? {
            return Ok(Inserted::Before(Box::new(before)));
        }
        pack::insert(&transaction, row).await?;
        for run in runs {
            run::insert(&transaction, row.camera, row.layer, *run).await?;
        }
        transaction.commit().await?;
        Ok(Inserted::New)
    }

    /// Adds gaps, or replaces those with the same ids, durably.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_gaps(&self, gaps: &[Gap]) -> Result<(), Error> {
        gap::upsert(&self.writer, gaps).await
    }

    /// At most `limit` runs by camera, start and layer: of one camera or all, all or those that
    /// overlap a span.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn runs(
        &self,
        camera: Option<CameraId>,
        span: Option<Span>,
        limit: u64,
    ) -> Result<Vec<CameraRun>, Error> {
        run::list(&self.readers, camera, span, limit).await
    }

    /// At most `limit` gaps by camera and start, chosen as in [`Store::runs`].
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn gaps(
        &self,
        camera: Option<CameraId>,
        span: Option<Span>,
        limit: u64,
    ) -> Result<Vec<Gap>, Error> {
        gap::list(&self.readers, camera, span, limit).await
    }

    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.writer.begin_with_options(options).await
    }
}

async fn connect(path: &Path, connections: u32) -> Result<DatabaseConnection, DbErr> {
    let path = path.to_owned();
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(connections).sqlx_logging(false).map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .in_memory(false)
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
    });
    Database::connect(options).await
}

/// Reads a number that the database keeps signed.
fn unsigned(number: i64, what: &'static str) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Corrupt(what))
}

/// Writes a number that the database keeps signed. Bytes and segments never come near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
