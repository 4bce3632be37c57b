//! What waits to leave the recorder: layer keys, gaps, sealed segments and packs formed of them.
//!
//! Plain state behind a lock; [`crate::upload`] empties it.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obscura_clock::Monotonic;
use obscura_ids::{CameraId, PackId};
use obscura_proto::{footage::v1::Gap, keys::v1::ImportLayerKeyRequest};
use tokio::sync::Notify;

use crate::{
    segment::Sealed,
    spool::{Position, Serial},
};

/// Most segments of one pack.
pub const MAX_SEGMENTS_PER_PACK: usize = 256;

/// Most sealed bytes of one pack: storage takes objects up to 256 MiB, directory included.
pub const MAX_PACK_BYTES: u64 = 255 * 1024 * 1024;

/// A pack on its way.
#[derive(Clone, Debug)]
pub struct Formed {
    /// Its id, the same at every attempt.
    pub id: PackId,
    /// The record that says so.
    pub serial: Serial,
    /// Its segments in order.
    pub segments: Vec<Sealed>,
    /// Attempts so far.
    pub attempts: u32,
    /// Not before this.
    pub not_before: Monotonic,
    /// Not before the spool has committed this: its segments and the record that says so.
    pub after: Position,
}

/// What waits to leave.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    /// Told when something was added or left.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<Serial, ImportLayerKeyRequest>,
    key_ids: HashSet<String>,
    gaps: BTreeMap<Serial, Gap>,
    segments: HashMap<CameraId, VecDeque<(Sealed, Monotonic)>>,
    packs: Vec<Formed>,
    in_flight: HashMap<PackId, (CameraId, usize)>,
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
        if let Some(key) = &request.key {
            state.key_ids.insert(key.key_id.clone());
        }
        state.keys.insert(serial, request);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A gap began, changed or ended.
    pub fn add_gap(&self, serial: Serial, gap: Gap) {
        self.lock().gaps.insert(serial, gap);
    }

    /// A segment was sealed.
    pub fn add_segment(&self, sealed: Sealed, now: Monotonic) {
        self.lock().segments.entry(sealed.entry.header.camera).or_default().push_back((sealed, now));
    }

    /// A pack was formed, now or by an earlier run.
    pub fn add_pack(&self, pack: Formed) {
        self.lock().packs.push(pack);
        self.changed.notify_waiters();
    }

    /// The keys that wait.
    #[must_use]
    pub fn keys(&self) -> Vec<(Serial, ImportLayerKeyRequest)> {
        self.lock().keys.iter().map(|(serial, request)| (*serial, request.clone())).collect()
    }

    /// A key is in custody.
    pub fn key_done(&self, serial: Serial) {
        let mut state = self.lock();
        if let Some(key) = state.keys.remove(&serial).and_then(|request| request.key) {
            state.key_ids.remove(&key.key_id);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The gaps that wait, with their serials; at most `limit`.
    #[must_use]
    pub fn gap_batch(&self, limit: usize) -> (Vec<Serial>, Vec<Gap>) {
        self.lock().gaps.iter().take(limit).map(|(serial, gap)| (*serial, gap.clone())).unzip()
    }

    /// Gaps are indexed.
    pub fn gaps_done(&self, serials: &[Serial]) {
        let mut state = self.lock();
        for serial in serials {
            state.gaps.remove(serial);
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
        Some(taken)
    }

    /// Gives segments back that could not become a pack.
    pub fn put_back(&self, segments: Vec<Sealed>, now: Monotonic) {
        let mut state = self.lock();
        for sealed in segments.into_iter().rev() {
            state.segments.entry(sealed.entry.header.camera).or_default().push_front((sealed, now));
        }
    }

    /// Takes a pack that is due, committed, and whose layer keys are all in custody.
    #[must_use]
    pub fn take_pack(&self, now: Monotonic, committed: Position) -> Option<Formed> {
        let mut state = self.lock();
        let State { packs, key_ids, .. } = &*state;
        let index = packs.iter().position(|pack| {
            pack.not_before <= now
                && pack.after <= committed
                && pack
                    .segments
                    .iter()
                    .all(|sealed| !key_ids.contains(&sealed.entry.header.key_id.to_string()))
        })?;
        let pack = state.packs.swap_remove(index);
        if let Some(first) = pack.segments.first() {
            state.in_flight.insert(pack.id, (first.entry.header.camera, pack.segments.len()));
        }
        Some(pack)
    }

    /// A pack is durable and indexed.
    pub fn pack_done(&self, id: PackId) {
        self.lock().in_flight.remove(&id);
        self.changed.notify_waiters();
    }

    /// A pack must be tried again.
    pub fn pack_failed(&self, pack: Formed) {
        let mut state = self.lock();
        state.in_flight.remove(&pack.id);
        state.packs.push(pack);
    }

    /// Segments of `camera` (of all where `None`) that have not left.
    #[must_use]
    pub fn waiting_segments(&self, camera: Option<CameraId>) -> usize {
        let state = self.lock();
        let of = |id: CameraId| camera.is_none_or(|camera| camera == id);
        let queued: usize =
            state.segments.iter().filter(|(id, _)| of(**id)).map(|(_, queue)| queue.len()).sum();
        let formed: usize = (state.packs.iter())
            .filter(|pack| pack.segments.first().is_some_and(|sealed| of(sealed.entry.header.camera)))
            .map(|pack| pack.segments.len())
            .sum();
        let flying: usize = state.in_flight.values().filter(|(id, _)| of(*id)).map(|(_, count)| count).sum();
        queued + formed + flying
    }

    /// Layer keys that have not left.
    #[must_use]
    pub fn waiting_keys(&self) -> usize {
        self.lock().keys.len()
    }

    /// Gaps that have not left.
    #[must_use]
    pub fn waiting_gaps(&self) -> usize {
        self.lock().gaps.len()
    }

    #[cfg(test)]
    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().gaps.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
