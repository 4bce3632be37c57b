//! Persons in the log: pseudonyms, sealed fields, and how both are erased for good.
//!
//! Each person has a random key per calendar month (UTC). The pseudonym and the key of sealed fields derive
//! from it, so one destruction erases both. Deleting a row would not be destruction: rows live on in
//! write-ahead logs, free pages, replicas and backups. So every row is wrapped under the secret of a
//! *generation*, which is in a small file beside the database and never in it. Erasing makes a new
//! generation, puts every other key under it and destroys the old secret: what any old page holds opens with
//! nothing that exists. The tag by which a person's rows are found is an HMAC under the same secret, so old
//! tags lead nowhere either, and the row of the erased person is gone from the new generation.
//!
//! Backups of the file `person-keys.json` must not outlive an erasure; it changes only when someone is erased
//! or a month's keys expire.

mod erased;
mod period;
mod sealing;
mod secret_file;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use obscura_clock::Timestamp;
use obscura_row_cipher as row_cipher;
use tokio::sync::{Mutex as Turn, MutexGuard};
use zeroize::Zeroizing;

use erased::ErasedIds;
pub use period::Period;
pub use sealing::{PeriodKey, Sealing};
pub use secret_file::{Error as FileError, Lock};
use secret_file::{Generation, SecretFile};

use crate::{
    event_id::EventId,
    fault::{Faults, Step},
    store::{self, ErasedRow, PersonKeyRow, Store},
};

/// Keys in memory; when there are more, all are looked up anew.
const CACHE: usize = 4_096;
/// Rows that one look takes.
const PAGE: u64 = 500;

/// Why a person's key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tables failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file of secrets cannot be used.
    #[error(transparent)]
    File(#[from] secret_file::Error),
    /// A row does not open.
    #[error("the key of a person does not open: restore the audit database and person-keys.json together")]
    Damaged,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed to make or use a key")]
    Crypto,
}

impl From<row_cipher::Failed> for Error {
    fn from(_: row_cipher::Failed) -> Self {
        Self::Crypto
    }
}

/// What an erasure did.
#[derive(Debug, PartialEq, Eq)]
pub struct Erased {
    /// Pseudonyms that lead nowhere any more, one for each key.
    pub pseudonyms: Vec<String>,
}

/// Which keys to destroy.
#[derive(Clone, Copy, Debug)]
pub enum Doomed<'a> {
    /// All keys of a person, at this moment: what happened before it leads to them no more either.
    Person(&'a str, Timestamp),
    /// All keys of months before this one.
    Before(Period),
}

/// An event that has to be appended, with its id.
pub type Telling = (EventId, Vec<u8>);

/// Makes, finds and destroys persons' keys. One process at a time has the file.
pub struct Persons {
    store: Arc<Store>,
    faults: Arc<dyn Faults>,
    /// Held by whoever makes or destroys keys.
    secrets: Turn<SecretFile>,
    cache: Mutex<HashMap<(String, Period), Arc<PeriodKey>>>,
    erased: Mutex<ErasedIds>,
}

impl fmt::Debug for Persons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persons").finish_non_exhaustive()
    }
}

impl Persons {
    /// Opens the file, which is made only where no row needs an old one, and finishes an erasure that a crash
    /// cut short.
    ///
    /// # Errors
    /// [`Error::File`] where the file is gone, readable by others or not the one of these rows.
    pub async fn open(
        path: &Path,
        lock: Lock,
        store: Arc<Store>,
        faults: Arc<dyn Faults>,
    ) -> Result<Self, Error> {
        let generation = generation_of_rows(&store).await?;
        let mut secrets = SecretFile::open(path, lock, generation.is_none())?;
        settle(&mut secrets, generation, &*faults)?;
        let erased = Mutex::new(ErasedIds::new(secrets.erased(), store.erased().await?));
        Ok(Self { store, faults, secrets: Turn::new(secrets), cache: Mutex::default(), erased })
    }

    /// The secrets; where an erasure failed half way, it is settled first.
    async fn secrets(&self) -> Result<MutexGuard<'_, SecretFile>, Error> {
        let mut secrets = self.secrets.lock().await;
        if !secrets.is_settled() {
            settle(&mut secrets, generation_of_rows(&self.store).await?, &*self.faults)?;
        }
        Ok(secrets)
    }

    /// The key of this person for the month of `now`, made where there is none; for what `happened` before the person
    /// was erased, one that nobody keeps.
    pub async fn current(
        &self,
        id: &str,
        happened: Timestamp,
        now: Timestamp,
    ) -> Result<Arc<PeriodKey>, Error> {
        let period = Period::of(now);
        if self.was_erased(id, happened) {
            return Ok(Arc::new(PeriodKey::generate()?));
        }
        if let Some(key) = self.cached(id, period) {
            return Ok(key);
        }
        let secrets = self.secrets().await?;
        // Whoever erases holds the secrets, and may have been at it.
        if self.was_erased(id, happened) {
            return Ok(Arc::new(PeriodKey::generate()?));
        }
        let key = Arc::new(self.find_or_make(&secrets, id, period).await?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE {
            cache.clear();
        }
        cache.insert((id.to_owned(), period), key.clone());
        Ok(key)
    }

    fn was_erased(&self, id: &str, happened: Timestamp) -> bool {
        self.erased.lock().unwrap_or_else(PoisonError::into_inner).covers(id, happened)
    }

    /// Forgets who was erased before this moment.
    pub async fn forget_erased(&self, before: Timestamp) -> Result<(), Error> {
        self.store.forget_erased(before).await?;
        self.erased.lock().unwrap_or_else(PoisonError::into_inner).forget(before);
        Ok(())
    }

    fn cached(&self, id: &str, period: Period) -> Option<Arc<PeriodKey>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(&(id.to_owned(), period)).cloned()
    }

    async fn find_or_make(&self, secrets: &SecretFile, id: &str, period: Period) -> Result<PeriodKey, Error> {
        let generation = secrets.newest()?;
        let tag = secrets.tag(generation, id)?;
        if let Some(row) = self.store.person_key(&tag, period.number()).await? {
            return Ok(unwrap(secrets, &row)?.0);
        }
        let key = PeriodKey::generate()?;
        self.store.insert_person_key(&wrap(secrets, generation, &key, id, period)?).await?;
        Ok(key)
    }

    /// Pseudonyms of this person in every month whose key still exists.
    pub async fn pseudonyms(&self, id: &str) -> Result<Vec<String>, Error> {
        let secrets = self.secrets().await?;
        let tag = secrets.tag(secrets.newest()?, id)?;
        let rows = self.store.person_keys(&tag).await?;
        Ok(rows.into_iter().map(|row| row.pseudonym).collect())
    }

    /// The key behind a pseudonym; `None` where it was destroyed or never was.
    pub async fn key_of(&self, pseudonym: &str) -> Result<Option<PeriodKey>, Error> {
        let secrets = self.secrets().await?;
        let Some(row) = self.store.key_of(pseudonym).await? else { return Ok(None) };
        Ok(Some(unwrap(&secrets, &row)?.0))
    }

    /// Destroys keys. `tell` makes the events that say so from the pseudonyms; they are kept in the database
    /// until somebody appended them. Where there is no such key, only the moment is remembered.
    ///
    /// # Errors
    /// After an error the keys are all there or all destroyed; asking again settles it.
    pub async fn destroy(
        &self,
        doomed: Doomed<'_>,
        tell: impl FnOnce(&[String]) -> Vec<Telling>,
    ) -> Result<Erased, Error> {
        let mut secrets = self.secrets().await?;
        let remembered = match doomed {
            Doomed::Person(id, at) => {
                let key = secrets.make_erased()?;
                let row = erased::row(&key, id, at);
                Some((key, row))
            }
            Doomed::Before(_) => None,
        };
        let row = remembered.as_ref().map(|(_, row)| row);
        let erased = if self.count(&secrets, doomed).await? > 0 {
            self.next_generation(&mut secrets, (doomed, row), tell).await
        } else {
            if let Some(row) = row {
                self.store.put_erased(row).await?;
            }
            Ok(Erased { pseudonyms: Vec::new() })
        };
        // Whatever happened, no copy in memory may outlive it, and what comes late is kept out: it is asked for again.
        if let Some((key, row)) = remembered {
            self.erased.lock().unwrap_or_else(PoisonError::into_inner).add(&key, row);
        }
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
        erased
    }

    async fn count(&self, secrets: &SecretFile, doomed: Doomed<'_>) -> Result<usize, Error> {
        match doomed {
            Doomed::Person(id, _) => {
                let tag = secrets.tag(secrets.newest()?, id)?;
                Ok(self.store.person_keys(&tag).await?.len())
            }
            Doomed::Before(period) => {
                let mut after = String::new();
                loop {
                    let rows = self.store.all_person_keys(&after, PAGE).await?;
                    let old = rows.iter().filter(|row| row.period < period.number()).count();
                    match rows.last() {
                        Some(last) if old == 0 => after.clone_from(&last.pseudonym),
                        _ => return Ok(old),
                    }
                }
            }
        }
    }

    async fn next_generation(
        &self,
        secrets: &mut MutexGuard<'_, SecretFile>,
        doomed: (Doomed<'_>, Option<&ErasedRow>),
        tell: impl FnOnce(&[String]) -> Vec<Telling>,
    ) -> Result<Erased, Error> {
        let old = secrets.newest()?;
        self.faults.at(Step::MakeSecret)?;
        let new = secrets.add()?;
        let moved = self.rewrap(secrets, (old, new), doomed, tell).await;
        // Which of the two the rows are under, they alone can tell: a commit may have failed half way. Where
        // none is left, the newest stays.
        settle(secrets, generation_of_rows(&self.store).await?, &*self.faults)?;
        moved
    }

    async fn rewrap(
        &self,
        secrets: &SecretFile,
        (old, new): (Generation, Generation),
        (doomed, remembered): (Doomed<'_>, Option<&ErasedRow>),
        tell: impl FnOnce(&[String]) -> Vec<Telling>,
    ) -> Result<Erased, Error> {
        self.faults.at(Step::Rewrap)?;
        let tag = match doomed {
            Doomed::Person(id, _) => Some(secrets.tag(old, id)?),
            Doomed::Before(_) => None,
        };
        let is_doomed = |row: &PersonKeyRow| match doomed {
            Doomed::Person(..) => tag.as_deref() == Some(&row.tag),
            Doomed::Before(period) => row.period < period.number(),
        };
        let (write, mut pseudonyms, mut after) = (self.store.rewrap().await?, Vec::new(), String::new());
        loop {
            let rows = write.page(&after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.pseudonym);
            for row in rows {
                if is_doomed(&row) {
                    write.remove(&row.pseudonym).await?;
                    pseudonyms.push(row.pseudonym);
                } else {
                    let (key, id) = unwrap(secrets, &row)?;
                    write.replace(&wrap(secrets, new, &key, &id, Period::from_number(row.period))?).await?;
                }
            }
        }
        if let Some(row) = remembered {
            write.put_erased(row).await?;
        }
        for (id, event) in tell(&pseudonyms) {
            write.tell(id, event).await?;
        }
        write.commit().await?;
        Ok(Erased { pseudonyms })
    }
}

/// Destroys every secret but the one under which the rows are.
fn settle(secrets: &mut SecretFile, rows: Option<Generation>, faults: &dyn Faults) -> Result<(), Error> {
    if !secrets.is_settled() {
        faults.at(Step::DropSecret)?;
    }
    Ok(secrets.keep_only(rows)?)
}

/// All rows are under one generation, because they move in one transaction.
async fn generation_of_rows(store: &Store) -> Result<Option<Generation>, Error> {
    Ok(store.all_person_keys("", 1).await?.pop().map(|row| Generation(row.generation)))
}

/// A row for the key: the key and the person's id, sealed and bound to everything else in the row.
fn wrap(
    secrets: &SecretFile,
    generation: Generation,
    key: &PeriodKey,
    id: &str,
    period: Period,
) -> Result<PersonKeyRow, Error> {
    let tag = secrets.tag(generation, id)?;
    let mut clear = Zeroizing::new(Vec::with_capacity(32 + id.len()));
    clear.extend_from_slice(key.expose());
    clear.extend_from_slice(id.as_bytes());
    let mut row = PersonKeyRow {
        pseudonym: key.pseudonym().to_owned(),
        tag,
        period: period.number(),
        generation: generation.0,
        sealed: Vec::new(),
    };
    row.sealed = row_cipher::seal(&secrets.wrapping_key(generation)?, &context(&row), &clear)?;
    Ok(row)
}

/// The key in a row and the id of its person.
fn unwrap(secrets: &SecretFile, row: &PersonKeyRow) -> Result<(PeriodKey, Zeroizing<String>), Error> {
    let wrapping = secrets.wrapping_key(Generation(row.generation))?;
    let clear = row_cipher::open(&wrapping, &context(row), &row.sealed).ok_or(Error::Damaged)?;
    let (key, id) = clear.split_at_checked(32).ok_or(Error::Damaged)?;
    let id = std::str::from_utf8(id).map_err(|_| Error::Damaged)?;
    let key = PeriodKey::from_bytes(key).ok_or(Error::Damaged)?;
    Ok((key, Zeroizing::new(id.to_owned())))
}

/// Associated data of a row. Only the pseudonym has no fixed length, so there is one encoding of each row.
fn context(row: &PersonKeyRow) -> Vec<u8> {
    let numbers = [&row.generation.to_be_bytes()[..], &row.period.to_be_bytes()].concat();
    [b"obscura person key v1\0", &numbers[..], &row.tag, row.pseudonym.as_bytes()].concat()
}
