//! Events with their ids and times.

use obscura_clock::{SharedClock, Timestamp};
use obscura_proto::audit::v1::{Event, Outcome, Overflow, ServiceAct, event::Body, service_act::Act};
use uuid::{NoContext, Uuid};

/// An event that happens now: with a new id (UUID version 7), without an actor.
#[must_use]
pub fn event(clock: &SharedClock, outcome: Outcome, body: Body) -> Event {
    let now = clock.wall();
    Event {
        event_id: id_at(now).to_string(),
        time_unix_ns: now.unix_nanos(),
        outcome: outcome.into(),
        actor: None,
        body: Some(body),
    }
}

fn id_at(now: Timestamp) -> Uuid {
    let nanos = u64::try_from(now.unix_nanos()).unwrap_or(0);
    let below_a_second = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, nanos / 1_000_000_000, below_a_second))
}

/// Names events that could not be kept.
pub(crate) fn overflow(clock: &SharedClock, first_counter: u64, last_counter: u64) -> Event {
    event(clock, Outcome::Failure, Body::Overflow(Overflow { first_counter, last_counter }))
}

/// Says that something with the outbox itself needs a person to look.
pub(crate) fn alarm(clock: &SharedClock, alarm: &str, detail: &str) -> Event {
    let act = ServiceAct {
        act: Act::Alarm.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        alarm: alarm.to_owned(),
        detail: detail.to_owned(),
    };
    event(clock, Outcome::Failure, Body::Service(act))
}

#[cfg(test)]
mod tests {
    use super::*;
    use obscura_clock::SimulatedClock;
    use obscura_proto::audit::v1::Test;

    #[test]
    fn an_event_has_a_version_7_id_of_its_time() {
        let now: Timestamp = "2026-11-23T10:00:00.25Z".parse().unwrap();
        let clock: SharedClock = SimulatedClock::at(now);
        let event = event(&clock, Outcome::Success, Body::Test(Test { text: "hello".into() }));
        let id: Uuid = event.event_id.parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_timestamp().unwrap().to_unix(), (1_795_428_000, 250_000_000));
        assert_eq!(event.time_unix_ns, now.unix_nanos());
        assert_ne!(id_at(now), id_at(now));
        assert_eq!(id_at(Timestamp::from_unix_nanos(-1)).get_version_num(), 7);
    }
}
