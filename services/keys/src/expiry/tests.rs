use std::time::Duration;

use obscura_clock::{Clock as _, Timestamp};
use obscura_proto::keys::v1::ReleaseNodesRequest;
use obscura_seal::SlotSet;

use super::*;
use crate::test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, nobody, slots};

const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

#[tokio::test]
async fn a_key_is_destroyed_when_its_retention_ends_and_not_a_moment_before() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let (custody, key) = bench.with_key().await;
        bench.wait_hours(RETENTION_HOURS - 1);
        bench.wait(Duration::from_secs(3_599));
        assert_eq!(custody.expire().await.unwrap(), Destroyed::default());
        assert_eq!(bench.opens(&custody, &key).await, SlotSet::whole_hour());
        bench.wait(Duration::from_secs(1));
        assert_eq!(custody.expire().await.unwrap(), Destroyed { epochs: 1, layer_keys: 1 });
        assert!(bench.opens(&custody, &key).await.is_empty());
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
        let receipts = bench.receipts(&custody).await;
        assert_eq!(receipts[0].epochs, [HOUR + RETENTION_HOURS]);
        assert_eq!(receipts[0].cause(), ShredCause::Expiry);
        assert_eq!(receipts[0].effective_unix_ns, bench.clock.wall().unix_nanos());
        assert!(custody.parts.secrets.names().unwrap().is_empty(), "the secret is erased");
        assert_eq!(custody.expire().await.unwrap(), Destroyed::default());
    }
}

#[tokio::test]
async fn neighbours_of_a_held_slot_die_on_time_and_held_slots_when_their_last_hold_ends() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let (custody, key) = bench.with_key().await;
        let first = custody.place_hold(&bench.hold(&key, 100, 199), nobody()).await.unwrap();
        let second = custody.place_hold(&bench.hold(&key, 150, 300), nobody()).await.unwrap();
        bench.wait_hours(RETENTION_HOURS);
        custody.expire().await.unwrap();
        assert_eq!(bench.opens(&custody, &key).await, slots(100, 300));
        let described = custody.describe(&[key.context.key_id.to_string()]).await.unwrap();
        assert_eq!(described[0].live, described[0].held);
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;

        custody.release_hold(&first.hold.id.to_string(), nobody()).await.unwrap();
        assert_eq!(bench.opens(&custody, &key).await, slots(150, 300));
        let receipts = bench.receipts(&custody).await;
        assert_eq!(receipts[1].cause(), ShredCause::HoldReleased);
        custody.release_hold(&second.hold.id.to_string(), nobody()).await.unwrap();
        assert!(bench.opens(&custody, &key).await.is_empty());
        bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
        assert!(custody.parts.secrets.names().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_clock_set_by_minutes_or_a_year_destroys_nothing_early_and_says_why() {
    for by in [6 * MINUTE, YEAR] {
        for ahead in [true, false] {
            for restart in [false, true] {
                let bench = Bench::new();
                let (mut custody, key) = bench.with_key().await;
                // Four minutes before the end, so that six minutes matter.
                bench.wait_hours(RETENTION_HOURS - 1);
                bench.wait(56 * MINUTE);
                custody.expire().await.unwrap();
                let right = bench.clock.wall();
                bench.clock.step_wall(if ahead { right + by } else { right - by });
                if restart {
                    drop(custody);
                    custody = bench.open().await;
                }
                for _ in 0..2 {
                    assert!(matches!(custody.expire().await, Err(Error::InDoubt(_))));
                    assert!(custody.stopped().unwrap().contains("clock"));
                    assert!(!bench.describes(&custody, &key).await.is_empty());
                }
                bench.clock.step_wall(right);
                assert_eq!(custody.expire().await.unwrap(), Destroyed::default());
                assert_eq!(custody.stopped(), None);
                bench.wait(4 * MINUTE);
                assert_eq!(custody.expire().await.unwrap().layer_keys, 1);
            }
        }
    }
}

#[tokio::test]
async fn after_a_restart_of_the_machine_an_unknown_gap_waits_for_a_person() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    drop(custody);
    bench.clock.advance(YEAR);
    *bench.machine.0.lock().unwrap() =
        obscura_clock::Uptime { boot: "second".into(), up: MINUTE, synchronised: false };
    let custody = bench.open().await;
    assert!(matches!(custody.expire().await, Err(Error::InDoubt(_))));
    assert_eq!(bench.describes(&custody, &key).await, SlotSet::whole_hour());
    assert!(custody.resume_destruction(" ", None).await.is_err());
    let (was_stopped, destroyed) = custody.resume_destruction("Ada Ventura", None).await.unwrap();
    assert!(was_stopped.contains("no time server"), "{was_stopped}");
    assert_eq!((destroyed.layer_keys, custody.stopped()), (1, None));
}

#[tokio::test]
async fn a_status_note_from_another_time_stops_destruction() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.wait_hours(RETENTION_HOURS - 1);
    let old = bench.release_of(&[&key], bench.hour_of(&key));
    // Our clock and the machine's agree with each other, and not with the signer's.
    bench.wait_hours(1);
    let request = bench.release_of(&[&key], bench.hour_of(&key));
    let request = ReleaseNodesRequest { status_note: old.status_note, ..request };
    assert!(custody.release(&crate::test_support::caller(), &request, None).await.is_err());
    let Err(Error::InDoubt(why)) = custody.expire().await else { panic!("destroyed") };
    assert!(why.contains("status notes"), "{why}");
    bench.opens(&custody, &key).await;
    assert_eq!(custody.expire().await.unwrap().layer_keys, 1, "a fresh note puts it right");
}

#[tokio::test]
async fn the_clock_of_the_database_server_is_listened_to() {
    let bench = Bench::on_postgres();
    let (custody, _) = bench.with_key().await;
    custody.parts.store.listen_to_server();
    let Err(Error::InDoubt(why)) = custody.expire().await else {
        panic!("the simulated time is not that of the server")
    };
    assert!(why.contains("database server"), "{why}");
}

#[tokio::test]
async fn more_than_twice_the_norm_waits_for_a_person() {
    let bench = Bench::new();
    let custody = bench.open().await;
    // Two days with 20 keys an hour, then an hour with 60.
    for ago in 1..=50 {
        for _ in 0..20 {
            bench.import(&custody, &bench.made_key(HOUR - ago)).await;
        }
    }
    let many: Vec<MadeKey> = (0..60).map(|_| bench.made_key(HOUR)).collect();
    for key in &many {
        bench.import(&custody, key).await;
    }
    custody.expire().await.unwrap();
    bench.wait_hours(RETENTION_HOURS - 51);
    for _ in 0..50 {
        bench.wait_hours(1);
        assert_eq!(custody.expire().await.unwrap().layer_keys, 20);
    }
    bench.wait_hours(1);
    let Err(Error::InDoubt(why)) = custody.expire().await else { panic!("destroyed") };
    assert!(why.contains("60 layer keys"), "{why}");
    assert_eq!(bench.describes(&custody, &many[0]).await, SlotSet::whole_hour());
    let (_, destroyed) = custody.resume_destruction("Ada Ventura", None).await.unwrap();
    assert_eq!(destroyed.layer_keys, 60);
}

#[tokio::test]
async fn hours_that_passed_while_custody_was_away_are_caught_up_with() {
    let bench = Bench::new();
    let custody = bench.open().await;
    for ago in 0..60 {
        for _ in 0..20 {
            bench.import(&custody, &bench.made_key(HOUR - ago)).await;
        }
    }
    custody.expire().await.unwrap();
    bench.wait_hours(RETENTION_HOURS - 60);
    for _ in 0..50 {
        bench.wait_hours(1);
        custody.expire().await.unwrap();
    }
    drop(custody);
    bench.wait_hours(5);
    let custody = bench.open().await;
    assert_eq!(custody.expire().await.unwrap().layer_keys, 100);
}

#[tokio::test]
async fn a_key_that_comes_after_its_time_is_taken_and_destroyed_with_its_own_receipt() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.wait_hours(RETENTION_HOURS + 1);
    custody.expire().await.unwrap();
    let late = bench.sibling(&key, HOUR);
    bench.import(&custody, &late).await;
    bench.import(&custody, &key).await;
    assert!(bench.opens(&custody, &key).await.is_empty(), "what is destroyed does not come back");
    custody.expire().await.unwrap();
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key, &late]).await;
    assert_eq!(bench.receipts(&custody).await.len(), 2);
}

#[tokio::test]
async fn receipts_of_many_keys_are_split_so_that_each_fits_into_an_event_of_the_log() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    let row = DestroyedRow {
        key: key.context.key_id,
        camera: key.context.camera,
        layer: key.context.layer,
        hour: key.context.hour,
        expiry: bench.expiry(&key),
    };
    let mut decision = Decision::default();
    (0..200).for_each(|_| decision.add(&row, &slots(1_000, 1_799)));
    let writer = custody.parts.store.write().await.unwrap();
    custody.await_receipts(&writer, ShredCause::Expiry, Some(row.expiry), decision).await.unwrap();
    writer.commit().await.unwrap();
    custody.finish().await.unwrap();
    let first = custody.list_receipts(0).await.unwrap();
    assert!(first.iter().all(|receipt| receipt.receipt.len() < 8_192), "the longest reason needs the rest");
    let receipts = bench.receipts(&custody).await;
    let sizes: Vec<_> = receipts.iter().map(|receipt| (receipt.keys.len(), receipt.epochs.len())).collect();
    assert_eq!(sizes, [(80, 0), (80, 0), (40, 1)]);
}

/// What stands in the way as the promised moment comes.
#[derive(Clone, Copy, Debug)]
enum Hindrance {
    Nothing,
    /// Custody ends ten minutes before, and starts so long after it.
    Down(Duration),
    /// A step fails for twenty minutes.
    Step(&'static str),
    /// Statements on a table fail for twenty minutes.
    Table(&'static str),
    /// Custody starts twenty minutes after it, and then a step fails for twenty more.
    DownThenStep(&'static str),
}

impl Hindrance {
    /// Lets it pass; returns custody once nothing stands in the way any more.
    async fn pass(self, bench: &Bench, custody: Custody, promise: Timestamp) -> Custody {
        match self {
            Self::Nothing => custody,
            Self::Down(after) => restarted(bench, custody, promise, after).await,
            Self::Step(step) => fail(bench, custody, promise, step).await,
            Self::DownThenStep(step) => {
                let custody = restarted(bench, custody, promise, 20 * MINUTE).await;
                fail(bench, custody, promise + 20 * MINUTE, step).await
            }
            Self::Table(table) => {
                bench.rounds_until(&custody, promise).await;
                let trigger = format!(
                    "CREATE TRIGGER fault BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'injected'); END"
                );
                bench.run(&trigger).await;
                bench.rounds_until(&custody, promise + 20 * MINUTE).await;
                assert!(custody.stopped().is_some(), "{self:?} did not stand in the way");
                bench.run("DROP TRIGGER fault").await;
                custody
            }
        }
    }
}

async fn restarted(bench: &Bench, custody: Custody, promise: Timestamp, after: Duration) -> Custody {
    bench.rounds_until(&custody, promise - 10 * MINUTE).await;
    drop(custody);
    bench.wait(10 * MINUTE + after);
    bench.open().await
}

async fn fail(bench: &Bench, custody: Custody, from: Timestamp, step: &'static str) -> Custody {
    bench.rounds_until(&custody, from).await;
    custody.parts.secrets.faults.lock().unwrap().insert(step);
    bench.rounds_until(&custody, from + 20 * MINUTE).await;
    assert!(custody.stopped().is_some(), "{step} did not stand in the way");
    custody.parts.secrets.faults.lock().unwrap().clear();
    custody
}

#[tokio::test]
async fn a_promised_destruction_is_done_within_an_hour_whatever_stands_in_the_way() {
    let hour = Duration::from_hours(1);
    for (hindrance, at_most) in [
        (Hindrance::Nothing, Duration::ZERO),
        (Hindrance::Down(Duration::ZERO), Duration::ZERO),
        (Hindrance::Down(59 * MINUTE), 59 * MINUTE),
        // Nobody can destroy while away: then it is the first thing that is done.
        (Hindrance::Down(5 * hour), 5 * hour),
        (Hindrance::Step("erase"), hour),
        (Hindrance::Step("mark"), hour),
        (Hindrance::Table("destroyed_key"), hour),
        (Hindrance::Table("pending_receipt"), hour),
        (Hindrance::Table("shred_receipt"), hour),
        (Hindrance::DownThenStep("erase"), hour),
    ] {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        let promise = bench.expiry(&key).end();
        bench.wait_hours(RETENTION_HOURS - 1);
        let custody = hindrance.pass(&bench, custody, promise).await;
        let last = bench.clock.wall().max(promise) + 2 * MINUTE;
        bench.rounds_until(&custody, last).await;
        assert!(bench.describes(&custody, &key).await.is_empty(), "{hindrance:?}");
        let receipts = bench.receipts(&custody).await;
        assert_eq!(receipts.len(), 1, "{hindrance:?}");
        let effective = Timestamp::from_unix_nanos(receipts[0].effective_unix_ns);
        assert!(effective >= promise, "{hindrance:?}: before its time");
        assert!(effective.since(promise) <= at_most, "{hindrance:?}: {effective:?} for {promise:?}");
        assert_eq!(custody.stopped(), None, "{hindrance:?}");
    }
}

#[tokio::test]
async fn a_damaged_row_of_a_hold_keeps_no_one_elses_footage_beyond_its_time_and_its_hold_is_released() {
    for (bench, zeros) in [(Bench::new(), "zeroblob(66)"), (Bench::on_postgres(), "'\\x00'::bytea")] {
        let (custody, key) = bench.with_key().await;
        let beside = bench.sibling(&key, HOUR);
        let (same_hour, later) = (bench.made_key(HOUR), bench.made_key(HOUR + 1));
        for key in [&beside, &same_hour, &later] {
            bench.import(&custody, key).await;
        }
        let hold = bench.held(&custody, &key, 100, 199).await;
        let of_key = format!("WHERE key_id = '{}'", key.context.key_id);
        bench.sql(&format!("UPDATE held_key SET sealed_key = {zeros} {of_key}")).await;

        bench.wait_hours(RETENTION_HOURS + 1);
        assert_eq!(custody.expire().await.unwrap(), Destroyed { epochs: 2, layer_keys: 4 });
        assert_eq!(custody.stopped(), None);
        assert_eq!(custody.damage.rows(), 1, "an operator sees that there is one");
        assert!(bench.opens(&custody, &same_hour).await.is_empty());
        assert!(bench.opens(&custody, &later).await.is_empty());
        assert_eq!(bench.opens(&custody, &beside).await, slots(100, 199), "the rest of the hold holds on");
        assert!(bench.describes(&custody, &key).await.is_empty());

        let again = custody.place_hold(&bench.hold(&beside, 150, 300), nobody()).await.unwrap();
        assert_eq!((again.keys, again.slots), (1, 50), "another hold takes what the first one still opens");
        custody.release_hold(&hold, nobody()).await.unwrap();
        assert_eq!(bench.opens(&custody, &beside).await, slots(150, 199));
        custody.release_hold(&again.hold.id.to_string(), nobody()).await.unwrap();
        assert!(bench.opens(&custody, &beside).await.is_empty());
        let dead: Vec<_> =
            bench.receipts(&custody).await.into_iter().flat_map(|receipt| receipt.keys).collect();
        let id = key.context.key_id.to_string();
        let of_key: Vec<_> = dead.iter().filter(|dead| dead.key_id == id).collect();
        assert_eq!(of_key.len(), 1, "a receipt says that nothing of the damaged key opens");
        assert_eq!((of_key[0].first_slot, of_key[0].last_slot), (0, 1_799));
    }
}

#[tokio::test]
async fn rows_whose_very_columns_are_damaged_stop_neither_expiry_nor_the_end_of_their_hold() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let (broken, other) = (bench.sibling(&key, HOUR), bench.made_key(HOUR));
    for key in [&broken, &other] {
        bench.import(&custody, key).await;
    }
    let hold = bench.held(&custody, &key, 100, 199).await;
    bench.sql(&format!("UPDATE held_key SET layer = 77 WHERE key_id = '{}'", key.context.key_id)).await;
    bench.sql(&format!("UPDATE kept_key SET leaf = -3 WHERE key_id = '{}'", broken.context.key_id)).await;
    bench.wait_hours(RETENTION_HOURS);
    custody.expire().await.unwrap();
    assert!(bench.opens(&custody, &other).await.is_empty());
    assert_eq!(custody.parts.store.counts().await.unwrap().layer_keys, 0, "it is gone with its epoch");
    custody.release_hold(&hold, nobody()).await.unwrap();
    assert!(custody.list_holds("", false).await.unwrap().is_empty());
    assert!(custody.damage.rows() >= 2);
}

#[tokio::test]
async fn a_row_whose_very_columns_are_damaged_stops_no_description_early_destruction_or_replay() {
    for damage in ["layer = 77", "writer_epoch = -1", "leaf = -3"] {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        let broken = bench.sibling(&key, HOUR);
        bench.import(&custody, &broken).await;
        // Under one leaf, so that what is taken out of one moves the other.
        let of_broken = format!("WHERE key_id = '{}'", broken.context.key_id);
        let own = bench.leaf(&custody, &key).await.unwrap().get();
        bench.sql(&format!("UPDATE kept_key SET leaf = {own} {of_broken}")).await;
        bench.sql(&format!("UPDATE kept_key SET {damage} {of_broken}")).await;
        let ids = [&broken, &key].map(|key| key.context.key_id.to_string());
        let described = custody.describe(&ids).await.unwrap();
        assert!(described[0].live.is_empty() && !described[1].live.is_empty(), "{damage}");
        custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
        assert_eq!(bench.opens(&custody, &key).await, slots(10, 1_799), "{damage}");
        custody.replay(&custody.list_receipts(0).await.unwrap()).await.unwrap();

        let shorter = bench.placement_version(key.context.camera, 24, 2);
        let next = bench.sibling(&key, HOUR + 1);
        custody.import(&bench.import_with(&custody, &next, shorter)).await.unwrap();
        custody.expire().await.unwrap();
        assert_eq!(custody.stopped(), None);
        bench.wait_hours(24);
        custody.expire().await.unwrap();
        assert!(bench.opens(&custody, &key).await.is_empty(), "{damage}");
    }
}

#[tokio::test]
async fn a_damaged_layer_key_does_not_keep_the_others_of_its_camera_beyond_a_shorter_retention() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let beside = bench.sibling(&key, HOUR);
    bench.import(&custody, &beside).await;
    bench
        .sql(&format!(
            "UPDATE kept_key SET sealed_key = zeroblob(66) WHERE key_id = '{}'",
            key.context.key_id
        ))
        .await;
    let shorter = bench.placement_version(key.context.camera, 24, 2);
    let next = bench.sibling(&key, HOUR + 1);
    custody.import(&bench.import_with(&custody, &next, shorter)).await.unwrap();
    custody.expire().await.unwrap();
    let placed = custody.place_hold(&bench.hold(&key, 0, 9), nobody()).await.unwrap();
    assert_eq!((placed.keys, placed.slots), (1, 10), "a hold takes what of the hour still opens");
}
