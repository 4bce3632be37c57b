//! Every test runs on both databases.

use std::sync::Arc;

use obscura_tlog::{RightEdge, leaf_hash};

use super::*;
use crate::{
    fault::NoFaults,
    test_support::{Backend, Place},
};

const BOTH: [Backend; 2] = [Backend::Sqlite, Backend::Postgres];
const CAMERA: [u8; 16] = [9; 16];
const ALICE: &str = "spiffe://example.org/obscura/ingest";

fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

/// Appends leaves of these kinds behind what is there, committed at `committed`.
async fn append(
    store: &Store,
    edge: &mut RightEdge,
    kinds: &[&'static str],
    committed: Timestamp,
) -> Result<(), Error> {
    let leaves: Vec<String> = kinds.iter().map(|kind| format!("{kind} {}", EventId::generate())).collect();
    let named = ["p-bob".to_owned()];
    let entries: Vec<Stored<'_>> = kinds
        .iter()
        .zip(&leaves)
        .map(|(kind, leaf)| Stored {
            event_id: EventId::generate(),
            kind,
            pseudonym: (*kind == "view").then_some("p-alice"),
            named: if *kind == "change" { &named } else { &[] },
            cameras: if *kind == "view" { &[CAMERA] } else { &[] },
            claims_hash: None,
            leaf: leaf.as_bytes(),
        })
        .collect();
    let mut after = edge.clone();
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_bytes())).collect();
    let tiles = after.append(&hashes);
    let batch = Batch {
        old_size: edge.size(),
        new_size: after.size(),
        root: after.root(),
        committed,
        entries: &entries,
        tiles: &tiles,
        producers: &[Producer {
            producer: ALICE.to_owned(),
            outbox: [1; 16],
            through: after.size(),
            dropped: 2,
        }],
    };
    store.append(&batch, &NoFaults).await?;
    *edge = after;
    Ok(())
}

#[tokio::test]
async fn a_batch_is_there_whole_and_the_edge_grows_from_its_tiles_again() {
    for backend in BOTH {
        let place = Place::new(backend);
        let store = place.store().await;
        let mut edge = RightEdge::default();
        for _ in 0..3 {
            append(&store, &mut edge, &["test"; 300], now()).await.unwrap();
        }
        let head = store.head().await.unwrap();
        assert_eq!((head.size, head.root, head.first_kept), (900, edge.root(), 0));
        let tiles = store.tiles(&RightEdge::tile_ids(900)).await.unwrap();
        assert_eq!(RightEdge::from_tiles(900, &tiles).unwrap().root(), head.root);
        let rows = store.entries(0, 1_000, 1_000, &Filter::default()).await.unwrap();
        assert!(rows.iter().map(|row| row.index).eq(0..900), "{backend:?}");
        let ids: Vec<EventId> = rows.iter().map(|row| row.event_id).collect();
        assert_eq!(store.known(&ids).await.unwrap().len(), 900);
        assert_eq!(store.known(&[EventId::generate()]).await.unwrap().len(), 0);
        let producer = store.producer(ALICE, [1; 16]).await.unwrap().unwrap();
        assert_eq!((producer.through, producer.dropped, store.dropped().await.unwrap()), (900, 2, 2));
    }
}

#[tokio::test]
async fn a_batch_that_begins_where_the_log_no_longer_is_changes_nothing() {
    for backend in BOTH {
        let place = Place::new(backend);
        let store = place.store().await;
        let mut edge = RightEdge::default();
        append(&store, &mut edge, &["test"; 3], now()).await.unwrap();
        let mut stale = RightEdge::default();
        // Its indexes are taken, or, where they are not, its head is.
        assert!(append(&store, &mut stale, &["test"; 2], now()).await.is_err());
        let mut ahead = edge.clone();
        ahead.append(&[leaf_hash(b"never stored")]);
        let refused = append(&store, &mut ahead, &["test"], now()).await.unwrap_err();
        assert!(matches!(refused, Error::OtherSequencer), "{backend:?}: {refused}");
        assert_eq!(store.head().await.unwrap().size, 3);
        assert_eq!(store.entries(0, 100, 100, &Filter::default()).await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn entries_are_found_by_kind_time_camera_and_person() {
    for backend in BOTH {
        let place = Place::new(backend);
        let store = place.store().await;
        let mut edge = RightEdge::default();
        let later = now() + std::time::Duration::from_secs(60);
        append(&store, &mut edge, &["test", "view", "test"], now()).await.unwrap();
        append(&store, &mut edge, &["view", "search"], later).await.unwrap();
        let find = async |filter: Filter| -> Vec<u64> {
            store.entries(0, 100, 100, &filter).await.unwrap().iter().map(|row| row.index).collect()
        };
        assert_eq!(
            find(Filter { kinds: vec!["view".into(), "search".into()], ..Filter::default() }).await,
            [1, 3, 4]
        );
        assert_eq!(find(Filter { from: Some(later), ..Filter::default() }).await, [3, 4]);
        assert_eq!(find(Filter { to: Some(later), ..Filter::default() }).await, [0, 1, 2]);
        assert_eq!(find(Filter { camera: Some(CAMERA), from: Some(later), ..Filter::default() }).await, [3]);
        let alice = Filter { about: About::One(vec!["p-alice".into()]), ..Filter::default() };
        assert_eq!(find(alice).await, [1, 3]);
        append(&store, &mut edge, &["change"], later).await.unwrap();
        let about = async |about: About| find(Filter { about, ..Filter::default() }).await;
        assert_eq!(about(About::One(vec!["p-alice".into(), "p-bob".into()])).await, [1, 3, 5]);
        assert_eq!(about(About::One(vec!["p-bob".into()])).await, [5], "named and not who acted");
        assert_eq!(about(About::Nobody).await, [0, 2, 4]);
        let nobody = Filter { about: About::Nobody, ..Filter::default() };
        assert_eq!(store.newest(0, 4, 9, &nobody).await.unwrap(), [2, 0]);
        assert_eq!(store.newest(0, 6, 1, &nobody).await.unwrap(), [4]);
        assert!(find(Filter { about: About::One(vec![]), ..Filter::default() }).await.is_empty());
        assert_eq!(store.indexes_between(Some(later), None).await.unwrap(), Some((3, 6)));
        assert_eq!(store.indexes_between(None, Some(now())).await.unwrap(), None);
        let dates = async |from, to, now| {
            let dates = store.dates(from, to, now).await.unwrap();
            (dates.newest, dates.has_future)
        };
        assert_eq!(dates(0, 4, later).await, (Some(later), false));
        assert_eq!(dates(0, 4, later - std::time::Duration::from_nanos(1)).await, (Some(now()), true));
        assert_eq!(dates(10, 20, later).await, (None, false));
        assert_eq!(store.oldest_within(0, 4).await.unwrap(), Some(now()));
    }
}

#[tokio::test]
async fn rows_go_from_the_front_and_the_first_kept_index_never_moves_back() {
    for backend in BOTH {
        let place = Place::new(backend);
        let store = Arc::new(place.store().await);
        let mut edge = RightEdge::default();
        append(&store, &mut edge, &["view"; 5], now()).await.unwrap();
        store.keep_from(3).await.unwrap();
        store.remove_below(3).await.unwrap();
        store.keep_from(1).await.unwrap();
        store.keep_from(99).await.unwrap();
        assert_eq!(store.head().await.unwrap().first_kept, 3);
        assert_eq!(store.first_row().await.unwrap(), Some(3));
        let filter = Filter { camera: Some(CAMERA), ..Filter::default() };
        assert_eq!(store.entries(0, 100, 100, &filter).await.unwrap().len(), 2);
        append(&store, &mut edge, &["test"], now()).await.unwrap();
        assert_eq!(store.head().await.unwrap().first_kept, 3);
    }
}

#[tokio::test]
async fn cursors_and_silent_outboxes_are_kept_and_forgotten() {
    for backend in BOTH {
        let place = Place::new(backend);
        let store = place.store().await;
        assert_eq!(store.cursor("siem").await.unwrap(), None);
        for (next_index, trouble, lost) in [(7, "away", Some((3, 5))), (8, "", None), (9, "", Some((0, 1)))] {
            let cursor = Cursor { next_index, trouble: trouble.to_owned(), lost };
            store.put_cursor("siem", &cursor).await.unwrap();
            assert_eq!(store.cursor("siem").await.unwrap(), Some(cursor));
        }
        append(&store, &mut RightEdge::default(), &["test"], now()).await.unwrap();
        store.forget_producers(now()).await.unwrap();
        assert!(store.producer(ALICE, [1; 16]).await.unwrap().is_some());
        store.forget_producers(now() + std::time::Duration::from_secs(1)).await.unwrap();
        assert!(store.producer(ALICE, [1; 16]).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_clock_that_older_tables_believed_is_believed_and_nobody_has_vouched_for_it() {
    for backend in BOTH {
        let place = Place::new(backend);
        let old = Database::open(place.location(), &MIGRATIONS[..8]).await.unwrap();
        let row = format!("INSERT INTO believed (id, wall_ns) VALUES (1, {})", now().unix_nanos());
        old.readers().execute_unprepared(&row).await.unwrap();
        drop(old);
        let store = place.store().await;
        assert_eq!((store.believed().await.unwrap(), store.vouched().await.unwrap()), (Some(now()), 0));
        let later = now() + std::time::Duration::from_secs(1);
        let undated = Undated { from: 0, to: 7, oldest: now(), written_before: later };
        store.believe(later, Some(7), Some(&undated)).await.unwrap();
        store.believe(later, None, None).await.unwrap();
        assert_eq!(store.vouched().await.unwrap(), 7, "what was vouched for stays");
        store.forget_undated(later).await.unwrap();
        assert_eq!(store.undated().await.unwrap(), [undated]);
        store.forget_undated(later + std::time::Duration::from_nanos(1)).await.unwrap();
        assert!(store.undated().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_outbox_of_older_tables_belongs_to_the_first_who_reports_it_and_a_feed_goes_on() {
    for backend in BOTH {
        let place = Place::new(backend);
        let bytes = if matches!(backend, Backend::Sqlite) { "x'" } else { "'\\x" };
        let outbox = "07".repeat(16);
        let old = Database::open(place.location(), &MIGRATIONS[..3]).await.unwrap();
        let row = format!("INSERT INTO producers VALUES ({bytes}{outbox}', 41, 3, 1)");
        old.readers().execute_unprepared(&row).await.unwrap();
        old.readers()
            .execute_unprepared("INSERT INTO feed_cursors VALUES ('siem', 5, 'away')")
            .await
            .unwrap();
        drop(old);
        let store = place.store().await;
        assert_eq!(store.dropped().await.unwrap(), 3);
        assert!(store.producer(ALICE, [8; 16]).await.unwrap().is_none());
        let bound = Producer { producer: ALICE.to_owned(), outbox: [7; 16], through: 41, dropped: 3 };
        for _ in 0..2 {
            assert_eq!(store.producer(ALICE, [7; 16]).await.unwrap().as_ref(), Some(&bound));
            assert!(store.producer("spiffe://example.org/obscura/keys", [7; 16]).await.unwrap().is_none());
        }
        assert_eq!(store.dropped().await.unwrap(), 3);
        let cursor = Cursor { next_index: 5, trouble: "away".to_owned(), lost: None };
        assert_eq!(store.cursor("siem").await.unwrap(), Some(cursor));
    }
}

#[test]
fn inserts_have_few_lengths_and_are_few() {
    let lengths: std::collections::BTreeSet<usize> = (1..5_000).map(run_length).collect();
    assert_eq!(lengths.len(), 18, "{lengths:?}");
    assert!((1..5_000).all(|rows| (1..=rows).contains(&run_length(rows))));
    let statements = |mut rows: usize| {
        let mut count = 0;
        while rows > 0 {
            rows -= run_length(rows);
            count += 1;
        }
        count
    };
    assert!((1..64).all(|rows| statements(rows) <= 2) && (1..512).all(|rows| statements(rows) <= 5));
}
