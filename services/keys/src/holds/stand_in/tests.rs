use std::fs;

use obscura_proto::audit::v1::event::Body;
use obscura_seal::SlotSet;

use crate::{
    custody::Custody,
    test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, nobody, slots},
};

/// How a hold loses its key.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Secret,
    CutSecret,
    Half,
}

impl Loss {
    async fn befall(self, bench: &Bench, hold: &str) {
        let folder = bench.data("epoch-secrets");
        let names =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let name = names.into_iter().find(|name| name.starts_with(&format!("hold-{hold}"))).unwrap();
        match self {
            Self::Secret => fs::remove_file(folder.join(name)).unwrap(),
            Self::CutSecret => fs::write(folder.join(name), [7; 9]).unwrap(),
            Self::Half => {
                bench.sql(&format!("UPDATE hold SET wrapped_half = x'00' WHERE hold_id = '{hold}'")).await;
            }
        }
    }
}

/// Custody with a key of this hour, held from slot 1,000 on and up to slot 199 of the next hour.
async fn held_into_the_next_hour(bench: &Bench) -> (Custody, MadeKey, MadeKey, String) {
    let (custody, key) = bench.with_key().await;
    let later = bench.sibling(&key, HOUR + 1);
    let mut hold = bench.hold(&key, 1_000, 1_799);
    hold.span.as_mut().unwrap().end_unix_ns = bench.span(&later, 0, 199).end_unix_ns;
    let placed = custody.place_hold(&hold, nobody()).await.unwrap();
    (custody, key, later, placed.hold.id.to_string())
}

#[tokio::test]
async fn no_key_waits_for_a_hold_that_lost_its_own_and_another_holds_for_it() {
    for loss in [Loss::Secret, Loss::CutSecret, Loss::Half] {
        let bench = Bench::new();
        let (custody, key, later, lost) = held_into_the_next_hour(&bench).await;
        loss.befall(&bench, &lost).await;
        let other = bench.sibling(&key, HOUR + 1);
        for key in [&later, &other] {
            bench.import(&custody, key).await;
        }
        let holds = custody.list_holds("", false).await.unwrap();
        assert_eq!(holds.len(), 2, "{loss:?}");
        assert!(super::same_terms(&holds[0], &holds[1]));
        let told = custody.keyless_holds().unwrap();
        assert!(told.contains(&lost) && told.contains("hold release"), "{told}");
        let Some(Body::Hold(placed)) = bench.told(&custody).await.pop().unwrap().body else { panic!() };
        assert_eq!((placed.hold_id, &*placed.basis), (holds[1].id.to_string(), ""));

        custody.expire().await.unwrap();
        bench.wait_hours(RETENTION_HOURS + 2);
        custody.expire().await.unwrap();
        assert_eq!(bench.opens(&custody, &key).await, slots(1_000, 1_799), "{loss:?}");
        assert_eq!(bench.opens(&custody, &later).await, slots(0, 199));
        assert_eq!(bench.opens(&custody, &other).await, slots(0, 199));
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &later, &other]).await;

        custody.release_hold(&lost, nobody()).await.unwrap();
        custody.expire().await.unwrap();
        assert_eq!(custody.keyless_holds(), None);
        assert_eq!(bench.opens(&custody, &later).await, slots(0, 199), "the stand-in holds on");
        custody.release_hold(&holds[1].id.to_string(), nobody()).await.unwrap();
        assert!(bench.opens(&custody, &later).await.is_empty());
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &later, &other]).await;
    }
}

#[tokio::test]
async fn what_a_hold_lost_within_its_retention_is_held_again_although_no_key_comes() {
    let mut bench = Bench::new();
    bench.limits.holds = 1;
    let (custody, key, _, lost) = held_into_the_next_hour(&bench).await;
    Loss::Secret.befall(&bench, &lost).await;
    bench.wait_hours(RETENTION_HOURS);
    custody.expire().await.unwrap();
    assert_eq!(bench.opens(&custody, &key).await, slots(1_000, 1_799), "held before anything is destroyed");
    for _ in 0..3 {
        custody.expire().await.unwrap();
    }
    drop(custody);
    let custody = bench.open().await;
    custody.expire().await.unwrap();
    assert_eq!(custody.list_holds("", false).await.unwrap().len(), 2, "one stand-in, also after a restart");
}

#[tokio::test]
async fn a_hold_whose_footage_is_gone_with_its_key_gets_no_stand_in_that_holds_nothing() {
    let bench = Bench::new();
    let (custody, _, _, lost) = held_into_the_next_hour(&bench).await;
    bench.wait_hours(RETENTION_HOURS);
    custody.expire().await.unwrap();
    Loss::Secret.befall(&bench, &lost).await;
    custody.expire().await.unwrap();
    assert_eq!(custody.list_holds("", false).await.unwrap().len(), 1);
    assert!(custody.keyless_holds().is_some());
    custody.release_hold(&lost, nobody()).await.unwrap();
}

#[tokio::test]
async fn after_a_restore_without_the_folder_of_secrets_every_key_is_taken_and_held() {
    let bench = Bench::new();
    let (custody, key, later, _) = held_into_the_next_hour(&bench).await;
    let old = bench.sibling(&key, HOUR + 1);
    bench.import(&custody, &old).await;
    bench.close(custody).await;
    fs::remove_dir_all(bench.data("epoch-secrets")).unwrap();
    let custody = bench.open().await;
    let same_hour = bench.sibling(&key, HOUR);
    for key in [&same_hour, &later] {
        bench.import(&custody, key).await;
        bench.assert_releasable(&custody, key).await;
    }
    assert!(custody.lost_epochs().await.unwrap().unwrap().contains("epoch-secrets"));
    assert!(bench.opens(&custody, &key).await.is_empty());
    // A recorder that had no answer before sends what it still has.
    bench.import(&custody, &old).await;
    assert_eq!(bench.opens(&custody, &old).await, SlotSet::whole_hour());
    bench.wait_hours(RETENTION_HOURS + 2);
    custody.expire().await.unwrap();
    assert_eq!(bench.opens(&custody, &same_hour).await, slots(1_000, 1_799));
    for key in [&later, &old] {
        assert_eq!(bench.opens(&custody, key).await, slots(0, 199));
    }
    assert!(bench.opens(&custody, &key).await.is_empty());
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &same_hour, &later, &old]).await;
}

#[tokio::test]
async fn a_key_that_a_hold_without_a_key_had_before_is_held_when_it_comes_again() {
    for expires_between in [false, true] {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        bench.held(&custody, &key, 100, 199).await;
        bench.close(custody).await;
        fs::remove_dir_all(bench.data("epoch-secrets")).unwrap();
        let custody = bench.open().await;
        if expires_between {
            custody.expire().await.unwrap();
            assert_eq!(custody.list_holds("", false).await.unwrap().len(), 1, "there is nothing to hold");
        }
        bench.import(&custody, &key).await;
        assert_eq!(custody.list_holds("", false).await.unwrap().len(), 2, "held as it comes");
        bench.wait_hours(RETENTION_HOURS + 2);
        custody.expire().await.unwrap();
        assert_eq!(bench.opens(&custody, &key).await, slots(100, 199), "expired between: {expires_between}");
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
    }
}

#[tokio::test]
async fn what_opens_again_after_the_first_round_is_held_although_no_key_comes() {
    let bench = Bench::new();
    let (custody, key, _, lost) = held_into_the_next_hour(&bench).await;
    Loss::Half.befall(&bench, &lost).await;
    let half = "UPDATE epoch SET key_version = key_version";
    bench.sql(&format!("{half} + 7")).await;
    custody.expire().await.unwrap();
    assert_eq!(custody.list_holds("", false).await.unwrap().len(), 1, "there is nothing to hold");
    bench.sql(&format!("{half} - 7")).await;
    bench.wait_hours(RETENTION_HOURS);
    custody.expire().await.unwrap();
    assert_eq!(bench.opens(&custody, &key).await, slots(1_000, 1_799));
}

#[tokio::test]
async fn where_a_stand_in_is_released_before_the_hold_that_lost_its_key_another_one_holds() {
    let bench = Bench::new();
    let (custody, key, _, lost) = held_into_the_next_hour(&bench).await;
    Loss::Secret.befall(&bench, &lost).await;
    custody.expire().await.unwrap();
    let holds = custody.list_holds("", false).await.unwrap();
    let stand_in = holds.iter().find(|hold| hold.id.to_string() != lost).unwrap();
    custody.release_hold(&stand_in.id.to_string(), nobody()).await.unwrap();
    bench.wait_hours(RETENTION_HOURS);
    custody.expire().await.unwrap();
    assert_eq!(bench.opens(&custody, &key).await, slots(1_000, 1_799));
}
