//! Where tables are.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use url::Url;

use crate::{Error, FILE_WRITERS, SERVER_WRITERS};

/// How long a statement of SQLite waits for a lock.
const BUSY: Duration = Duration::from_secs(10);
/// How long cutting the write-ahead log waits for whoever reads what is only there: writers wait meanwhile.
const SCRUB_BUSY: Duration = Duration::from_millis(250);
/// Pages of 4 KiB after which SQLite moves what was committed from its log to the database. The more, the more
/// often the same page has been written by then and moves once; 16 MiB are read again in a moment after a crash.
const CHECKPOINT_PAGES: &str = "4000";
/// How long to wait for a connection, which is also how long a restart of the server may take before
/// anybody sees an error.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest URL, in bytes.
const MAX_URL: u64 = 4_096;
/// What a URL may say after the `?`. Other words would be logged together with their values.
const PARAMETERS: &[&str] =
    &["application_name", "host", "options", "port", "sslcert", "sslkey", "sslmode", "sslrootcert"];
/// What every connection to a server sets, whatever the server, the role and the URL say.
const SETTINGS: [(&str, &str); 4] = [
    ("synchronous_commit", "on"),
    // A writer waits for its turn and then must see what the one before it has written.
    ("default_transaction_isolation", "read committed"),
    ("lock_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "60s"),
];

/// A URL with credentials, which no message shows.
#[derive(Clone)]
pub struct PostgresUrl(Box<PgConnectOptions>);

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database?sslmode=...` from a file, so that it is in no
    /// configuration and no list of processes.
    ///
    /// # Errors
    /// [`Error::Url`] where the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Url { path: path.display().to_string(), why };
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mut text = String::new();
        file.take(MAX_URL + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        Self::try_new(text.trim()).ok_or_else(|| wrong(expected()))
    }

    /// The URL, where it is one of PostgreSQL. Over a network the server must prove who it is
    /// (`sslmode=verify-full`) unless the URL names another `sslmode`.
    #[must_use]
    pub fn try_new(url: &str) -> Option<Self> {
        if url.len() as u64 > MAX_URL || url.contains(char::is_whitespace) {
            return None;
        }
        let parsed = Url::parse(url).ok()?;
        let known = parsed.query_pairs().all(|(name, _)| PARAMETERS.contains(&&*name));
        if !matches!(parsed.scheme(), "postgres" | "postgresql") || !known {
            return None;
        }
        let options: PgConnectOptions = url.parse().ok()?;
        let says_how = parsed.query_pairs().any(|(name, _)| name == "sslmode");
        let options =
            if says_how || is_local(&options) { options } else { options.ssl_mode(PgSslMode::VerifyFull) };
        Some(Self(Box::new(options)))
    }

    /// Where the server is, without anything secret.
    pub(crate) fn server(&self) -> String {
        match self.0.get_socket() {
            Some(socket) => format!("{} (port {})", socket.display(), self.0.get_port()),
            None => format!("{}:{}", self.0.get_host(), self.0.get_port()),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(..)")
    }
}

fn expected() -> String {
    format!(
        "expected one line postgres://user:password@host:port/database, in which special characters of the \
         password are written as %2F, and no other parameters than {}",
        PARAMETERS.join(", ")
    )
}

/// Whether nobody else is on the way to the server.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    let is_loopback = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    options.get_socket().is_some() || host.starts_with('/') || host == "localhost" || is_loopback
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
        let options = match self {
            Self::Sqlite(path) => sqlite(path.clone(), BUSY, TemporaryIn::Files),
            Self::Postgres { url, schema } => postgres(url, schema),
        };
        limited(options, connections)
    }

    /// For short transactions: see [`TemporaryIn::Memory`].
    pub(crate) fn to_write(&self) -> ConnectOptions {
        match self {
            Self::Sqlite(path) => limited(sqlite(path.clone(), BUSY, TemporaryIn::Memory), FILE_WRITERS),
            Self::Postgres { .. } => self.options(SERVER_WRITERS),
        }
    }

    /// Where deleted rows stay in files until these are cut.
    pub(crate) fn to_scrub(&self) -> Option<ConnectOptions> {
        match self {
            Self::Sqlite(path) => Some(limited(sqlite(path.clone(), SCRUB_BUSY, TemporaryIn::Files), 1)),
            Self::Postgres { .. } => None,
        }
    }
}

fn limited(mut options: ConnectOptions, connections: u32) -> ConnectOptions {
    options.max_connections(connections).acquire_timeout(CONNECT).sqlx_logging(false);
    options
}

/// Where SQLite keeps what it needs for one statement only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TemporaryIn {
    /// In files, as large as it has to be: what a migration sorts is as large as a table.
    Files,
    /// In memory. A statement that inserts many rows keeps the pages that it changes, to undo itself where one row is
    /// refused; beyond 64 KiB that is otherwise a file that is made, written and removed, and a quarter of what
    /// such an insert costs. It is no larger than what one statement changes.
    Memory,
}

impl TemporaryIn {
    /// Value of `PRAGMA temp_store`.
    const fn pragma(self) -> &'static str {
        match self {
            Self::Files => "FILE",
            Self::Memory => "MEMORY",
        }
    }
}

/// The name is given here and not in the URL, where `?`, `#` and `%` would mean something. Nothing of the
/// URL is kept: one of a database in memory would make connections share a cache, and then readers wait
/// for writers and fail where they should wait. What is deleted is overwritten: it may name somebody.
fn sqlite(path: PathBuf, busy: Duration, temporary: TemporaryIn) -> ConnectOptions {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.map_sqlx_sqlite_opts(move |_| {
        SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(busy)
            .pragma("secure_delete", "ON")
            .pragma("temp_store", temporary.pragma())
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .disable_statement_logging()
    });
    options
}

/// The URL is not in these options, because the library writes them into its traces.
fn postgres(url: &PostgresUrl, schema: &'static str) -> ConnectOptions {
    let known = (*url.0).clone();
    let mut options = ConnectOptions::new("postgres://localhost");
    options.connect_timeout(CONNECT).map_sqlx_postgres_opts(move |_| {
        known.clone().options(SETTINGS).options([("search_path", schema)]).disable_statement_logging()
    });
    options
}

/// A recorder frees its spool on our word, so a server that lies about durability is refused. Something
/// between us and the server may have swallowed our own settings.
pub(crate) async fn check_durability(connection: &DatabaseConnection) -> Result<(), Error> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for (setting, needed) in [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on")] {
        let show = Statement::from_string(DbBackend::Postgres, format!("SHOW {setting}"));
        let row = connection.query_one_raw(show).await?;
        let value: String = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
        if value != needed {
            return Err(Error::NotDurable { setting, value, needed });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> PgSslMode {
        PostgresUrl::try_new(url).unwrap().0.get_ssl_mode()
    }

    fn refusal(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        std::fs::write(&path, text).unwrap();
        PostgresUrl::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn over_a_network_the_server_proves_who_it_is_unless_the_url_says_otherwise() {
        assert!(matches!(mode("postgres://u:p@db.example.org/obscura"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u:p@10.0.0.7/obscura"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u:p@10.0.0.7/obscura?sslmode=disable"), PgSslMode::Disable));
        for local in ["127.0.0.1:5433", "[::1]", "localhost", "%2Frun%2Fpostgresql"] {
            assert!(
                matches!(mode(&format!("postgresql://u:p@{local}/obscura")), PgSslMode::Prefer),
                "{local}"
            );
        }
    }

    #[test]
    fn a_url_file_holds_one_url_and_what_else_it_holds_is_never_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        std::fs::write(&path, "postgres://u:p@localhost/obscura\n").unwrap();
        assert!(PostgresUrl::read(&path).is_ok());
        for text in [
            "",
            "mysql://u:hidden@localhost/obscura",
            "hidden",
            "postgres://u:hid?den@localhost/obscura",
            "postgres://u:p@localhost/obscura?pasword=hidden",
            "postgres://u:p@localhost/obscura?sslmode=hidden",
            "postgres://u:p@localhost/one\npostgres://u:p@localhost/hidden?x=1",
            &format!("postgres://u:p@localhost/{}?x=hidden", "x".repeat(5_000)),
        ] {
            let message = refusal(text);
            assert!(message.contains("expected one line postgres://"), "{message}");
            assert!(!message.contains("hid") && !message.contains("den@"), "{message}");
        }
        let missing = PostgresUrl::read(&directory.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing") && missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn a_url_is_not_shown() {
        let url = PostgresUrl::try_new("postgres://u:hidden@localhost/obscura").unwrap();
        let location = Location::Postgres { url, schema: "keys" };
        assert!(!format!("{location:?}").contains("hidden"));
        assert!(!format!("{:?}", location.options(1)).contains("hidden"));
    }
}
