//! The tables of the log: head, entries, hash tiles, persons' keys, producers, feeds.
//!
//! What is committed here is the log; everything on the object store can be made again from it. All
//! writing of leaves goes through [`Store::append`], one transaction per batch, which counts only where
//! the head still has the size that the sequencer knows.

mod believed;
mod cursor;
mod entry;
mod erased;
mod head;
mod pending;
mod person_key;
mod producer;
mod rewrap;
mod schema;
mod term;
#[cfg(test)]
mod tests;
mod thread;
mod tile;
mod told;
mod undated;

use std::collections::HashMap;

use anyhow::Context as _;
use obscura_clock::Timestamp;
use obscura_database::{Database, Location, Write};
use obscura_tlog::{Hash, Tile, TileId, Tiles};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use tokio::runtime::Handle;

pub use cursor::Cursor;
pub use entry::{About, Dates, Filter, Row, Stored};
pub use erased::ErasedRow;
pub use head::Head;
pub use person_key::PersonKeyRow;
pub use producer::Producer;
pub use rewrap::Rewrap;
pub use schema::MIGRATIONS;
use thread::Thread;
pub use undated::Undated;

use crate::{
    event_id::EventId,
    fault::{Faults, Step},
};

/// Why the tables failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// A row holds what was never written.
    #[error("a row holds {0}, which was never written: restore the audit database from a backup")]
    Corrupt(&'static str),
    /// Somebody else moved the head, or began the next term.
    #[error("another audit service writes to this log now")]
    OtherSequencer,
    /// An index or an event of the batch is in the log already.
    #[error("an entry of the batch is in the log already")]
    AlreadyThere,
    /// A test wanted it so.
    #[error("fault injected at {0:?}")]
    Injected(Step),
}

/// What a batch commits, all of it or nothing.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Size that the head must have.
    pub old_size: u64,
    /// The head afterwards.
    pub new_size: u64,
    /// Its root.
    pub root: Hash,
    /// When it is committed.
    pub committed: Timestamp,
    /// New entries, in the order of their indexes.
    pub entries: &'a [Stored<'a>],
    /// Tiles that changed, whole.
    pub tiles: &'a [Tile],
    /// What producers have delivered with it.
    pub producers: &'a [Producer],
}

/// The tables.
#[derive(Debug)]
pub struct Store {
    database: Database,
    /// What is written counts while this is the newest one.
    term: i64,
    thread: Thread,
}

impl Store {
    /// Opens the tables, makes them where there are none, and begins a term: whoever had them open writes nothing
    /// from now on. Connections belong to the thread of the sequencer.
    ///
    /// # Errors
    /// Where the database cannot be used; says why.
    pub async fn open(location: &Location) -> anyhow::Result<Self> {
        let (thread, location) =
            (Thread::start().context("cannot start the sequencer's thread")?, location.clone());
        let opening = thread.handle().spawn(async move {
            let database = Database::open(&location, MIGRATIONS).await?;
            head::create(&database).await?;
            let term = term::begin(&database).await?;
            Ok::<_, obscura_database::Error>((database, term))
        });
        let (database, term) = opening.await??;
        Ok(Self { database, term, thread })
    }

    /// Whether nobody has opened the tables since.
    pub async fn is_newest(&self) -> Result<bool, Error> {
        match term::check(self.database.readers(), self.term).await {
            Ok(()) => Ok(true),
            Err(Error::OtherSequencer) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins to write, where nobody else has begun a term.
    async fn write(&self) -> Result<Write<'_>, Error> {
        let write = self.database.write().await?;
        term::check(&*write, self.term).await?;
        Ok(write)
    }

    /// Where the log is written.
    pub const fn runtime(&self) -> &Handle {
        self.thread.handle()
    }

    /// Size, root and first kept entry.
    pub async fn head(&self) -> Result<Head, Error> {
        head::read(self.database.readers()).await
    }

    /// Those of the ids that are in the log, with what a receipt says about them.
    pub async fn known(&self, ids: &[EventId]) -> Result<HashMap<EventId, Row>, Error> {
        entry::known(self.database.readers(), ids).await
    }

    /// Commits a batch where the head still has the size that the caller knows, and the term is the newest.
    ///
    /// # Errors
    /// [`Error::OtherSequencer`] where it has not, and [`Error::AlreadyThere`]: nothing is changed. After any other
    /// error it is unknown whether the batch was committed: read the head before anything else.
    pub async fn append(&self, batch: &Batch<'_>, faults: &dyn Faults) -> Result<(), Error> {
        faults.at(Step::Begin)?;
        let write = self.database.write().await?;
        faults.at(Step::InsertEntries)?;
        entry::insert(&*write, batch).await?;
        faults.at(Step::PutTiles)?;
        tile::put(&*write, batch.tiles).await?;
        producer::put(&*write, batch.producers, batch.committed).await?;
        faults.at(Step::MoveHead)?;
        if !head::advance(&*write, batch, self.term).await? {
            return Err(Error::OtherSequencer);
        }
        faults.at(Step::Commit)?;
        write.commit().await?;
        faults.at(Step::Committed)
    }

    /// The tiles with these ids, as narrow as their ids say.
    pub async fn tiles(&self, ids: &[TileId]) -> Result<Tiles, Error> {
        let mut tiles = Tiles::default();
        for id in ids {
            tiles.insert(self.tile(*id).await?);
        }
        Ok(tiles)
    }

    /// One tile, as narrow as its id says.
    pub async fn tile(&self, id: TileId) -> Result<Tile, Error> {
        tile::read(self.database.readers(), id).await
    }

    /// At most `limit` kept entries from `from` on, before `to`, that pass the filter, by index.
    pub async fn entries(&self, from: u64, to: u64, limit: u64, filter: &Filter) -> Result<Vec<Row>, Error> {
        entry::page(self.database.readers(), from, to, limit, filter).await
    }

    /// At most `limit` of the highest indexes in `[from, to)` that pass the filter, highest first.
    pub async fn newest(&self, from: u64, to: u64, limit: u64, filter: &Filter) -> Result<Vec<u64>, Error> {
        entry::newest(self.database.readers(), from, to, limit, filter).await
    }

    /// The entry with this index, where it is kept.
    pub async fn entry(&self, index: u64) -> Result<Option<Row>, Error> {
        let found = self.entries(index, index.saturating_add(1), 1, &Filter::default()).await?;
        Ok(found.into_iter().next())
    }

    /// Lowest index among the entries that were committed in `[from, to)`, and one more than the highest.
    pub async fn indexes_between(
        &self,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Option<(u64, u64)>, Error> {
        entry::between(self.database.readers(), from, to).await
    }

    /// Entries before `index` are not kept any longer. Never moves back.
    pub async fn keep_from(&self, index: u64) -> Result<(), Error> {
        let write = self.write().await?;
        head::keep_from(&*write, index).await?;
        Ok(write.commit().await?)
    }

    /// Lowest index that still has a row, kept or not.
    pub async fn first_row(&self) -> Result<Option<u64>, Error> {
        entry::first(self.database.readers()).await
    }

    /// When the entries in `[from, to)` were committed, as far as that was not after `now`.
    pub async fn dates(&self, from: u64, to: u64, now: Timestamp) -> Result<Dates, Error> {
        entry::dates(self.database.readers(), from, to, now).await
    }

    /// The earliest time of commit among the entries in `[from, to)`.
    pub async fn oldest_within(&self, from: u64, to: u64) -> Result<Option<Timestamp>, Error> {
        entry::oldest_within(self.database.readers(), from, to).await
    }

    /// Removes the rows with indexes below `index`.
    pub async fn remove_below(&self, index: u64) -> Result<(), Error> {
        let write = self.write().await?;
        entry::remove_below(&*write, index).await?;
        Ok(write.commit().await?)
    }

    /// How far this outbox of this producer has delivered. One that belongs to nobody is the producer's from then on.
    pub async fn producer(&self, producer: &str, outbox: [u8; 16]) -> Result<Option<Producer>, Error> {
        let readers = self.database.readers();
        let found = producer::read(readers, producer, outbox).await?;
        if found.is_some() || !producer::is_unbound(readers, outbox).await? {
            return Ok(found);
        }
        let write = self.write().await?;
        producer::bind(&*write, producer, outbox).await?;
        write.commit().await?;
        producer::read(self.database.readers(), producer, outbox).await
    }

    /// Events that producers say they had to drop.
    pub async fn dropped(&self) -> Result<u64, Error> {
        producer::dropped(self.database.readers()).await
    }

    /// Forgets outboxes that were silent since `before`.
    pub async fn forget_producers(&self, before: Timestamp) -> Result<(), Error> {
        let write = self.write().await?;
        producer::forget(&*write, before).await?;
        Ok(write.commit().await?)
    }

    /// When the wall clock was last believed.
    pub async fn believed(&self) -> Result<Option<Timestamp>, Error> {
        believed::read(self.database.readers()).await
    }

    /// The wall clock is believed at this moment.
    ///
    /// `vouched` is how long the log was where somebody vouches for it; `undated` is what was written before, by a
    /// clock that may have been wrong.
    pub async fn believe(
        &self,
        wall: Timestamp,
        vouched: Option<u64>,
        undated: Option<&Undated>,
    ) -> Result<(), Error> {
        let write = self.write().await?;
        believed::put(&*write, wall, vouched).await?;
        if let Some(undated) = undated {
            undated::put(&*write, undated).await?;
        }
        Ok(write.commit().await?)
    }

    /// How long the log was when somebody last vouched for the clock; 0 where nobody ever did.
    pub async fn vouched(&self) -> Result<u64, Error> {
        believed::vouched(self.database.readers()).await
    }

    /// Entries whose times of commit prove nothing.
    pub async fn undated(&self) -> Result<Vec<Undated>, Error> {
        undated::read(self.database.readers()).await
    }

    /// Forgets those that were all written before this moment.
    pub async fn forget_undated(&self, before: Timestamp) -> Result<(), Error> {
        let write = self.write().await?;
        undated::forget(&*write, before).await?;
        Ok(write.commit().await?)
    }

    /// What the log was last told of its own settings.
    pub async fn told(&self) -> Result<Option<String>, Error> {
        told::read(self.database.readers()).await
    }

    /// The log was told this of its own settings.
    pub async fn put_told(&self, settings: &str) -> Result<(), Error> {
        let write = self.write().await?;
        told::put(&*write, settings).await?;
        Ok(write.commit().await?)
    }

    /// What time the database server has; `None` where the database is a file of this machine.
    pub async fn server_time(&self) -> Result<Option<Timestamp>, Error> {
        if self.database.backend() != DbBackend::Postgres {
            return Ok(None);
        }
        let query = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
        let query = Statement::from_string(DbBackend::Postgres, query);
        let row = self.database.readers().query_one_raw(query).await?;
        let micros: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
        Ok(micros.map(|micros| Timestamp::from_unix_nanos(micros.saturating_mul(1_000))))
    }

    /// Where a feed is, its trouble, and what it lost.
    pub async fn cursor(&self, feed: &str) -> Result<Option<Cursor>, Error> {
        cursor::read(self.database.readers(), feed).await
    }

    /// Writes down where a feed is.
    pub async fn put_cursor(&self, feed: &str, cursor: &Cursor) -> Result<(), Error> {
        let write = self.write().await?;
        cursor::put(&*write, feed, cursor).await?;
        Ok(write.commit().await?)
    }

    /// The key of a person for a period.
    pub async fn person_key(&self, tag: &[u8], period: u32) -> Result<Option<PersonKeyRow>, Error> {
        person_key::by_tag_and_period(self.database.readers(), tag, period).await
    }

    /// All keys of a person.
    pub async fn person_keys(&self, tag: &[u8]) -> Result<Vec<PersonKeyRow>, Error> {
        person_key::by_tag(self.database.readers(), tag).await
    }

    /// The key behind a pseudonym.
    pub async fn key_of(&self, pseudonym: &str) -> Result<Option<PersonKeyRow>, Error> {
        person_key::by_pseudonym(self.database.readers(), pseudonym).await
    }

    /// At most `limit` keys with pseudonyms after `after`, by pseudonym.
    pub async fn all_person_keys(&self, after: &str, limit: u64) -> Result<Vec<PersonKeyRow>, Error> {
        person_key::page(self.database.readers(), after, limit).await
    }

    /// Adds a key.
    pub async fn insert_person_key(&self, row: &PersonKeyRow) -> Result<(), Error> {
        let write = self.write().await?;
        person_key::insert(&*write, row).await?;
        Ok(write.commit().await?)
    }

    /// Who was erased and when.
    pub async fn erased(&self) -> Result<Vec<ErasedRow>, Error> {
        erased::read(self.database.readers()).await
    }

    /// Remembers who was erased and when.
    pub async fn put_erased(&self, row: &ErasedRow) -> Result<(), Error> {
        let write = self.write().await?;
        erased::put(&*write, row).await?;
        Ok(write.commit().await?)
    }

    /// Forgets who was erased before this moment.
    pub async fn forget_erased(&self, before: Timestamp) -> Result<(), Error> {
        let write = self.write().await?;
        erased::forget(&*write, before).await?;
        Ok(write.commit().await?)
    }

    /// Begins to move persons' keys to another generation.
    pub async fn rewrap(&self) -> Result<Rewrap<'_>, Error> {
        Ok(Rewrap::new(self.write().await?))
    }

    /// Serialised events that have to be appended still, with their ids.
    pub async fn pending(&self) -> Result<Vec<(EventId, Vec<u8>)>, Error> {
        pending::read(self.database.readers()).await
    }

    /// They are appended.
    pub async fn settle(&self, ids: &[EventId]) -> Result<(), Error> {
        let write = self.write().await?;
        pending::remove(&*write, ids).await?;
        Ok(write.commit().await?)
    }

    /// Closes every connection.
    pub async fn close(&self) -> Result<(), Error> {
        Ok(self.database.close().await?)
    }
}

/// Reads a number that the database keeps signed.
fn unsigned(number: i64, what: &'static str) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Corrupt(what))
}

/// Writes a number that the database keeps signed. A log never comes near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Rows of one `INSERT`: few lengths, so that few statements exist and all stay prepared, and few statements for
/// any number of rows, because each waits for the database.
fn run_length(rows: usize) -> usize {
    const LONGEST: usize = 512;
    match rows {
        0..=8 => rows,
        9..=63 => rows / 8 * 8,
        64..LONGEST => rows.next_power_of_two() >> usize::from(!rows.is_power_of_two()),
        _ => LONGEST,
    }
}

/// Inserts all rows, a run at a time.
async fn insert_rows<A>(database: &impl ConnectionTrait, mut rows: Vec<A>) -> Result<(), Error>
where
    A: sea_orm::ActiveModelTrait,
{
    while !rows.is_empty() {
        let rest = rows.split_off(run_length(rows.len()));
        let insert = <A::Entity as sea_orm::EntityTrait>::insert_many(rows);
        insert.exec_without_returning(database).await?;
        rows = rest;
    }
    Ok(())
}
