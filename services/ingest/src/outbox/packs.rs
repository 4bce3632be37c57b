//! Packs on their way, in a fair order.
//!
//! After a long outage hours of packs wait. Each camera sends its oldest first and one at a time, and
//! the cameras take turns: what a camera records now never waits for the backlog of others.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    time::Duration,
};

use obscura_clock::Monotonic;
use obscura_ids::{CameraId, LayerKeyId, PackId};

use crate::{
    segment::Sealed,
    spool::{Position, Serial},
};

/// A pack on its way.
#[derive(Clone, Debug)]
pub struct Formed {
    /// Its id, the same at every attempt.
    pub id: PackId,
    /// The record that says so.
    pub serial: Serial,
    /// Its segments in order.
    pub segments: Vec<Sealed>,
    /// Times that it was refused for a reason of its own.
    pub refusals: u32,
    /// When it was refused last.
    pub refused_at: Option<Monotonic>,
    /// Whether another pack arrived between its last two refusals: what refuses all is an outage.
    pub passed_over: bool,
    /// Times in a row that the disk did not give all of it back.
    pub unreadable: u32,
    /// Not before this.
    pub not_before: Monotonic,
    /// Not before the spool has committed this: its segments and the record that says so.
    pub after: Position,
}

impl Formed {
    /// A pack that was never offered yet.
    #[must_use]
    pub const fn new(
        id: PackId,
        (serial, after): (Serial, Position),
        segments: Vec<Sealed>,
        now: Monotonic,
    ) -> Self {
        Self {
            id,
            serial,
            segments,
            refusals: 0,
            refused_at: None,
            passed_over: false,
            unreadable: 0,
            not_before: now,
            after,
        }
    }

    /// Sealed bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|sealed| sealed.entry.length).sum()
    }

    /// Its own record in the spool and those of its segments.
    #[must_use]
    pub fn serials(&self) -> Vec<Serial> {
        self.segments.iter().map(|sealed| sealed.serial).chain([self.serial]).collect()
    }

    /// Whether a record is its own, or that of one of its segments.
    #[must_use]
    pub fn holds(&self, serial: Serial) -> bool {
        self.serial == serial || self.segments.iter().any(|sealed| sealed.serial == serial)
    }

    /// It was refused now, where a pack arrived last at that moment.
    pub fn note_refusal(&mut self, now: Monotonic, last_arrival: Option<Monotonic>) {
        let before = self.refused_at.replace(now);
        self.passed_over = before.is_some() && before < last_arrival;
    }

    /// Whether a segment of it was sealed under this layer key.
    #[must_use]
    pub fn is_under(&self, key: LayerKeyId) -> bool {
        self.segments.iter().any(|sealed| sealed.entry.header.key_id == key)
    }

    fn camera(&self) -> Option<CameraId> {
        self.segments.first().map(|sealed| sealed.entry.header.camera)
    }
}

/// All packs of all cameras.
#[derive(Debug, Default)]
pub struct Packs {
    /// By camera, and in the order in which they were formed.
    waiting: BTreeMap<CameraId, BTreeMap<Serial, Formed>>,
    in_flight: HashMap<CameraId, Flight>,
    /// The camera whose turn was last.
    last: Option<CameraId>,
}

#[derive(Debug)]
struct Flight {
    /// Of its segments.
    serials: Vec<Serial>,
    oldest: Option<Sealed>,
}

impl Packs {
    /// Adds a pack. One without segments belongs to nobody and is not kept.
    pub fn add(&mut self, pack: Formed) {
        if let Some(camera) = pack.camera() {
            self.waiting.entry(camera).or_default().insert(pack.serial, pack);
        }
    }

    /// Takes the oldest pack that may go of the camera whose turn it is.
    pub fn take(&mut self, may_go: impl Fn(&Formed) -> bool) -> Option<Formed> {
        let (camera, serial) = self.turns().find_map(|(camera, packs)| {
            let free = !self.in_flight.contains_key(camera);
            let next = packs.values().filter(|_| free).find(|pack| may_go(pack))?;
            Some((*camera, next.serial))
        })?;
        self.last = Some(camera);
        let pack = self.waiting.get_mut(&camera)?.remove(&serial)?;
        let oldest = pack.segments.first().cloned();
        let serials = pack.segments.iter().map(|sealed| sealed.serial).collect();
        self.in_flight.insert(camera, Flight { serials, oldest });
        Some(pack)
    }

    /// A pack has arrived.
    pub fn done(&mut self, pack: &Formed) {
        if let Some(camera) = pack.camera() {
            self.in_flight.remove(&camera);
            self.waiting.retain(|_, packs| !packs.is_empty());
        }
    }

    /// A pack did not arrive: it takes its old place.
    pub fn put_back(&mut self, pack: Formed) {
        self.done(&pack);
        self.add(pack);
    }

    /// The packs that are not on their way.
    pub fn waiting(&self) -> impl Iterator<Item = &Formed> {
        self.waiting.values().flat_map(BTreeMap::values)
    }

    /// A pack that waits no longer does.
    pub fn remove(&mut self, pack: &Formed) {
        if let Some(packs) = pack.camera().and_then(|camera| self.waiting.get_mut(&camera)) {
            packs.remove(&pack.serial);
        }
        self.waiting.retain(|_, packs| !packs.is_empty());
    }

    /// Segments in packs of these cameras.
    pub fn segments(&self, of: impl Fn(CameraId) -> bool) -> usize {
        let waiting = self.waiting.iter().filter(|(camera, _)| of(**camera));
        let waiting = waiting.flat_map(|(_, packs)| packs.values()).map(|pack| pack.segments.len());
        let flying = self.in_flight.iter().filter(|(camera, _)| of(**camera));
        waiting.sum::<usize>() + flying.map(|(_, flight)| flight.serials.len()).sum::<usize>()
    }

    /// Segments in packs of these cameras that are on their way, and in those that count.
    pub fn serials(
        &self,
        of: impl Fn(CameraId) -> bool + Copy,
        counts: impl Fn(&Formed) -> bool,
    ) -> impl Iterator<Item = Serial> {
        let waiting = self.waiting().filter(move |pack| pack.camera().is_some_and(of) && counts(pack));
        let waiting = waiting.flat_map(|pack| &pack.segments).map(|sealed| sealed.serial);
        let flying = self.in_flight.iter().filter(move |(camera, _)| of(**camera));
        waiting.chain(flying.flat_map(|(_, flight)| &flight.serials).copied())
    }

    /// How long the oldest segment of each camera waits, in packs that count.
    pub fn oldest(&self, now: Monotonic, counts: impl Fn(&Formed) -> bool) -> impl Iterator<Item = Duration> {
        let oldest = move |packs: &'_ BTreeMap<Serial, Formed>| {
            packs
                .values()
                .find(|pack| counts(pack))
                .and_then(|pack| pack.segments.first())
                .map(|s| s.waited(now))
        };
        let waiting = self.waiting.values().filter_map(oldest);
        let flying = self.in_flight.values().filter_map(|flight| flight.oldest.as_ref());
        waiting.chain(flying.map(move |sealed| sealed.waited(now)))
    }

    /// The cameras after the last one, and then those up to it.
    fn turns(&self) -> impl Iterator<Item = (&CameraId, &BTreeMap<Serial, Formed>)> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let until = self.last.map_or(Bound::Excluded(CameraId::from_bytes([0; 16])), Bound::Included);
        self.waiting.range((after, Bound::Unbounded)).chain(self.waiting.range((Bound::Unbounded, until)))
    }
}
