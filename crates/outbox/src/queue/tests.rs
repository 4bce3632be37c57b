//! The queue with a disk and a log of bytes: crashes, torn ends and overflows in any order.

use std::collections::{BTreeMap, HashMap, HashSet};

use obscura_clock::SimulatedClock;
use obscura_proto::audit::v1::{Outcome, Test, service_act::Act};
use proptest::prelude::*;

use super::*;
use crate::event::event;

fn clock() -> SharedClock {
    SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap())
}

fn test_event(text: &str) -> Event {
    event(&clock(), Outcome::Success, Body::Test(Test { text: text.into() }))
}

fn record(queue: &mut Queue, text: &str) {
    queue.record(&test_event(text));
}

fn limits(max_events: usize) -> Limits {
    Limits { max_events, ..Limits::default() }
}

/// What a good log does: takes what is new of an outbox, once.
#[derive(Default)]
struct Log {
    through: HashMap<Uuid, u64>,
    events: Vec<(Uuid, u64, Event)>,
    ids: HashSet<String>,
}

impl Log {
    fn through(&self, outbox: Uuid) -> u64 {
        self.through.get(&outbox).copied().unwrap_or(0)
    }

    fn report(&mut self, outbox: Uuid, events: &[(u64, Bytes)]) -> u64 {
        for (counter, bytes) in events {
            let event = Event::decode(bytes.clone()).unwrap();
            let through = self.through.entry(outbox).or_default();
            if *counter > *through {
                *through = *counter;
                if self.ids.insert(event.event_id.clone()) {
                    self.events.push((outbox, *counter, event));
                }
            }
        }
        self.through(outbox)
    }

    fn overflows(&self) -> impl Iterator<Item = Counters> {
        self.events.iter().filter_map(|(_, _, event)| overflow_range(&event.encode_to_vec().into()))
    }

    fn alarms(&self, name: &str) -> usize {
        let is = |event: &&(Uuid, u64, Event)| match &event.2.body {
            Some(Body::Service(act)) => act.alarm == name && act.act() == Act::Alarm,
            _ => false,
        };
        self.events.iter().filter(is).count()
    }
}

/// A disk that loses what was not synced.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    synced: usize,
}

struct World {
    queue: Queue,
    disk: Disk,
    log: Log,
    limits: Limits,
    asked: bool,
}

impl World {
    fn new(max_events: usize) -> Self {
        let limits = limits(max_events);
        let mut world = Self {
            queue: Queue::new(limits, clock()),
            disk: Disk::default(),
            log: Log::default(),
            limits,
            asked: false,
        };
        world.commit();
        world
    }

    fn write(&mut self) {
        if let Some((bytes, mark)) = self.queue.unwritten() {
            self.disk.bytes.extend_from_slice(&bytes);
            self.queue.wrote(mark);
        } else {
            let (bytes, mark) = self.queue.whole();
            self.disk = Disk { synced: bytes.len(), bytes: bytes.to_vec() };
            self.queue.wrote(mark);
            self.queue.synced(mark);
        }
    }

    fn commit(&mut self) {
        self.write();
        self.disk.synced = self.disk.bytes.len();
        self.queue.synced(self.queue.written().unwrap());
    }

    fn compact(&mut self) {
        let (bytes, mark) = self.queue.whole();
        self.disk = Disk { synced: bytes.len(), bytes: bytes.to_vec() };
        self.queue.wrote(mark);
        self.queue.synced(mark);
    }

    /// The power fails; of what was not synced some bytes are there all the same.
    fn crash(&mut self, torn: usize) {
        let kept = (self.disk.synced + torn).min(self.disk.bytes.len());
        self.disk.bytes.truncate(kept);
        self.restart();
    }

    fn stop(&mut self) {
        self.commit();
        let mut mark = BytesMut::new();
        Record::Stopped.encode(&mut mark);
        self.disk.bytes.extend_from_slice(&mark);
        self.restart();
    }

    fn restart(&mut self) {
        self.queue = Queue::recover(&self.disk.bytes.clone().into(), self.limits, clock());
        self.asked = false;
        self.commit();
    }

    fn send(&mut self, max_events: usize, answer_arrives: bool) {
        if !self.asked {
            let through = self.log.through(self.queue.outbox());
            if through > self.queue.recovered() {
                self.queue.start_over();
                self.commit();
            } else {
                self.queue.acknowledge(through);
            }
            self.asked = true;
        }
        let batch = self.queue.batch(max_events, 1 << 20);
        let through = self.log.report(self.queue.outbox(), &batch);
        if answer_arrives {
            self.queue.acknowledge(through);
        }
    }

    fn drain(&mut self) {
        for _ in 0..100_000 {
            self.commit();
            self.send(7, true);
            if self.queue.len() == 0 && self.queue.unnamed.is_none() {
                return;
            }
        }
        panic!("never empty");
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Record(u8),
    Write,
    Commit,
    Compact,
    Send(u8),
    SendWithoutAnswer(u8),
    Crash(u16),
    Stop,
}

fn deed() -> impl Strategy<Value = Deed> {
    use Deed::*;

    prop_oneof![
        6 => (1..12_u8).prop_map(Record),
        3 => Just(Write),
        3 => Just(Commit),
        1 => Just(Compact),
        3 => (1..9_u8).prop_map(Send),
        1 => (1..9_u8).prop_map(SendWithoutAnswer),
        1 => (0..300_u16).prop_map(Crash),
        1 => Just(Stop),
    ]
}

/// What became of an event, as far as its producer can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    outbox: Uuid,
    counter: u64,
    /// It was in a commit before the next crash.
    committed: bool,
    lost_in_crash: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every event that was in a commit is delivered exactly once, or an Overflow names its counter.
    /// One that was younger than the last commit at a crash is delivered at most once, and there is an
    /// alarm that says so.
    #[test]
    fn invariant_nothing_is_lost_silently(deeds in prop::collection::vec(deed(), 0..80), max_events in 3..40_usize) {
        let mut world = World::new(max_events);
        let mut fates: BTreeMap<String, Fate> = BTreeMap::new();
        let mut crashes = 0;
        for deed in deeds {
            match deed {
                Deed::Record(count) => for _ in 0..count {
                    let event = test_event("x");
                    let (counter, _) = world.queue.record(&event);
                    let outbox = world.queue.outbox();
                    fates.insert(event.event_id, Fate { outbox, counter, committed: false, lost_in_crash: false });
                },
                Deed::Write => world.write(),
                Deed::Commit => { world.commit(); fates.values_mut().for_each(|fate| fate.committed = true); }
                Deed::Compact => { world.compact(); fates.values_mut().for_each(|fate| fate.committed = true); }
                Deed::Send(events) => world.send(events.into(), true),
                Deed::SendWithoutAnswer(events) => world.send(events.into(), false),
                Deed::Crash(torn) => {
                    fates.values_mut().filter(|fate| !fate.committed).for_each(|fate| fate.lost_in_crash = true);
                    fates.values_mut().for_each(|fate| fate.committed = true);
                    world.crash(torn.into());
                    crashes += 1;
                }
                Deed::Stop => { fates.values_mut().for_each(|fate| fate.committed = true); world.stop(); }
            }
            prop_assert!(world.queue.len() <= max_events + 2 + 2 * crashes);
        }
        world.drain();
        let delivered: HashSet<_> = world.log.events.iter().map(|(_, _, event)| event.event_id.as_str()).collect();
        prop_assert_eq!(delivered.len(), world.log.events.len());
        let places: HashSet<_> = world.log.events.iter().map(|(outbox, counter, _)| (*outbox, *counter)).collect();
        prop_assert_eq!(places.len(), world.log.events.len());
        prop_assert_eq!(world.log.alarms("outbox_unclean_stop") > 0, crashes > 0);
        prop_assert_eq!(world.log.alarms("outbox_damaged") + world.log.alarms("outbox_rolled_back"), 0);
        for (id, fate) in &fates {
            let named = world.log.overflows().any(|lost| lost.first <= fate.counter && fate.counter <= lost.last);
            prop_assert!(delivered.contains(id.as_str()) || named || fate.lost_in_crash, "{:?}", fate);
            prop_assert!(fate.lost_in_crash || !(delivered.contains(id.as_str()) && named), "{:?}", fate);
        }
    }

    #[test]
    fn any_damage_of_the_file_is_reported_and_costs_nothing_silently(
        events in 1..30_usize, at: prop::sample::Index, bit in 0..8_u8,
    ) {
        let mut world = World::new(100);
        let ids: Vec<_> = (0..events).map(|number| {
            let event = test_event(&number.to_string());
            world.queue.record(&event);
            event.event_id
        }).collect();
        world.commit();
        let place = at.index(world.disk.bytes.len());
        world.disk.bytes[place] ^= 1_u8 << bit;
        world.restart();
        world.drain();
        let missing = ids.iter().filter(|id| !world.log.ids.contains(*id)).count();
        prop_assert!(missing <= 1);
        let named: u64 = world.log.overflows().map(|lost| lost.last - lost.first + 1).sum();
        // The last record of all may as well be a torn end: no counter behind it says that it was there.
        prop_assert!(world.log.alarms("outbox_damaged") == 1 || world.log.alarms("outbox_unclean_stop") == 1);
        prop_assert!(named == missing as u64 || world.log.alarms("outbox_unclean_stop") == 1);
    }
}

#[test]
fn a_full_outbox_drops_the_newest_and_names_them_when_a_tenth_is_free() {
    let mut world = World::new(20);
    for number in 0..25 {
        assert_eq!(world.queue.record(&test_event(&number.to_string())), (number + 1, number < 20));
    }
    world.commit();
    world.send(1, true);
    assert_eq!(world.queue.record(&test_event("still full")), (26, false));
    world.commit();
    world.send(1, true);
    assert!(world.queue.unnamed.is_none());
    let (overflow, after) = (27, world.queue.record(&test_event("room")));
    assert_eq!(after, (28, true));
    world.drain();
    let named: Vec<_> = world.log.overflows().collect();
    assert_eq!(named, [Counters { first: 21, last: 26 }]);
    assert!(world.log.events.iter().any(|(_, counter, _)| *counter == overflow));
}

#[test]
fn what_can_be_brought_again_is_taken_whole_or_not_at_all_and_is_never_dropped() {
    let mut world = World::new(20);
    (0..19).for_each(|number| record(&mut world.queue, &number.to_string()));
    let both = [test_event("one"), test_event("two")];
    assert_eq!(world.queue.take_all(&both), Recorded::Full);
    assert_eq!(world.queue.len(), 19);
    assert_eq!(world.queue.record(&test_event("the last")), (20, true), "the refused have no counters");
    assert_eq!(world.queue.take_all(&both[..1]), Recorded::Full);
    assert_eq!(world.queue.record(&test_event("dropped")), (21, false));
    world.commit();
    world.send(1, true);
    assert_eq!(world.queue.take_all(&both[..1]), Recorded::Full, "what was dropped is named before");
    world.commit();
    world.send(5, true);
    let long = [test_event("short"), test_event(&"x".repeat(MAX_EVENT_BYTES))];
    assert_eq!(world.queue.take_all(&long), Recorded::TooLong);
    assert_eq!(world.queue.take_all(&both), Recorded::Kept);
    world.drain();
    assert_eq!(world.log.overflows().collect::<Vec<_>>(), [Counters { first: 21, last: 21 }]);
    assert!(both.iter().all(|event| world.log.ids.contains(&event.event_id)));
    assert!(!world.log.ids.contains(&long[0].event_id));
}

#[test]
fn dropped_events_are_named_even_if_the_process_dies_first() {
    let mut world = World::new(10);
    (0..15).for_each(|number| record(&mut world.queue, &number.to_string()));
    world.commit();
    world.crash(0);
    world.drain();
    assert_eq!(world.log.overflows().collect::<Vec<_>>(), [Counters { first: 11, last: 15 }]);
    assert_eq!(world.log.alarms("outbox_unclean_stop"), 1);
}

#[test]
fn too_long_an_event_is_dropped_alone() {
    let mut world = World::new(10);
    assert_eq!(world.queue.record(&test_event(&"x".repeat(MAX_EVENT_BYTES))), (1, false));
    assert_eq!(world.queue.record(&test_event("short")), (3, true));
    world.drain();
    assert_eq!(world.log.overflows().collect::<Vec<_>>(), [Counters { first: 1, last: 1 }]);
}

#[test]
fn an_old_file_that_was_put_back_loses_no_new_event() {
    let mut world = World::new(100);
    world.queue.record(&test_event("one"));
    world.stop();
    let old = world.disk.bytes.clone();
    (0..5).for_each(|number| record(&mut world.queue, &number.to_string()));
    world.drain();
    world.disk.bytes = old;
    world.restart();
    let new = test_event("after the restoration");
    world.queue.record(&new);
    world.drain();
    assert!(world.log.ids.contains(&new.event_id));
    assert_eq!(world.log.alarms("outbox_rolled_back"), 1);
    assert_eq!(world.log.through.len(), 2);
}

#[test]
fn a_refused_event_is_replaced_once_by_an_overflow_with_its_counter() {
    let mut queue = Queue::new(limits(10), clock());
    queue.record(&test_event("bad"));
    assert!(queue.replace_refused(1));
    assert!(!queue.replace_refused(1));
    assert!(!queue.replace_refused(2));
    queue.synced(queue.mark());
    let batch = queue.batch(10, 1 << 20);
    assert_eq!(overflow_range(&batch[0].1), Some(Counters { first: 1, last: 1 }));
    assert_eq!(queue.bytes(), batch[0].1.len());
}

#[test]
fn a_batch_is_bounded_in_events_and_bytes_but_never_empty() {
    let mut queue = Queue::new(limits(10), clock());
    (0..5).for_each(|_| record(&mut queue, "event"));
    assert!(queue.batch(3, 1 << 20).is_empty(), "nothing is durable");
    queue.synced(queue.mark());
    assert_eq!(queue.batch(3, 1 << 20).len(), 3);
    assert_eq!(queue.batch(3, 1).len(), 1);
}
