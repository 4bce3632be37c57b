use std::collections::BTreeSet;

use obscura_seal::{Slot, SlotSet};

use super::*;
use crate::test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, nobody, slots};

/// Two cameras in one epoch, and the first camera's next hour.
async fn three_keys(bench: &Bench) -> (Custody, [MadeKey; 3]) {
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    let keys = [bench.sibling(&key, HOUR + 1), bench.made_key(HOUR), key];
    let [next, other, key] = keys;
    for key in [&key, &other, &next] {
        bench.import(&custody, key).await;
    }
    custody.expire().await.unwrap();
    (custody, [key, other, next])
}

#[tokio::test]
async fn exactly_the_span_is_destroyed_and_everything_else_goes_on() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let (custody, [key, other, next]) = three_keys(&bench).await;
        let secrets = custody.parts.secrets.names().unwrap();
        let mut request = bench.shred(&key, 1_700, 1_799);
        request.span.as_mut().unwrap().end_unix_ns = bench.span(&next, 0, 9).end_unix_ns;
        custody.shred(&request).await.unwrap();
        let gone = slots(1_700, 1_799);
        assert_eq!(bench.opens(&custody, &key).await, SlotSet::whole_hour().difference(&gone));
        assert_eq!(bench.opens(&custody, &next).await, slots(10, 1_799));
        assert_eq!(bench.opens(&custody, &other).await, SlotSet::whole_hour());
        assert!(custody.parts.secrets.names().unwrap().is_disjoint(&secrets), "both epochs have new secrets");
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &other, &next]).await;
        let receipts = bench.receipts(&custody).await;
        assert_eq!((receipts.len(), receipts[0].cause()), (1, ShredCause::Early));
        assert_eq!((receipts[0].keys.len(), receipts[0].epochs.len()), (2, 0));
        assert!(matches!(custody.shred(&request).await, Err(Error::NothingToDestroy)));
        // The recorder repeats its import and changes nothing.
        bench.import(&custody, &key).await;
        assert_eq!(bench.opens(&custody, &key).await, SlotSet::whole_hour().difference(&gone));
    }
}

#[tokio::test]
async fn a_key_that_is_destroyed_whole_never_comes_back() {
    let bench = Bench::new();
    let (custody, [key, ..]) = three_keys(&bench).await;
    custody.shred(&bench.shred(&key, 0, 1_799)).await.unwrap();
    bench.import(&custody, &key).await;
    assert!(bench.opens(&custody, &key).await.is_empty());
    let listed = custody.list_keys("").await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(!listed.contains(&key.context.key_id.to_string()));
}

#[tokio::test]
async fn held_slots_refuse_it_and_name_their_holds() {
    let bench = Bench::new();
    let (custody, [key, ..]) = three_keys(&bench).await;
    let hold = bench.held(&custody, &key, 100, 100).await;
    let refused = custody.shred(&bench.shred(&key, 50, 150)).await.unwrap_err();
    assert!(refused.to_string().contains(&hold), "{refused}");
    assert_eq!(bench.opens(&custody, &key).await, SlotSet::whole_hour());
    custody.shred(&bench.shred(&key, 101, 150)).await.unwrap();
    custody.release_hold(&hold, nobody()).await.unwrap();
    custody.shred(&bench.shred(&key, 50, 150)).await.unwrap();
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
}

#[tokio::test]
async fn the_requester_never_approves_and_a_reason_is_needed() {
    let bench = Bench::new();
    let (custody, [key, ..]) = three_keys(&bench).await;
    let good = bench.shred(&key, 0, 9);
    let same = ShredRequest { approved_by: " U-1 ".into(), ..good.clone() };
    assert!(matches!(custody.shred(&same).await, Err(Error::SameApprover)));
    let changes: [fn(&mut ShredRequest); 7] = [
        |request| request.approved_by = " ".into(),
        |request| request.requested_by = String::new(),
        |request| request.reason = "because".into(),
        |request| request.reason = "Erika Mustermann objects".into(),
        |request| request.reason = "objection Mustermann".into(),
        |request| request.span = None,
        |request| request.camera_id = "door".into(),
    ];
    for change in changes {
        let mut request = good.clone();
        change(&mut request);
        assert!(matches!(custody.shred(&request).await, Err(Error::Malformed { .. })));
    }
    assert_eq!(bench.opens(&custody, &key).await, SlotSet::whole_hour());
}

#[tokio::test]
async fn neither_an_old_database_nor_any_file_opens_what_was_destroyed() {
    let bench = Bench::new();
    let (custody, [key, other, next]) = three_keys(&bench).await;
    let share_a_leaf = bench.leaf(&custody, &key).await == bench.leaf(&custody, &other).await;
    bench.close(custody).await;
    let old = bench.back_up(false);
    let custody = bench.open().await;
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
    bench.close(custody).await;
    bench.restore(&old, false);
    let custody = bench.open().await;
    assert!(bench.describes(&custody, &key).await.is_empty());
    let left = if share_a_leaf { SlotSet::default() } else { SlotSet::whole_hour() };
    assert_eq!(bench.describes(&custody, &other).await, left, "the newer secret of its epoch opens it");
    assert_eq!(bench.describes(&custody, &next).await, SlotSet::whole_hour());
}

async fn rows(custody: &Custody, hour: crate::expiry_hour::ExpiryHour) -> Vec<kept_key::KeptRow> {
    let rows = kept_key::of_epoch(custody.parts.store.reader(), &custody.parts.zone, hour).await.unwrap();
    rows.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn rows_under_other_leaves_are_not_touched() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let (custody, key) = bench.with_key().await;
        let others: Vec<_> = (0..40).map(|_| bench.made_key(HOUR)).collect();
        for other in &others {
            bench.import(&custody, other).await;
        }
        let before = rows(&custody, bench.expiry(&key)).await;
        let dead = before.iter().find(|row| row.context.key_id == key.context.key_id).unwrap().leaf;
        custody.shred(&bench.shred(&key, 5, 9)).await.unwrap();
        for (before, after) in before.iter().zip(&rows(&custody, bench.expiry(&key)).await) {
            assert_eq!(
                before == after,
                before.leaf != dead,
                "sealed anew where the leaf is dead, and only there"
            );
            assert_ne!(after.leaf, dead);
        }
        let all: Vec<_> = std::iter::once(&key).chain(&others).collect();
        bench.invariant_every_slot_is_accounted_for(&custody, &all).await;
    }
}

#[tokio::test]
async fn rows_that_share_a_leaf_live_on_and_an_epoch_without_leaves_gets_a_new_tree() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let hour = bench.expiry(&key);
    // Two leaves are left, as after nearly as many destructions as there are leaves.
    let kept = rows(&custody, hour).await[0].leaf.unwrap();
    let free = Slot::new((kept.get() + 1) % 1_800).unwrap();
    let dead = (0..1_800).map(|leaf| Slot::new(leaf).unwrap()).filter(|leaf| ![kept, free].contains(leaf));
    let writer = custody.parts.store.write().await.unwrap();
    let whole = custody.stored_epoch(writer.tx(), hour).await.unwrap().unwrap();
    let tree = whole.without(&dead.collect()).unwrap();
    let (row, _) = custody.thin_epoch(hour, tree, whole.half()).await.unwrap();
    crate::store::epoch::put(writer.tx(), &custody.parts.zone, &row).await.unwrap();
    writer.commit().await.unwrap();
    let others: Vec<_> = (0..8).map(|_| bench.made_key(HOUR)).collect();
    for other in &others {
        bench.import(&custody, other).await;
    }
    let leaves = |rows: &[kept_key::KeptRow]| rows.iter().filter_map(|row| row.leaf).collect::<BTreeSet<_>>();
    assert!(leaves(&rows(&custody, hour).await).is_subset(&[kept, free].into()));
    let all: Vec<_> = std::iter::once(&key).chain(&others).collect();
    for key in &all {
        custody.shred(&bench.shred(key, 3, 4)).await.unwrap();
        bench.invariant_every_slot_is_accounted_for(&custody, &all).await;
    }
    let tree = custody.stored_epoch(custody.parts.store.reader(), hour).await.unwrap().unwrap();
    assert!(!tree.without(&[kept, free].into()).unwrap().is_empty(), "it has more leaves than two again");
    bench.wait_hours(RETENTION_HOURS + 2);
    custody.expire().await.unwrap();
    assert!(custody.parts.secrets.names().unwrap().is_empty());
}

#[tokio::test]
async fn rows_from_before_there_were_leaves_open_and_get_leaves_with_the_first_destruction() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let other = bench.made_key(HOUR);
    bench.import(&custody, &other).await;
    let hour = bench.expiry(&key);
    let writer = custody.parts.store.write().await.unwrap();
    let epoch = custody.stored_epoch(writer.tx(), hour).await.unwrap().unwrap();
    let mut old = Vec::new();
    for row in kept_key::of_epoch(writer.tx(), &custody.parts.zone, hour).await.unwrap() {
        let row = row.unwrap();
        let nodes = epoch.open(row.place(), row.leaf, &row.sealed).unwrap();
        let sealed = epoch.seal_under_root(row.place(), &nodes);
        old.push(kept_key::KeptRow { leaf: None, sealed, ..row });
    }
    kept_key::put(writer.tx(), &old[..1]).await.unwrap();
    writer.commit().await.unwrap();
    let new = bench.made_key(HOUR);
    bench.import(&custody, &new).await;
    let all = [&key, &other, &new];
    bench.invariant_every_slot_is_accounted_for(&custody, &all).await;
    for key in all {
        custody.shred(&bench.shred(key, 3, 4)).await.unwrap();
        bench.invariant_every_slot_is_accounted_for(&custody, &all).await;
        assert!(rows(&custody, hour).await.iter().all(|row| row.leaf.is_some()));
    }
}
