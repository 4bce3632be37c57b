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

/// Puts the folder of secrets away, as where its disk is not mounted.
async fn without_folder(bench: &Bench, custody: Custody) -> Custody {
    bench.close(custody).await;
    fs::rename(bench.data("epoch-secrets"), bench.data("away")).unwrap();
    bench.open().await
}

/// Puts the folder back, with what came meanwhile or alone.
async fn with_folder_again(bench: &Bench, custody: Custody, newer: bool) -> Custody {
    bench.close(custody).await;
    fs::rename(bench.data("epoch-secrets"), bench.data("meanwhile")).unwrap();
    fs::rename(bench.data("away"), bench.data("epoch-secrets")).unwrap();
    let entries = fs::read_dir(bench.data("meanwhile")).unwrap().map(Result::unwrap);
    for entry in entries.filter(|_| newer) {
        fs::copy(entry.path(), bench.data("epoch-secrets").join(entry.file_name())).unwrap();
    }
    bench.open().await
}

/// A key comes and a span is destroyed while the folder is away.
async fn with_another_folder(
    bench: &Bench,
    custody: Custody,
    old: &MadeKey,
    newer: bool,
) -> (Custody, MadeKey) {
    let custody = without_folder(bench, custody).await;
    let new = bench.made_key(HOUR);
    bench.import(&custody, &new).await;
    custody.shred(&bench.shred(old, 0, 9)).await.unwrap();
    assert!(bench.opens(&custody, old).await.is_empty());
    (with_folder_again(bench, custody, newer).await, new)
}

#[tokio::test]
async fn when_the_folder_is_back_with_what_came_meanwhile_everything_opens_but_what_was_destroyed() {
    let bench = Bench::new();
    let (custody, old) = bench.with_key().await;
    let (mut custody, new) = with_another_folder(&bench, custody, &old, true).await;
    for _ in 0..2 {
        assert_eq!(bench.opens(&custody, &old).await, slots(10, 1_799));
        bench.assert_releasable(&custody, &new).await;
        assert_eq!(custody.lost_epochs().await.unwrap(), None);
        bench.close(custody).await;
        custody = bench.open().await;
    }
    bench.wait_hours(RETENTION_HOURS);
    custody.expire().await.unwrap();
    assert!(custody.parts.secrets.names().unwrap().is_empty(), "no secret of the hour outlives it");
}

#[tokio::test]
async fn when_the_folder_is_back_alone_what_it_opens_opens_again() {
    let bench = Bench::new();
    let (custody, old) = bench.with_key().await;
    let (custody, _) = with_another_folder(&bench, custody, &old, false).await;
    assert_eq!(bench.opens(&custody, &old).await, slots(10, 1_799));
    let names = custody.parts.secrets.names().unwrap();
    assert_eq!(names.len(), 1, "the secret that opened what was destroyed is gone: {names:?}");
    let next = bench.made_key(HOUR);
    bench.import(&custody, &next).await;
    bench.assert_releasable(&custody, &next).await;
}

#[tokio::test]
async fn what_is_destroyed_while_the_folder_is_away_stays_destroyed_although_no_key_comes() {
    for newer in [false, true] {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        let custody = without_folder(&bench, custody).await;
        custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
        let custody = with_folder_again(&bench, custody, newer).await;
        assert_eq!(bench.opens(&custody, &key).await, slots(10, 1_799), "newer files: {newer}");
        custody.expire().await.unwrap();
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
    }
}

#[tokio::test]
async fn a_retention_that_got_shorter_while_the_folder_was_away_counts_for_what_is_back() {
    for newer in [false, true] {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        let custody = without_folder(&bench, custody).await;
        let next = bench.sibling(&key, HOUR + 1);
        let shorter = bench.placement_version(key.context.camera, 24, 2);
        custody.import(&bench.import_with(&custody, &next, shorter)).await.unwrap();
        custody.expire().await.unwrap();
        let custody = with_folder_again(&bench, custody, newer).await;
        bench.assert_releasable(&custody, &key).await;
        bench.wait_hours(24);
        custody.expire().await.unwrap();
        assert!(bench.opens(&custody, &key).await.is_empty(), "newer files: {newer}");
    }
}

#[tokio::test]
async fn the_secret_under_which_rows_were_found_is_erased_so_that_what_is_destroyed_later_is() {
    for newer in [false, true] {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        let before = custody.parts.secrets.names().unwrap();
        bench.close(custody).await;
        let backup = bench.back_up(false);
        let custody = without_folder(&bench, bench.open().await).await;
        bench.import(&custody, &bench.made_key(HOUR)).await;
        let custody = with_folder_again(&bench, custody, newer).await;
        bench.assert_releasable(&custody, &key).await;
        assert!(custody.parts.secrets.names().unwrap().is_disjoint(&before), "newer files: {newer}");
        custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
        assert_eq!(bench.opens(&custody, &key).await, slots(10, 1_799));
        bench.close(custody).await;
        bench.restore(&backup, false);
        let custody = bench.open().await;
        assert!(bench.describes(&custody, &key).await.intersection(&slots(0, 9)).is_empty());
    }
}

#[tokio::test]
async fn an_hour_that_waits_for_a_new_key_still_does_when_its_secret_is_gone() {
    let bench = Bench::new();
    let (custody, _) = bench.with_key().await;
    let custody = without_folder(&bench, custody).await;
    bench.sql("UPDATE epoch SET stale = TRUE").await;
    bench.import(&custody, &bench.made_key(HOUR)).await;
    let stale = epoch::stale(custody.parts.store.reader(), &custody.parts.zone).await.unwrap();
    assert_eq!(stale, [ExpiryHour::from_number(HOUR + RETENTION_HOURS)]);
}

#[tokio::test]
async fn a_secret_that_no_epoch_names_makes_a_start_look_at_its_own_hour_alone() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let later = bench.made_key(HOUR + 1);
    bench.import(&custody, &later).await;
    let hour = bench.expiry(&key);
    bench.sql(&format!("UPDATE epoch SET wrapped_half = x'00' WHERE expiry_hour = {hour}")).await;
    for stray in [hour.number() + 1, hour.number() + 9] {
        custody.parts.secrets.create(&format!("epoch-{stray}-00")).unwrap();
    }
    bench.close(custody).await;
    let custody = bench.open().await;
    assert_eq!(custody.damage.rows(), 0, "nobody asked for the damaged one yet");
    bench.assert_releasable(&custody, &later).await;
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
