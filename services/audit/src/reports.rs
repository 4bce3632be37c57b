//! Reports of producers' outboxes: everything once, in order, and no gap without its event.

use std::hash::{BuildHasher as _, RandomState};

use obscura_proto::audit::v1::{CountedEvent, Event, Overflow, ServiceAct, event::Body, service_act::Act};
use tokio::sync::Mutex;

use crate::{error::Error, event_id::EventId, log::Log, store::Producer};

/// Events in one report.
pub const MAX_EVENTS: usize = 1_000;
/// Outboxes that report at the same time without waiting for each other, at most.
const SHARDS: usize = 16;

/// Takes reports. Reports of one outbox wait for each other.
#[derive(Debug, Default)]
pub struct Reports {
    turns: [Mutex<()>; SHARDS],
    hasher: RandomState,
}

impl Reports {
    /// Appends what is new in a report of `producer` (a SPIFFE id) and says how far the outbox is durable now. An
    /// outbox of the same id that another producer reports is another one.
    ///
    /// Counters at or below that are answered as if they were stored. Counters that are missing and that no
    /// [`Overflow`] in the report names become an alarm in the log, so nothing is lost silently.
    ///
    /// # Errors
    /// [`Error::Malformed`] and [`Error::Invalid`]: nothing of it is appended. Others as [`Log::append`].
    pub async fn take(
        &self,
        log: &Log,
        producer: &str,
        outbox: [u8; 16],
        events: Vec<CountedEvent>,
    ) -> Result<u64, Error> {
        check(&events)?;
        let _turn = self.turn(producer, outbox).lock().await;
        let known = log.parts.store.producer(producer, outbox).await?;
        let new = || Producer { producer: producer.to_owned(), outbox, through: 0, dropped: 0 };
        let mut counter = known.unwrap_or_else(new);
        let new = new_events(log, &mut counter, events);
        let through = counter.through;
        if !new.is_empty() {
            log.append_all(producer, &new, Some(counter)).await?;
        }
        Ok(through)
    }

    fn turn(&self, producer: &str, outbox: [u8; 16]) -> &Mutex<()> {
        let shard = usize::try_from(self.hasher.hash_one((producer, outbox))).unwrap_or_default() % SHARDS;
        // The remainder is always within.
        self.turns.get(shard).unwrap_or(&self.turns[0])
    }
}

fn check(events: &[CountedEvent]) -> Result<(), Error> {
    if events.len() > MAX_EVENTS {
        return Err(Error::malformed("report", "it has more than 1,000 events"));
    }
    let ascend = events.windows(2).all(|pair| matches!(pair, [a, b] if a.counter < b.counter));
    let in_range = events.iter().all(|event| event.counter > 0 && i64::try_from(event.counter).is_ok());
    if !ascend || !in_range {
        return Err(Error::malformed("report", "its counters do not ascend from 1"));
    }
    if events.iter().any(|event| event.event.is_none()) {
        return Err(Error::malformed("report", "a counter has no event"));
    }
    Ok(())
}

/// What is not in the log yet, with an alarm for each gap that the producer does not explain; moves the
/// counter past it.
fn new_events(log: &Log, counter: &mut Producer, events: Vec<CountedEvent>) -> Vec<Event> {
    let mut new = Vec::new();
    for CountedEvent { counter: number, event } in events {
        let Some(event) = event.filter(|_| number > counter.through) else { continue };
        let missing = (counter.through.saturating_add(1), number.saturating_sub(1));
        let dropped = overflow(&event);
        if missing.0 <= missing.1 && !dropped.is_some_and(|named| names(&named, missing)) {
            new.push(gap(log, counter, missing));
        }
        if let Some(named) = dropped {
            let lost = named.last_counter.saturating_sub(named.first_counter).saturating_add(1);
            counter.dropped = counter.dropped.saturating_add(lost);
        }
        counter.through = number;
        new.push(event);
    }
    new
}

fn overflow(event: &Event) -> Option<Overflow> {
    match &event.body {
        Some(Body::Overflow(overflow)) => Some(*overflow),
        _ => None,
    }
}

fn names(overflow: &Overflow, (first, last): (u64, u64)) -> bool {
    overflow.first_counter <= first && overflow.last_counter >= last
}

/// Its id follows from what is missing, so that a repeated report does not tell it twice, and from whose it is, so that
/// nobody can tell it before in the place of another.
fn gap(log: &Log, Producer { producer, outbox, .. }: &Producer, (first, last): (u64, u64)) -> Event {
    let parts = [b"gap", producer.as_bytes(), outbox, &first.to_be_bytes(), &last.to_be_bytes()];
    let id = EventId::of(&parts);
    let outbox = uuid::Uuid::from_bytes(*outbox);
    log.own(
        id,
        Body::Service(ServiceAct {
            act: Act::Alarm.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            alarm: "audit_gap".to_owned(),
            detail: format!(
                "the outbox {outbox} of {producer} did not deliver the events {first} to {last} and does not say why"
            ),
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        fault::NoFaults,
        test_support::{Backend, Bench, Place, test_event},
    };

    fn counted(counter: u64, event: Event) -> CountedEvent {
        CountedEvent { counter, event: Some(event) }
    }

    const OUTBOX: [u8; 16] = [7; 16];
    const PRODUCER: &str = "spiffe://example.org/obscura/ingest";

    #[tokio::test]
    async fn a_repeated_report_appends_nothing_and_an_empty_one_says_how_far_it_is() {
        let bench = Bench::sqlite().await;
        let reports = Reports::default();
        let take = |events| reports.take(&bench.log, PRODUCER, OUTBOX, events);
        assert_eq!(take(vec![]).await.unwrap(), 0);
        let events = vec![counted(1, test_event("a")), counted(2, test_event("b"))];
        assert_eq!(take(events.clone()).await.unwrap(), 2);
        assert_eq!(take(events).await.unwrap(), 2);
        assert_eq!(take(vec![]).await.unwrap(), 2);
        assert_eq!(bench.size().await, 2);
    }

    #[tokio::test]
    async fn a_gap_that_nobody_explains_is_an_alarm_and_one_with_an_overflow_is_not() {
        let bench = Bench::sqlite().await;
        let reports = Reports::default();
        let take = |events| reports.take(&bench.log, PRODUCER, OUTBOX, events);
        take(vec![counted(1, test_event("a")), counted(5, test_event("b"))]).await.unwrap();
        assert_eq!(bench.kinds().await, ["test", "service", "test"]);
        assert!(bench.leaf(1).await.contains("the events 2 to 4"), "{}", bench.leaf(1).await);
        let overflow = Event {
            body: Some(Body::Overflow(Overflow { first_counter: 6, last_counter: 8 })),
            ..test_event("x")
        };
        take(vec![counted(9, overflow)]).await.unwrap();
        assert_eq!(bench.kinds().await, ["test", "service", "test", "overflow"]);
        assert_eq!(bench.log.parts.store.dropped().await.unwrap(), 3);
    }

    #[tokio::test]
    async fn an_event_that_comes_again_under_another_counter_is_in_the_log_once() {
        let bench = Bench::sqlite().await;
        let reports = Reports::default();
        let event = test_event("a");
        reports.take(&bench.log, PRODUCER, OUTBOX, vec![counted(1, event.clone())]).await.unwrap();
        reports.take(&bench.log, PRODUCER, [8; 16], vec![counted(1, event.clone())]).await.unwrap();
        let twice = vec![counted(2, event.clone()), counted(3, event)];
        assert_eq!(reports.take(&bench.log, PRODUCER, [8; 16], twice).await.unwrap(), 3);
        assert_eq!(bench.size().await, 1);
    }

    #[tokio::test]
    async fn whoever_knows_the_outbox_of_another_cannot_make_its_events_look_delivered() {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let bench = Place::new(backend).start(Arc::new(NoFaults)).await;
            let reports = Reports::default();
            let victim = |events| reports.take(&bench.log, PRODUCER, OUTBOX, events);
            assert_eq!(victim(vec![counted(1, test_event("before"))]).await.unwrap(), 1);
            let other = "spiffe://example.org/obscura/masking";
            let huge = vec![counted(2, test_event("x")), counted(1 << 62, test_event("huge"))];
            assert_eq!(reports.take(&bench.log, other, OUTBOX, huge).await.unwrap(), 1 << 62);
            assert_eq!(victim(vec![]).await.unwrap(), 1, "{backend:?}");
            // Also the alarm about a gap of the victim is still told.
            let size = bench.size().await;
            let late = vec![counted(2, test_event("after")), counted(1 << 62, test_event("late"))];
            assert_eq!(victim(late).await.unwrap(), 1 << 62);
            assert_eq!(bench.size().await, size + 3, "two events and the alarm about what is missing");
        }
    }

    #[tokio::test]
    async fn a_malformed_report_is_refused_whole() {
        let bench = Bench::sqlite().await;
        let reports = Reports::default();
        let nothing = CountedEvent { counter: 2, event: None };
        let invalid = Event { event_id: "no id".to_owned(), ..test_event("x") };
        for events in [
            vec![counted(0, test_event("x"))],
            vec![counted(2, test_event("x")), counted(2, test_event("x"))],
            vec![counted(1, test_event("x")), nothing],
            vec![counted(1, test_event("x")), counted(2, invalid)],
        ] {
            assert!(reports.take(&bench.log, PRODUCER, OUTBOX, events).await.is_err());
        }
        assert_eq!(bench.size().await, 0);
    }
}
