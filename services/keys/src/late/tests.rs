use super::*;
use crate::{
    error::Error,
    test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, slots},
};

/// Another run of the recorder of a key's camera in the same hour; its key waits in the spool.
fn spooled(bench: &Bench, key: &MadeKey) -> MadeKey {
    bench.sibling(key, HOUR)
}

#[tokio::test]
async fn of_a_key_that_comes_after_its_span_was_destroyed_only_what_survives_is_kept() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let (custody, key) = bench.with_key().await;
        let late = spooled(&bench, &key);
        let elsewhere = bench.made_key(HOUR);
        custody.shred(&bench.shred(&key, 100, 199)).await.unwrap();
        for key in [&late, &elsewhere, &late] {
            bench.import(&custody, key).await;
        }
        let left = SlotSet::whole_hour().difference(&slots(100, 199));
        assert_eq!(bench.opens(&custody, &late).await, left);
        assert_eq!(bench.opens(&custody, &elsewhere).await, SlotSet::whole_hour());
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late, &elsewhere]).await;
        let receipts = bench.receipts(&custody).await;
        assert_eq!((receipts.len(), receipts[0].spans.len(), receipts[1].spans.len()), (2, 1, 0));
        assert_eq!((receipts[1].cause(), &*receipts[1].reason), (ShredCause::Early, CAME_LATE));
    }
}

#[tokio::test]
async fn nothing_is_kept_of_a_key_whose_whole_hour_was_destroyed_before_it_came() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let late = spooled(&bench, &key);
    custody.shred(&bench.shred(&key, 0, 1_799)).await.unwrap();
    for _ in 0..2 {
        bench.import(&custody, &late).await;
    }
    assert!(!custody.list_keys("").await.unwrap().contains(&late.context.key_id.to_string()));
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late]).await;
}

#[tokio::test]
async fn a_span_of_which_nothing_has_come_yet_is_remembered_through_a_restart() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let late = bench.sibling(&key, HOUR - 1);
    custody.shred(&bench.shred(&late, 10, 19)).await.unwrap();
    assert!(bench.receipts(&custody).await[0].keys.is_empty());
    let again = custody.shred(&bench.shred(&late, 12, 15)).await.unwrap_err();
    assert!(matches!(again, Error::NothingToDestroy), "it is remembered already");
    bench.close(custody).await;
    let custody = bench.open().await;
    bench.import(&custody, &late).await;
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late]).await;
    assert_eq!(bench.opens(&custody, &late).await.len(), 1_790);
}

#[tokio::test]
async fn nothing_is_remembered_of_a_camera_that_never_recorded_of_what_lies_ahead_or_has_expired() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let stranger = bench.made_key(HOUR);
    let [ahead, expired] = [HOUR + 2, HOUR - RETENTION_HOURS - 2].map(|hour| bench.sibling(&key, hour));
    for nothing in [&stranger, &ahead, &expired] {
        let refused = custody.shred(&bench.shred(nothing, 0, 9)).await.unwrap_err();
        assert!(matches!(refused, Error::NothingToDestroy), "{refused}");
    }
    bench.wait_hours(3);
    bench.import(&custody, &ahead).await;
    assert_eq!(bench.opens(&custody, &ahead).await, SlotSet::whole_hour());
}

#[tokio::test]
async fn what_is_recorded_after_a_destruction_that_reaches_ahead_is_kept() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let next = bench.sibling(&key, HOUR + 1);
    let mut request = bench.shred(&key, 0, 1_799);
    request.span.as_mut().unwrap().end_unix_ns = bench.span(&next, 0, 1_799).end_unix_ns;
    custody.shred(&request).await.unwrap();
    bench.wait_hours(1);
    bench.import(&custody, &next).await;
    assert_eq!(bench.opens(&custody, &next).await, slots(1, 1_799), "now was in the first slot");
}

#[tokio::test]
async fn a_hold_placed_later_does_not_bring_back_what_was_destroyed() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let late = spooled(&bench, &key);
    custody.shred(&bench.shred(&key, 100, 199)).await.unwrap();
    bench.held(&custody, &key, 150, 249).await;
    bench.import(&custody, &late).await;
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late]).await;
    bench.wait_hours(RETENTION_HOURS + 2);
    custody.expire().await.unwrap();
    assert_eq!(bench.opens(&custody, &late).await, slots(200, 249));
}

#[tokio::test]
async fn a_key_that_comes_after_its_retention_is_destroyed_with_a_receipt_in_the_next_round() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let late = spooled(&bench, &key);
    bench.wait_hours(RETENTION_HOURS + 2);
    custody.expire().await.unwrap();
    bench.import(&custody, &late).await;
    custody.expire().await.unwrap();
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late]).await;
    assert!(bench.opens(&custody, &late).await.is_empty());
    bench.import(&custody, &late).await;
    assert!(bench.opens(&custody, &late).await.is_empty());
}

#[tokio::test]
async fn spans_are_forgotten_once_no_key_of_them_can_come() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.shred(&bench.shred(&key, 100, 199)).await.unwrap();
    let hour = hour_span(key.context.hour).unwrap();
    for (days, remembered) in [(399, 1), (2, 0)] {
        bench.wait_hours(24 * days);
        custody.forget_spans(custody.parts.clock.wall()).await.unwrap();
        let spans = shredded_span::touching(custody.parts.store.reader(), key.context.camera, hour).await;
        assert_eq!(spans.unwrap().len() / 3, remembered, "a row per layer");
    }
}

#[tokio::test]
async fn a_restored_data_directory_takes_out_what_came_before_its_receipts_did() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let [late, never_came] = [(); 2].map(|()| spooled(&bench, &key));
    bench.held(&custody, &bench.sibling(&key, HOUR - 1), 0, 9).await;
    bench.close(custody).await;
    let old = bench.back_up(true);
    let custody = bench.open().await;
    custody.shred(&bench.shred(&key, 100, 199)).await.unwrap();
    bench.import(&custody, &late).await;
    let receipts = custody.list_receipts(0).await.unwrap();
    bench.close(custody).await;
    bench.restore(&old, true);
    let custody = bench.open().await;
    for key in [&late, &never_came] {
        bench.import(&custody, key).await;
    }
    let last = receipts.len() as u64;
    assert!(matches!(custody.list_receipts(last).await, Err(Error::Behind { .. })));
    custody.replay(&receipts).await.unwrap();
    // One by the receipts that were replayed, one by a receipt of its own behind them.
    assert_eq!(bench.receipts(&custody).await.len(), receipts.len() + 1);
    let after = spooled(&bench, &key);
    bench.import(&custody, &after).await;
    for key in [&late, &never_came, &after] {
        assert!(bench.opens(&custody, key).await.intersection(&slots(100, 199)).is_empty());
    }
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late, &never_came, &after]).await;
}

#[tokio::test]
async fn a_late_import_that_fails_at_any_statement_is_undone_or_done_and_is_done_when_repeated() {
    let tables = ["kept_key", "epoch", "destroyed_key", "pending_receipt", "shred_receipt", "retention"];
    let mut struck = 0;
    for table in tables {
        for statement in ["INSERT", "UPDATE", "DELETE"] {
            for whole in [false, true] {
                let bench = Bench::new();
                let (custody, key) = bench.with_key().await;
                let late = spooled(&bench, &key);
                let (first, last) = if whole { (0, 1_799) } else { (100, 199) };
                custody.shred(&bench.shred(&key, first, last)).await.unwrap();
                let fault = "SELECT RAISE(ABORT, 'injected')";
                bench
                    .run(&format!("CREATE TRIGGER fault BEFORE {statement} ON {table} BEGIN {fault}; END"))
                    .await;
                struck += u32::from(custody.import(&bench.import_of(&custody, &late)).await.is_err());
                bench.close(custody).await;
                bench.run("DROP TRIGGER fault").await;
                let custody = bench.open().await;
                bench.import(&custody, &late).await;
                bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late]).await;
                assert_eq!(bench.opens(&custody, &late).await.is_empty(), whole, "{statement} on {table}");
            }
        }
    }
    assert!(struck >= 4, "too few of the faults were met: {struck}");
}
