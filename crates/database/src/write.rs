//! Writing, one transaction at a time.

use std::ops::Deref;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use tokio::sync::MutexGuard;

/// The search path names the schema of the service, and unlike `current_schema()` it is never null, on
/// which nothing would be locked.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtext('obscura writer'), hashtext(current_setting('search_path')))";

/// One transaction, alone among the writers of its tables. Durable once committed.
#[derive(Debug)]
pub struct Write<'a> {
    transaction: DatabaseTransaction,
    turn: MutexGuard<'a, ()>,
}

impl<'a> Write<'a> {
    pub(crate) async fn begin(writer: &DatabaseConnection, turn: MutexGuard<'a, ()>) -> Result<Self, DbErr> {
        Ok(Self { transaction: begin(writer).await?, turn })
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// Where the database fails. Whether it was committed is then unknown.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.commit_then(|| {}).await
    }

    /// Makes it durable, then calls `committed`, and only then lets the next writer of this process begin.
    ///
    /// # Errors
    /// As [`Write::commit`]; then `committed` was not called.
    pub async fn commit_then(self, committed: impl FnOnce()) -> Result<(), DbErr> {
        let Self { transaction, turn } = self;
        commit(transaction).await?;
        committed();
        drop(turn);
        Ok(())
    }
}

/// To read and write within the transaction.
impl Deref for Write<'_> {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.transaction
    }
}

/// Begins a transaction that no other writer of the same tables overlaps: SQLite takes its write lock
/// at once, PostgreSQL an advisory lock of the schema until the end of the transaction.
pub(crate) async fn begin(writer: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = writer.begin_with_options(options).await?;
    if writer.get_database_backend() == DbBackend::Postgres {
        transaction.execute_unprepared(LOCK).await?;
    }
    Ok(transaction)
}

/// PostgreSQL answers the `COMMIT` of a transaction in which a statement has failed with success and
/// rolls it back, so it is asked first whether one has.
async fn commit(transaction: DatabaseTransaction) -> Result<(), DbErr> {
    if transaction.get_database_backend() == DbBackend::Postgres {
        transaction.execute_unprepared("SELECT 1").await?;
    }
    transaction.commit().await
}
