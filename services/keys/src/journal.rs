//! Telling the audit log before the caller is answered: what is told is committed in the key database first, and
//! goes from there to the outbox and the log. A crash at any moment loses no event whose act was answered.
//!
//! Events that are part of a change are staged in its transaction; this is for acts without one. Those that wait
//! at the same time share one commit, so that many releases cost about as many waits for the disk as one.
//!
//! Whoever may ask can also be refused, as often as they like. So the first refusals of a minute are told one by
//! one, and the others as a number when the minute is over; a crash loses that number and nothing else.

use std::sync::{
    Arc, Mutex as StdMutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use obscura_clock::Monotonic;
use obscura_database::Database;
use obscura_outbox::staged;
use obscura_proto::audit::v1::Event;
use sea_orm::{DbErr, EntityTrait as _, PaginatorTrait as _};
use tokio::sync::{Mutex, Notify, oneshot};

use crate::error::Error;

/// Most events that wait for a commit.
const MAX_WAITING: usize = 4_096;
/// Most events of one commit.
const BATCH: usize = 512;
/// Events that may be staged; with more nothing is released, because the audit log does not take them.
pub const MAX_STAGED: u64 = 100_000;
/// Refusals that are told one by one.
const REFUSALS_TOLD: u32 = 20;
/// Over which time.
const REFUSALS_WINDOW: std::time::Duration = std::time::Duration::from_secs(60);

/// Events on their way into the database.
pub struct Journal {
    database: Arc<Database>,
    /// Told when an event is staged.
    staged: Arc<Notify>,
    waiting: StdMutex<Vec<Waiting>>,
    /// Held by who commits.
    turn: Mutex<()>,
    /// So many events may be staged before the staged ones are counted again.
    room: AtomicU64,
    /// Held by who counts them.
    counting: Mutex<()>,
}

/// Room for one event less.
const fn taken(room: u64) -> Option<u64> {
    room.checked_sub(1)
}

/// An event and who waits for it.
struct Waiting {
    event: Event,
    durable: oneshot::Sender<bool>,
}

impl Journal {
    /// Nothing waits yet.
    pub fn new(database: Arc<Database>, staged: Arc<Notify>) -> Self {
        let (waiting, room) = (StdMutex::default(), AtomicU64::new(0));
        Self { database, staged, waiting, turn: Mutex::default(), room, counting: Mutex::default() }
    }

    /// Stages an event; it is durable on return.
    ///
    /// # Errors
    /// [`Error::Untold`] where the database does not take it, [`Error::Unheard`] where nobody fetches what is
    /// staged. Either way what it tells about must not be done.
    pub async fn tell(self: &Arc<Self>, event: Event) -> Result<(), Error> {
        self.take_room().await?;
        let durable = self.push(event)?;
        // On its own, so that nobody's event is lost with a caller who hangs up.
        tokio::spawn(Arc::clone(self).commit());
        if durable.await == Ok(true) { Ok(()) } else { Err(Error::Untold) }
    }

    async fn take_room(&self) -> Result<(), Error> {
        if self.room_is_left() {
            return Ok(());
        }
        // One counts for all who come meanwhile: a thousand counts would wait for each other's connections.
        let _counting = self.counting.lock().await;
        if self.room_is_left() {
            return Ok(());
        }
        let staged = staged::Entity::find().count(self.database.readers()).await?;
        let room = MAX_STAGED.checked_sub(staged).and_then(taken).ok_or(Error::Unheard)?;
        self.room.store(room, Ordering::Relaxed);
        Ok(())
    }

    /// Takes room for one event, where some is left.
    fn room_is_left(&self) -> bool {
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn push(&self, event: Event) -> Result<oneshot::Receiver<bool>, Error> {
        let (durable, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            return Err(Error::Untold);
        }
        waiting.push(Waiting { event, durable });
        Ok(receiver)
    }

    /// Stages what waits, unless somebody else just did.
    async fn commit(self: Arc<Self>) {
        let _turn = self.turn.lock().await;
        if self.lock_waiting().is_empty() {
            return;
        }
        let staged = self.stage().await;
        let durable = staged.outcome.is_ok();
        if let Err(error) = staged.outcome {
            tracing::error!(%error, "the key database does not take events for the audit log");
        }
        for waiting in staged.batch {
            // Nobody waits any more where the caller hung up; the event stands.
            let _ = waiting.durable.send(durable);
        }
        self.staged.notify_one();
    }

    async fn stage(&self) -> Staged {
        match self.database.write().await {
            // What came while others wrote goes along.
            Ok(write) => {
                let batch = self.take_batch();
                let outcome = stage_all(write, &batch).await;
                Staged { batch, outcome }
            }
            Err(error) => Staged { batch: self.take_batch(), outcome: Err(error) },
        }
    }

    fn take_batch(&self) -> Vec<Waiting> {
        let mut waiting = self.lock_waiting();
        let batch = waiting.len().min(BATCH);
        waiting.drain(..batch).collect()
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was to be committed, and whether it was.
struct Staged {
    batch: Vec<Waiting>,
    outcome: Result<(), DbErr>,
}

async fn stage_all(write: obscura_database::Write<'_>, batch: &[Waiting]) -> Result<(), DbErr> {
    for waiting in batch {
        staged::stage(&*write, &waiting.event).await?;
    }
    write.commit().await
}

/// Counts refusals.
#[derive(Debug, Default)]
pub struct Refusals {
    began: Option<Monotonic>,
    told: u32,
    untold: u64,
}

/// What to tell of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whether it is told itself.
    pub told: bool,
    /// Refusals of a minute before that were not told one by one.
    pub earlier: u64,
}

impl Refusals {
    /// One more.
    pub fn refuse(&mut self, now: Monotonic) -> Refused {
        let earlier = self.close(now);
        self.began.get_or_insert(now);
        let told = self.told < REFUSALS_TOLD;
        if told {
            self.told += 1;
        } else {
            self.untold = self.untold.saturating_add(1);
        }
        Refused { told, earlier }
    }

    /// How many were not told of a minute that is over; 0 while it runs.
    pub fn close(&mut self, now: Monotonic) -> u64 {
        if self.began.is_none_or(|began| now.since(began) < REFUSALS_WINDOW) {
            return 0;
        }
        std::mem::take(self).untold
    }
}

#[cfg(test)]
mod tests;
