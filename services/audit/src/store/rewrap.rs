//! The move of persons' keys to another generation: one transaction, with what has to be told and remembered of it.

use obscura_database::Write;

use super::{ErasedRow, Error, PersonKeyRow, erased, pending, person_key};
use crate::event_id::EventId;

/// The move of persons' keys to another generation, together with the events that tell of it.
#[derive(Debug)]
pub struct Rewrap<'a> {
    write: Write<'a>,
}

impl<'a> Rewrap<'a> {
    pub(super) const fn new(write: Write<'a>) -> Self {
        Self { write }
    }

    /// At most `limit` keys with pseudonyms after `after`, by pseudonym.
    pub async fn page(&self, after: &str, limit: u64) -> Result<Vec<PersonKeyRow>, Error> {
        person_key::page(&*self.write, after, limit).await
    }

    /// Puts the key under another generation.
    pub async fn replace(&self, row: &PersonKeyRow) -> Result<(), Error> {
        person_key::replace(&*self.write, row).await
    }

    /// Removes the key.
    pub async fn remove(&self, pseudonym: &str) -> Result<(), Error> {
        person_key::remove(&*self.write, pseudonym).await
    }

    /// Remembers who was erased and when.
    pub async fn put_erased(&self, row: &ErasedRow) -> Result<(), Error> {
        erased::put(&*self.write, row).await
    }

    /// Has an event appended, whatever happens after the commit.
    pub async fn tell(&self, id: EventId, event: Vec<u8>) -> Result<(), Error> {
        pending::insert(&*self.write, id, event).await
    }

    /// Makes it durable.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.write.commit().await?)
    }
}
