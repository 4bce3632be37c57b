//! The index: packs, runs and gaps in SQLite or PostgreSQL.
//!
//! One transaction writes at a time, also where several replicas share the tables, and every commit is
//! synced: a recorder frees its spool on our word.

mod arrivals;
mod before;
mod damage;
mod fact;
mod gap;
mod housekeeping;
mod mark;
mod notice;
mod pack;
mod partition;
mod quarantine;
mod receipt;
mod run;
mod schema;
mod settling;
mod stream;
#[cfg(test)]
mod tests;
mod tombstone;
mod upkeep;
mod walk;

use std::sync::Arc;

use obscura_clock::{Span, Timestamp};
use obscura_database::{Database, Location};
use obscura_ids::{CameraId, PackId};
use sea_orm::DbErr;

use crate::{gap::Gap, index::PackRow, run::Run};
use arrivals::{Arrival, Arrivals};

pub use fact::{Fact, moment};
pub use notice::{Notice, Subject};
pub use pack::{PackSummary, Slice};
pub use receipt::{ReceiptRow, Shredded};
pub use run::CameraRun;
pub use tombstone::Tombstone;
pub use walk::Walk;

/// Schema on a server.
pub const SCHEMA: &str = "storage";

/// Why the index failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database did.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// A row holds what was never written.
    #[error("a row holds {0}, which was never written: restore the index or rebuild it")]
    Corrupt(&'static str),
}

impl From<Error> for obscura_database::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::Corrupt(_) => DbErr::Custom(error.to_string()).into(),
        }
    }
}

impl Error {
    /// Whether the database could not be reached at all.
    const fn is_of_connection(&self) -> bool {
        matches!(self, Self::Database(DbErr::ConnectionAcquire(_) | DbErr::Conn(_)))
    }
}

/// What came of offering a pack to the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the index now.
    New,
    /// A pack with this id is there already.
    Before(Box<PackRow>),
    /// It was there, its keys were destroyed, and its object was deleted.
    Buried(Box<Tombstone>),
}

/// The index. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Database>,
    arrivals: Arc<Arrivals>,
}

impl Store {
    /// Opens the index, creates it where there is none.
    ///
    /// # Errors
    /// [`obscura_database::Error`].
    pub async fn open(location: &Location) -> Result<Self, obscura_database::Error> {
        let database = Database::open(location, schema::MIGRATIONS).await?;
        before::take_over(&database).await?;
        Ok(Self { database: Arc::new(database), arrivals: Arc::default() })
    }

    /// The pack with this id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn pack(&self, id: PackId) -> Result<Option<PackRow>, Error> {
        pack::by_id(self.database.readers(), id).await
    }

    /// Those of the packs that are in the index, without their directories.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn summaries(&self, ids: &[PackId]) -> Result<Vec<PackSummary>, Error> {
        pack::summaries(self.database.readers(), ids).await
    }

    /// Those of the packs that are in the index, with their directories.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn packs_by_id(&self, ids: &[PackId]) -> Result<Vec<PackRow>, Error> {
        pack::by_ids(self.database.readers(), ids).await
    }

    /// Those of the packs that were in the index until their objects were deleted.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn tombstones(&self, ids: &[PackId]) -> Result<Vec<Tombstone>, Error> {
        tombstone::of(self.database.readers(), ids).await
    }

    /// A slice of the packs of one camera and layer, by start and id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn packs(&self, slice: &Slice) -> Result<Vec<PackRow>, Error> {
        pack::slice(self.database.readers(), slice).await
    }

    /// Adds a pack and its runs in one transaction, which others that come now may share, durably, and notes that the
    /// audit log has to hear of it. What is destroyed of it already is marked at once and belongs to no run.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`]; nothing is changed then.
    pub async fn insert_pack(&self, row: &PackRow, runs: &[Run], now: Timestamp) -> Result<Inserted, Error> {
        self.add_pack(Arrival { row: row.clone(), runs: runs.to_vec(), tell: Some(now) }).await
    }

    /// Room is found again tomorrow where it cannot be made today.
    async fn drop_empty_days(&self, newest: Timestamp) {
        let work = async {
            let transaction = self.database.write().await?;
            let dropped = partition::drop_empty_days(&*transaction, newest).await?;
            transaction.commit().await.map(|()| dropped)
        };
        match work.await {
            Ok(dropped) => tracing::info!(dropped, "dropped the index tables of days without footage"),
            Err(error) => tracing::warn!(%error, "kept the index tables of days without footage"),
        }
    }

    /// Adds gaps durably. Of one that is there the report that counts is kept ([`Gap::settle`]).
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_gaps(&self, gaps: &[Gap]) -> Result<(), Error> {
        let transaction = self.database.write().await?;
        gap::upsert(&*transaction, gaps).await?;
        Ok(transaction.commit().await?)
    }

    /// At most `limit` gaps that started in the span, by start.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn gaps_started_in(&self, span: Span, limit: u64) -> Result<Vec<Gap>, Error> {
        gap::started_in(self.database.readers(), span, limit).await
    }

    /// Start of the first gap that started at this moment or later.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn first_gap_from(&self, from: Timestamp) -> Result<Option<Timestamp>, Error> {
        gap::first_start(self.database.readers(), from).await
    }

    /// Forgets gaps that ended before a moment.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn prune_gaps(&self, before: Timestamp) -> Result<(), Error> {
        let transaction = self.database.write().await?;
        gap::prune(&*transaction, before).await?;
        Ok(transaction.commit().await?)
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
        run::list(self.database.readers(), camera, span, limit).await
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
        gap::list(self.database.readers(), camera, span, limit).await
    }
}

/// Reads a number that the database keeps signed.
fn unsigned(number: i64, what: &'static str) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Corrupt(what))
}

/// Writes a number that the database keeps signed. Bytes and segments never come near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
