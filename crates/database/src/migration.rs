//! How tables come to be.

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait as _};

use crate::{Error, Location, write::begin};

/// One step from a version of the tables to the next. Released steps never change.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Version of the tables afterwards; the first is 1.
    pub version: u32,
    /// What it does, in a few words.
    pub name: &'static str,
    /// Its statements, in order.
    pub statements: fn(DbBackend) -> Vec<Statement>,
}

/// Runs what was not run yet, all in one transaction.
pub(crate) async fn run(
    writer: &DatabaseConnection,
    location: &Location,
    migrations: &[Migration],
) -> Result<(), Error> {
    create_schema(writer, location).await?;
    let transaction = begin(writer).await?;
    let backend = writer.get_database_backend();
    let create = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)";
    transaction.execute_unprepared(create).await?;
    let query = Statement::from_string(backend, "SELECT COALESCE(MAX(version), 0) FROM schema_version");
    let row = transaction.query_one_raw(query).await?;
    let found: i64 = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    let known = migrations.last().map_or(0, |migration| migration.version);
    if found > known {
        return Err(Error::Newer { found, known });
    }
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        for statement in (migration.statements)(backend) {
            transaction.execute_raw(statement).await?;
        }
        let note = format!("INSERT INTO schema_version (version) VALUES ({})", migration.version);
        transaction.execute_unprepared(&note).await?;
        tracing::info!(version = migration.version, name = migration.name, "brought the tables up to date");
    }
    Ok(transaction.commit().await?)
}

/// Two processes may find none at the same time, so it takes the lock as well.
async fn create_schema(writer: &DatabaseConnection, location: &Location) -> Result<(), DbErr> {
    let Location::Postgres { schema, .. } = location else { return Ok(()) };
    let transaction = writer.begin().await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtext('obscura create schema'))";
    transaction.execute_unprepared(lock).await?;
    transaction.execute_unprepared(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")).await?;
    transaction.commit().await
}
