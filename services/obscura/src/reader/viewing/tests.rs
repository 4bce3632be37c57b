//! Against a log that keeps what it is told, or refuses it.

use std::{cell::RefCell, sync::Arc};

use obscura_clock::{SimulatedClock, Timestamp};
use obscura_proto::footage::v1::Span as SpanMessage;
use proptest::prelude::*;

use super::*;
use crate::problem::Problem;

/// Keeps events, and refuses those whose turn is named.
#[derive(Debug, Default)]
struct Kept {
    views: RefCell<Vec<View>>,
    refused: RefCell<Vec<bool>>,
}

impl Tell for Kept {
    async fn tell(&self, view: View) -> Result<()> {
        if self.refused.borrow_mut().pop() == Some(true) {
            return Err(Problem::new("audit is away"));
        }
        self.views.borrow_mut().push(view);
        Ok(())
    }
}

impl Kept {
    fn phases(&self) -> Vec<Phase> {
        self.views.borrow().iter().map(View::phase).collect()
    }

    fn spans(&self) -> Vec<Vec<(i64, i64)>> {
        let pair = |span: &SpanMessage| (span.start_unix_ns, span.end_unix_ns);
        self.views.borrow().iter().map(|view| view.released.iter().map(pair).collect()).collect()
    }

    /// Every moment in an event.
    fn moments(&self) -> Vec<i64> {
        let spans = self.spans().concat();
        let mut moments: Vec<_> = spans.into_iter().flat_map(|(start, end)| start..end).collect();
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// The next event but `after` is refused.
    fn refuse(&self, after: usize) {
        let mut refused = vec![true];
        refused.extend(vec![false; after]);
        self.refused.replace(refused);
    }
}

fn clock() -> Arc<SimulatedClock> {
    SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap())
}

fn span(start: i64, end: i64) -> Span {
    Span::try_new(Timestamp::from_unix_nanos(start), Timestamp::from_unix_nanos(end)).unwrap()
}

async fn open<'a>(log: &'a Kept, clock: &Arc<SimulatedClock>, interrupt: &'a Interrupt) -> Viewing<'a, Kept> {
    let about = View { grant_id: "g".into(), camera_id: "c".into(), ..View::default() };
    Viewing::open(log, Arc::clone(clock) as SharedClock, interrupt, about).await.unwrap()
}

#[tokio::test]
async fn a_viewing_is_told_at_its_opening_every_15_minutes_and_at_its_closing_with_what_was_released() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    viewing.release(span(0, 2)).await.unwrap();
    clock.advance(INTERVAL - Duration::from_nanos(1));
    viewing.release(span(2, 4)).await.unwrap();
    assert_eq!(log.phases(), [Phase::Open], "not yet");
    clock.advance(Duration::from_nanos(1));
    viewing.release(span(4, 6)).await.unwrap();
    clock.advance(INTERVAL);
    viewing.release(span(9, 11)).await.unwrap();
    viewing.close(Ok(())).await.unwrap();
    assert_eq!(log.phases(), [Phase::Open, Phase::Ongoing, Phase::Ongoing, Phase::Close]);
    assert_eq!(log.spans(), [vec![], vec![(0, 4)], vec![(4, 6)], vec![(9, 11)]]);
    assert!(log.views.borrow().iter().all(|view| view.grant_id == "g" && view.camera_id == "c"));
}

#[tokio::test(start_paused = true)]
async fn a_viewing_that_only_waits_is_told_too() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    let work = async {
        for _ in 0..3 {
            clock.advance(INTERVAL);
            sleep(2 * POLL).await;
        }
        7
    };
    assert_eq!(viewing.during(work).await.unwrap(), 7);
    assert_eq!(log.phases(), [Phase::Open, Phase::Ongoing, Phase::Ongoing, Phase::Ongoing]);
}

#[tokio::test]
async fn a_hole_between_two_segments_is_not_told_as_released() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    for (start, end) in [(10, 20), (20, 30), (31, 40), (35, 38), (40, 40), (50, 50)] {
        viewing.release(span(start, end)).await.unwrap();
    }
    viewing.close(Ok(())).await.unwrap();
    assert_eq!(log.spans()[1], [(10, 30), (31, 41), (50, 51)], "an instant is a nanosecond");
}

#[tokio::test]
async fn more_spans_than_an_event_takes_go_into_several() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    for number in 0..1_000 {
        viewing.release(span(3 * number, 3 * number + 1)).await.unwrap();
    }
    viewing.close(Ok(())).await.unwrap();
    let lengths: Vec<_> = log.spans().iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 400, 400, 200]);
    assert_eq!(log.moments(), (0..1_000).map(|number| 3 * number).collect::<Vec<_>>());
}

/// The limit of the log and the one here are the same.
#[test]
fn the_log_takes_a_full_event_and_no_more() {
    let event = |spans: usize| {
        let example =
            obscura_ocsf::examples().into_iter().find(|event| obscura_ocsf::kind(event) == Some("view"));
        let mut event = example.unwrap();
        let Some(obscura_proto::audit::v1::event::Body::View(view)) = &mut event.body else { panic!() };
        view.released = vec![span_message(span(1, 2)); spans];
        obscura_ocsf::validate(&event)
    };
    assert!(event(MAX_SPANS).is_ok() && event(MAX_SPANS + 1).is_err());
}

#[tokio::test]
async fn an_error_closes_a_viewing_with_what_was_released_until_then() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    viewing.release(span(0, 2)).await.unwrap();
    let failed: Result<()> = viewing.close(Err(Problem::new("the disk is full"))).await;
    assert_eq!(failed.unwrap_err().what(), "the disk is full");
    assert_eq!((log.phases(), log.moments()), (vec![Phase::Open, Phase::Close], vec![0, 1]));
}

#[tokio::test]
async fn where_the_log_does_not_take_what_is_due_nothing_more_is_released() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    viewing.release(span(0, 2)).await.unwrap();
    clock.advance(INTERVAL);
    log.refuse(0);
    let refused = viewing.release(span(2, 4)).await.unwrap_err();
    let ended: Result<()> = viewing.close(Err(refused)).await;
    assert_eq!(ended.unwrap_err().what(), "audit is away");
    assert_eq!(log.moments(), [0, 1], "and what was released before is told at last");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_as_well_where_the_log_does_not_take_what_is_due() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    clock.advance(INTERVAL);
    log.refuse(0);
    assert!(viewing.during(std::future::pending::<()>()).await.is_err());
}

#[tokio::test]
async fn a_viewing_that_cannot_be_opened_or_closed_in_the_log_fails() {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    log.refuse(1);
    let viewing = open(&log, &clock, &interrupt).await;
    assert!(viewing.close(Ok(())).await.is_err());
    log.refuse(0);
    let shared = Arc::clone(&clock) as SharedClock;
    assert!(Viewing::open(&log, shared, &interrupt, View::default()).await.is_err());
}

#[tokio::test]
async fn a_signal_stops_reading_and_the_viewing_is_closed() {
    let asked = tokio_util::sync::CancellationToken::new();
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::of(asked.clone()));
    let mut viewing = open(&log, &clock, &interrupt).await;
    viewing.release(span(0, 2)).await.unwrap();
    asked.cancel();
    let stopped = viewing.during(std::future::pending::<()>()).await;
    let ended = viewing.close(stopped).await.unwrap_err();
    assert!(ended.what().contains("interrupted"), "{ended}");
    assert_eq!((log.phases(), log.moments()), (vec![Phase::Open, Phase::Close], vec![0, 1]));
}

/// A segment that is about to be handed out after this many seconds, and whether the log refuses its next event.
type Asked = (i64, i64, u64, bool);

proptest! {
    /// Whatever is asked for, however slowly, and whichever event is refused: the events of a viewing together say
    /// exactly what was handed out. Only an end that the log never takes leaves less.
    #[test]
    fn the_events_of_a_viewing_say_what_was_released_and_nothing_else(
        asked in prop::collection::vec((0..2_000_i64, 1..5_i64, 0..1_000_u64, prop::bool::weighted(0.02)), 0..900),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(invariant_events_say_what_was_released(asked));
    }
}

async fn invariant_events_say_what_was_released(asked: Vec<Asked>) {
    let (log, clock, interrupt) = (Kept::default(), clock(), Interrupt::never());
    let mut viewing = open(&log, &clock, &interrupt).await;
    let mut handed_out = Vec::new();
    let mut outcome = Ok(());
    for (start, length, seconds, refuse) in asked {
        clock.advance(Duration::from_secs(seconds));
        if refuse {
            log.refuse(0);
        }
        outcome = viewing.release(span(start, start + length)).await;
        log.refused.borrow_mut().clear();
        if outcome.is_err() {
            break;
        }
        handed_out.extend(start..start + length);
    }
    let is_refused = outcome.is_err();
    assert_eq!(viewing.close(outcome).await.is_err(), is_refused);
    handed_out.sort_unstable();
    handed_out.dedup();
    assert_eq!(log.moments(), handed_out);
    assert!(log.spans().iter().all(|spans| spans.len() <= MAX_SPANS));
    assert_eq!((log.phases().first(), log.phases().last()), (Some(&Phase::Open), Some(&Phase::Close)));
}
