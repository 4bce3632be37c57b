use std::fs;

use obscura_seal::{Slot, SlotSet};

use super::*;
use crate::{
    store::kept_key::KeptRow,
    test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, slots},
};

#[tokio::test]
async fn a_key_comes_under_an_hour_whose_half_is_damaged_and_the_others_of_that_hour_open_nothing() {
    for (bench, damaged) in [(Bench::new(), "x'00'"), (Bench::on_postgres(), "'\\x00'::bytea")] {
        let (custody, key) = bench.with_key().await;
        bench.sql(&format!("UPDATE epoch SET wrapped_half = {damaged}")).await;
        let new = bench.made_key(HOUR);
        bench.import(&custody, &new).await;
        bench.assert_releasable(&custody, &new).await;
        assert!(bench.opens(&custody, &key).await.is_empty(), "and nobody is refused because of it");
        assert!(custody.lost_epochs().await.unwrap().is_some());
        bench.wait_hours(RETENTION_HOURS);
        custody.expire().await.unwrap();
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &new]).await;
    }
}

#[tokio::test]
async fn a_damaged_key_that_comes_again_is_kept_anew_without_what_was_destroyed() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
    for damage in ["sealed_key = zeroblob(66)", "layer = 77"] {
        bench.sql(&format!("UPDATE kept_key SET {damage}")).await;
        bench.import(&custody, &key).await;
        assert_eq!(bench.opens(&custody, &key).await, slots(10, 1_799), "{damage}");
    }
    let mut other = bench.made_key(HOUR);
    other.context.key_id = key.context.key_id;
    let refused = custody.import(&bench.import_of(&custody, &other)).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn a_shorter_retention_moves_keys_into_an_hour_whose_secret_is_gone() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let shorter = bench.placement_version(key.context.camera, 24, 2);
    let early = bench.made_key(HOUR);
    let placement = bench.placement(early.context.camera, "eea", 24);
    custody.import(&bench.import_with(&custody, &early, placement)).await.unwrap();
    let secret = secrets_of(ExpiryHour::of(key.context.hour, 24));
    let names = custody.parts.secrets.names().unwrap();
    let name = names.into_iter().find(|name| name.starts_with(&secret)).unwrap();
    fs::remove_file(bench.data("epoch-secrets").join(name)).unwrap();
    let next = bench.sibling(&key, HOUR + 1);
    custody.import(&bench.import_with(&custody, &next, shorter)).await.unwrap();
    custody.expire().await.unwrap();
    assert_eq!(custody.stopped(), None);
    bench.assert_releasable(&custody, &key).await;
}

/// Puts the folder of secrets away, as where its disk is not mounted, and has a key come meanwhile.
async fn with_another_folder(bench: &Bench, old: &MadeKey) -> MadeKey {
    fs::rename(bench.data("epoch-secrets"), bench.data("away")).unwrap();
    let custody = bench.open().await;
    let new = bench.made_key(HOUR);
    bench.import(&custody, &new).await;
    custody.shred(&bench.shred(old, 0, 9)).await.unwrap();
    assert!(bench.opens(&custody, old).await.is_empty());
    bench.close(custody).await;
    fs::rename(bench.data("epoch-secrets"), bench.data("meanwhile")).unwrap();
    fs::rename(bench.data("away"), bench.data("epoch-secrets")).unwrap();
    new
}

#[tokio::test]
async fn when_the_folder_is_back_with_what_came_meanwhile_everything_opens_but_what_was_destroyed() {
    let bench = Bench::new();
    let (custody, old) = bench.with_key().await;
    bench.close(custody).await;
    let new = with_another_folder(&bench, &old).await;
    for entry in fs::read_dir(bench.data("meanwhile")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), bench.data("epoch-secrets").join(entry.file_name())).unwrap();
    }
    for _ in 0..2 {
        let custody = bench.open().await;
        assert_eq!(bench.opens(&custody, &old).await, slots(10, 1_799));
        bench.assert_releasable(&custody, &new).await;
        assert_eq!(custody.lost_epochs().await.unwrap(), None);
        bench.close(custody).await;
    }
    let custody = bench.open().await;
    bench.wait_hours(RETENTION_HOURS);
    custody.expire().await.unwrap();
    assert!(custody.parts.secrets.names().unwrap().is_empty(), "no secret of the hour outlives it");
}

#[tokio::test]
async fn when_the_folder_is_back_alone_what_it_opens_opens_again() {
    let bench = Bench::new();
    let (custody, old) = bench.with_key().await;
    bench.close(custody).await;
    with_another_folder(&bench, &old).await;
    let custody = bench.open().await;
    assert_eq!(bench.opens(&custody, &old).await, slots(10, 1_799));
    let names = custody.parts.secrets.names().unwrap();
    assert_eq!(names.len(), 1, "the secret that opened what was destroyed is gone: {names:?}");
    let next = bench.made_key(HOUR);
    bench.import(&custody, &next).await;
    bench.assert_releasable(&custody, &next).await;
}

#[test]
fn a_new_tree_has_no_leaf_of_the_rows_that_are_there_unless_they_have_all() {
    let bench = Bench::new();
    let row = |leaf: Option<u16>| KeptRow {
        context: bench.made_key(HOUR).context,
        expiry: ExpiryHour::from_number(HOUR),
        leaf: leaf.map(|leaf| Slot::new(leaf).unwrap()),
        sealed: Vec::new(),
        imported: obscura_clock::Timestamp::from_unix_nanos(0),
    };
    let beside = tree_beside(&[row(Some(5)), row(Some(9)), row(None)]).unwrap().slots();
    assert_eq!(beside, SlotSet::whole_hour().difference(&slots(5, 5)).difference(&slots(9, 9)));
    let rootless = tree_beside(&[row(None)]).unwrap();
    assert!(crate::epoch_key::root(&rootless).is_none(), "rows from before there were leaves open nothing");
    let all: Vec<_> = (0..1_800).map(|leaf| row(Some(leaf))).collect();
    assert_eq!(tree_beside(&all).unwrap().slots(), SlotSet::whole_hour());
}
