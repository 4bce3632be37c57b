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
    let all: Vec<messages::Hold> = all.into_iter().map(Into::into).collect();
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

#[tokio::test]
async fn a_hold_whose_half_cannot_be_read_is_one_without_a_key_and_another_one_stands_in() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let later = bench.sibling(&key, HOUR + 1);
    let mut hold = bench.hold(&key, 1_000, 1_799);
    hold.span.as_mut().unwrap().end_unix_ns = bench.span(&later, 0, 199).end_unix_ns;
    let damaged = custody.place_hold(&hold, nobody()).await.unwrap().hold.id.to_string();
    bench.sql("UPDATE hold SET key_version = -1").await;
    assert!(matches!(custody.shred(&bench.shred(&key, 1_000, 1_000)).await, Err(Error::Held(_))));
    bench.import(&custody, &later).await;
    custody.expire().await.unwrap();
    assert!(custody.keyless_holds().unwrap().contains(&damaged));
    assert_eq!(custody.list_holds("", false).await.unwrap().len(), 2);
    let rotated = crate::rotation::Rotation::begin(&custody, 8, None).await.unwrap().run(|_| {}).await;
    assert!(matches!(rotated, Err(Error::Damaged { .. })), "the old version stays");
    expire_all(&bench, &custody).await;
    assert_eq!(bench.opens(&custody, &key).await, slots(1_000, 1_799));
    assert_eq!(bench.opens(&custody, &later).await, slots(0, 199));
    custody.release_hold(&damaged, nobody()).await.unwrap();
    custody.expire().await.unwrap();
    assert_eq!(custody.keyless_holds(), None);
    assert_eq!(bench.opens(&custody, &later).await, slots(0, 199));
}

#[tokio::test]
async fn a_hold_whose_terms_cannot_be_read_hides_no_other_one_and_is_ended_by_its_id() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let (custody, key) = bench.with_key().await;
        let damaged = bench.held(&custody, &key, 0, 9).await;
        let other = bench.held(&custody, &key, 100, 199).await;
        bench.sql(&format!("UPDATE hold SET camera_id = 'x' WHERE hold_id = '{damaged}'")).await;
        let listed = custody.list_holds("", true).await.unwrap();
        assert_eq!(listed.iter().map(|hold| hold.id.to_string()).collect::<Vec<_>>(), [other]);
        for _ in 0..2 {
            let released = custody.release_hold(&damaged, nobody()).await.unwrap();
            assert_eq!((released.hold_id, released.camera_id), (damaged.clone(), String::new()));
        }
        assert_eq!(custody.hold_quota().await.unwrap().0, 1);
        let names = custody.parts.secrets.names().unwrap();
        assert!(!names.iter().any(|name| name.contains(&damaged)), "its secret is erased");
        if matches!(bench.location, obscura_database::Location::Sqlite(_)) {
            assert!(!bench.told(&custody).await.is_empty(), "the audit log takes what is told of it");
        }
        expire_all(&bench, &custody).await;
        assert_eq!(bench.opens(&custody, &key).await, slots(100, 199));
    }
}

#[tokio::test]
async fn a_held_row_that_cannot_be_read_gives_way_to_the_key_that_comes_again() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.held(&custody, &key, 0, 9).await;
    bench.sql("UPDATE held_key SET layer = 77").await;
    bench.sql("UPDATE kept_key SET sealed_key = zeroblob(66)").await;
    bench.import(&custody, &key).await;
    expire_all(&bench, &custody).await;
    assert_eq!(bench.opens(&custody, &key).await, slots(0, 9));
}
