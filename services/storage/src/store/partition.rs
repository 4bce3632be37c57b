//! Packs in PostgreSQL: a table for each day on which a pack starts, so that what is asked about a day
//! stays as quick as on the first one, and that footage of which nothing is left goes as a whole table
//! instead of row by row.
//!
//! ```text
//! packs                     a view of all
//!   packs_over_an_hour      few, and found without a bound on their start
//!   packs_recent            new ones, until their hour is over
//!   packs_of_days           all others, by start
//!     packs_2026_11_24      one day in UTC, made when the first pack of the day arrives
//! ```
//!
//! New packs come from all cameras in turn. [Settling](super::settling) moves them to the table of their day in the order of
//! stream and time once their hour is over, so that there an hour of a camera lies on neighbouring pages. A pack is in one
//! of these tables, and moves from one to the other within one statement: what reads several of them in one statement sees
//! it once. In several statements it might be missed or seen twice, so nobody reads like that but the writer, during whose
//! transaction nothing moves.
//!
//! No index says that an id is there once: on PostgreSQL one that does would have to hold the start as well, and
//! then would not. What keeps ids unique is that one transaction at a time writes, of whatever replica, and that it
//! looks for the id in every table before it inserts. Each table has two indexes and no more: by stream and time, with
//! the end, so that packs which do not reach into a span are not read; and by id.
//!
//! SQLite has the same tables without days and without that of new packs: what one machine records fits, and it has no
//! partitions. Rows lie in the order of stream and time from the start, so that those of an hour of a camera are
//! neighbours.

use std::collections::BTreeSet;

use obscura_clock::Timestamp;
use obscura_pack::Day;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};

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
/// Until packs had a table for new ones; as it is in SQLite.
const VIEW: &str = "CREATE VIEW packs AS SELECT * FROM packs_of_days UNION ALL SELECT * FROM packs_long";

/// The same columns in the same order, so that it can take the place of the other.
const VIEW_WITH_RECENT: &str = "CREATE OR REPLACE VIEW packs AS SELECT * FROM packs_recent \
    UNION ALL SELECT * FROM packs_of_days UNION ALL SELECT * FROM packs_over_an_hour";
/// Every row of new packs is deleted within two hours or so, so what it leaves must be freed all the time, or the table
/// and its indexes would grow with what is dead. How many rows live says nothing of that, they are few after an hour has
/// settled and a whole hour before: hence a fixed number and no share of them, of what a sixth of an hour of 1,000 cameras
/// inserts. Inserts by themselves are no reason, because nobody reads these rows by an index alone. Vacuuming need not
/// spare the disk, where the table is in memory. It gives no room back at the end of the file, which would lock readers
/// out for what is needed again within the hour.
const CHURN: &str = " WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, \
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000, \
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false)";

/// Where a new pack goes that is not long.
pub(super) const fn table_of_new(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "packs_recent",
        _ => "packs_of_days",
    }
}

/// Where packs are that are not long.
pub(super) const fn tables_by_start(backend: DbBackend) -> &'static [&'static str] {
    match backend {
        DbBackend::Postgres => &["packs_recent", "packs_of_days"],
        _ => &["packs_of_days"],
    }
}

/// The table of new packs, and the view with it. Rows that are there stay where they are. A replica of before knows
/// nothing of the new table: its stretches, walks and removals would miss what is there. They all name the table of
/// long packs, so that has another name from now on, and such a replica fails instead.
pub(super) fn table_of_recent(backend: DbBackend) -> Vec<Statement> {
    let mut statements = vec!["ALTER TABLE packs_long RENAME TO packs_over_an_hour".to_owned()];
    if backend == DbBackend::Postgres {
        statements.extend(on_postgres("packs_recent", CHURN));
        statements.push(VIEW_WITH_RECENT.to_owned());
    }
    statements.into_iter().map(|sql| Statement::from_string(backend, sql)).collect()
}

/// The tables above as they were up to version 6, without those of days.
pub(super) fn tables(backend: DbBackend) -> Vec<Statement> {
    let mut statements = Vec::new();
    for (table, rest) in [("packs_of_days", " PARTITION BY RANGE (start_ns)"), ("packs_long", "")] {
        statements.extend(match backend {
            DbBackend::Postgres => on_postgres(table, rest),
            _ => on_sqlite(table),
        });
    }
    statements.push(VIEW.to_owned());
    statements.into_iter().map(|sql| Statement::from_string(backend, sql)).collect()
}

/// Hashes cannot be compressed, so the server need not try where a row is large. `rest` follows the columns.
fn on_postgres(table: &str, rest: &str) -> Vec<String> {
    vec![
        format!("CREATE TABLE {table} ({COLUMNS}, pack_id uuid NOT NULL, directory bytea NOT NULL){rest}"),
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

/// Drops the tables of old days that have no rows left and to which no new pack will move; says how many. `newest` is
/// the newest day. Call it within a transaction of the writer, of its own: where somebody reads for long it gives up,
/// which fails it.
pub(super) async fn drop_empty_days(
    database: &impl ConnectionTrait,
    newest: Timestamp,
) -> Result<usize, DbErr> {
    database.execute_unprepared(DROP_PATIENCE).await?;
    let mut dropped = 0;
    let wanted = days_of_new(database).await?;
    let days = days_before(database, newest - LATE_DAYS).await?;
    for table in days.into_iter().filter(|table| !wanted.contains(table)) {
        let look = Statement::from_string(DbBackend::Postgres, format!("SELECT 1 FROM {table} LIMIT 1"));
        if database.query_one_raw(look).await?.is_none() {
            database.execute_unprepared(&format!("DROP TABLE {table}")).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// The tables to which new packs will move.
async fn days_of_new(database: &impl ConnectionTrait) -> Result<BTreeSet<String>, DbErr> {
    let look = format!(
        "SELECT MIN(start_ns) FROM packs_recent GROUP BY \
         start_ns - (start_ns % {NANOS_OF_DAY} + {NANOS_OF_DAY}) % {NANOS_OF_DAY}"
    );
    let rows = database.query_all_raw(Statement::from_string(DbBackend::Postgres, look)).await?;
    let name_of = |row: &QueryResult| row.try_get_by_index(0).map(Timestamp::from_unix_nanos).map(name);
    rows.iter().map(name_of).collect()
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
