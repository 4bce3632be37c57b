//! Packs in PostgreSQL: a table for each day on which a pack starts, so that what is asked about a day
//! stays as quick as on the first one, and that footage of which nothing is left goes as a whole table
//! instead of row by row.
//!
//! ```text
//! packs                     a view of both
//!   packs_long              longer than an hour: few, and found without a bound on their start
//!   packs_of_days           all others, by start
//!     packs_2026_11_24      one day in UTC, made by the first pack of the day
//! ```
//!
//! No index says that an id is there once: on PostgreSQL one that does would have to hold the start as well, and
//! then would not. What keeps ids unique is that one transaction at a time writes, of whatever replica, and that it
//! looks for the id in every table before it inserts. Each table has two indexes and no more: by stream and time, with
//! the end, so that packs which do not reach into a span are not read; and by id.
//!
//! SQLite has the same two tables without days: what one machine records fits, and it has no partitions. Their rows lie
//! in the order of stream and time, so that those of an hour of a camera are neighbours.

use obscura_clock::Timestamp;
use obscura_pack::Day;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

/// Most days with footage: ten years. Only clocks that run wild come near.
const MAX_DAYS: i64 = 3_660;
/// Days behind the newest that keep their table though it is empty: late packs still come.
const LATE_DAYS: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);
/// Tables that are looked at in one go.
const CANDIDATES: u32 = 64;
/// Long enough behind queries, too short to keep them waiting behind a backup.
const DROP_PATIENCE: &str = "SET LOCAL lock_timeout = '1s'";
const NANOS_OF_DAY: i64 = 86_400_000_000_000;

/// Columns by falling width, so that nothing is lost between them.
const COLUMNS: &str = "start_ns bigint NOT NULL, end_ns bigint NOT NULL, stream integer NOT NULL";
const VIEW: &str = "CREATE VIEW packs AS SELECT * FROM packs_of_days UNION ALL SELECT * FROM packs_long";

/// The tables above, without those of days.
pub(super) fn tables(backend: DbBackend) -> Vec<Statement> {
    let mut statements = Vec::new();
    for table in ["packs_of_days", "packs_long"] {
        statements.extend(match backend {
            DbBackend::Postgres => on_postgres(table),
            _ => on_sqlite(table),
        });
    }
    statements.push(VIEW.to_owned());
    statements.into_iter().map(|sql| Statement::from_string(backend, sql)).collect()
}

/// Hashes cannot be compressed, so the server need not try where a row is large.
fn on_postgres(table: &str) -> Vec<String> {
    let days = if table == "packs_of_days" { " PARTITION BY RANGE (start_ns)" } else { "" };
    vec![
        format!("CREATE TABLE {table} ({COLUMNS}, pack_id uuid NOT NULL, directory bytea NOT NULL){days}"),
        format!("ALTER TABLE {table} ALTER COLUMN directory SET STORAGE EXTERNAL"),
        format!("CREATE INDEX {table}_by_time ON {table} (stream, start_ns, end_ns)"),
        format!("CREATE INDEX {table}_by_id ON {table} (pack_id)"),
    ]
}

fn on_sqlite(table: &str) -> Vec<String> {
    vec![
        format!(
            "CREATE TABLE {table} ({COLUMNS}, pack_id blob NOT NULL, directory blob NOT NULL, \
             PRIMARY KEY (stream, start_ns, pack_id)) WITHOUT ROWID"
        ),
        format!("CREATE INDEX {table}_by_id ON {table} (pack_id)"),
    ]
}

/// Makes the table of the day on which a pack that is not long starts; says whether it did. Call it within
/// the transaction that inserts the pack.
///
/// A table is made alone and then attached, which readers and backups of other days do not wait for.
pub(super) async fn make_day(database: &impl ConnectionTrait, start: Timestamp) -> Result<bool, DbErr> {
    if database.get_database_backend() != DbBackend::Postgres {
        return Ok(false);
    }
    let table = name(start);
    let [known, days] = look(database, &table).await?;
    if known > 0 {
        return Ok(false);
    }
    if days >= MAX_DAYS {
        let what =
            format!("the index has footage of {days} days, which is the most: check the clocks of recorders");
        return Err(DbErr::Custom(what));
    }
    let from = Day::of(start).start().unix_nanos();
    let to = from.saturating_add(NANOS_OF_DAY);
    let make = format!("CREATE TABLE {table} (LIKE packs_of_days INCLUDING ALL)");
    database.execute_unprepared(&make).await?;
    let attach =
        format!("ALTER TABLE packs_of_days ATTACH PARTITION {table} FOR VALUES FROM ({from}) TO ({to})");
    database.execute_unprepared(&attach).await?;
    Ok(true)
}

/// Drops the tables of old days that have no rows left; says how many. `newest` is the newest day. Call it
/// within a transaction of its own: where somebody reads for long it gives up, which fails it.
pub(super) async fn drop_empty_days(
    database: &impl ConnectionTrait,
    newest: Timestamp,
) -> Result<usize, DbErr> {
    database.execute_unprepared(DROP_PATIENCE).await?;
    let mut dropped = 0;
    for table in days_before(database, newest - LATE_DAYS).await? {
        let look = Statement::from_string(DbBackend::Postgres, format!("SELECT 1 FROM {table} LIMIT 1"));
        if database.query_one_raw(look).await?.is_none() {
            database.execute_unprepared(&format!("DROP TABLE {table}")).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Names sort as their days do.
async fn days_before(database: &impl ConnectionTrait, moment: Timestamp) -> Result<Vec<String>, DbErr> {
    let look = format!(
        "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
         WHERE inhparent = 'packs_of_days'::regclass AND relname < '{}' ORDER BY relname LIMIT {CANDIDATES}",
        name(moment)
    );
    let rows = database.query_all_raw(Statement::from_string(DbBackend::Postgres, look)).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Whether the table is there, and how many there are.
async fn look(database: &impl ConnectionTrait, table: &str) -> Result<[i64; 2], DbErr> {
    let look = format!(
        "SELECT COUNT(*) FILTER (WHERE inhrelid = to_regclass('{table}')), COUNT(*) FROM pg_inherits \
         WHERE inhparent = 'packs_of_days'::regclass"
    );
    let row = database.query_one_raw(Statement::from_string(DbBackend::Postgres, look)).await?;
    let Some(row) = row else { return Ok([0, 0]) };
    Ok([row.try_get_by_index(0)?, row.try_get_by_index(1)?])
}

/// The table of the day.
pub(super) fn name(start: Timestamp) -> String {
    format!("packs_{}", Day::of(start)).replace('-', "_")
}
