use std::collections::BTreeSet;

use obscura_seal::{SlotRange, SlotSet};
use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, HOUR, MadeKey, caller, nobody, slots};

/// What the audit log or `storage` has of every receipt.
type Seen = Vec<SignedShredReceipt>;

fn as_logged(
    receipts: &Seen,
) -> impl Stream<Item = Result<SignedShredReceipt, Status>> + Unpin + Send + use<> {
    stream::iter(receipts.clone().into_iter().map(Ok))
}

async fn releases(bench: &Bench, custody: &Custody, key: &MadeKey) -> Result<SlotSet, Error> {
    let request = bench.release_of(&[key], bench.hour_of(key));
    let released = custody.release(&caller(), &request, None).await?;
    Ok(crate::test_support::node_set(&released[0]).slots())
}

#[tokio::test]
async fn nothing_is_released_before_log_and_storage_have_spoken_and_keys_are_taken_all_the_time() {
    let bench = Bench::new();
    let custody = bench.open_alone().await;
    let key = bench.made_key(HOUR);
    bench.import(&custody, &key).await;
    for act in ["release", "shred", "expire"] {
        let refused = match act {
            "release" => releases(&bench, &custody, &key).await.map(drop),
            "shred" => custody.shred(&bench.shred(&key, 0, 9)).await.map(drop),
            _ => custody.expire().await.map(drop),
        };
        assert!(matches!(refused, Err(Error::Unconfirmed("the audit log"))), "{act}");
    }
    custody.log_compared().await;
    let waits = releases(&bench, &custody, &key).await.unwrap_err();
    assert!(matches!(waits, Error::Unconfirmed("storage to compare receipts")), "{waits}");
    custody.expire().await.unwrap();
    custody.storage_compared().await;
    bench.assert_releasable(&custody, &key).await;
    bench.close(custody).await;
    let custody = bench.open_alone().await;
    custody.storage_compared().await;
    assert!(matches!(releases(&bench, &custody, &key).await, Err(Error::Unconfirmed("the audit log"))));
}

#[tokio::test]
async fn a_copy_that_the_log_found_out_stays_closed_through_restarts_until_the_log_is_replayed() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.close(custody).await;
    let old = bench.back_up(true);
    let custody = bench.open().await;
    for first in [0, 10, 20] {
        custody.shred(&bench.shred(&key, first, first + 9)).await.unwrap();
    }
    let seen = custody.list_receipts(0).await.unwrap();
    bench.close(custody).await;
    bench.restore(&old, true);
    note_restored(&bench.data("")).unwrap();
    for _ in 0..2 {
        // `storage` was put back to the same age and has nothing to say.
        let custody = bench.open().await;
        assert!(matches!(releases(&bench, &custody, &key).await, Err(Error::Restored)));
        assert!(matches!(custody.shred(&bench.shred(&key, 50, 59)).await, Err(Error::Restored)));
        assert!(matches!(custody.expire().await, Err(Error::Restored)));
        let hold = bench.hold(&key, 0, 9);
        assert!(matches!(custody.place_hold(&hold, nobody()).await, Err(Error::Restored)));
        let gap = custody.replay_log(as_logged(&vec![seen[2].clone()])).await;
        assert!(matches!(gap, Err(Error::Receipt { number: 3, .. })), "{gap:?}");
        let broken = stream::iter([Ok(seen[0].clone()), Err(Status::unavailable("away"))]);
        assert!(matches!(custody.replay_log(broken).await, Err(Error::LogAway(_))));
        assert!(matches!(releases(&bench, &custody, &key).await, Err(Error::Restored)));
        bench.close(custody).await;
    }
    let custody = bench.open().await;
    custody.replay_log(as_logged(&seen)).await.unwrap();
    assert_eq!(releases(&bench, &custody, &key).await.unwrap(), slots(30, 1_799));
    bench.close(custody).await;
    let custody = bench.open().await;
    custody.shred(&bench.shred(&key, 50, 59)).await.unwrap();
    assert_eq!(bench.receipts(&custody).await.len(), 4);
}

#[tokio::test]
async fn what_a_crash_left_without_a_number_waits_for_log_and_storage() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.parts.secrets.faults.lock().unwrap().insert("erase");
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap_err();
    bench.close(custody).await;
    let custody = bench.open_alone().await;
    assert!(custody.list_receipts(0).await.unwrap().is_empty());
    assert!(bench.describes(&custody, &key).await.intersection(&slots(0, 9)).is_empty());
    custody.log_compared().await;
    assert!(
        custody.list_receipts(0).await.unwrap().is_empty(),
        "storage may have another one under its number"
    );
    custody.storage_compared().await;
    assert_eq!(bench.receipts(&custody).await.len(), 1);
}

#[tokio::test]
async fn an_old_copy_of_which_the_log_knows_nothing_gives_no_number_twice() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.parts.secrets.faults.lock().unwrap().insert("erase");
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap_err();
    bench.close(custody).await;
    let old = bench.back_up(true);
    let custody = bench.open().await;
    custody.shred(&bench.shred(&key, 20, 29)).await.unwrap();
    let seen = custody.list_receipts(0).await.unwrap();
    assert_eq!(seen.len(), 2);
    bench.close(custody).await;
    bench.restore(&old, true);
    let custody = bench.open_alone().await;
    custody.log_compared().await;
    custody.expire().await.unwrap();
    assert!(matches!(custody.list_receipts(2).await, Err(Error::Behind { have: 0, need: 2 })));
    custody.replay(&seen).await.unwrap();
    custody.list_receipts(2).await.unwrap();
    custody.storage_compared().await;
    assert_eq!(custody.list_receipts(0).await.unwrap(), seen);
    assert!(releases(&bench, &custody, &key).await.unwrap().intersection(&slots(0, 9)).is_empty());
}

#[tokio::test]
async fn a_commit_that_nobody_heard_of_is_no_old_copy() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
    custody.watch().receipts = 0;
    custody.list_receipts(1).await.unwrap();
    assert_eq!(releases(&bench, &custody, &key).await.unwrap(), slots(10, 1_799));
}

#[tokio::test]
async fn a_replayed_receipt_keeps_its_number_before_those_that_this_copy_makes() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.close(custody).await;
    let old = bench.back_up(true);
    let custody = bench.open().await;
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
    let seen = custody.list_receipts(0).await.unwrap();
    bench.close(custody).await;
    bench.restore(&old, true);
    let custody = bench.open().await;
    // The receipt names its span but not this key, of which the copy makes a receipt as it is replayed.
    bench.import(&custody, &bench.sibling(&key, HOUR)).await;
    custody.replay(&seen).await.unwrap();
    let receipts = bench.receipts(&custody).await;
    assert_eq!((receipts.len(), custody.list_receipts(0).await.unwrap().first()), (2, seen.first()));
}

#[tokio::test]
async fn a_foreign_receipt_in_the_log_is_left_out() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.close(custody).await;
    let old = bench.back_up(true);
    let custody = bench.open().await;
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap();
    let mut seen = custody.list_receipts(0).await.unwrap();
    bench.close(custody).await;
    bench.restore(&old, true);
    note_restored(&bench.data("")).unwrap();
    let foreign = SignedShredReceipt { signature: vec![7; 64].into(), ..seen[0].clone() };
    seen.insert(0, foreign);
    let custody = bench.open().await;
    custody.replay_log(as_logged(&seen)).await.unwrap();
    assert_eq!(releases(&bench, &custody, &key).await.unwrap(), slots(10, 1_799));
}

#[test]
fn a_receipt_is_found_in_the_entry_that_tells_of_it() {
    let signed = SignedShredReceipt { receipt: vec![1, 2].into(), signature: vec![3].into() };
    let entry = |source: &str, receipt: &str| {
        let entry = serde_json::json!({ "source": source, "data": { "unmapped": { "receipt": receipt } } });
        receipt_of(entry.to_string().as_bytes())
    };
    let text = BASE64.encode(signed.encode_to_vec());
    assert_eq!(entry("spiffe://shop.example/obscura/keys", &text), Some(signed));
    assert_eq!(entry("spiffe://shop.example/obscura/storage", &text), None);
    assert_eq!(entry("spiffe://shop.example/obscura/keys", "#"), None);
    assert_eq!(receipt_of(b"{}"), None);
}

#[tokio::test]
async fn the_entry_that_the_log_makes_of_a_destruction_has_its_receipt() {
    use obscura_ocsf::{ExamplePersons, encode, example_source};
    use obscura_proto::audit::v1::event::Body;

    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let unseen = bench.sibling(&key, HOUR - 1);
    for (number, shredded) in [(1, &key), (2, &unseen)] {
        let signed = custody.shred(&bench.shred(shredded, 0, 9)).await.unwrap();
        let told = bench.told(&custody).await;
        let told: Vec<_> =
            told.iter().filter(|event| matches!(event.body, Some(Body::Destruction(_)))).collect();
        assert_eq!(told.len(), number);
        let leaf = encode(told.last().unwrap(), &example_source(), &mut ExamplePersons).unwrap();
        assert_eq!(leaf.camera_ids, [key.context.camera.to_string()]);
        assert_eq!(receipt_of(&leaf.bytes), Some(signed));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Import(usize),
    Shred(u16, u16),
    Restart,
    BackUp,
    Restore,
    Replay,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize).prop_map(Step::Import),
        3 => (0..1_700_u16, 0..100_u16).prop_map(|(first, more)| Step::Shred(first, first + more)),
        1 => Just(Step::Restart),
        1 => Just(Step::BackUp),
        2 => Just(Step::Restore),
        2 => Just(Step::Replay),
    ]
}

/// Custody, what others have seen of it, and what must be true.
struct World {
    bench: Bench,
    keys: Vec<MadeKey>,
    seen: Seen,
    dead: SlotSet,
    backup: Option<(tempfile::TempDir, BTreeSet<usize>)>,
    imported: BTreeSet<usize>,
}

impl World {
    async fn step(&mut self, custody: Custody, step: &Step) -> Custody {
        match step {
            Step::Import(index) => {
                self.bench.import(&custody, &self.keys[*index]).await;
                self.imported.insert(*index);
            }
            Step::Shred(first, last) => {
                match custody.shred(&self.bench.shred(&self.keys[0], *first, *last)).await {
                    Ok(_) => self.dead = self.dead.union(&slots(*first, *last)),
                    Err(Error::NothingToDestroy | Error::Restored) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Replay => {
                let replayed = custody.replay_log(as_logged(&self.seen)).await;
                replayed.unwrap();
            }
            Step::Restart => return self.reopen(custody).await,
            Step::BackUp => {
                self.bench.close(custody).await;
                self.backup = Some((self.bench.back_up(true), self.imported.clone()));
                return self.bench.open().await;
            }
            Step::Restore => {
                let Some((copy, imported)) = &self.backup else { return custody };
                self.bench.close(custody).await;
                self.bench.restore(copy, true);
                self.imported.clone_from(imported);
                note_restored(&self.bench.data("")).unwrap();
                return self.bench.open().await;
            }
        }
        custody
    }

    async fn reopen(&self, custody: Custody) -> Custody {
        self.bench.close(custody).await;
        self.bench.open().await
    }

    /// The log hears of new receipts; nothing that is released was destroyed; survivors open.
    async fn invariant_no_released_node_covers_a_shredded_slot(&mut self, custody: &Custody) {
        let last = self.seen.len() as u64;
        if custody.check_current().is_ok() {
            self.seen.extend(custody.list_receipts(last).await.unwrap());
        }
        for index in &self.imported {
            match releases(&self.bench, custody, &self.keys[*index]).await {
                Ok(released) => assert_eq!(released, SlotSet::whole_hour().difference(&self.dead)),
                Err(error) => assert!(matches!(error, Error::Restored), "{error}"),
            }
        }
    }

    /// Whatever of a key does not open is in a receipt. One that came before a restore and again after it may be
    /// named twice.
    async fn invariant_receipts_name_what_does_not_open(&self, custody: &Custody) {
        let receipts = self.bench.receipts(custody).await;
        for key in &self.keys {
            let id = key.context.key_id.to_string();
            let named = receipts.iter().flat_map(|receipt| &receipt.keys).filter(|named| named.key_id == id);
            let named = named
                .map(|named| SlotRange::try_from((named.first_slot, named.last_slot)).unwrap().into())
                .fold(SlotSet::EMPTY, |all, slots: SlotSet| all.union(&slots));
            assert_eq!(named, self.dead);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_import_destruction_restart_restore_and_replay_releases_what_was_destroyed(
        steps in prop::collection::vec(step(), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let (custody, known) = bench.with_key().await;
            let keys = (0..3).map(|_| bench.sibling(&known, HOUR)).collect();
            let mut world = World {
                bench, keys, seen: Seen::new(), dead: SlotSet::EMPTY, backup: None, imported: BTreeSet::new(),
            };
            let mut custody = custody;
            let end = [Step::Replay, Step::Import(0), Step::Import(1), Step::Import(2)];
            for step in steps.iter().chain(&end) {
                custody = world.step(custody, step).await;
                world.invariant_no_released_node_covers_a_shredded_slot(&custody).await;
            }
            world.invariant_receipts_name_what_does_not_open(&custody).await;
        });
    }
}
