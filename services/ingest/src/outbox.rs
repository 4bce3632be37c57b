//! What waits to leave the recorder: layer keys, gaps, sealed segments and packs formed of them.
//!
//! Plain state behind a lock; [`crate::upload`] empties it.

mod awaited;
mod gaps;
mod keys;
mod packs;
mod refused;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obscura_clock::Monotonic;
use obscura_ids::{CameraId, LayerKeyId, Sequence, WriterEpoch};
use obscura_proto::keys::v1::ImportLayerKeyRequest;
use tokio::sync::Notify;

use self::{gaps::Gaps, keys::Keys, packs::Packs};
pub use self::{packs::Formed, refused::Refused};
use crate::{
    segment::{GivenUp, Sealed},
    spool::{Position, Serial},
};

/// Most segments of one pack.
pub const MAX_SEGMENTS_PER_PACK: usize = 256;

/// Most sealed bytes of one pack: storage takes objects up to 256 MiB, directory included.
pub const MAX_PACK_BYTES: u64 = 255 * 1024 * 1024;

/// A layer key that was refused so often is set aside until the next start.
const MOST_REFUSALS: u32 = 8;

/// What waits to leave.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    /// Told when something was added or left.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    keys: Keys,
    /// Keys without which no pack is offered: those that wait and those that were set aside.
    key_ids: HashSet<LayerKeyId>,
    gaps: Gaps,
    /// Records of an earlier run that nobody can read.
    unreadable: usize,
    given_up: Vec<GivenUp>,
    segments: HashMap<CameraId, VecDeque<(Sealed, Monotonic)>>,
    /// Segments that were taken to have something noted in the spool, and are nowhere else until then.
    taken: HashMap<Serial, CameraId>,
    packs: Packs,
}

impl State {
    fn take(&mut self, sealed: &Sealed) {
        self.taken.insert(sealed.serial, sealed.entry.header.camera);
    }
}

/// When segments of a camera become a pack.
#[derive(Clone, Copy, Debug)]
pub struct PackPolicy {
    /// Footage that fills a pack.
    pub footage: Duration,
    /// Oldest age of a segment that still waits for its pack to fill.
    pub age: Duration,
}

impl Outbox {
    /// A layer key was made.
    pub fn add_key(&self, serial: Serial, request: ImportLayerKeyRequest) {
        let mut state = self.lock();
        state.key_ids.extend(key_id(&request));
        state.keys.add(serial, request);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A segment was sealed. One that was given up may come later than the next: a pack holds its
    /// segments in the order in which they were recorded.
    pub fn add_segment(&self, mut sealed: Sealed, now: Monotonic) {
        sealed.since = now;
        let mut state = self.lock();
        state.taken.remove(&sealed.serial);
        let queue = state.segments.entry(sealed.entry.header.camera).or_default();
        let before = queue.iter().rposition(|(earlier, _)| position(earlier) < position(&sealed));
        queue.insert(before.map_or(0, |before| before + 1), (sealed, now));
    }

    /// A segment could not be completed: its end has still to be noted in the spool.
    pub fn give_up(&self, segment: GivenUp) {
        let mut state = self.lock();
        if let GivenUp::Torn(sealed) = &segment {
            state.taken.remove(&sealed.serial);
        }
        state.given_up.push(segment);
    }

    /// Takes the segments that were given up.
    #[must_use]
    pub fn take_given_up(&self) -> Vec<GivenUp> {
        let mut state = self.lock();
        let given_up = std::mem::take(&mut state.given_up);
        for segment in &given_up {
            if let GivenUp::Torn(sealed) = segment {
                state.take(sealed);
            }
        }
        given_up
    }

    /// A pack was formed, now or by an earlier run.
    pub fn add_pack(&self, pack: Formed) {
        let mut state = self.lock();
        for sealed in &pack.segments {
            state.taken.remove(&sealed.serial);
        }
        state.packs.add(pack);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A key is in custody.
    pub fn key_done(&self, serial: Serial) {
        let mut state = self.lock();
        if let Some(id) = state.keys.done(serial) {
            state.key_ids.remove(&id);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Takes the segments of one camera that make a full pack, or all that wait where `camera` is
    /// flushed. `None` where no camera has enough.
    #[must_use]
    pub fn take_full(
        &self,
        policy: PackPolicy,
        now: Monotonic,
        flushed: impl Fn(CameraId) -> bool,
    ) -> Option<Vec<Sealed>> {
        let mut state = self.lock();
        let queue = state.segments.iter_mut().find_map(|(camera, queue)| {
            (!queue.is_empty() && (flushed(*camera) || is_due(queue, policy, now))).then_some(queue)
        })?;
        let (mut footage, mut bytes) = (Duration::ZERO, 0);
        let mut taken: Vec<Sealed> = Vec::new();
        while let Some((sealed, _)) = queue.front() {
            let other = taken.first().is_some_and(|first| !goes_with(first, sealed));
            bytes += sealed.entry.length;
            let too_large = !taken.is_empty() && bytes > MAX_PACK_BYTES;
            if other || too_large || footage >= policy.footage || taken.len() >= MAX_SEGMENTS_PER_PACK {
                break;
            }
            footage += sealed.entry.span.duration();
            taken.extend(queue.pop_front().map(|(sealed, _)| sealed));
        }
        taken.iter().for_each(|sealed| state.take(sealed));
        Some(taken)
    }

    /// Gives segments back that could not become a pack.
    pub fn put_back(&self, segments: Vec<Sealed>, now: Monotonic) {
        let mut state = self.lock();
        for sealed in segments.into_iter().rev() {
            state.taken.remove(&sealed.serial);
            state.segments.entry(sealed.entry.header.camera).or_default().push_front((sealed, now));
        }
    }

    /// Takes the next pack that is due, committed, and whose layer keys are all in custody: of each
    /// camera in turn its oldest one, and of no camera two at a time.
    #[must_use]
    pub fn take_pack(&self, now: Monotonic, committed: Position) -> Option<Formed> {
        let State { packs, key_ids, .. } = &mut *self.lock();
        packs.take(|pack| {
            pack.not_before <= now
                && pack.after <= committed
                && !pack.segments.iter().any(|sealed| key_ids.contains(&sealed.entry.header.key_id))
        })
    }

    /// A pack is durable and indexed.
    pub fn pack_done(&self, pack: &Formed) {
        self.lock().packs.done(pack);
        self.changed.notify_waiters();
    }

    /// A pack must be tried again.
    pub fn pack_failed(&self, pack: Formed) {
        self.lock().packs.put_back(pack);
    }

    /// Segments of `camera` (of all where `None`) that have not left.
    #[must_use]
    pub fn waiting_segments(&self, camera: Option<CameraId>) -> usize {
        let state = self.lock();
        let of = |id: CameraId| camera.is_none_or(|camera| camera == id);
        let queued = state.segments.iter().filter(|(id, _)| of(**id)).map(|(_, queue)| queue.len());
        queued.sum::<usize>() + state.packs.segments(of) + state.given_up.len()
    }

    /// How long the oldest segment waits, where it is not refused: what is has a bound of its own, and
    /// must not keep others from being recorded.
    #[must_use]
    pub fn oldest(&self, now: Monotonic) -> Duration {
        let state = self.lock();
        let queued = state.segments.values().filter_map(|queue| Some(queue.front()?.0.waited(now)));
        let aside = state.set_aside();
        let counts = |pack: &Formed| !state.is_refused(&aside, pack);
        queued.chain(state.packs.oldest(now, counts)).max().unwrap_or_default()
    }

    /// A record of an earlier run cannot be read, and was dropped.
    pub fn note_unreadable(&self) {
        self.lock().unreadable += 1;
    }

    /// Records of an earlier run that could not be read.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.lock().unreadable
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position(sealed: &Sealed) -> (WriterEpoch, Sequence) {
    (sealed.entry.header.writer_epoch, sealed.entry.header.sequence)
}

fn key_id(request: &ImportLayerKeyRequest) -> Option<LayerKeyId> {
    request.key.as_ref()?.key_id.parse().ok()
}

/// A pack holds one camera, zone and layer, and is uploaded under one placement.
fn goes_with(first: &Sealed, next: &Sealed) -> bool {
    let (a, b) = (&first.entry.header, &next.entry.header);
    a.zone == b.zone && a.layer == b.layer && first.placement == next.placement
}

fn is_due(queue: &VecDeque<(Sealed, Monotonic)>, policy: PackPolicy, now: Monotonic) -> bool {
    let footage: Duration = queue.iter().map(|(sealed, _)| sealed.entry.span.duration()).sum();
    let bytes: u64 = queue.iter().map(|(sealed, _)| sealed.entry.length).sum();
    footage >= policy.footage
        || bytes >= MAX_PACK_BYTES
        || queue.front().is_some_and(|(_, since)| now.since(*since) >= policy.age)
}
