//! Tables and indexes, from the entities.

use obscura_database::{Migration, create_table};
use sea_orm::{
    DbBackend, Statement,
    sea_query::{Index, IndexCreateStatement},
};

use super::{before, gap, partition, run, stream, upkeep};

/// How the tables came to be.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "packs, runs and gaps", statements: first_tables },
    Migration { version: 2, name: "what became of packs", statements: upkeep::tables },
    Migration { version: 3, name: "heads are compressed", statements: nothing },
    Migration { version: 4, name: "gaps have a writer", statements: writers_of_gaps },
    Migration { version: 5, name: "packs are compact", statements: compact_packs },
    Migration { version: 6, name: "gaps by day", statements: gaps_by_start },
    Migration { version: 7, name: "new packs by themselves", statements: partition::table_of_recent },
];

/// Rows from before are read as they are; programs from before must not read newer ones.
const fn nothing(_: DbBackend) -> Vec<Statement> {
    Vec::new()
}

/// The table of version 1, before a gap had a writer.
fn gaps_without_writers(backend: DbBackend) -> Vec<Statement> {
    let bytes = if backend == DbBackend::Postgres { "bytea" } else { "blob" };
    let table = format!(
        "CREATE TABLE IF NOT EXISTS gaps (gap_id {bytes} NOT NULL PRIMARY KEY, camera {bytes} NOT NULL, \
         start_ns bigint NOT NULL, end_ns bigint, reason integer NOT NULL)"
    );
    vec![Statement::from_string(backend, table)]
}

/// Nobody knows whose the gaps are that are there.
fn writers_of_gaps(backend: DbBackend) -> Vec<Statement> {
    vec![Statement::from_string(backend, "ALTER TABLE gaps ADD COLUMN writer_epoch bigint")]
}

/// The journal of gaps has one object for a day.
fn gaps_by_start(backend: DbBackend) -> Vec<Statement> {
    let sql = "CREATE INDEX IF NOT EXISTS gaps_by_start ON gaps (start_ns, gap_id)";
    vec![Statement::from_string(backend, sql)]
}

/// Databases from before versions were counted have these tables already.
fn first_tables(backend: DbBackend) -> Vec<Statement> {
    let tables = [before::tables(backend), create_table(backend, run::Entity), gaps_without_writers(backend)];
    tables.into_iter().flatten().chain([backend.build(&gaps_by_time())]).collect()
}

/// The rows of the old table come over when the index is opened.
fn compact_packs(backend: DbBackend) -> Vec<Statement> {
    [before::set_aside(backend), create_table(backend, stream::Entity), partition::tables(backend)].concat()
}

/// Every query of gaps walks it in order and stops.
fn gaps_by_time() -> IndexCreateStatement {
    Index::create()
        .if_not_exists()
        .name("gaps_by_time")
        .table(gap::Entity)
        .col(gap::Column::Camera)
        .col(gap::Column::StartNs)
        .to_owned()
}
