//! The index: packs, runs and gaps in SQLite or PostgreSQL.
//!
//! One transaction writes at a time, also where several replicas share the tables, and every commit is
//! synced: a recorder frees its spool on our word.

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

use crate::{
    gap::Gap,
    index::PackRow,
    run::{Run, runs_of},
};

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
    /// It was there, its keys were destroyed, and its object was deleted.
    Buried(Box<Tombstone>),
}

/// The index. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Database>,
}

impl Store {
    /// Opens the index, creates it where there is none.
    ///
    /// # Errors
    /// [`obscura_database::Error`].
    pub async fn open(location: &Location) -> Result<Self, obscura_database::Error> {
        Ok(Self { database: Arc::new(Database::open(location, schema::MIGRATIONS).await?) })
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

    /// A slice of the packs of one camera and layer, by start and id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn packs(&self, slice: &Slice) -> Result<Vec<PackRow>, Error> {
        pack::slice(self.database.readers(), slice).await
    }

    /// Adds a pack and its runs in one transaction, durably, and notes that the audit log has to hear of
    /// it. What is destroyed of it already is marked at once and belongs to no run.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`]; nothing is changed then.
    pub async fn insert_pack(&self, row: &PackRow, runs: &[Run], now: Timestamp) -> Result<Inserted, Error> {
        self.add_pack(row, runs, Some(now)).await
    }

    async fn add_pack(
        &self,
        row: &PackRow,
        runs: &[Run],
        tell: Option<Timestamp>,
    ) -> Result<Inserted, Error> {
        let transaction = self.database.write().await?;
        if let Some(before) = pack::by_id(&*transaction, row.pack).await? {
            return Ok(Inserted::Before(Box::new(before)));
        }
        if let Some(stone) = tombstone::find(&*transaction, row.pack).await? {
            return Ok(Inserted::Buried(Box::new(stone)));
        }
        let is_first_of_day = pack::insert(&*transaction, row).await?;
        let entries = upkeep::entries(row)?;
        let left = upkeep::mark_late(&*transaction, row, &entries).await?.map(|marks| {
            let left = (0..).zip(&entries).filter(|(segment, _)| !marks.contains(*segment));
            runs_of(left.map(|(_, entry)| (entry.span, entry.length)))
        });
        for run in left.as_deref().unwrap_or(runs) {
            run::insert(&*transaction, row.camera, row.layer, *run).await?;
        }
        if let Some(now) = tell {
            notice::add_arrival(&*transaction, row, now).await?;
        }
        transaction.commit().await?;
        if is_first_of_day {
            self.drop_empty_days(row.span.start()).await;
        }
        Ok(Inserted::New)
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

    /// Adds gaps, or replaces those with the same ids, durably.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_gaps(&self, gaps: &[Gap]) -> Result<(), Error> {
        let transaction = self.database.write().await?;
        gap::upsert(&*transaction, gaps).await?;
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
