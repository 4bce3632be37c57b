//! Every step of every act fails twice, then everything is verified: with the fault gone, a start
//! leaves the act undone or done, and doing it again completes it.

use std::collections::BTreeSet;

use obscura_proto::registry::v1::{Camera, Snapshot};
use obscura_seal::SlotSet;
use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, HOUR, MadeKey, RETENTION_HOURS, nobody, slots};

/// An hour that expires before [`HOUR`].
const EARLIER: u32 = HOUR - 40;

/// What fails: a statement on a table, or a step with a file.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Sql(&'static str, &'static str),
    File(&'static str),
}

const TABLES: [&str; 11] = [
    "kept_key",
    "epoch",
    "hold",
    "held_key",
    "destroyed_key",
    "doomed_secret",
    "pending_receipt",
    "shred_receipt",
    "shredded_span",
    "note",
    "retention",
];

fn faults() -> Vec<Fault> {
    let statements = ["INSERT", "UPDATE", "DELETE"];
    let sql = TABLES.iter().flat_map(|table| statements.map(|statement| Fault::Sql(table, statement)));
    sql.chain(["create", "erase", "mark"].map(Fault::File)).collect()
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Expire,
    Shred,
    PlaceHold,
    ReleaseHold,
    Shorten,
}

/// Three keys in one epoch, one of another hour; a hold on some slots of the first.
struct Scene {
    bench: Bench,
    key: MadeKey,
    others: [MadeKey; 3],
    hold: String,
}

async fn scene() -> (Scene, Custody) {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(EARLIER);
    let others = [bench.sibling(&key, EARLIER), bench.made_key(EARLIER), bench.made_key(HOUR)];
    for key in [&key].into_iter().chain(&others) {
        bench.import(&custody, key).await;
    }
    let hold = bench.held(&custody, &key, 100, 199).await;
    custody.expire().await.unwrap();
    (Scene { bench, key, others, hold }, custody)
}

impl Scene {
    async fn prepare(&self, act: Act, custody: &Custody) {
        match act {
            Act::Expire => self.bench.wait_hours(RETENTION_HOURS - 40),
            Act::ReleaseHold => {
                self.bench.wait_hours(RETENTION_HOURS - 40);
                custody.expire().await.unwrap();
            }
            Act::Shred | Act::PlaceHold | Act::Shorten => {}
        }
    }

    async fn act(&self, act: Act, custody: &Custody) -> Result<(), Error> {
        let bench = &self.bench;
        match act {
            Act::Expire => custody.expire().await.map(drop),
            Act::Shred => match custody.shred(&bench.shred(&self.key, 300, 499)).await {
                Err(Error::NothingToDestroy) => Ok(()),
                done => done.map(drop),
            },
            Act::PlaceHold => {
                if custody.list_holds("", false).await?.len() < 2 {
                    custody.place_hold(&bench.hold(&self.key, 600, 699), nobody()).await?;
                }
                Ok(())
            }
            Act::ReleaseHold => custody.release_hold(&self.hold, nobody()).await.map(drop),
            Act::Shorten => {
                let placement = bench.placement_version(self.key.context.camera, 60, 2);
                let camera = Camera { placement: Some(placement), ..Camera::default() };
                let snapshot = Snapshot { version: 2, cameras: vec![camera], ..Snapshot::default() };
                custody.note_snapshot(&snapshot).await?;
                custody.expire().await.map(drop)
            }
        }
    }

    /// What opens of the first key before and after the act.
    fn expected(act: Act) -> [SlotSet; 2] {
        let (whole, held) = (SlotSet::whole_hour(), slots(100, 199));
        match act {
            Act::Expire => [whole, held],
            Act::Shred => [whole.clone(), whole.difference(&slots(300, 499))],
            Act::ReleaseHold => [held, SlotSet::EMPTY],
            Act::PlaceHold | Act::Shorten => [whole.clone(), whole],
        }
    }

    fn keys(&self) -> Vec<&MadeKey> {
        [&self.key].into_iter().chain(&self.others).collect()
    }
}

async fn set(bench: &Bench, custody: &Custody, fault: Fault) {
    match fault {
        Fault::Sql(table, statement) => {
            let trigger = format!(
                "CREATE TRIGGER fault BEFORE {statement} ON {table} BEGIN SELECT RAISE(ABORT, 'injected'); END"
            );
            bench.run(&trigger).await;
        }
        Fault::File(what) => {
            custody.parts.secrets.faults.lock().unwrap().insert(what);
        }
    }
}

async fn every_fault_twice(act: Act) {
    let mut struck = BTreeSet::new();
    for fault in faults() {
        let (scene, custody) = scene().await;
        let bench = &scene.bench;
        scene.prepare(act, &custody).await;
        let [before, after] = Scene::expected(act);
        set(bench, &custody, fault).await;
        if scene.act(act, &custody).await.is_err() {
            struck.insert(format!("{fault:?}"));
        }
        let opens = bench.describes(&custody, &scene.key).await;
        assert!(opens == before || opens == after, "{act:?} {fault:?}: half done while running");
        drop(custody);
        // The second time: at the start, and when the act is repeated.
        let custody = bench.open().await;
        set_file_fault(&custody, fault);
        let _ = scene.act(act, &custody).await;
        drop(custody);
        if matches!(fault, Fault::Sql(..)) {
            bench.run("DROP TRIGGER fault").await;
        }
        let custody = bench.open().await;
        let opens = bench.opens(&custody, &scene.key).await;
        assert!(opens == before || opens == after, "{act:?} {fault:?}: half done after a start");
        bench.invariant_every_slot_is_accounted_for(&custody, &scene.keys()).await;
        scene.act(act, &custody).await.unwrap();
        assert_eq!(bench.opens(&custody, &scene.key).await, after, "{act:?} {fault:?}");
        bench.invariant_every_slot_is_accounted_for(&custody, &scene.keys()).await;
        invariant_no_secret_is_left_over(bench, &custody).await;
    }
    assert!(struck.len() >= 2, "{act:?} meets too few of the faults: {struck:?}");
}

fn set_file_fault(custody: &Custody, fault: Fault) {
    if let Fault::File(what) = fault {
        custody.parts.secrets.faults.lock().unwrap().insert(what);
    }
}

/// Nothing waits, and every row's secret is there. Strays of crashes go with their epochs.
async fn invariant_no_secret_is_left_over(bench: &Bench, custody: &Custody) {
    let reader = custody.parts.store.reader();
    assert!(doomed_secret::all(reader).await.unwrap().is_empty());
    assert!(pending_receipt::all(reader).await.unwrap().is_empty());
    assert!(epoch::stale(reader, &custody.parts.zone).await.unwrap().is_empty());
    bench.wait_hours(1_000);
    custody.resume_destruction("Ada Ventura", None).await.unwrap();
    let left = custody.parts.secrets.names().unwrap();
    assert!(left.iter().all(|name| name.starts_with("hold-")), "{left:?}");
}

#[tokio::test]
async fn an_expiry_that_fails_at_any_step_is_undone_or_finished() {
    every_fault_twice(Act::Expire).await;
}

#[tokio::test]
async fn an_early_destruction_that_fails_at_any_step_is_undone_or_finished() {
    every_fault_twice(Act::Shred).await;
}

#[tokio::test]
async fn a_hold_that_fails_at_any_step_is_there_or_not() {
    every_fault_twice(Act::PlaceHold).await;
}

#[tokio::test]
async fn a_release_of_a_hold_that_fails_at_any_step_is_undone_or_finished() {
    every_fault_twice(Act::ReleaseHold).await;
}

#[tokio::test]
async fn a_shorter_retention_that_fails_at_any_step_is_applied_in_the_end() {
    every_fault_twice(Act::Shorten).await;
}

#[tokio::test]
async fn an_import_that_fails_at_any_step_can_be_repeated() {
    for fault in faults() {
        let (scene, custody) = scene().await;
        let new = scene.bench.sibling(&scene.key, HOUR);
        let whole = scene.bench.hold(&new, 0, 1_799);
        custody.place_hold(&whole, nobody()).await.unwrap();
        set(&scene.bench, &custody, fault).await;
        for _ in 0..2 {
            let _ = custody.import(&scene.bench.import_of(&custody, &new)).await;
        }
        drop(custody);
        if matches!(fault, Fault::Sql(..)) {
            scene.bench.run("DROP TRIGGER fault").await;
        }
        let custody = scene.bench.open().await;
        scene.bench.import(&custody, &new).await;
        let keys: Vec<_> = scene.keys().into_iter().chain([&new]).collect();
        scene.bench.invariant_every_slot_is_accounted_for(&custody, &keys).await;
        scene.bench.wait_hours(1_000);
        custody.resume_destruction("Ada Ventura", None).await.unwrap();
        assert_eq!(scene.bench.opens(&custody, &new).await, SlotSet::whole_hour(), "{fault:?}: not held");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Import(u32),
    Hold(usize, u16, u16),
    Release(usize),
    Shred(usize, u16, u16),
    Wait(u32),
    Rotate,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let span = (0..1_800_u16, 0..400_u16).prop_map(|(first, length)| (first, (first + length).min(1_799)));
    let step = prop_oneof![
        4 => (0..30_u32).prop_map(Step::Import),
        3 => (any::<usize>(), span.clone()).prop_map(|(key, (first, last))| Step::Hold(key, first, last)),
        2 => any::<usize>().prop_map(Step::Release),
        3 => (any::<usize>(), span).prop_map(|(key, (first, last))| Step::Shred(key, first, last)),
        3 => (1..40_u32).prop_map(Step::Wait),
        1 => Just(Step::Rotate),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

/// Slot by slot what must open: retention, and the standing holds that had it when it opened.
#[derive(Default)]
struct Naive {
    keys: Vec<(MadeKey, BTreeSet<u16>)>,
    /// Hold, key, slots; by the order of placing.
    holds: Vec<(String, BTreeMap<usize, BTreeSet<u16>>)>,
}

impl Naive {
    fn opens(&self, key: usize) -> BTreeSet<u16> {
        let held = self.holds.iter().filter_map(|(_, keys)| keys.get(&key)).flatten();
        held.chain(&self.keys[key].1).copied().collect()
    }
}

async fn walk(steps: Vec<Step>) {
    let bench = Bench::new();
    let mut custody = bench.open().await;
    custody.expire().await.unwrap();
    let mut naive = Naive::default();
    let mut passed = 1;
    for step in steps {
        let of = |key: usize, naive: &Naive| (!naive.keys.is_empty()).then(|| key % naive.keys.len().max(1));
        match step {
            Step::Import(ago) => {
                let key = bench.made_key((HOUR + passed).saturating_sub(ago + 1));
                bench.import(&custody, &key).await;
                naive.keys.push((key, (0..1_800).collect()));
            }
            Step::Hold(key, first, last) => {
                let Some(key) = of(key, &naive) else { continue };
                let placed =
                    custody.place_hold(&bench.hold(&naive.keys[key].0, first, last), nobody()).await.unwrap();
                let held: BTreeSet<u16> =
                    naive.opens(key).into_iter().filter(|slot| (first..=last).contains(slot)).collect();
                assert_eq!(placed.slots, held.len() as u64);
                naive.holds.push((placed.hold.id.to_string(), [(key, held)].into()));
            }
            Step::Release(hold) => {
                if naive.holds.is_empty() {
                    continue;
                }
                let (id, _) = naive.holds.remove(hold % naive.holds.len());
                custody.release_hold(&id, nobody()).await.unwrap();
            }
            Step::Shred(key, first, last) => {
                let Some(key) = of(key, &naive) else { continue };
                match custody.shred(&bench.shred(&naive.keys[key].0, first, last)).await {
                    Ok(_) => naive.keys[key].1.retain(|slot| !(first..=last).contains(slot)),
                    Err(Error::Held(holds)) => assert!(!holds.is_empty()),
                    Err(Error::NothingToDestroy) => {
                        assert!(naive.keys[key].1.iter().all(|slot| !(first..=last).contains(slot)));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Wait(hours) => {
                bench.wait_hours(hours);
                passed += hours;
                custody.expire().await.unwrap();
                for (key, live) in &mut naive.keys {
                    if bench.expiry(key).number() < HOUR + passed {
                        live.clear();
                    }
                }
            }
            Step::Rotate => {
                crate::rotation::Rotation::begin(&custody, 3, None).await.unwrap().run(|_| {}).await.unwrap();
            }
            Step::Restart => {
                drop(custody);
                custody = bench.open().await;
            }
        }
        for (number, (key, _)) in naive.keys.iter().enumerate() {
            let opens = bench.opens(&custody, key).await;
            let opens: BTreeSet<u16> =
                opens.ranges().iter().flat_map(|range| range.first().get()..=range.last().get()).collect();
            assert_eq!(opens, naive.opens(number));
        }
    }
    let keys: Vec<_> = naive.keys.iter().map(|(key, _)| key).collect();
    bench.invariant_every_slot_is_accounted_for(&custody, &keys).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn custody_does_what_slot_by_slot_bookkeeping_says(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(walk(steps));
    }
}
