//! Writing, one transaction at a time.

use std::ops::Deref;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use tokio::sync::MutexGuard;

/// One transaction, alone among the writers of its tables. Durable once committed.
#[derive(Debug)]
pub struct Write<'a> {
    transaction: DatabaseTransaction,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Write<'a> {
    pub(crate) async fn begin(writer: &DatabaseConnection, turn: MutexGuard<'a, ()>) -> Result<Self, DbErr> {
        Ok(Self { transaction: begin(writer).await?, _turn: turn })
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// Where the database fails. Whether it was committed is then unknown.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.transaction.commit().await
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
        let lock = "SELECT pg_advisory_xact_lock(hashtext('obscura writer'), hashtext(current_schema()))";
        transaction.execute_unprepared(lock).await?;
    }
    Ok(transaction)
}
