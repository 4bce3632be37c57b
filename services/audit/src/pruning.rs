//! Entries go when their retention is over; hashes stay for ever.
//!
//! Whole bundles go, 256 entries at a time, from the oldest on. Proofs need hashes only, so they hold for what
//! is kept, and a copy without the old bundles still verifies. Rows are the last to go: they are the list of
//! what is left to do after a crash.

use std::{sync::Arc, time::Duration};

use obscura_blob::BlobStore;
use obscura_clock::Timestamp;
use obscura_proto::audit::v1::{Erasure, ErasureGround, Event, event::Body, service_act::Act};
use obscura_tlog::{BundleId, TILE_WIDTH};
use prost::Message as _;

use crate::{
    alarm::act,
    error::Error,
    event_id::EventId,
    fault::Step,
    guard::Guard,
    log::Log,
    persons::{Doomed, Period},
    projection,
    store::{Dates, Undated},
};

/// Kept longer than the entries, so that no entry at the end of a month outlives its key.
const KEY_GRACE: Duration = Duration::from_hours(24);
/// Bundles whose rows go in one transaction.
const BUNDLES_AT_ONCE: u64 = 16;
/// Pseudonyms that one event names: as many as the log takes.
pub const PSEUDONYMS_IN_EVENT: usize = obscura_ocsf::MAX_PSEUDONYMS;

/// Removes what is older than its retention.
pub struct Pruning {
    log: Arc<Log>,
    blobs: Arc<dyn BlobStore>,
    guard: Arc<Guard>,
    retention: Duration,
}

/// How old entries are.
struct Ages<'a> {
    now: Timestamp,
    /// What was written before is old.
    before: Timestamp,
    /// Entries whose own times prove nothing.
    undated: &'a [Undated],
}

impl Ages<'_> {
    fn is_young(&self, from: u64, to: u64, dates: Dates) -> bool {
        let is_here = |undated: &&Undated| undated.from < to && from < undated.to;
        let undated = self.undated.iter().filter(is_here).map(|undated| undated.written_before);
        dates.newest.into_iter().chain(undated).any(|written| written >= self.before)
    }

    /// What lies before this moment by any clock that wrote it is old. Keys and moments of erasures have no index that
    /// would say which clock that was.
    fn before_any_doubt(&self) -> Timestamp {
        self.undated.iter().map(|undated| undated.oldest).fold(self.before, Ord::min)
    }
}

impl Pruning {
    /// Of this log, by the clock that the guard believes.
    pub const fn new(
        log: Arc<Log>,
        blobs: Arc<dyn BlobStore>,
        guard: Arc<Guard>,
        retention: Duration,
    ) -> Self {
        Self { log, blobs, guard, retention }
    }

    /// Whether anything would be removed on the word of the clock now.
    ///
    /// # Errors
    /// As [`Guard::now`].
    pub async fn check_clock(&self) -> Result<(), Error> {
        self.guard.now().await.map(drop)
    }

    /// Removes what is old, at most up to the size that is `published`, and returns the first kept index.
    ///
    /// # Errors
    /// [`Error::ClockDisagrees`]: nothing was destroyed. Others: some of it may have gone, and the next call
    /// goes on.
    pub async fn run(&self, published: u64) -> Result<u64, Error> {
        let now = self.guard.now().await?;
        let before = now - self.retention;
        let store = &self.log.parts.store;
        // No key that is younger than they say is needed once their entries may go.
        store.forget_undated(before - KEY_GRACE).await?;
        let (head, undated) = (store.head().await?, store.undated().await?);
        let ages = Ages { now, before, undated: &undated };
        let wanted = self.first_young(head.first_kept, published.min(head.size), &ages).await?;
        if wanted > head.first_kept {
            self.tell(head.first_kept, wanted).await?;
            self.log.parts.faults.at(Step::KeepFrom)?;
            store.keep_from(wanted).await?;
        }
        let kept = wanted.max(head.first_kept);
        self.remove_below(kept).await?;
        let before = ages.before_any_doubt();
        self.expire_keys(before).await?;
        store.forget_producers(before).await?;
        self.log.parts.persons.forget_erased(before).await?;
        Ok(kept)
    }

    /// Walks over whole bundles in which everything is old. A bundle that is not full stays. One with times of the
    /// future, from a clock that was ahead, is old where a later one is.
    async fn first_young(&self, first: u64, end: u64, ages: &Ages<'_>) -> Result<u64, Error> {
        let (mut from, mut old) = (first, first);
        while let Some(to) = from.checked_add(TILE_WIDTH).filter(|to| *to <= end) {
            let dates = self.log.parts.store.dates(from, to, ages.now).await?;
            if ages.is_young(from, to, dates) {
                break;
            }
            if !dates.has_future && dates.newest.is_some() {
                old = to;
            }
            from = to;
        }
        Ok(old)
    }

    /// Says what goes before it does. The id follows from what goes, so that a crash in between tells it once.
    async fn tell(&self, from: u64, to: u64) -> Result<(), Error> {
        const DAY_SECONDS: u64 = 86_400;
        let (last, days) = (to.saturating_sub(1), self.retention.as_secs() / DAY_SECONDS);
        let detail = format!("entries {from} to {last} pruned, retention {days} days");
        let id = EventId::of(&[b"pruned", &from.to_be_bytes(), &to.to_be_bytes()]);
        let event = self.log.own(id, act(Act::Pruned, "", &detail));
        self.log.append(&self.log.parts.own_id, &event).await.map(drop)
    }

    async fn remove_below(&self, kept: u64) -> Result<(), Error> {
        let parts = &self.log.parts;
        while let Some(first) = parts.store.first_row().await?.filter(|first| *first < kept) {
            let bundle = first / TILE_WIDTH;
            let end = bundle.saturating_add(BUNDLES_AT_ONCE).min(kept / TILE_WIDTH);
            parts.faults.at(Step::RemoveBundles)?;
            for index in bundle..end {
                self.remove_bundle(index).await?;
            }
            parts.faults.at(Step::RemoveRows)?;
            parts.store.remove_below(end.saturating_mul(TILE_WIDTH)).await?;
        }
        Ok(())
    }

    async fn remove_bundle(&self, index: u64) -> Result<(), Error> {
        const WHOLE: u16 = 256;
        let Some(id) = BundleId::new(index, WHOLE) else { return Ok(()) };
        let path = id.to_string();
        self.blobs.delete(&projection::key(&path)?).await.map_err(projection::Error::from)?;
        Ok(projection::remove_partials_of(&*self.blobs, &path).await?)
    }

    /// Keys of months that lie wholly before what is kept.
    async fn expire_keys(&self, before: Timestamp) -> Result<(), Error> {
        let doomed = Doomed::Before(Period::of(before - KEY_GRACE));
        let tell = |pseudonyms: &[String]| {
            let events = pseudonyms.chunks(PSEUDONYMS_IN_EVENT).map(|pseudonyms| self.expired(pseudonyms));
            events.collect()
        };
        self.log.parts.persons.destroy(doomed, tell).await?;
        self.log.settle_pending().await
    }

    fn expired(&self, pseudonyms: &[String]) -> (EventId, Vec<u8>) {
        let ground = ErasureGround::RetentionEnded.into();
        let erasure = Erasure { pseudonyms: pseudonyms.to_vec(), ground, ..Erasure::default() };
        let id = EventId::generate();
        (id, self.log.own(id, Body::Erasure(erasure)).encode_to_vec())
    }
}

impl Log {
    /// Appends what an erasure or an expiry owes the log. Harmless when there is nothing, or it is there already.
    ///
    /// # Errors
    /// As [`Log::append`]; it stays owed then.
    pub async fn settle_pending(&self) -> Result<(), Error> {
        loop {
            let owed = self.parts.store.pending().await?;
            if owed.is_empty() {
                return Ok(());
            }
            self.parts.faults.at(Step::TellErasure)?;
            for (id, event) in &owed {
                let event = Event::decode(&event[..]).map_err(|_| Error::Owed)?;
                for event in split(*id, event) {
                    self.append(&self.parts.own_id, &event).await?;
                }
            }
            let ids: Vec<EventId> = owed.iter().map(|(id, _)| *id).collect();
            self.parts.store.settle(&ids).await?;
        }
    }
}

/// What is owed, in events that the log takes: one that names more pseudonyms than fit becomes several. Their ids
/// follow from the first, so that telling them again after a crash is telling them once.
fn split(id: EventId, event: Event) -> Vec<Event> {
    let Some(Body::Erasure(erasure)) = &event.body else { return vec![event] };
    if erasure.pseudonyms.len() <= PSEUDONYMS_IN_EVENT {
        return vec![event];
    }
    let part = |(number, pseudonyms): (usize, &[String])| {
        let id = if number == 0 { id } else { EventId::of(&[id.as_bytes(), &number.to_be_bytes()]) };
        let body = Body::Erasure(Erasure { pseudonyms: pseudonyms.to_vec(), ..erasure.clone() });
        Event { event_id: id.to_string(), body: Some(body), ..event.clone() }
    };
    erasure.pseudonyms.chunks(PSEUDONYMS_IN_EVENT).enumerate().map(part).collect()
}

#[cfg(test)]
mod tests;
