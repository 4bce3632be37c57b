//! One database interface over SQLite and PostgreSQL.
//!
//! A service says where its tables are ([`Location`]), how they came to be ([`Migration`]) and gets a
//! [`Database`]: connections to read with, and one [`Write`] at a time to write with. What a writer has
//! read stays true until it commits, and what is committed survives a power failure: SQLite runs in WAL
//! mode with `synchronous = FULL`, PostgreSQL with `synchronous_commit = on`.

mod location;
mod migration;
#[cfg(test)]
mod tests;
mod write;

use std::time::Duration;

use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database as Connector, DatabaseConnection, DbBackend, DbErr,
    RuntimeErr, Statement,
};
use sqlx::{error::DatabaseError, sqlite::SqliteError};
use tokio::sync::Mutex;

pub use location::{Location, PostgresUrl};
pub use migration::{Migration, create_table};
pub use write::Write;

/// Connections that read at the same time.
const READERS: u32 = 4;
/// Connections to a server to write with. Only one writes at a time; a second one does not wait for the first when a
/// caller went away and left it waiting for its turn.
const SERVER_WRITERS: u32 = 2;
/// Connections to write with in SQLite, where two would write in turns and each forget its pages, because the other
/// has changed them.
const FILE_WRITERS: u32 = 1;

/// For how long a file of SQLite that others are opening is tried again, and how soon each time.
const OPENING: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(20);
/// Part of an extended result code of SQLite that is the primary one.
const PRIMARY_CODE: u32 = 0xff;
const SQLITE_BUSY: u32 = 5;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database said so.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// The file of the database cannot be made.
    #[error("cannot use the database {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server does not let us in.
    #[error("cannot use the PostgreSQL server at {server}: {source}")]
    Connect {
        /// Where it should be.
        server: String,
        /// Why.
        source: DbErr,
    },
    /// The file with the URL cannot be used.
    #[error("cannot use `database_url_file` {path}: {why}")]
    Url {
        /// The file.
        path: String,
        /// Why, without the URL, which holds a password.
        why: String,
    },
    /// A newer program has been here.
    #[error(
        "the database is of version {found}, this program knows {known}: start the newer program again, \
         or restore a backup from before it"
    )]
    Newer {
        /// Version of the tables.
        found: u32,
        /// Newest version that this program knows.
        known: u32,
    },
    /// The server may lose what it has acknowledged.
    #[error(
        "the PostgreSQL server runs with {setting} = {value} and may lose what it acknowledged: set it to {needed}"
    )]
    NotDurable {
        /// Name of the setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        needed: &'static str,
    },
}

/// The tables of one service.
#[derive(Debug)]
pub struct Database {
    writer: DatabaseConnection,
    readers: DatabaseConnection,
    /// Held by whoever writes from this process; a server has its own lock for other processes.
    turn: Mutex<()>,
    location: Location,
}

impl Database {
    /// Connects, and brings the tables to the newest version. Of several processes that start at the
    /// same time one does it and the others wait. `migrations` are in the order of their versions.
    ///
    /// # Errors
    /// [`Error`] says what to do.
    pub async fn open(location: &Location, migrations: &[Migration]) -> Result<Self, Error> {
        location.prepare()?;
        let migrating = connect(location, location.options(1)).await?;
        location::check_durability(&migrating).await?;
        migration::run(&migrating, location, migrations).await?;
        migrating.close().await?;
        let writer = connect(location, location.to_write()).await?;
        let readers = connect(location, location.options(READERS)).await?;
        Ok(Self { writer, readers, turn: Mutex::new(()), location: location.clone() })
    }

    /// Connections to read with.
    #[must_use]
    pub const fn readers(&self) -> &DatabaseConnection {
        &self.readers
    }

    /// Which of the two it is.
    #[must_use]
    pub fn backend(&self) -> DbBackend {
        self.readers.get_database_backend()
    }

    /// Begins to write; waits for whoever writes now, in this process or another. Dropping what is
    /// returned undoes what it did.
    ///
    /// # Errors
    /// Where the database fails, or another process writes for longer than 30 s.
    pub async fn write(&self) -> Result<Write<'_>, DbErr> {
        let turn = self.turn.lock().await;
        Write::begin(&self.writer, turn).await
    }

    /// Frees the files of what was deleted before, where the tables are in SQLite: its pages are overwritten at
    /// once, but the write-ahead log keeps them as they were until it is moved to the database and cut, which this
    /// does. A server does so at its own time, and nothing is done here.
    ///
    /// Says whether it is done: not where somebody reads what is only in the write-ahead log; ask again then.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn scrub(&self) -> Result<bool, DbErr> {
        let Some(options) = self.location.to_scrub() else { return Ok(true) };
        let _turn = self.turn.lock().await;
        let connection = Connector::connect(options).await?;
        let cut = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(TRUNCATE)");
        let answer = connection.query_one_raw(cut).await;
        connection.close_by_ref().await?;
        let was_busy: Option<i64> = answer?.map(|row| row.try_get_by_index(0)).transpose()?;
        Ok(was_busy == Some(0))
    }

    /// Closes every connection.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn close(&self) -> Result<(), DbErr> {
        self.readers.close_by_ref().await?;
        self.writer.close_by_ref().await
    }
}

async fn connect(location: &Location, options: ConnectOptions) -> Result<DatabaseConnection, Error> {
    let until = tokio::time::Instant::now() + OPENING;
    loop {
        match Connector::connect(options.clone()).await {
            // One try may wait for long where somebody keeps the file locked: then it was the last.
            Err(error) if is_locked(&error) && tokio::time::Instant::now() < until => {
                tokio::time::sleep(AGAIN).await;
            }
            connected => return connected.map_err(|source| cannot_connect(location, source)),
        }
    }
}

/// Of several processes that make the same new file write ahead at the same time, SQLite lets one do so and tells the
/// others that it is locked, without waiting as it does for statements.
fn is_locked(error: &DbErr) -> bool {
    let DbErr::Conn(RuntimeErr::SqlxError(error)) = error else { return false };
    let error = error.as_database_error().and_then(<dyn DatabaseError>::try_downcast_ref::<SqliteError>);
    let code = error.and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & PRIMARY_CODE == SQLITE_BUSY)
}

fn cannot_connect(location: &Location, source: DbErr) -> Error {
    match location {
        Location::Sqlite(_) => Error::Database(source),
        Location::Postgres { url, .. } => Error::Connect { server: url.server(), source },
    }
}
