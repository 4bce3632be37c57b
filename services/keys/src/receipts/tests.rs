use obscura_proto::keys::v1::ShredCause;
use obscura_seal::SlotSet;

use super::*;
use crate::test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, caller, nobody, slots};

/// A key of which slots die early, one that dies by expiry, one that lives; and copies from before.
struct Drill {
    bench: Bench,
    early: MadeKey,
    expired: MadeKey,
    living: MadeKey,
    /// Held from before the copies, released after them.
    held: MadeKey,
    database: tempfile::TempDir,
    everything: tempfile::TempDir,
    receipts: Vec<SignedShredReceipt>,
}

async fn drill() -> Drill {
    let bench = Bench::new();
    let custody = bench.open().await;
    let [early, living, expired, held] = [20, 0, 40, 40].map(|ago| bench.made_key(HOUR - ago));
    for key in [&early, &expired, &living, &held] {
        bench.import(&custody, key).await;
    }
    let hold = bench.held(&custody, &held, 10, 19).await;
    custody.expire().await.unwrap();
    bench.close(custody).await;
    let (database, everything) = (bench.back_up(false), bench.back_up(true));
    let custody = bench.open().await;
    custody.shred(&bench.shred(&early, 100, 199)).await.unwrap();
    bench.wait_hours(RETENTION_HOURS - 40);
    custody.expire().await.unwrap();
    custody.release_hold(&hold, nobody()).await.unwrap();
    let receipts = custody.list_receipts(0).await.unwrap();
    assert_eq!(receipts.len(), 3);
    bench.close(custody).await;
    Drill { bench, early, expired, living, held, database, everything, receipts }
}

impl Drill {
    async fn invariant_the_dead_stay_dead(&self, custody: &Custody) {
        for key in [&self.expired, &self.held] {
            assert!(self.bench.describes(custody, key).await.is_empty());
        }
        assert!(self.bench.describes(custody, &self.early).await.intersection(&slots(100, 199)).is_empty());
        assert_eq!(self.bench.opens(custody, &self.living).await, SlotSet::whole_hour());
    }

    async fn releases(&self, custody: &Custody) -> Result<(), Error> {
        let request = self.bench.release_of(&[&self.living], self.bench.hour_of(&self.living));
        custody.release(&caller(), &request, None).await.map(drop)
    }
}

#[tokio::test]
async fn a_restored_database_releases_and_destroys_nothing_before_the_receipts_are_replayed() {
    let drill = drill().await;
    drill.bench.restore(&drill.database, false);
    let custody = drill.bench.open().await;
    assert!(matches!(drill.releases(&custody).await, Err(Error::Behind { have: 0, need: 3 })));
    assert!(matches!(custody.expire().await, Err(Error::Behind { .. })));
    assert!(matches!(
        custody.place_hold(&drill.bench.hold(&drill.living, 0, 9), nobody()).await,
        Err(Error::Behind { .. })
    ));
    let shred = drill.bench.shred(&drill.living, 0, 9);
    let refused = custody.shred(&shred).await.unwrap_err();
    assert!(matches!(refused, Error::Behind { .. }) && refused.to_string().contains("`obscura key replay`"));
    let hold = custody.list_holds("", false).await.unwrap()[0].id.to_string();
    assert!(matches!(custody.release_hold(&hold, nobody()).await, Err(Error::Behind { .. })));
    assert!(matches!(custody.resume_destruction("Ada Ventura", None).await, Err(Error::Behind { .. })));
    assert!(custody.stopped().unwrap().contains("receipts 1 to 3"));
    // Imports go on: recording never waits for an operator.
    let new = drill.bench.made_key(HOUR + 30);
    drill.bench.import(&custody, &new).await;

    assert_eq!(
        custody.replay(&drill.receipts[..2]).await.unwrap(),
        0,
        "no secret came back with the database"
    );
    assert!(matches!(drill.releases(&custody).await, Err(Error::Behind { have: 2, need: 3 })));
    assert_eq!(custody.replay(&drill.receipts).await.unwrap(), 0, "replaying again is harmless");
    drill.releases(&custody).await.unwrap();
    drill.invariant_the_dead_stay_dead(&custody).await;
    assert_eq!(custody.list_receipts(0).await.unwrap(), drill.receipts);
    custody.expire().await.unwrap();
    drill.bench.assert_releasable(&custody, &new).await;
}

#[tokio::test]
async fn a_restored_database_stays_closed_through_restarts_and_with_half_of_the_receipts() {
    let drill = drill().await;
    drill.bench.restore(&drill.database, false);
    for have in 0..3_u64 {
        let custody = drill.bench.open().await;
        let behind = |error: &Error| matches!(error, Error::Behind { have: here, need: 3 } if *here == have);
        assert!(behind(&drill.releases(&custody).await.unwrap_err()));
        let shred = drill.bench.shred(&drill.living, 0, 9);
        assert!(behind(&custody.shred(&shred).await.unwrap_err()));
        let hold = drill.bench.hold(&drill.living, 0, 9);
        assert!(behind(&custody.place_hold(&hold, nobody()).await.unwrap_err()));
        let next = usize::try_from(have).unwrap();
        custody.replay(&drill.receipts[next..=next]).await.unwrap();
        drill.bench.close(custody).await;
    }
    let custody = drill.bench.open().await;
    drill.releases(&custody).await.unwrap();
    drill.invariant_the_dead_stay_dead(&custody).await;
}

#[tokio::test]
async fn a_database_restored_from_amid_a_destruction_numbers_no_receipt_of_its_own() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let living = bench.made_key(HOUR + 1);
    bench.import(&custody, &living).await;
    custody.parts.secrets.faults.lock().unwrap().insert("erase");
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap_err();
    bench.close(custody).await;
    let amid = bench.back_up(false);
    let custody = bench.open().await;
    bench.wait_hours(1);
    custody.shred(&bench.shred(&key, 20, 29)).await.unwrap();
    let receipts = custody.list_receipts(0).await.unwrap();
    assert_eq!(receipts.len(), 2);
    bench.close(custody).await;
    bench.restore(&amid, false);
    for _ in 0..2 {
        let custody = bench.open().await;
        assert!(matches!(custody.check_not_behind(), Err(Error::Behind { have: 0, need: 2 })));
        assert!(custody.list_receipts(0).await.unwrap().is_empty());
        bench.close(custody).await;
    }
    let custody = bench.open().await;
    custody.replay(&receipts).await.unwrap();
    assert_eq!(custody.list_receipts(0).await.unwrap(), receipts, "each once, as signed");
    assert_eq!(bench.opens(&custody, &living).await, SlotSet::whole_hour());
    custody.shred(&bench.shred(&living, 0, 9)).await.unwrap();
    assert_eq!(bench.receipts(&custody).await.len(), 3);
}

#[tokio::test]
async fn a_restored_data_directory_releases_nothing_of_its_dead() {
    let drill = drill().await;
    drill.bench.restore(&drill.everything, true);
    let custody = drill.bench.open_alone().await;
    // Nothing in the copy itself says that it is old, so it asks others first.
    assert!(matches!(drill.releases(&custody).await, Err(Error::Unconfirmed(_))));
    assert_eq!(drill.bench.describes(&custody, &drill.early).await, SlotSet::whole_hour());
    custody.log_compared().await;
    assert!(matches!(drill.releases(&custody).await, Err(Error::Unconfirmed(_))));
    // A follower that has seen more tells it.
    assert!(matches!(custody.list_receipts(3).await, Err(Error::Behind { have: 0, need: 3 })));
    assert!(matches!(drill.releases(&custody).await, Err(Error::Behind { .. })));
    let destroyed_again = custody.replay(&drill.receipts).await.unwrap();
    assert_eq!(destroyed_again, 4, "one early, two expired, and the held part of one of them");
    custody.list_receipts(3).await.unwrap();
    custody.storage_compared().await;
    drill.releases(&custody).await.unwrap();
    drill.invariant_the_dead_stay_dead(&custody).await;
    // And no copy of the database made meanwhile, nor the restored one, opens them again.
    drill.bench.close(custody).await;
    drill.bench.restore(&drill.database, false);
    let custody = drill.bench.open().await;
    for key in [&drill.expired, &drill.held, &drill.early] {
        assert!(drill.bench.describes(&custody, key).await.is_empty());
    }
}

#[tokio::test]
async fn what_custody_did_not_sign_or_does_not_follow_is_not_replayed() {
    let drill = drill().await;
    drill.bench.restore(&drill.database, false);
    let custody = drill.bench.open().await;
    let refused = |error: Error| matches!(error, Error::Receipt { .. });
    assert!(refused(custody.replay(&drill.receipts[1..]).await.unwrap_err()), "a gap");
    let mut changed = drill.receipts.clone();
    changed[0].receipt = changed[1].receipt.clone();
    assert!(refused(custody.replay(&changed).await.unwrap_err()), "another receipt's signature");
    let stranger = Bench::new().open().await;
    let receipt = ShredReceipt { number: 1, zone: "eea".into(), ..ShredReceipt::default() };
    assert!(refused(custody.replay(&[stranger.receipt_key.sign(&receipt)]).await.unwrap_err()), "a stranger");
    let elsewhere = ShredReceipt { zone: "uk".into(), ..receipt.clone() };
    assert!(
        refused(custody.replay(&[custody.receipt_key.sign(&elsewhere)]).await.unwrap_err()),
        "another zone"
    );
    custody.replay(&drill.receipts).await.unwrap();
    let fork = custody.receipt_key.sign(&receipt);
    assert!(refused(custody.replay(&[fork]).await.unwrap_err()), "another receipt has its number");
    let many = vec![drill.receipts[0].clone(); MAX_RECEIPTS + 1];
    assert!(matches!(custody.replay(&many).await, Err(Error::Malformed { .. })));
}

#[tokio::test]
async fn a_lost_database_still_knows_who_signed_its_receipts() {
    let drill = drill().await;
    for file in ["keys.sqlite", "keys.sqlite-wal", "keys.sqlite-shm"] {
        let _ = std::fs::remove_file(drill.bench.data(file));
    }
    let custody = drill.bench.open().await;
    assert!(matches!(custody.check_not_behind(), Err(Error::Behind { have: 0, need: 3 })));
    assert_eq!(custody.replay(&drill.receipts).await.unwrap(), 0);
    custody.check_not_behind().unwrap();
    // The keys are lost, and those that were destroyed do not come back by a late import.
    drill.bench.import(&custody, &drill.expired).await;
    assert!(drill.bench.describes(&custody, &drill.expired).await.is_empty());
}

#[tokio::test]
async fn a_follower_with_an_absurd_number_stops_nothing() {
    let bench = Bench::new();
    let custody = bench.open().await;
    assert!(matches!(custody.list_receipts(u64::MAX).await, Err(Error::Malformed { .. })));
    custody.check_not_behind().unwrap();
}

#[tokio::test]
async fn the_receipt_key_survives_restarts_and_rotations() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let public = custody.receipt_key.public_key();
    crate::rotation::Rotation::begin(&custody, 8, None).await.unwrap().run(|_| {}).await.unwrap();
    bench.close(custody).await;
    let custody = bench.open().await;
    assert_eq!(custody.receipt_key.public_key(), public);
    let key = bench.made_key(HOUR);
    bench.import(&custody, &key).await;
    custody.shred(&bench.shred(&key, 0, 1)).await.unwrap();
    assert_eq!(bench.receipts(&custody).await[0].cause(), ShredCause::Early);
}
