//! What goes, what stays, and that everything verifies afterwards.

use std::sync::atomic::Ordering;

use obscura_clock::Clock as _;
use obscura_proto::audit::v1::Event as AuditEvent;

use super::*;
use crate::{
    fault::NoFaults,
    guard::Witnesses,
    test_support::{Backend, Bench, CLI, Injector, Place, TestMachine, leaf_of, search_by, test_event},
};

const DAY: Duration = Duration::from_hours(24);

async fn fill(bench: &Bench, entries: usize) {
    let events: Vec<AuditEvent> = (0..entries).map(|_| test_event("x")).collect();
    bench.log.append_all(CLI, &events, None).await.unwrap();
}

/// 600 entries of which 40 days have passed, then 300 new ones, all published.
async fn aged(bench: &Bench) {
    bench.append(&search_by("user:alice", "Alice Example", "red car")).await;
    fill(bench, 599).await;
    bench.publish().await;
    bench.place.clock.advance(40 * DAY);
    fill(bench, 300).await;
    bench.publish().await;
}

async fn pruning(bench: &Bench) -> Pruning {
    pruning_after(bench, 30 * DAY).await
}

async fn pruning_after(bench: &Bench, retention: Duration) -> Pruning {
    let guard = bench.guard(retention).await;
    Pruning::new(bench.log.clone(), bench.blobs.clone(), guard, retention)
}

#[tokio::test]
async fn old_entries_go_and_a_copy_still_verifies() {
    let bench = Bench::sqlite().await;
    aged(&bench).await;
    let before = bench.verify(&[]);
    assert_eq!(pruning(&bench).await.run(900).await.unwrap(), 512, "whole bundles only");
    let store = &bench.log.parts.store;
    assert_eq!((store.head().await.unwrap().first_kept, store.first_row().await.unwrap()), (512, Some(512)));
    assert!(
        !bench.place.path("log/tile/entries/001").exists() && bench.place.path("log/tile/0/001").exists()
    );
    let told = bench.leaf(900).await;
    assert!(told.contains("entries 0 to 511 pruned, retention 30 days"), "{told}");
    assert!(told.contains("service.pruned"), "{told}");
    fill(&bench, 10).await;
    bench.publish().await;
    let after = bench.verify(&[before]);
    assert!(after.checkpoint().size > 900);
    assert!(bench.log.prove_entry(511, None).await.is_err());
    let proof = bench.log.prove_entry(512, None).await.unwrap();
    let parsed: obscura_tlog::LogProof = proof.text.parse().unwrap();
    let key = bench.log.parts.key.verifier();
    parsed.verify(&key, &obscura_tlog::Policy::none(), &leaf_of(&proof)).unwrap();
}

#[tokio::test]
async fn keys_of_months_that_are_over_are_destroyed_and_the_log_says_so() {
    let bench = Bench::sqlite().await;
    aged(&bench).await;
    let pseudonyms = bench.log.parts.persons.pseudonyms("user:alice").await.unwrap();
    bench.place.clock.advance(30 * DAY);
    bench.append(&search_by("user:alice", "Alice Example", "blue car")).await;
    pruning(&bench).await.run(900).await.unwrap();
    let left = bench.log.parts.persons.pseudonyms("user:alice").await.unwrap();
    assert_eq!(left.len(), 1, "the new month's key stays");
    assert!(bench.log.parts.persons.key_of(&pseudonyms[0]).await.unwrap().is_none());
    assert_eq!(bench.kinds().await.last().unwrap(), "erasure");
    let size = bench.size().await;
    assert!(bench.leaf(size - 1).await.contains(&pseudonyms[0]));
    pruning(&bench).await.run(900).await.unwrap();
    assert_eq!(bench.size().await, size, "nothing more to say");
}

#[tokio::test]
async fn a_month_of_more_persons_than_one_event_names_expires_in_several_events() {
    let bench = Bench::sqlite().await;
    let persons = PSEUDONYMS_IN_EVENT + 44;
    let events: Vec<AuditEvent> =
        (0..persons).map(|n| search_by(&format!("user:{n}"), "Somebody", "car")).collect();
    bench.log.append_all(CLI, &events, None).await.unwrap();
    bench.publish().await;
    let pruning = pruning(&bench).await;
    bench.place.clock.advance(70 * DAY);
    let size = bench.size().await;
    pruning.run(size).await.unwrap();
    assert_eq!(bench.size().await, size + 3, "the log has taken both, after what pruning says of entries");
    let kinds = bench.kinds().await;
    assert_eq!(kinds[kinds.len() - 2..], ["erasure", "erasure"]);
    pruning.run(size).await.unwrap();
    assert_eq!(bench.size().await, size + 3, "nothing is owed");
}

/// As an older program left it: what is owed names more than an event may, and nothing could be told any more.
#[tokio::test]
async fn what_is_owed_and_too_large_is_told_in_several_events_and_each_once() {
    let bench = Bench::sqlite().await;
    let pseudonyms: Vec<String> =
        (0..2 * PSEUDONYMS_IN_EVENT + 1).map(|number| format!("p-{number}")).collect();
    let ground = ErasureGround::Objection.into();
    let erasure = Erasure { pseudonyms: pseudonyms.clone(), ground, early: true, ..Erasure::default() };
    let id = EventId::generate();
    let event = bench.log.own(id, Body::Erasure(erasure)).encode_to_vec();
    let owe = async |bench: &Bench| {
        let write = bench.log.parts.store.rewrap().await.unwrap();
        write.tell(id, event.clone()).await.unwrap();
        write.commit().await.unwrap();
    };
    owe(&bench).await;
    bench.log.settle_pending().await.unwrap();
    assert_eq!(bench.kinds().await, ["erasure"; 3]);
    let mut told = String::new();
    for index in 0..3 {
        told.push_str(&bench.leaf(index).await);
    }
    assert!(pseudonyms.iter().all(|pseudonym| told.contains(&format!("{pseudonym:?}"))));
    assert!(told.contains(&id.to_string()), "whoever waits for the erasure finds it");
    assert!(bench.log.parts.store.pending().await.unwrap().is_empty());
    // As after a crash between telling and striking off.
    owe(&bench).await;
    bench.log.settle_pending().await.unwrap();
    assert_eq!(bench.size().await, 3);
}

#[tokio::test]
async fn nothing_is_pruned_that_was_not_published_or_that_is_young() {
    let bench = Bench::sqlite().await;
    aged(&bench).await;
    assert_eq!(pruning(&bench).await.run(300).await.unwrap(), 256);
    assert_eq!(pruning_after(&bench, 41 * DAY).await.run(900).await.unwrap(), 256);
}

#[tokio::test]
async fn a_clock_that_jumped_destroys_nothing() {
    let bench = Bench::sqlite().await;
    fill(&bench, 600).await;
    bench.publish().await;
    let pruning = pruning(&bench).await;
    pruning.check_clock().await.unwrap();
    let now = bench.log.parts.clock.wall();
    for jump in [now + 365 * DAY, now - DAY] {
        bench.place.clock.step_wall(jump);
        assert!(matches!(pruning.run(600).await, Err(Error::ClockDisagrees(_))));
    }
    assert_eq!(bench.log.parts.store.first_row().await.unwrap(), Some(0));
}

/// By a clock that was years behind, everything that it wrote looks old once it is right.
#[tokio::test]
async fn what_a_clock_that_was_behind_wrote_counts_as_written_when_it_was_put_right() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        for way in [Put::Running, Put::BeforeItWasLookedAt, Put::Restarted, Put::Confirmed] {
            let place = Place::new(backend);
            let right = place.clock.wall();
            place.clock.step_wall("2020-01-01T00:00:00Z".parse().unwrap());
            let mut bench = place.start(Arc::new(NoFaults)).await;
            let machine = Arc::new(TestMachine::default());
            let witnesses = |confirmed| Witnesses { machine: machine.clone(), server: false, confirmed };
            let mut guard = bench.guard_with(30 * DAY, witnesses(None)).await;
            bench.append(&search_by("user:alice", "Alice Example", "red car")).await;
            fill(&bench, 599).await;
            if !matches!(way, Put::BeforeItWasLookedAt) {
                guard.now().await.unwrap();
            }
            let confirmed = matches!(way, Put::Confirmed).then_some(right);
            if matches!(way, Put::Restarted | Put::Confirmed) {
                let place = bench.stop().await;
                place.clock.step_wall(right);
                bench = place.start(Arc::new(NoFaults)).await;
                guard = bench.guard_with(30 * DAY, witnesses(confirmed)).await;
            }
            bench.place.clock.step_wall(right);
            machine.is_kept.store(confirmed.is_none(), Ordering::SeqCst);
            bench.publish().await;
            let pruning = Pruning::new(bench.log.clone(), bench.blobs.clone(), Arc::new(guard), 30 * DAY);
            for _ in 0..2 {
                assert_eq!(pruning.run(600).await.unwrap(), 0, "{way:?}: nothing young goes");
                let kept = bench.log.parts.persons.pseudonyms("user:alice").await.unwrap();
                assert_eq!(kept.len(), 1, "{way:?}: nor its key");
                bench.place.clock.advance(29 * DAY);
            }
            bench.place.clock.advance(4 * DAY);
            assert_eq!(pruning.run(600).await.unwrap(), 512, "{way:?}: but it does not stay for ever");
            assert!(bench.log.parts.persons.pseudonyms("user:alice").await.unwrap().is_empty(), "{way:?}");
        }
    }
}

/// How a clock is put right.
#[derive(Clone, Copy, Debug)]
enum Put {
    Running,
    BeforeItWasLookedAt,
    Restarted,
    Confirmed,
}

/// Written while nobody believed the clock, which was behind, and forgotten by the next process.
#[tokio::test]
async fn what_was_written_while_the_clock_was_not_believed_counts_as_written_when_it_is_again() {
    let bench = Bench::sqlite().await;
    let guard = bench.guard(30 * DAY).await;
    fill(&bench, 100).await;
    guard.now().await.unwrap();
    let place = bench.stop().await;
    let right = place.clock.wall();
    place.clock.step_wall("2020-01-01T00:00:00Z".parse().unwrap());
    let bench = place.start(Arc::new(NoFaults)).await;
    assert!(bench.guard(30 * DAY).await.now().await.is_err());
    fill(&bench, 600).await;
    let place = bench.stop().await;
    place.clock.step_wall(right + DAY / 2);
    let bench = place.start(Arc::new(NoFaults)).await;
    bench.publish().await;
    let pruning = pruning(&bench).await;
    pruning.check_clock().await.unwrap();
    bench.place.clock.advance(30 * DAY - DAY / 4);
    assert_eq!(pruning.run(700).await.unwrap(), 0);
    bench.place.clock.advance(DAY);
    assert_eq!(pruning.run(700).await.unwrap(), 512);
}

#[tokio::test]
async fn a_machine_that_is_off_every_weekend_prunes_as_any_other() {
    let machine = Arc::new(TestMachine::default());
    machine.is_kept.store(true, Ordering::SeqCst);
    let mut place = Place::new(Backend::Sqlite);
    let mut kept = 0;
    for week in 0..8 {
        let bench = place.start(Arc::new(NoFaults)).await;
        let witnesses = Witnesses { machine: machine.clone(), server: false, confirmed: None };
        let guard = Arc::new(bench.guard_with(30 * DAY, witnesses).await);
        let pruning = Pruning::new(bench.log.clone(), bench.blobs.clone(), guard.clone(), 30 * DAY);
        guard.now().await.unwrap();
        fill(&bench, 255).await;
        bench.append(&search_by(&format!("user:{week}"), "Somebody", "car")).await;
        guard.now().await.unwrap();
        bench.publish().await;
        let size = bench.size().await;
        kept = pruning.run(size).await.unwrap();
        place = bench.stop().await;
        place.clock.advance(7 * DAY);
    }
    assert_eq!(kept, 3 * TILE_WIDTH, "those of five, six and seven weeks ago");
}

#[tokio::test]
async fn an_hour_of_a_clock_that_was_ahead_does_not_keep_the_log_for_ever() {
    let bench = Bench::sqlite().await;
    let pruning = pruning(&bench).await;
    pruning.check_clock().await.unwrap();
    fill(&bench, 300).await;
    let right = bench.log.parts.clock.wall();
    bench.place.clock.step_wall(right + 365 * DAY);
    fill(&bench, 600).await;
    assert!(pruning.check_clock().await.is_err());
    bench.place.clock.step_wall(right);
    bench.publish().await;
    assert_eq!(pruning.run(900).await.unwrap(), 0);
    bench.place.clock.advance(31 * DAY);
    assert_eq!(pruning.run(900).await.unwrap(), 256, "nothing later proves how old the others are");
    fill(&bench, 380).await;
    bench.publish().await;
    assert_eq!(pruning.run(1_280).await.unwrap(), 256);
    bench.place.clock.advance(31 * DAY);
    assert_eq!(pruning.run(1_280).await.unwrap(), 1_280);
}

#[tokio::test]
async fn a_pruning_that_is_cut_short_anywhere_is_finished_by_the_next() {
    for step in [Step::KeepFrom, Step::RemoveBundles, Step::RemoveRows] {
        for is_crash in [false, true] {
            let bench = Bench::sqlite().await;
            aged(&bench).await;
            let mut place = bench.stop().await;
            let faults = Injector::new(step, 2, is_crash);
            for _ in 0..2 {
                let bench = place.start(faults.clone()).await;
                assert!(pruning(&bench).await.run(900).await.is_err(), "{step:?}");
                place = bench.stop().await;
                faults.revive();
            }
            let bench = place.start(Arc::new(NoFaults)).await;
            bench.publish().await;
            bench.verify(&[]);
            assert_eq!(pruning(&bench).await.run(900).await.unwrap(), 512);
            let told = bench.kinds().await.iter().filter(|kind| *kind == "service").count();
            assert_eq!(told, 1, "{step:?}: what went is told once");
            assert_eq!(bench.log.parts.store.first_row().await.unwrap(), Some(512));
            bench.verify(&[]);
        }
    }
}
