//! Which of several audit services on one PostgreSQL server writes the log: one leads, the others stand by.
//!
//! Whoever has an advisory lock of the server leads. The lock ends with its connection, and the server ends a
//! connection that was silent for `settings.lease_seconds`, so that a leader that died, lost the
//! network or hangs is replaced. A standby does not listen: callers that try its address find nobody and try
//! again, and a load balancer sends them to the leader.
//!
//! The lock decides who should write and nothing else. That nobody else does is decided by the database, commit by
//! commit: see `store::term`. So a lock that a proxy lost, or two that believe to have it, cost a restart and no entry.

use std::{path::Path, time::Duration};

use obscura_database::{Database, Location};
use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr, Statement, TransactionTrait as _,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    persons::{FileError, Lock},
    store::{MIGRATIONS, Store},
};

/// By schema, as the lock of writers.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtext('obscura audit leader'), \
                    hashtext(current_setting('search_path')))";
/// How often the leader shows that it lives and a standby looks; a lease lasts at least two of them.
const BEAT: Duration = Duration::from_secs(1);

/// The lock, or the wish to have it.
#[derive(Debug)]
pub struct Lease {
    /// None with SQLite.
    database: Option<Database>,
    seconds: u32,
    /// It lives in a transaction that writes nothing and reads no table.
    held: Option<DatabaseTransaction>,
}

impl Lease {
    /// Waits until nobody else has the lease; `None` where the shutdown came first. SQLite has none: there the file
    /// of persons' keys lets one process at a time in.
    ///
    /// # Errors
    /// Where the database cannot be used at all.
    pub async fn wait(
        location: &Location,
        seconds: u32,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        let database = match location {
            Location::Sqlite(_) => None,
            Location::Postgres { .. } => Some(Database::open(location, MIGRATIONS).await?),
        };
        let mut lease = Self { database, seconds, held: None };
        let got = shutdown.run_until_cancelled(lease.acquire()).await;
        Ok(got.map(|()| lease))
    }

    /// Whether other services may wait for this one.
    const fn is_shared(&self) -> bool {
        self.database.is_some()
    }

    /// Locks the file of persons' keys. One that shares it and lost the lease without noticing has it for a while.
    ///
    /// # Errors
    /// [`FileError::Locked`] at once where nobody can have a lease.
    pub async fn lock(&self, file: &Path, shutdown: &CancellationToken) -> Result<Option<Lock>, FileError> {
        loop {
            match Lock::take(file) {
                Err(FileError::Locked(_)) if self.is_shared() => {}
                locked => return locked.map(Some),
            }
            // Where the lease is lost meanwhile, whoever has it waits for the same file.
            self.beat().await;
            if shutdown.run_until_cancelled(sleep(BEAT)).await.is_none() {
                return Ok(None);
            }
        }
    }

    async fn acquire(&mut self) {
        let mut told = false;
        loop {
            match self.try_acquire().await {
                Ok(true) => return,
                Ok(false) if told => {}
                Ok(false) => {
                    tracing::info!(
                        "another audit service leads this log; this one stands by and does not listen"
                    );
                    told = true;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot ask for the lease of the log; the next time tries again");
                }
            }
            sleep(BEAT).await;
        }
    }

    async fn try_acquire(&mut self) -> Result<bool, DbErr> {
        let Some(database) = &self.database else { return Ok(true) };
        let transaction = database.readers().begin().await?;
        let silence = format!("SET LOCAL idle_in_transaction_session_timeout = '{}s'", self.seconds);
        transaction.execute_unprepared(&silence).await?;
        let row = transaction.query_one_raw(Statement::from_string(DbBackend::Postgres, LOCK)).await?;
        let is_ours: Option<bool> = row.map(|row| row.try_get_by_index(0)).transpose()?;
        self.held = is_ours.unwrap_or_default().then_some(transaction);
        Ok(self.held.is_some())
    }

    /// Keeps the lease until the shutdown, or until somebody else has begun to write; true then. A lease that was
    /// lost to a restart of the server is taken again.
    pub async fn keep(mut self, store: &Store, shutdown: &CancellationToken) -> bool {
        if !self.is_shared() {
            shutdown.cancelled().await;
            return false;
        }
        while shutdown.run_until_cancelled(sleep(BEAT)).await.is_some() {
            if self.beat().await {
                continue;
            }
            self.held = None;
            if matches!(store.is_newest().await, Ok(false)) {
                return true;
            }
            if let Err(error) = self.try_acquire().await {
                tracing::warn!(%error, "the lease of the log was lost; the next time tries again");
            }
        }
        false
    }

    async fn beat(&self) -> bool {
        let Some(held) = &self.held else { return false };
        let beat = timeout(Duration::from_secs(self.seconds.into()), held.execute_unprepared("SELECT 1"));
        matches!(beat.await, Ok(Ok(_)))
    }
}
