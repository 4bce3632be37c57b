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

/// Words for the log: cut to what it takes, on one line. An error may quote more, and an event that the log refuses
/// tells nobody anything.
#[must_use]
pub fn words(text: &str) -> String {
    const MOST_BYTES: usize = 512;
    let text = text.get(..text.floor_char_boundary(MOST_BYTES)).unwrap_or_default();
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
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
    fn words_of_any_length_on_any_number_of_lines_are_words_that_the_log_takes() {
        let clock = obscura_clock::SystemClock::shared();
        for text in ["", "short", "two\nlines\u{1b}[31m\u{85}", &"x".repeat(513), &"\u{1f4f7}\n".repeat(400)]
        {
            let act = ServiceAct {
                act: Act::Alarm.into(),
                alarm: "spool_floor".into(),
                detail: words(text),
                ..ServiceAct::default()
            };
            obscura_ocsf::validate(&event(&clock, Outcome::Success, Body::Service(act))).unwrap();
        }
        assert_eq!(words("40 hours left"), "40 hours left");
        assert_eq!(words(&"x".repeat(600)).len(), 512);
    }

    #[test]
    fn the_outbox_itself_tells_what_the_log_takes() {
        let clock = obscura_clock::SystemClock::shared();
        obscura_ocsf::validate(&overflow(&clock, 7, 9)).unwrap();
        for name in ["outbox_unclean_stop", "outbox_damaged", "outbox_rolled_back"] {
            obscura_ocsf::validate(&alarm(&clock, name, "records were damaged")).unwrap();
        }
    }

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
