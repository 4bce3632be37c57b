use obscura_clock::Clock as _;
use obscura_seal::SlotSet;

use super::*;
use crate::test_support::{Bench, HOUR, RETENTION_HOURS, nobody, slots};

async fn expire_all(bench: &Bench, custody: &Custody) {
    bench.wait_hours(RETENTION_HOURS + 2);
    custody.expire().await.unwrap();
}

#[tokio::test]
async fn a_hold_counts_what_it_keeps_and_what_is_lost() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.shred(&bench.shred(&key, 0, 99)).await.unwrap();
    let placed = custody.place_hold(&bench.hold(&key, 50, 249), nobody()).await.unwrap();
    assert_eq!((placed.keys, placed.slots, placed.lost_slots), (1, 150, 50));
    expire_all(&bench, &custody).await;
    assert_eq!(bench.opens(&custody, &key).await, slots(100, 249));
    let late = custody.place_hold(&bench.hold(&key, 0, 1_799), nobody()).await.unwrap();
    assert_eq!((late.slots, late.lost_slots), (150, 1_650), "a second hold keeps what the first one has");
    custody.release_hold(&placed.hold.id.to_string(), nobody()).await.unwrap();
    assert_eq!(bench.opens(&custody, &key).await, slots(100, 249));
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
}

#[tokio::test]
async fn a_key_that_comes_later_is_held_as_it_comes() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let later = bench.sibling(&key, HOUR + 1);
    let mut hold = bench.hold(&key, 1_000, 1_799);
    hold.span.as_mut().unwrap().end_unix_ns = bench.span(&later, 0, 199).end_unix_ns;
    hold.layers = vec![1];
    let placed = custody.place_hold(&hold, nobody()).await.unwrap();
    assert_eq!((placed.keys, placed.slots, placed.lost_slots), (1, 800, 0));
    bench.import(&custody, &later).await;
    let mut other_layer = bench.sibling(&key, HOUR);
    other_layer.context.layer = Layer::Metadata;
    bench.import(&custody, &other_layer).await;
    expire_all(&bench, &custody).await;
    assert_eq!(bench.opens(&custody, &key).await, slots(1_000, 1_799));
    assert_eq!(bench.opens(&custody, &later).await, slots(0, 199));
    assert!(bench.describes(&custody, &other_layer).await.is_empty());
}

#[tokio::test]
async fn a_hold_that_ends_while_retention_runs_destroys_nothing() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let placed = custody.place_hold(&bench.hold(&key, 5, 9), nobody()).await.unwrap();
    let id = placed.hold.id.to_string();
    let released = custody.release_hold(&id, nobody()).await.unwrap();
    assert_eq!(
        custody.release_hold(&id, nobody()).await.unwrap(),
        released,
        "releasing twice is releasing once"
    );
    assert_eq!(bench.opens(&custody, &key).await, SlotSet::whole_hour());
    assert!(bench.receipts(&custody).await.is_empty());
    let (standing, all) =
        (custody.list_holds("", false).await.unwrap(), custody.list_holds("", true).await.unwrap());
    assert_eq!((standing.len(), all), (0, vec![released]));
    assert!(matches!(
        custody.release_hold(&HoldId::generate().to_string(), nobody()).await,
        Err(Error::UnknownHold(_))
    ));
}

#[tokio::test]
async fn holds_survive_restarts_rotations_and_an_early_destruction_beside_them() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.place_hold(&bench.hold(&key, 5, 9), nobody()).await.unwrap();
    crate::rotation::Rotation::begin(&custody, 8, None).await.unwrap().run(|_| {}).await.unwrap();
    drop(custody);
    let custody = bench.open().await;
    custody.shred(&bench.shred(&key, 10, 1_799)).await.unwrap();
    expire_all(&bench, &custody).await;
    assert_eq!(bench.opens(&custody, &key).await, slots(5, 9));
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
}

#[tokio::test]
async fn there_is_a_quota_of_holds() {
    let mut bench = Bench::new();
    bench.limits.holds = 2;
    let (custody, key) = bench.with_key().await;
    let first = custody.place_hold(&bench.hold(&key, 1, 1), nobody()).await.unwrap();
    custody.place_hold(&bench.hold(&key, 2, 2), nobody()).await.unwrap();
    assert!(matches!(
        custody.place_hold(&bench.hold(&key, 3, 3), nobody()).await,
        Err(Error::TooManyHolds(2))
    ));
    custody.release_hold(&first.hold.id.to_string(), nobody()).await.unwrap();
    custody.place_hold(&bench.hold(&key, 3, 3), nobody()).await.unwrap();
    let of_camera = custody.list_holds(&key.context.camera.to_string(), true).await.unwrap();
    assert_eq!(of_camera.len(), 3);
    assert_eq!(custody.hold_quota().await.unwrap(), (2, 2), "released ones make room");
    assert!(custody.list_holds(&CameraId::generate().to_string(), true).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_hour_with_several_keys_counts_each_slot_once() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let after_restart = bench.sibling(&key, HOUR);
    bench.import(&custody, &after_restart).await;
    let placed = custody.place_hold(&bench.hold(&key, 0, 99), nobody()).await.unwrap();
    assert_eq!((placed.keys, placed.slots), (2, 100));
}

#[tokio::test]
async fn a_hold_past_its_review_date_holds_on_and_is_told() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let mut hold = bench.hold(&key, 50, 249);
    hold.review_on = today(bench.clock.wall()).unwrap().to_string();
    let placed = custody.place_hold(&hold, nobody()).await.unwrap();
    assert_eq!(custody.reviews_passed().await.unwrap(), 0, "until the day is over");
    expire_all(&bench, &custody).await;
    assert_eq!(custody.reviews_passed().await.unwrap(), 1);
    assert_eq!(bench.opens(&custody, &key).await, slots(50, 249));
    custody.release_hold(&placed.hold.id.to_string(), nobody()).await.unwrap();
    assert_eq!(custody.reviews_passed().await.unwrap(), 0);
}
