//! What waits, and what the file must say: plain state without a disk or a network.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use obscura_clock::SharedClock;
use obscura_proto::audit::v1::{Event, event::Body};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    event::{alarm, overflow},
    record::{EVENT_OVERHEAD_BYTES, Found, Head, Record, read},
};

/// Longest event that is kept, serialised. The log takes leaves of 64 KiB.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// How much an outbox keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events.
    pub max_events: usize,
    /// Most bytes of events, serialised.
    pub max_bytes: usize,
    /// How long the file may still hold events that the log has taken: they name people in clear.
    pub forget_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_events: 100_000, max_bytes: 64 << 20, forget_after: Duration::from_mins(1) }
    }
}

/// Whether the outbox has events now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not kept is still the caller's"]
pub enum Recorded {
    /// All are kept; durable after the next flush that succeeds.
    Kept,
    /// There is no room: nothing is kept, counted or dropped, and the caller comes again.
    Full,
    /// One is longer than [`MAX_EVENT_BYTES`] and never has room: as [`Self::Full`], but coming again is vain.
    TooLong,
}

/// From the first to the last, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counters {
    first: u64,
    last: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    counter: u64,
    bytes: Bytes,
}

/// How far the file is: handed out with what is to be written, given back when it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    outbox: Uuid,
    counter: u64,
    done: u64,
    dropped: u64,
}

impl Mark {
    /// Everything up to this counter is in the log.
    pub const fn done(&self) -> u64 {
        self.done
    }
}

/// Everything that waits, by ascending counter.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    clock: SharedClock,
    outbox: Uuid,
    next: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Dropped events that no Overflow names yet.
    unnamed: Option<Counters>,
    done: u64,
    /// Last counter that the file had when it was read: nothing behind it was ever sent.
    recovered: u64,
    /// How far the file is; `None` where it is another one and must be written anew.
    written: Option<Mark>,
    durable: u64,
}

impl Queue {
    /// An empty outbox with a new id.
    pub fn new(limits: Limits, clock: SharedClock) -> Self {
        Self::with_head(limits, clock, Head { outbox: Uuid::now_v7(), done: 0 })
    }

    fn with_head(limits: Limits, clock: SharedClock, head: Head) -> Self {
        Self {
            limits,
            clock,
            outbox: head.outbox,
            next: head.done + 1,
            waiting: VecDeque::new(),
            bytes: 0,
            unnamed: None,
            done: head.done,
            recovered: head.done,
            written: None,
            durable: 0,
        }
    }

    /// The outbox of a file. Whatever the file shows to be lost is named in events; the file is to
    /// be written anew from [`Self::whole`].
    pub fn recover(file: &Bytes, limits: Limits, clock: SharedClock) -> Self {
        let found = read(file);
        let Some(head) = found.head else {
            return Self::recover_headless(found, limits, clock);
        };
        let stopped = found.records.last() == Some(&Record::Stopped);
        let mut queue = Self::with_head(limits, clock, head);
        queue.restore(&found);
        queue.report_damage(found.damaged);
        if !stopped && found.damaged == 0 {
            tracing::warn!("the audit outbox was not closed: events of the last half second may be missing");
            queue.raise(
                "outbox_unclean_stop",
                "events of the last half second before the stop may be missing",
            );
        }
        queue
    }

    /// Without its head the counters of a file mean nothing: its events are counted anew under a new
    /// id. The log knows by their own ids which of them it has.
    fn recover_headless(found: Found, limits: Limits, clock: SharedClock) -> Self {
        let mut queue = Self::new(limits, clock);
        for record in found.records {
            if let Record::Event { bytes, .. } = record {
                queue.push(bytes);
            }
        }
        queue.report_damage(found.damaged + 1);
        queue
    }

    fn restore(&mut self, found: &Found) {
        let mut named: Vec<Counters> = Vec::new();
        let mut last = self.done;
        for record in &found.records {
            match record {
                Record::Event { counter, bytes } => {
                    last = last.max(*counter);
                    named.push(Counters { first: *counter, last: *counter });
                    named.extend(overflow_range(bytes));
                    self.waiting.push_back(Waiting { counter: *counter, bytes: bytes.clone() });
                }
                Record::Done(through) => self.done = self.done.max(*through),
                Record::Dropped { last: dropped, .. } => last = last.max(*dropped),
                Record::Stopped => {}
            }
        }
        self.recovered = last.max(self.done);
        self.next = self.recovered + 1;
        let done = self.done;
        self.waiting.retain(|waiting| waiting.counter > done);
        self.bytes = self.waiting.iter().map(|waiting| waiting.bytes.len()).sum();
        for lost in gaps(done, self.next, named) {
            // At the end more may follow: it stays open, as it was.
            if lost.last == self.recovered && self.next == self.recovered + 1 {
                self.unnamed = Some(lost);
            } else {
                self.name_lost(lost);
            }
        }
    }

    fn report_damage(&mut self, damaged: u64) {
        if damaged > 0 {
            tracing::warn!(damaged, "records of the audit outbox were damaged and skipped");
            self.raise("outbox_damaged", "records of the file were damaged and skipped");
        }
    }

    /// At most one at each start, so that a full outbox takes it too.
    fn raise(&mut self, name: &str, detail: &str) {
        if let Some(lost) = self.unnamed.take() {
            self.name_lost(lost);
        }
        let event = alarm(&self.clock, name, detail);
        self.push(event.encode_to_vec().into());
    }

    /// Id under which the log counts.
    pub fn outbox(&self) -> Uuid {
        self.outbox
    }

    /// Takes an event or, where there is no room, only its counter, which is returned with whether
    /// it was kept.
    pub fn record(&mut self, event: &Event) -> (u64, bool) {
        let length = event.encoded_len();
        self.name_unnamed_if_there_is_room();
        if self.unnamed.is_some() || !self.has_room(length) {
            return (self.drop_one(), false);
        }
        (self.push(event.encode_to_vec().into()), true)
    }

    fn has_room(&self, length: usize) -> bool {
        length <= MAX_EVENT_BYTES && self.has_room_for(1, length)
    }

    fn has_room_for(&self, events: usize, bytes: usize) -> bool {
        self.waiting.len().saturating_add(events) <= self.limits.max_events
            && self.bytes.saturating_add(bytes) <= self.limits.max_bytes
    }

    /// Takes all of these events or none of them. What it does not take is not counted either.
    pub fn take_all(&mut self, events: &[Event]) -> Recorded {
        let encoded: Vec<Bytes> = events.iter().map(|event| event.encode_to_vec().into()).collect();
        if encoded.iter().any(|bytes| bytes.len() > MAX_EVENT_BYTES) {
            return Recorded::TooLong;
        }
        self.name_unnamed_if_there_is_room();
        let bytes = encoded.iter().map(Bytes::len).fold(0, usize::saturating_add);
        if self.unnamed.is_some() || !self.has_room_for(encoded.len(), bytes) {
            return Recorded::Full;
        }
        encoded.into_iter().for_each(|bytes| {
            self.push(bytes);
        });
        Recorded::Kept
    }

    /// A tenth must be free: otherwise every second event of a full outbox would be an Overflow.
    fn name_unnamed_if_there_is_room(&mut self) {
        let below = |used: usize, limit: usize| used <= limit - limit.div_ceil(10);
        let room =
            below(self.waiting.len(), self.limits.max_events) && below(self.bytes, self.limits.max_bytes);
        if let Some(lost) = self.unnamed.take_if(|_| room) {
            self.name_lost(lost);
        }
    }

    fn name_lost(&mut self, lost: Counters) {
        let event = overflow(&self.clock, lost.first, lost.last);
        self.push(event.encode_to_vec().into());
    }

    fn push(&mut self, bytes: Bytes) -> u64 {
        let counter = self.next;
        self.next += 1;
        self.bytes += bytes.len();
        self.waiting.push_back(Waiting { counter, bytes });
        counter
    }

    fn drop_one(&mut self) -> u64 {
        let counter = self.next;
        self.next += 1;
        let first = self.unnamed.map_or(counter, |unnamed| unnamed.first);
        self.unnamed = Some(Counters { first, last: counter });
        counter
    }

    /// Everything up to this counter is in the log.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of the events that wait.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is to be appended to the file, and the mark to hand back once it is written; no bytes
    /// where the file is as it should be. `None` where it must be written anew.
    pub fn unwritten(&self) -> Option<(Bytes, Mark)> {
        let written = self.written?;
        let mut out = BytesMut::new();
        let from = self.waiting.partition_point(|waiting| waiting.counter <= written.counter);
        encode_all(self.waiting.range(from..), &mut out);
        let mark = self.mark();
        if mark.dropped != written.dropped {
            self.encode_unnamed(&mut out);
        }
        if mark.done > written.done {
            Record::Done(mark.done).encode(&mut out);
        }
        Some((out.freeze(), mark))
    }

    /// How far the file is; `None` where it must be written anew.
    pub const fn written(&self) -> Option<Mark> {
        self.written
    }

    /// Whether the file lacks something.
    pub fn has_unwritten(&self) -> bool {
        self.written != Some(self.mark())
    }

    /// The whole file as it should be, and its mark.
    pub fn whole(&self) -> (Bytes, Mark) {
        let mut out = Head { outbox: self.outbox, done: self.done }.encode();
        encode_all(self.waiting.iter(), &mut out);
        self.encode_unnamed(&mut out);
        (out.freeze(), self.mark())
    }

    /// Length of [`Self::whole`], roughly.
    pub fn whole_bytes(&self) -> usize {
        self.bytes + self.waiting.len() * EVENT_OVERHEAD_BYTES
    }

    fn encode_unnamed(&self, out: &mut BytesMut) {
        if let Some(Counters { first, last }) = self.unnamed {
            Record::Dropped { first, last }.encode(out);
        }
    }

    fn mark(&self) -> Mark {
        let newest = self.waiting.back().map_or(self.done, |waiting| waiting.counter);
        let counter = newest.max(self.written.map_or(0, |written| written.counter));
        let dropped = self.unnamed.map_or(0, |unnamed| unnamed.last);
        Mark { outbox: self.outbox, counter, done: self.done, dropped }
    }

    /// The file has everything up to the mark, though perhaps not durably.
    pub fn wrote(&mut self, mark: Mark) {
        if mark.outbox == self.outbox {
            self.written = Some(mark);
        }
    }

    /// The file has everything up to the mark durably.
    pub fn synced(&mut self, mark: Mark) {
        if mark.outbox == self.outbox {
            self.durable = self.durable.max(mark.counter);
        }
    }

    /// The oldest durable events, at least one where there are any.
    pub fn batch(&self, max_events: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let mut bytes = 0;
        self.waiting
            .iter()
            .take(max_events)
            .take_while(|waiting| {
                bytes += waiting.bytes.len();
                waiting.counter <= self.durable && (bytes <= max_bytes || bytes == waiting.bytes.len())
            })
            .map(|waiting| (waiting.counter, waiting.bytes.clone()))
            .collect()
    }

    /// The largest counter that the log can know before this process has sent anything.
    pub const fn recovered(&self) -> u64 {
        self.recovered
    }

    /// Everything up to this counter is in the log. Returns how many events that frees.
    pub fn acknowledge(&mut self, through: u64) -> u64 {
        let mut freed = 0;
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.counter <= through) {
            self.bytes -= waiting.bytes.len();
            self.done = waiting.counter;
            freed += 1;
        }
        self.name_unnamed_if_there_is_room();
        freed
    }

    /// The log will never take this event: an Overflow that names it takes its place. False where
    /// that happened before.
    pub fn replace_refused(&mut self, counter: u64) -> bool {
        let event = overflow(&self.clock, counter, counter);
        let own = Some(Counters { first: counter, last: counter });
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.counter == counter) else {
            return false;
        };
        if overflow_range(&waiting.bytes) == own {
            return false;
        }
        self.bytes -= waiting.bytes.len();
        waiting.bytes = event.encode_to_vec().into();
        self.bytes += waiting.bytes.len();
        true
    }

    /// The log knows more of this outbox than its file: someone put an old file back. Everything
    /// that waits is counted anew under a new id; the file is to be written anew.
    pub fn start_over(&mut self) {
        let old = Self::with_head(self.limits, self.clock.clone(), Head { outbox: Uuid::now_v7(), done: 0 });
        let old = std::mem::replace(self, old);
        for waiting in old.waiting {
            self.push(waiting.bytes);
        }
        if let Some(lost) = old.unnamed {
            let last = self.next + (lost.last - lost.first);
            self.unnamed = Some(Counters { first: self.next, last });
            self.next = last + 1;
        }
        self.raise("outbox_rolled_back", "the file was older than what the log knows; events may be missing");
    }
}

fn encode_all<'a>(waiting: impl Iterator<Item = &'a Waiting>, out: &mut BytesMut) {
    for Waiting { counter, bytes } in waiting {
        Record::Event { counter: *counter, bytes: bytes.clone() }.encode(out);
    }
}

fn overflow_range(bytes: &Bytes) -> Option<Counters> {
    match Event::decode(bytes.clone()).ok()?.body? {
        Body::Overflow(overflow) => {
            Some(Counters { first: overflow.first_counter, last: overflow.last_counter })
        }
        _ => None,
    }
}

/// What none of `named` covers behind `done` and before `next`.
fn gaps(done: u64, next: u64, mut named: Vec<Counters>) -> Vec<Counters> {
    named.sort_unstable_by_key(|range| range.first);
    named.push(Counters { first: next, last: next });
    let (mut gaps, mut expected) = (Vec::new(), done + 1);
    for range in named {
        if range.first > expected {
            gaps.push(Counters { first: expected, last: (range.first - 1).min(next - 1) });
        }
        expected = expected.max(range.last.saturating_add(1));
    }
    gaps
}

#[cfg(test)]
mod tests;
