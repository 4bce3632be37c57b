//! The table of faults: each step fails, by an error and by a crash, twice in a row each; afterwards the whole
//! tree is verified against every receipt that was handed out.

use std::time::Duration;

use obscura_access::verify_receipt;
use obscura_proto::audit::v1::{Event, GrantDecision, Outcome, event::Body};
use obscura_tlog::{Consistency, SignedCheckpoint, Tile, verify_consistency};

use super::*;
use crate::{
    fault::NoFaults,
    test_support::{Backend, Bench, CLI, Injector, Place, Receipts, event, person, test_event},
};

/// What can fail while events are appended and published. What a witness adds is in the tests of `witness`.
const STEPS: [Step; 12] = [
    Step::LookUp,
    Step::Begin,
    Step::InsertEntries,
    Step::PutTiles,
    Step::MoveHead,
    Step::Commit,
    Step::Committed,
    Step::PutTile,
    Step::PutBundle,
    Step::Cosign,
    Step::ReplaceCheckpoint,
    Step::RemovePartials,
];

/// Everything that the outside world has seen.
#[derive(Default)]
struct Seen {
    receipts: Receipts,
    checkpoints: Vec<SignedCheckpoint>,
}

impl Seen {
    /// Producers append; who gets no receipt asks again later, with the same event.
    async fn produce(&mut self, bench: &Bench, events: &[Event]) {
        let appended =
            futures::future::join_all(events.iter().map(|event| bench.log.append(CLI, event))).await;
        for (event, appended) in events.iter().zip(appended) {
            let Ok(appended) = appended else { continue };
            let first =
                self.receipts.entry(event.event_id.clone()).or_insert_with(|| appended.receipt.clone());
            assert_eq!(*first, appended.receipt, "another receipt for the same event");
        }
        if bench.projection.lock().await.publish().await.is_ok() {
            self.checkpoints.push(bench.verify(&self.checkpoints));
        }
    }

    /// No acknowledged entry is lost, and nobody saw a fork.
    async fn hold(&self, bench: &Bench) {
        bench.publish().await;
        let published = bench.verify(&self.checkpoints);
        assert_eq!(published.checkpoint().size, bench.size().await);
        for (event_id, receipt) in &self.receipts {
            let receipt = verify_receipt(&Place::key().public_key(), receipt).unwrap();
            let row = bench.log.parts.store.entry(receipt.leaf_index).await.unwrap().unwrap();
            assert_eq!(leaf_hash(&row.leaf).as_bytes()[..], receipt.leaf_hash[..]);
            assert_eq!(row.event_id.to_string(), *event_id);
            assert!(receipt.leaf_index < published.checkpoint().size);
        }
    }
}

async fn survive(backend: Backend, step: Step, is_crash: bool) {
    let faults = Injector::new(step, 2, is_crash);
    let (mut seen, mut place) = (Seen::default(), Place::new(backend));
    let mut all: Vec<Event> = Vec::new();
    for round in 0..5 {
        let bench = place.start(faults.clone()).await;
        for _ in 0..3 {
            // Enough for a tile to become full on the way, and every event twice.
            let events: Vec<Event> = (0..60).map(|_| test_event("x")).collect();
            // And some that are in the log already, in a batch with new ones.
            let again = all.iter().rev().take(5);
            let twice: Vec<Event> = events.iter().chain(&events).chain(again).cloned().collect();
            all.extend(events);
            seen.produce(&bench, &twice).await;
            bench.place.clock.advance(Duration::from_secs(1));
        }
        place = bench.stop().await;
        faults.revive();
        assert!(round > 0 || place.path("log").exists());
    }
    assert!(faults.was_met(), "{step:?} was never reached");
    let bench = place.start(Arc::new(NoFaults)).await;
    // Whoever was not answered asks again, once more than needed.
    seen.produce(&bench, &all).await;
    assert_eq!(seen.receipts.len(), all.len(), "{step:?}");
    assert_eq!(bench.size().await, u64::try_from(all.len()).unwrap(), "each event once");
    seen.hold(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_loses_nothing_and_forks_nothing() {
    for step in STEPS {
        for is_crash in [false, true] {
            survive(Backend::Sqlite, step, is_crash).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_of_the_transaction_loses_nothing_on_postgresql() {
    for step in [Step::InsertEntries, Step::PutTiles, Step::MoveHead, Step::Commit, Step::Committed] {
        for is_crash in [false, true] {
            survive(Backend::Postgres, step, is_crash).await;
        }
    }
}

#[tokio::test]
async fn a_commit_that_only_looked_failed_is_acknowledged() {
    let place = Place::new(Backend::Sqlite);
    let bench = place.start(Injector::new(Step::Committed, 1, false)).await;
    assert_eq!(bench.append(&test_event("a")).await, 0);
    assert_eq!(bench.append(&test_event("b")).await, 1);
    assert_eq!(bench.size().await, 2);
}

/// The log as if it had so many entries: the tiles of its right edge, full of some hash.
async fn as_large_as(store: &Store, size: u64) -> RightEdge {
    let tiles = RightEdge::tile_ids(size)
        .into_iter()
        .map(|id| Tile { id, hashes: vec![leaf_hash(b"some entry"); usize::from(id.width())] });
    let tiles: Vec<Tile> = tiles.collect();
    let edge = RightEdge::from_tiles(size, &tiles.iter().cloned().collect()).unwrap();
    let batch = Batch {
        old_size: 0,
        new_size: size,
        root: edge.root(),
        committed: Timestamp::from_unix_nanos(0),
        entries: &[],
        tiles: &tiles,
        producers: &[],
    };
    store.append(&batch, &NoFaults).await.unwrap();
    edge
}

#[tokio::test]
async fn a_log_of_a_hundred_million_entries_holds_its_right_edge_in_memory_and_nothing_else() {
    const SIZE: u64 = 100_000_000;
    let place = Place::new(Backend::Sqlite);
    let before = as_large_as(&place.store().await, SIZE).await;
    let bench = place.start(Arc::new(NoFaults)).await;
    for _ in 0..10 {
        let events: Vec<Event> = (0..100).map(|_| test_event("x")).collect();
        bench.log.append_all(CLI, &events, None).await.unwrap();
    }
    let store = &bench.log.parts.store;
    let edge = read_edge(store).await.unwrap();
    assert_eq!(edge.size(), SIZE + 1_000);
    assert!(edge.to_bytes().len() < 4 * 8_192, "four levels of at most 8 KiB");
    let plan = Consistency::new(SIZE, edge.size()).unwrap();
    let proof = plan.prove(&store.tiles(&plan.plan()).await.unwrap()).unwrap();
    verify_consistency(SIZE, &before.root(), edge.size(), &edge.root(), &proof).unwrap();
    assert_eq!(store.entry(SIZE).await.unwrap().unwrap().index, SIZE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sequencers_on_one_log_the_first_stops_and_says_so() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let place = Place::new(backend);
        let (first, second) = (Arc::new(place.store().await), Arc::new(place.store().await));
        let start =
            |store| Sequencer::start(store, place.clock.clone(), Arc::new(NoFaults), AuditMetrics::new());
        let (one, ended) = start(first).await.unwrap();
        let (two, _) = start(second).await.unwrap();
        let prepared = || {
            let leaf = Bytes::from(EventId::generate().to_string());
            Prepared {
                event_id: EventId::generate(),
                kind: "test",
                pseudonym: None,
                named: Vec::new(),
                cameras: Vec::new(),
                claims_hash: None,
                leaf_hash: leaf_hash(&leaf),
                leaf,
            }
        };
        // The head has still the size that the first knows, and only the term tells it.
        let refused = one.append(vec![prepared()], None).await.unwrap_err();
        assert!(matches!(refused, Error::OtherSequencer | Error::Ended), "{backend:?}: {refused}");
        assert!(matches!(ended.await.unwrap(), Err(store::Error::OtherSequencer)));
        assert_eq!(two.append(vec![prepared()], None).await.unwrap()[0].index, 0);
        assert_eq!(two.append(vec![prepared(), prepared()], None).await.unwrap()[1].index, 2);
    }
}

/// Without the term, as if whoever woke up had read it in the same moment: the size alone refuses a fork.
#[tokio::test]
async fn a_batch_on_an_old_size_is_refused_whatever_the_term_says() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let store = Place::new(backend).store().await;
        as_large_as(&store, 256).await;
        let behind = Batch {
            old_size: 0,
            new_size: 1,
            root: leaf_hash(b"another"),
            committed: Timestamp::from_unix_nanos(0),
            entries: &[],
            tiles: &[],
            producers: &[],
        };
        let refused = store.append(&behind, &NoFaults).await.unwrap_err();
        assert!(matches!(refused, store::Error::OtherSequencer), "{backend:?}: {refused}");
        assert_eq!(store.head().await.unwrap().size, 256);
    }
}

#[tokio::test]
async fn a_receipt_of_a_grant_names_its_claims_and_that_of_a_refusal_does_not() {
    let bench = Bench::sqlite().await;
    let examples = obscura_ocsf::examples();
    let grant =
        |event: &&Event| matches!(&event.body, Some(Body::Grant(grant)) if !grant.claims_hash.is_empty());
    let given = examples.iter().filter(grant).find(|event| event.outcome() == Outcome::Success).unwrap();
    let Some(Body::Grant(decision)) = &given.body else { unreachable!() };
    let receipt = async |event: &Event| {
        let appended = bench.log.append(CLI, event).await.unwrap();
        verify_receipt(&Place::key().public_key(), &appended.receipt).unwrap()
    };
    assert_eq!(receipt(given).await.claims_hash, decision.claims_hash);
    let refused = GrantDecision { refusal: "not on shift".into(), ..decision.clone() };
    let refused = event(Some(person("user:alice", "")), Body::Grant(refused));
    let refused = Event { outcome: Outcome::Failure.into(), ..refused };
    assert!(receipt(&refused).await.claims_hash.is_empty());
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_leaves_no_trace() {
    let bench = Bench::sqlite().await;
    let long = test_event(&"x".repeat(70_000));
    assert!(bench.log.append(CLI, &long).await.unwrap_err().to_string().contains("at most 65536"));
    let nameless = Event { event_id: "nobody".into(), ..test_event("") };
    assert!(bench.log.append(CLI, &nameless).await.is_err());
    assert!(bench.log.append(CLI, &Event::default()).await.is_err());
    assert_eq!(bench.size().await, 0);
    assert!(bench.log.parts.store.all_person_keys("", 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_the_catalogue_becomes_an_entry() {
    let bench = Bench::sqlite().await;
    for event in obscura_ocsf::examples() {
        bench.log.append(CLI, &event).await.unwrap();
    }
    bench.publish().await;
    bench.verify(&[]);
}
