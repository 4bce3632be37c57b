use std::time::Duration;

use obscura_clock::Clock as _;
use obscura_proto::registry::v1::{Camera, SignedPlacement};

use super::*;
use crate::test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, nobody};

fn snapshot(bench: &Bench, placement: SignedPlacement) -> Snapshot {
    let camera = Camera { placement: Some(placement), ..Camera::default() };
    Snapshot {
        version: 2,
        made_unix_ns: bench.clock.wall().unix_nanos(),
        cameras: vec![camera],
        zones: Vec::new(),
    }
}

async fn expires(custody: &Custody, key: &MadeKey) -> u32 {
    let described = custody.describe(&[key.context.key_id.to_string()]).await.unwrap();
    u32::try_from(described[0].expires_unix_ns / 3_600_000_000_000 - 1).unwrap()
}

#[tokio::test]
async fn a_shorter_retention_counts_for_what_is_already_recorded_and_old_copies_follow() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let (custody, key) = bench.with_key().await;
        let before = custody.parts.secrets.names().unwrap();
        let shorter = bench.placement_version(key.context.camera, 24, 2);
        custody.note_snapshot(&snapshot(&bench, shorter)).await.unwrap();
        custody.expire().await.unwrap();
        assert_eq!(expires(&custody, &key).await, HOUR + 24);
        assert!(custody.parts.secrets.names().unwrap().is_disjoint(&before), "the longer epoch is gone");
        bench.assert_releasable(&custody, &key).await;
        bench.wait_hours(24);
        custody.expire().await.unwrap();
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
        assert!(bench.opens(&custody, &key).await.is_empty());
    }
}

#[tokio::test]
async fn a_longer_retention_lengthens_nothing_that_is_recorded() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.wait(Duration::from_secs(60));
    let longer = bench.placement_version(key.context.camera, 720, 2);
    custody.note_snapshot(&snapshot(&bench, longer.clone())).await.unwrap();
    custody.expire().await.unwrap();
    assert_eq!(expires(&custody, &key).await, HOUR + RETENTION_HOURS);
    // A late key of an earlier hour, one of the hour of the change, and one of the next hour.
    for (hour, retention) in [(HOUR, 72), (HOUR + 1, 72), (HOUR + 2, 720)] {
        let late = bench.sibling(&key, hour);
        custody.import(&bench.import_with(&custody, &late, longer.clone())).await.unwrap();
        assert_eq!(expires(&custody, &late).await, hour + retention, "hour {hour}");
    }
}

#[tokio::test]
async fn a_recorder_with_an_old_placement_gets_no_longer_retention_by_it() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let shorter = bench.placement_version(key.context.camera, 24, 2);
    custody.note_snapshot(&snapshot(&bench, shorter)).await.unwrap();
    let late = bench.sibling(&key, HOUR + 1);
    bench.import(&custody, &late).await;
    assert_eq!(expires(&custody, &late).await, HOUR + 1 + 24);
}

#[tokio::test]
async fn without_the_registry_the_newer_placement_of_an_import_counts() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let late = bench.sibling(&key, HOUR + 1);
    let shorter = bench.placement_version(key.context.camera, 24, 2);
    custody.import(&bench.import_with(&custody, &late, shorter)).await.unwrap();
    custody.expire().await.unwrap();
    assert_eq!((expires(&custody, &key).await, expires(&custody, &late).await), (HOUR + 24, HOUR + 1 + 24));
}

#[tokio::test]
async fn holds_and_destroyed_slots_stay_what_they_are_when_a_retention_gets_shorter() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.place_hold(&bench.hold(&key, 500, 599), nobody()).await.unwrap();
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
    let shorter = bench.placement_version(key.context.camera, 1, 2);
    custody.note_snapshot(&snapshot(&bench, shorter)).await.unwrap();
    bench.wait_hours(1);
    custody.expire().await.unwrap();
    assert_eq!(bench.opens(&custody, &key).await, crate::test_support::slots(500, 599));
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
}
