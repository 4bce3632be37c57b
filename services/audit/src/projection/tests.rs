//! What is on the object store, and when the service refuses to start.

use obscura_proto::audit::v1::Event;

use super::*;
use crate::{
    fault::NoFaults,
    test_support::{Backend, Bench, CLI, Place, test_event},
    witness::Witnesses,
};

async fn fill(bench: &Bench, entries: usize) {
    let events: Vec<Event> = (0..entries).map(|_| test_event("x")).collect();
    bench.log.append_all(CLI, &events, None).await.unwrap();
}

fn files(bench: &Bench, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![bench.place.path("log").join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(bench.place.path("log")).unwrap();
                found.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

async fn reopen(place: &Place) -> Result<Projection, Error> {
    let (log, blobs) = place.open(Arc::new(NoFaults)).await.unwrap();
    place.projection(&log, &blobs, Arc::new(NoFaults), Witnesses::new(&[], 1).unwrap()).await
}

#[tokio::test]
async fn a_published_log_verifies_and_partial_tiles_go_once_they_are_full() {
    let bench = Bench::sqlite().await;
    bench.publish().await;
    let mut earlier = vec![bench.verify(&[])];
    for entries in [1, 200, 60, 300, 1] {
        fill(&bench, entries).await;
        bench.publish().await;
        earlier.push(bench.verify(&earlier));
    }
    assert_eq!(
        files(&bench, "tile/0"),
        ["tile/0/000", "tile/0/001", "tile/0/002.p/49", "tile/0/002.p/50"],
        "the partial tiles of what is full are gone"
    );
    assert_eq!(files(&bench, "tile/entries").len(), 4);
    assert_eq!(earlier.last().unwrap().checkpoint().size, 562);
}

#[tokio::test]
async fn a_lost_object_store_is_made_again_from_the_database() {
    let bench = Bench::sqlite().await;
    fill(&bench, 700).await;
    bench.publish().await;
    let before = bench.verify(&[]);
    let objects = files(&bench, "tile");
    let place = bench.stop().await;
    std::fs::remove_dir_all(place.path("log")).unwrap();
    let bench = place.start(Arc::new(NoFaults)).await;
    bench.publish().await;
    assert_eq!(bench.verify(&[before]).checkpoint().size, 700);
    assert_eq!(files(&bench, "tile"), objects);
}

#[tokio::test]
async fn lost_objects_are_stored_again_on_request() {
    let bench = Bench::sqlite().await;
    fill(&bench, 600).await;
    bench.publish().await;
    let objects = files(&bench, "tile");
    std::fs::remove_file(bench.place.path("log/tile/entries/000")).unwrap();
    std::fs::remove_file(bench.place.path("log/tile/0/001")).unwrap();
    bench.publish().await;
    assert_ne!(files(&bench, "tile"), objects);
    bench.projection.lock().await.rebuild();
    bench.publish().await;
    assert_eq!(files(&bench, "tile"), objects);
    bench.verify(&[]);
}

#[tokio::test]
async fn a_restored_older_database_does_not_start() {
    let bench = Bench::sqlite().await;
    fill(&bench, 10).await;
    let place = bench.stop().await;
    let backup = std::fs::read(place.path("audit.sqlite")).unwrap();
    let bench = place.start(Arc::new(NoFaults)).await;
    fill(&bench, 10).await;
    bench.publish().await;
    let place = bench.stop().await;
    std::fs::write(place.path("audit.sqlite"), backup).unwrap();
    for side in ["audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = std::fs::remove_file(place.path(side));
    }
    let refused = reopen(&place).await.unwrap_err().to_string();
    assert!(refused.contains("of size 20") && refused.contains("holds 10 entries only"), "{refused}");
}

#[tokio::test]
async fn a_database_of_another_log_does_not_start_beside_this_ones_checkpoint() {
    let (one, other) = (Bench::sqlite().await, Bench::sqlite().await);
    for bench in [&one, &other] {
        fill(bench, 5).await;
        bench.publish().await;
    }
    let (one, other) = (one.stop().await, other.stop().await);
    std::fs::copy(other.path("log/checkpoint"), one.path("log/checkpoint")).unwrap();
    let refused = reopen(&one).await.unwrap_err().to_string();
    assert!(refused.contains("two different logs"), "{refused}");
    std::fs::write(one.path("log/checkpoint"), "no note").unwrap();
    assert!(matches!(reopen(&one).await.unwrap_err(), Error::Foreign { .. }));
}

#[tokio::test]
async fn a_newer_cosigned_checkpoint_forbids_the_start_even_where_the_object_store_is_empty() {
    let bench = Bench::sqlite().await;
    fill(&bench, 5).await;
    bench.publish().await;
    let place = bench.stop().await;
    std::fs::copy(place.path("log/checkpoint"), place.path("cosigned.checkpoint")).unwrap();
    std::fs::remove_dir_all(place.path("log")).unwrap();
    std::fs::remove_file(place.path("audit.sqlite")).unwrap();
    for side in ["audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = std::fs::remove_file(place.path(side));
    }
    let refused = reopen(&place).await.unwrap_err().to_string();
    assert!(refused.contains("the newest cosigned checkpoint is of size 5"), "{refused}");
}

#[tokio::test]
async fn the_log_on_postgresql_publishes_the_same_way() {
    let bench = Place::new(Backend::Postgres).start(Arc::new(NoFaults)).await;
    fill(&bench, 600).await;
    bench.publish().await;
    assert_eq!(bench.verify(&[]).checkpoint().size, 600);
}
