//! What the audit log hears of those who ask: every search, and every refusal.
//!
//! A search is answered only when the outbox has it on its disk, so that nobody finds out where people were
//! without a trace. A refusal is told and not waited for. Whoever is refused again and again is told so often
//! in a minute and counted beyond, so that a flood of refusals cannot push other events out of the outbox.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obscura_clock::{Monotonic, SharedClock};
use obscura_identity::Peer;
use obscura_outbox::{Outbox, Recorded, actor, event};
use obscura_proto::audit::v1::{Event, Outcome, Person, Search, ServiceAct, event::Body, service_act::Act};
use tonic::Request;

use crate::Error;

/// How long refusals are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Refusals of one caller that are told one by one in a window.
const TOLD_OF_ONE: u32 = 30;
/// Refusals of all callers that are told one by one in a window.
const TOLD: u32 = 500;
/// Alarm: more was refused than is told one by one.
const FLOOD: &str = "storage_refusals_flood";

/// Tells the audit log of searches and refusals.
#[derive(Debug)]
pub struct AccessLog {
    /// Without one nobody is told; only in tests.
    outbox: Option<Outbox>,
    clock: SharedClock,
    window: Mutex<Window>,
}

/// Refusals of the last minute.
#[derive(Debug, Default)]
struct Window {
    start: Option<Monotonic>,
    told: u32,
    told_of: HashMap<String, u32>,
    /// Those beyond the bounds.
    untold: u64,
    is_alarmed: bool,
}

impl AccessLog {
    /// Tells through this outbox.
    #[must_use]
    pub fn new(outbox: Option<Outbox>, clock: SharedClock) -> Self {
        Self { outbox, clock, window: Mutex::default() }
    }

    /// Tells of a search that found something, or nothing, or was refused; hands on what came of it.
    ///
    /// # Errors
    /// That of the search; [`Error::Unlogged`] where the search could not be written down.
    pub async fn search<T>(
        &self,
        by: Person,
        asked: Search,
        outcome: Result<T, Error>,
        results: impl FnOnce(&T) -> usize,
    ) -> Result<T, Error> {
        let found = match outcome {
            Ok(found) => found,
            Err(error) => {
                self.refused(by, Body::Search(asked));
                return Err(error);
            }
        };
        let results = u64::try_from(results(&found)).unwrap_or(u64::MAX);
        self.searched(by, Search { results, ..asked }).await?;
        Ok(found)
    }

    async fn searched(&self, by: Person, search: Search) -> Result<(), Error> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let event = self.event(Outcome::Success, Some(by), Body::Search(search));
        let is_durable = outbox.record(&event) == Recorded::Kept && outbox.flush().await;
        is_durable.then_some(()).ok_or(Error::Unlogged)
    }

    /// Tells of something that was refused, within the bounds.
    pub fn refused(&self, by: Person, body: Body) {
        self.settle();
        if self.window().admit(&by.id, self.clock.monotonic()) {
            self.record(self.event(Outcome::Failure, Some(by), body));
        }
    }

    /// Tells how many refusals a minute that is over had beyond the bounds.
    pub fn settle(&self) {
        let Some((untold, was_alarmed)) = self.window().finish(self.clock.monotonic()) else { return };
        match (untold, was_alarmed) {
            (0, true) => self.alarm(Act::AlarmEnded, String::new()),
            (0, false) => {}
            _ => self.alarm(Act::Alarm, flood_words(untold)),
        }
    }

    fn alarm(&self, act: Act, detail: String) {
        tracing::warn!(alarm = FLOOD, detail, "refusals");
        self.record(self.event(Outcome::Failure, None, flood(act, detail)));
    }

    fn event(&self, outcome: Outcome, actor: Option<Person>, body: Body) -> Event {
        Event { actor, ..event(&self.clock, outcome, body) }
    }

    fn record(&self, event: Event) {
        if let Some(outbox) = &self.outbox {
            outbox.record_or_drop(event);
        }
    }

    /// Nobody panics while holding it; if someone did it would still be whole.
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Whether one more refusal of this caller is told.
    fn admit(&mut self, caller: &str, now: Monotonic) -> bool {
        self.start.get_or_insert(now);
        // At most so many callers are known as refusals are told.
        let of_this = self.told_of.get(caller).copied().unwrap_or(0);
        if self.told >= TOLD || of_this >= TOLD_OF_ONE {
            self.untold = self.untold.saturating_add(1);
            return false;
        }
        self.told += 1;
        self.told_of.insert(caller.to_owned(), of_this + 1);
        true
    }

    /// Ends a window that is over: how many were not told, and whether the one before raised the alarm.
    fn finish(&mut self, now: Monotonic) -> Option<(u64, bool)> {
        if now.since(self.start?) < WINDOW {
            return None;
        }
        let (untold, was_alarmed) = (self.untold, self.is_alarmed);
        *self = Self { is_alarmed: untold > 0, ..Self::default() };
        if self.is_alarmed {
            // A minute without refusals ends the alarm.
            self.start = Some(now);
        }
        Some((untold, was_alarmed))
    }
}

/// Who is behind a call: the person whom the calling program names, else the program itself.
pub fn behind<T>(request: &Request<T>) -> Person {
    let program = || {
        let id =
            request.extensions().get().map_or_else(|| "unidentified".to_owned(), |Peer(id)| id.to_string());
        Person { id, ..Person::default() }
    };
    actor(request.metadata()).unwrap_or_else(program)
}

fn flood(act: Act, detail: String) -> Body {
    let (version, alarm) = (env!("CARGO_PKG_VERSION").to_owned(), FLOOD.to_owned());
    Body::Service(ServiceAct { act: act.into(), version, alarm, detail })
}

fn flood_words(untold: u64) -> String {
    format!(
        "{untold} requests were refused within a minute beyond those that are told one by one: see who asks \
         (`obscura audit query --kind grant --kind search`)"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use obscura_clock::SimulatedClock;
    use obscura_outbox::Limits;
    use tempfile::TempDir;

    use super::*;
    use crate::test_support::at;

    fn search() -> Search {
        Search { subject: "segments".into(), ..Search::default() }
    }

    fn person(id: &str) -> Person {
        Person { id: id.into(), ..Person::default() }
    }

    async fn log(limits: Limits) -> (TempDir, Arc<SimulatedClock>, Outbox, AccessLog) {
        let (directory, clock) = (TempDir::new().unwrap(), SimulatedClock::at(at(0)));
        let shared = Arc::clone(&clock) as SharedClock;
        let outbox = Outbox::open(directory.path(), limits, Arc::clone(&shared)).await.unwrap();
        let log = AccessLog::new(Some(outbox.clone()), shared);
        (directory, clock, outbox, log)
    }

    #[tokio::test]
    async fn a_search_is_on_the_disk_before_it_is_answered() {
        let (_directory, _, outbox, log) = log(Limits::default()).await;
        let found = log.search(person("unix:1"), search(), Ok(vec![1, 2]), Vec::len).await.unwrap();
        assert_eq!((found.len(), outbox.queued()), (2, 1));
        let refused = log.search(person("unix:1"), search(), Err(Error::NoPeer), Vec::<u8>::len).await;
        assert!(matches!(refused, Err(Error::NoPeer)));
        assert_eq!(outbox.queued(), 2);
    }

    #[tokio::test]
    async fn a_search_that_cannot_be_written_down_finds_nothing() {
        let (_directory, _, outbox, log) = log(Limits { max_events: 1, ..Limits::default() }).await;
        assert!(log.search(person("unix:1"), search(), Ok(()), |()| 0).await.is_ok());
        let full = log.search(person("unix:1"), search(), Ok(()), |()| 0).await;
        assert!(matches!(full, Err(Error::Unlogged)));
        assert_eq!(outbox.dropped(), 0, "nobody saw anything, so nothing is missing in the log");
        outbox.close().await;
        assert!(matches!(log.search(person("unix:1"), search(), Ok(()), |()| 0).await, Err(Error::Unlogged)));
    }

    #[tokio::test]
    async fn a_flood_of_refusals_is_told_once_by_its_number_and_hides_nobody_else() {
        let (_directory, clock, outbox, log) = log(Limits::default()).await;
        for _ in 0..10_000 {
            log.refused(person("unix:1"), Body::Search(search()));
        }
        assert_eq!(outbox.queued(), u64::from(TOLD_OF_ONE));
        log.refused(person("unix:2"), Body::Search(search()));
        assert_eq!(outbox.queued(), u64::from(TOLD_OF_ONE) + 1, "another caller is told");
        clock.advance(WINDOW);
        log.settle();
        log.settle();
        assert_eq!(outbox.queued(), u64::from(TOLD_OF_ONE) + 2, "one alarm with the number of the rest");
        clock.advance(WINDOW);
        log.settle();
        log.settle();
        assert_eq!(outbox.queued(), u64::from(TOLD_OF_ONE) + 3, "a quiet minute ends the alarm");
    }

    #[tokio::test]
    async fn searches_refusals_and_the_alarm_about_a_flood_are_events_that_the_log_takes() {
        let (_directory, clock, _, log) = log(Limits::default()).await;
        let span = obscura_proto::footage::v1::Span { start_unix_ns: 1, end_unix_ns: 2 };
        let asked = Search {
            camera_ids: vec![crate::test_support::camera(1).to_string()],
            span: Some(span),
            ..search()
        };
        for outcome in [Outcome::Success, Outcome::Failure] {
            for asked in [&asked, &search()] {
                let event = log.event(outcome, Some(person("unix:1")), Body::Search(asked.clone()));
                obscura_ocsf::validate(&event).unwrap();
            }
        }
        drop(clock);
        for (act, untold) in [(Act::Alarm, Some(u64::MAX)), (Act::AlarmEnded, None)] {
            let body = flood(act, untold.map(flood_words).unwrap_or_default());
            obscura_ocsf::validate(&log.event(Outcome::Failure, None, body)).unwrap();
        }
    }

    #[tokio::test]
    async fn many_callers_together_are_bounded_too() {
        let (_directory, _, outbox, log) = log(Limits::default()).await;
        for caller in 0..5_000 {
            log.refused(person(&format!("unix:{caller}")), Body::Search(search()));
        }
        assert_eq!(outbox.queued(), u64::from(TOLD));
        assert!(log.window().told_of.len() <= 500);
    }
}
