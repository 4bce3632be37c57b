//! How tables come to be.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, Schema, Statement,
    TransactionTrait as _,
};

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

/// Statements that make the table of an entity and its indexes, where there are none: for the `statements`
/// of a [`Migration`].
#[must_use]
pub fn create_table<E: EntityTrait>(backend: DbBackend, entity: E) -> Vec<Statement> {
    let schema = Schema::new(backend);
    let table = backend.build(schema.create_table_from_entity(entity).if_not_exists());
    let indexes = schema.create_index_from_entity(entity);
    let indexes = indexes.into_iter().map(|mut index| backend.build(index.if_not_exists()));
    std::iter::once(table).chain(indexes).collect()
}

/// Runs what was not run yet, all in one transaction. Writes nothing where all was run, so that a service
/// starts on a database that can only be read.
pub(crate) async fn run(
    writer: &DatabaseConnection,
    location: &Location,
    migrations: &[Migration],
) -> Result<(), Error> {
    create_schema(writer, location).await?;
    let transaction = begin(writer).await?;
    let backend = writer.get_database_backend();
    let found = version(&transaction, backend).await?;
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

/// Version of the tables; 0 where there are none, and then there is a place to note it.
async fn version(transaction: &impl ConnectionTrait, backend: DbBackend) -> Result<u32, DbErr> {
    let look = match backend {
        DbBackend::Postgres => "SELECT 1 WHERE to_regclass('schema_version') IS NOT NULL",
        _ => "SELECT 1 FROM sqlite_master WHERE name = 'schema_version'",
    };
    if !finds(transaction, backend, look).await? {
        transaction.execute_unprepared("CREATE TABLE schema_version (version BIGINT PRIMARY KEY)").await?;
    }
    let query = Statement::from_string(backend, "SELECT COALESCE(MAX(version), 0) FROM schema_version");
    let row = transaction.query_one_raw(query).await?;
    let found: i64 = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
    Ok(u32::try_from(found).unwrap_or(u32::MAX))
}

/// Two processes may find none at the same time, so it takes a lock as well. Looking first lets a role
/// without the right to make schemas use one that an administrator has made.
async fn create_schema(writer: &DatabaseConnection, location: &Location) -> Result<(), DbErr> {
    let Location::Postgres { schema, .. } = location else { return Ok(()) };
    let look = format!("SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'");
    let transaction = writer.begin().await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtext('obscura create schema'))";
    transaction.execute_unprepared(lock).await?;
    if !finds(&transaction, DbBackend::Postgres, &look).await? {
        transaction.execute_unprepared(&format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    transaction.commit().await
}

async fn finds(database: &impl ConnectionTrait, backend: DbBackend, look: &str) -> Result<bool, DbErr> {
    Ok(database.query_one_raw(Statement::from_string(backend, look)).await?.is_some())
}
