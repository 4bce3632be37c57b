//! Where tables are.

use std::{
    fmt,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

use crate::Error;

/// How long a statement of SQLite waits for a lock.
const BUSY: Duration = Duration::from_secs(10);
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A URL with credentials, which no message shows.
#[derive(Clone)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database?sslmode=...` from a file, so that it is in no
    /// configuration and no list of processes.
    ///
    /// # Errors
    /// [`Error::Url`] where the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Url { path: path.display().to_string(), why };
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::try_new(text.trim()).ok_or_else(|| wrong("expected one line postgres://...".to_owned()))
    }

    /// The URL, where it is one of PostgreSQL.
    #[must_use]
    pub fn try_new(url: &str) -> Option<Self> {
        let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
        (known && !url.contains(char::is_whitespace)).then(|| Self(url.to_owned()))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(..)")
    }
}

/// Where the tables of a service are.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of this machine, made with mode 0600 where there is none.
    Sqlite(PathBuf),
    /// A schema on a server.
    Postgres {
        /// The server and database.
        url: PostgresUrl,
        /// Name of the schema, made where there is none: lower-case letters.
        schema: &'static str,
    },
}

impl Location {
    /// As a service's settings say: the server in `database_url_file` with a schema of the service's
    /// name, else `file`.
    ///
    /// # Errors
    /// As [`PostgresUrl::read`].
    pub fn of(url_file: Option<&Path>, schema: &'static str, file: PathBuf) -> Result<Self, Error> {
        match url_file {
            Some(path) => Ok(Self::Postgres { url: PostgresUrl::read(path)?, schema }),
            None => Ok(Self::Sqlite(file)),
        }
    }

    /// SQLite gives its side files the mode of the database.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        let Self::Sqlite(path) = self else { return Ok(()) };
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        made.map(drop).map_err(|source| Error::File { path: path.display().to_string(), source })
    }

    pub(crate) fn options(&self, connections: u32) -> ConnectOptions {
        let mut options = match self {
            Self::Sqlite(path) => sqlite(path.clone()),
            Self::Postgres { url, schema } => postgres(url, schema),
        };
        options.max_connections(connections).acquire_timeout(CONNECT).sqlx_logging(false);
        options
    }
}

/// The name is given here and not in the URL, where `?`, `#` and `%` would mean something.
fn sqlite(path: PathBuf) -> ConnectOptions {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .in_memory(false)
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
    });
    options
}

fn postgres(url: &PostgresUrl, schema: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.0.clone());
    options.set_schema_search_path(schema).connect_timeout(CONNECT);
    options.map_sqlx_postgres_opts(|postgres| {
        postgres.options([
            ("synchronous_commit", "on"),
            ("lock_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
    });
    options
}

/// A recorder frees its spool on our word, so a server that lies about durability is refused.
pub(crate) async fn check_durability(connection: &DatabaseConnection) -> Result<(), Error> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for (setting, needed) in [("fsync", "on"), ("full_page_writes", "on")] {
        let show = Statement::from_string(DbBackend::Postgres, format!("SHOW {setting}"));
        let row = connection.query_one_raw(show).await?;
        let value: String = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
        if value != needed {
            return Err(Error::NotDurable { setting, value, needed });
        }
    }
    Ok(())
}
