//! What is believed of a clock, over restarts, and that nothing goes while it is not.

use std::sync::atomic::Ordering;

use obscura_clock::{Clock as _, SystemClock};

use super::*;
use crate::{
    fault::NoFaults,
    pruning::Pruning,
    test_support::{Backend, Bench, CLI, Place, TestMachine, search_by, test_event},
};

const BACKENDS: [Backend; 2] = [Backend::Sqlite, Backend::Postgres];
const RETENTION: Duration = Duration::from_hours(30 * 24);
const YEAR: Duration = Duration::from_hours(365 * 24);

/// A start, as far as the guard sees it: the process looks at what was there and then says that it started.
async fn start(place: Place) -> (Bench, Guard) {
    start_with(place, nobody()).await
}

async fn start_with(place: Place, witnesses: Witnesses) -> (Bench, Guard) {
    let bench = place.start(Arc::new(NoFaults)).await;
    let guard = bench.guard_with(RETENTION, witnesses).await;
    bench.append(&test_event("started")).await;
    (bench, guard)
}

fn nobody() -> Witnesses {
    Witnesses { machine: Arc::new(TestMachine::default()), server: false, confirmed: None }
}

async fn fill(bench: &Bench) {
    bench.append(&search_by("user:alice", "Alice Example", "red car")).await;
    let events: Vec<_> = (0..600).map(|_| test_event("x")).collect();
    bench.log.append_all(CLI, &events, None).await.unwrap();
    bench.publish().await;
}

#[tokio::test]
async fn no_number_of_restarts_makes_a_clock_right_that_is_a_year_ahead() {
    for backend in BACKENDS {
        for was_believed in [false, true] {
            let (bench, guard) = start(Place::new(backend)).await;
            fill(&bench).await;
            if was_believed {
                guard.now().await.unwrap();
            }
            let right = bench.place.clock.wall();
            let mut place = bench.stop().await;
            place.clock.step_wall(right + YEAR);
            for _ in 0..3 {
                let (bench, guard) = start(place).await;
                let guard = Arc::new(guard);
                let pruning = Pruning::new(bench.log.clone(), bench.blobs.clone(), guard, RETENTION);
                for _ in 0..2 {
                    bench.publish().await;
                    let size = bench.size().await;
                    let refused = pruning.run(size).await.unwrap_err();
                    assert!(matches!(refused, Error::ClockDisagrees(Doubt::Ahead(_))), "{refused}");
                    bench.place.clock.advance(Duration::from_hours(1));
                }
                assert_eq!(bench.log.parts.store.first_row().await.unwrap(), Some(0), "{backend:?}");
                assert_eq!(bench.log.parts.persons.pseudonyms("user:alice").await.unwrap().len(), 1);
                place = bench.stop().await;
            }
        }
    }
}

#[tokio::test]
async fn after_a_month_a_person_or_a_time_server_vouches_for_the_clock() {
    let (bench, guard) = start(Place::new(Backend::Sqlite)).await;
    guard.now().await.unwrap();
    let mut place = bench.stop().await;
    for is_person in [true, false] {
        place.clock.advance(RETENTION);
        let now = place.clock.wall();
        for wrong in [now - Duration::from_hours(25), now + Duration::from_hours(1)] {
            let (bench, guard) = start_with(place, Witnesses { confirmed: Some(wrong), ..nobody() }).await;
            let refused = guard.now().await.unwrap_err();
            assert!(matches!(refused, Error::ClockDisagrees(Doubt::Ahead(_))), "{refused}");
            place = bench.stop().await;
        }
        let machine = Arc::new(TestMachine::default());
        let confirmed = is_person.then_some(now);
        let witnesses = Witnesses { machine: machine.clone(), server: false, confirmed };
        let (bench, guard) = start_with(place, witnesses).await;
        assert_eq!(guard.now().await.is_ok(), is_person);
        if !is_person {
            machine.is_kept.store(true, Ordering::SeqCst);
            guard.now().await.unwrap();
            machine.is_kept.store(false, Ordering::SeqCst);
        }
        guard.now().await.unwrap();
        place = bench.stop().await;
    }
    let (_bench, guard) = start(place).await;
    guard.now().await.unwrap();
}

#[tokio::test]
async fn a_short_absence_needs_no_proof_and_a_clock_that_goes_back_does() {
    let (bench, guard) = start(Place::new(Backend::Sqlite)).await;
    guard.now().await.unwrap();
    let mut place = bench.stop().await;
    for hours in [1, 23] {
        place.clock.advance(Duration::from_hours(hours));
        let (bench, guard) = start(place).await;
        guard.now().await.unwrap();
        place = bench.stop().await;
    }
    let right = place.clock.wall();
    place.clock.step_wall(right - Duration::from_hours(1));
    let (bench, guard) = start(place).await;
    let refused = guard.now().await.unwrap_err();
    assert!(matches!(refused, Error::ClockDisagrees(Doubt::Behind(_))), "{refused}");
    bench.place.clock.step_wall(right);
    guard.now().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_while_the_service_runs_is_believed_again_when_it_is_right() {
    let machine = Arc::new(TestMachine::default());
    let witnesses = Witnesses { machine: machine.clone(), server: false, confirmed: None };
    let (bench, guard) = start_with(Place::new(Backend::Sqlite), witnesses).await;
    guard.now().await.unwrap();
    let (clock, right) = (&bench.place.clock, bench.place.clock.wall());
    for _ in 0..2 {
        // Twice four minutes are eight.
        clock.step_wall(clock.wall() + Duration::from_mins(4));
        let _ = guard.now().await;
    }
    let refused = guard.now().await.unwrap_err();
    assert!(matches!(refused, Error::ClockDisagrees(Doubt::Stepped(_, true))), "{refused}");
    clock.step_wall(right);
    guard.now().await.unwrap();
    clock.step_wall(right - YEAR);
    assert!(guard.now().await.is_err());
    machine.is_kept.store(true, Ordering::SeqCst);
    guard.now().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_not_that_of_the_database_server_is_not_believed() {
    let witnesses = Witnesses { server: true, ..nobody() };
    let (bench, guard) = start_with(Place::new(Backend::Postgres), witnesses).await;
    bench.place.clock.step_wall(SystemClock::shared().wall() + Duration::from_hours(1));
    let refused = guard.now().await.unwrap_err();
    assert!(matches!(refused, Error::ClockDisagrees(Doubt::Server(_))), "{refused}");
}

#[test]
fn every_doubt_fits_into_an_alarm_and_says_what_to_do() {
    for doubt in [Doubt::Stepped(YEAR, true), Doubt::Ahead(YEAR), Doubt::Behind(YEAR)] {
        let words = doubt.to_string();
        assert!(words.len() <= crate::alarm::MAX_DETAIL_BYTES, "{} bytes: {words}", words.len());
        assert!(words.contains("clock_confirmed") && words.contains("365 days"), "{words}");
        assert!(words.contains("start it again alone changes nothing"), "{words}");
    }
    assert!(Doubt::Server(YEAR).to_string().contains("put the wrong one right"));
}
