//! Plain SQL to both databases: to fill them faster than a service may, and to be the peer of one.

use std::path::Path;

use anyhow::{Context as _, Result};
use obscura_ids::{CameraId, GapId};
use obscura_storage::SCHEMA;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use super::{
    INIT, Plan, SEGMENT_BYTES, SEGMENTS_OF_PACK, WRITER, ZONE,
    row::{Row, copy},
};

/// Number of `CONNECTION_LOST` in `obscura.footage.v1.GapReason`.
const CONNECTION_LOST: i32 = 5;
pub(super) const LAYER: i16 = 1; // `original`
const COPY: &str =
    "COPY packs_recent (start_ns, end_ns, stream, pack_id, directory) FROM STDIN (FORMAT BINARY)";
const DIRECTORIES: &str = "SELECT directory FROM packs_of_days WHERE stream = $1 AND start_ns >= $2 \
                           AND start_ns < $3 ORDER BY start_ns";
const RUNS: &str = "SELECT start_ns, end_ns FROM runs WHERE camera = $1 AND start_ns < $3 AND end_ns > $2";
const GAPS: &str = "SELECT start_ns, end_ns FROM gaps WHERE camera = $1 AND start_ns < $3 AND end_ns > $2";

/// A connection without Obscura's layer.
#[derive(Debug)]
pub enum Plain {
    /// To a server.
    Postgres(Box<PgConnection>),
    /// To a file, synced as the service does it.
    Sqlite(Box<SqliteConnection>),
}

/// Runs a prepared statement with these arguments on whatever connection it is.
macro_rules! on_both {
    ($plain:expr, $sql:expr, [$($argument:expr),*], $finish:ident) => {
        match $plain {
            Plain::Postgres(connection) => {
                sqlx::query(AssertSqlSafe($sql))$(.bind($argument))*.$finish(&mut **connection).await?.into()
            }
            Plain::Sqlite(connection) => {
                sqlx::query(AssertSqlSafe($sql))$(.bind($argument))*.$finish(&mut **connection).await?.into()
            }
        }
    };
}

/// What a statement gave: only how much of it.
struct Rows(usize);

impl From<Vec<sqlx::postgres::PgRow>> for Rows {
    fn from(rows: Vec<sqlx::postgres::PgRow>) -> Self {
        Self(rows.len())
    }
}

impl From<Vec<sqlx::sqlite::SqliteRow>> for Rows {
    fn from(rows: Vec<sqlx::sqlite::SqliteRow>) -> Self {
        Self(rows.len())
    }
}

/// What a statement changed.
struct Changed;

impl From<sqlx::postgres::PgQueryResult> for Changed {
    fn from(_: sqlx::postgres::PgQueryResult) -> Self {
        Self
    }
}

impl From<sqlx::sqlite::SqliteQueryResult> for Changed {
    fn from(_: sqlx::sqlite::SqliteQueryResult) -> Self {
        Self
    }
}

impl Plain {
    /// To the tables of storage on a server.
    ///
    /// # Errors
    /// Where it does not let us in.
    pub async fn postgres(url: &str) -> Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.options([("search_path", SCHEMA)]).disable_statement_logging();
        Ok(Self::Postgres(Box::new(PgConnection::connect_with(&options).await?)))
    }

    /// To the tables of storage in a file.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn sqlite(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new().filename(file).synchronous(SqliteSynchronous::Full);
        Ok(Self::Sqlite(Box::new(
            SqliteConnection::connect_with(&options.disable_statement_logging()).await?,
        )))
    }

    /// Runs statements without arguments.
    ///
    /// # Errors
    /// Where the database refuses them.
    pub async fn run(&mut self, statement: &str) -> Result<()> {
        match self {
            Self::Postgres(connection) => {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut **connection).await?;
            }
            Self::Sqlite(connection) => {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut **connection).await?;
            }
        }
        Ok(())
    }

    /// Adds a stream for each camera of the plan: the first camera has number 1.
    ///
    /// # Errors
    /// Where the database refuses them.
    pub async fn add_streams(&mut self, plan: &Plan) -> Result<()> {
        let sql = "INSERT INTO streams (number, camera, layer, zone, init_hash, writer) VALUES ($1, $2, $3, $4, $5, $6)";
        self.run("BEGIN").await?;
        for (number, camera) in (1_i32..).zip(&plan.cameras) {
            let (camera, init) = (camera.as_bytes().to_vec(), INIT.as_bytes().to_vec());
            let writer = WRITER.first_of_directory().0.cast_signed();
            let Changed = on_both!(self, sql, [number, camera, LAYER, ZONE, init, writer], execute);
        }
        self.run("COMMIT").await
    }

    /// The table to which storage adds new packs.
    const fn table_of_new(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "packs_recent",
            Self::Sqlite(_) => "packs_of_days",
        }
    }

    /// Removes all new packs, and the runs.
    ///
    /// # Errors
    /// Where the database refuses it.
    pub async fn clear_new(&mut self) -> Result<()> {
        let sql = format!("DELETE FROM runs; DELETE FROM {}", self.table_of_new());
        self.run(&sql).await
    }

    /// Adds new packs in one transaction; the tables of their days are there.
    ///
    /// # Errors
    /// Where the database refuses them.
    pub async fn add(&mut self, rows: &[Row]) -> Result<()> {
        if let Self::Postgres(connection) = self {
            let mut sink = connection.copy_in_raw(COPY).await?;
            sink.send(copy(rows)?).await?;
            sink.finish().await?;
            return Ok(());
        }
        self.run("BEGIN").await?;
        for row in rows {
            self.insert(row).await?;
        }
        self.run("COMMIT").await
    }

    /// Inserts one new pack, and nothing else.
    ///
    /// # Errors
    /// Where the database refuses it.
    pub async fn insert(&mut self, row: &Row) -> Result<()> {
        let id = if matches!(self, Self::Postgres(_)) { "encode($4, 'hex')::uuid" } else { "$4" };
        let sql = format!(
            "INSERT INTO {} (start_ns, end_ns, stream, pack_id, directory) VALUES ($1, $2, $3, {id}, $5)",
            self.table_of_new()
        );
        let pack = row.pack.as_bytes().to_vec();
        let Changed =
            on_both!(self, sql, [row.start, row.end, row.stream, pack, row.directory.clone()], execute);
        Ok(())
    }

    /// Adds the runs of every camera of the plan, and the gaps between them, in one transaction.
    ///
    /// # Errors
    /// Where the database refuses them.
    pub async fn add_runs(&mut self, plan: &Plan) -> Result<()> {
        self.run("BEGIN").await?;
        for camera in &plan.cameras {
            for (from, to) in plan.runs() {
                self.add_run(*camera, from, to).await?;
                if to < plan.minutes {
                    self.add_gap(*camera, to).await?;
                }
            }
        }
        self.run("COMMIT").await
    }

    async fn add_run(&mut self, camera: CameraId, from: i64, to: i64) -> Result<()> {
        let segments = (to - from) * i64::try_from(SEGMENTS_OF_PACK)?;
        let sql = "INSERT INTO runs (camera, layer, start_ns, end_ns, segments, bytes) VALUES ($1, $2, $3, $4, $5, $6)";
        let (start, end) = (Plan::moment(from).unix_nanos(), Plan::moment(to).unix_nanos());
        let bytes = segments * i64::try_from(SEGMENT_BYTES)?;
        let Changed =
            on_both!(self, sql, [camera.as_bytes().to_vec(), LAYER, start, end, segments, bytes], execute);
        Ok(())
    }

    async fn add_gap(&mut self, camera: CameraId, minute: i64) -> Result<()> {
        let sql = "INSERT INTO gaps (gap_id, camera, start_ns, end_ns, reason) VALUES ($1, $2, $3, $4, $5)";
        let (start, end) = (Plan::moment(minute).unix_nanos(), Plan::moment(minute + 1).unix_nanos());
        let id = GapId::generate().as_bytes().to_vec();
        let Changed =
            on_both!(self, sql, [id, camera.as_bytes().to_vec(), start, end, CONNECTION_LOST], execute);
        Ok(())
    }

    /// Reads the directories of the packs of a stream that start between two minutes; says how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn range(&mut self, stream: i32, from: i64, to: i64) -> Result<usize> {
        let (from, to) = (Plan::moment(from).unix_nanos(), Plan::moment(to).unix_nanos());
        let Rows(directories) = on_both!(self, DIRECTORIES, [stream, from, to], fetch_all);
        Ok(directories)
    }

    /// Reads the runs and gaps of a camera that overlap a stretch of minutes; says how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn coverage(&mut self, camera: CameraId, from: i64, to: i64) -> Result<usize> {
        let (from, to) = (Plan::moment(from).unix_nanos(), Plan::moment(to).unix_nanos());
        let Rows(runs) = on_both!(self, RUNS, [camera.as_bytes().to_vec(), from, to], fetch_all);
        let Rows(gaps) = on_both!(self, GAPS, [camera.as_bytes().to_vec(), from, to], fetch_all);
        Ok(runs + gaps)
    }

    /// Bytes of all tables and indexes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn bytes(&mut self) -> Result<u64> {
        let bytes: i64 = match self {
            Self::Postgres(connection) => {
                let sizes = "SELECT SUM(pg_total_relation_size(pg_class.oid))::bigint FROM pg_class \
                             JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                             WHERE nspname = $1 AND relkind = 'r'";
                sqlx::query_scalar(sizes).bind(SCHEMA).fetch_one(&mut **connection).await?
            }
            Self::Sqlite(connection) => {
                let pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
                sqlx::query_scalar(pages).fetch_one(&mut **connection).await?
            }
        };
        u64::try_from(bytes).context("a size")
    }
}
