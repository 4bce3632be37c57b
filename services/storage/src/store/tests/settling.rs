//! New packs move to the tables of their days, and nobody who asks sees them do it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sea_orm::{DbBackend, Statement};

use super::*;
use crate::store::settling;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// The start of an hour of the clock, which `at(0)` is.
const FIRST: fn() -> i64 = || at(0).unix_nanos();
/// By then every hour of these tests is over.
const LATER: i64 = 100 * HOUR;

/// Everything that the index is asked for.
#[derive(Debug, PartialEq)]
struct Answers {
    slices: Vec<Vec<PackRow>>,
    walked: Vec<PackRow>,
    by_id: Vec<PackRow>,
    runs: Vec<CameraRun>,
    packs: u64,
}

async fn answers(store: &Store, ids: &[PackId]) -> Answers {
    let mut slices = Vec::new();
    for number in 0..3 {
        for limit in [2, 100] {
            slices
                .push(sliced(store, Slice { camera: camera(number), limit, ..slice(-HOUR, 9 * HOUR) }).await);
        }
        slices.push(sliced(store, Slice { camera: camera(number), ..slice(HOUR, HOUR + MINUTE) }).await);
    }
    let mut by_id = store.packs_by_id(ids).await.unwrap();
    by_id.sort_by_key(|row| row.pack);
    let runs = store.runs(None, None, 1_000).await.unwrap();
    let packs = store.totals().await.unwrap().packs;
    Answers { slices, walked: walked(store, 3).await, by_id, runs, packs }
}

/// A slice to its end.
async fn sliced(store: &Store, slice: Slice) -> Vec<PackRow> {
    let (mut found, mut next) = (Vec::new(), Some(slice));
    while let Some(slice) = next {
        let rows = store.packs(&slice).await.unwrap();
        next = slice.behind(&rows);
        found.extend(rows);
    }
    found
}

/// All packs by their keys.
async fn walked(store: &Store, limit: u16) -> Vec<PackRow> {
    let (mut found, mut next) = (Vec::new(), Some(Walk { limit, ..Walk::default() }));
    while let Some(walk) = next {
        let rows = store.walk(&walk).await.unwrap();
        next = walk.behind(&rows);
        found.extend(rows);
    }
    found
}

/// Moves some packs of an hour; says how many.
async fn step(store: &Store, hour: i64, limit: u32) -> u64 {
    let write = store.database.write().await.unwrap();
    let step = settling::step(&*write, FIRST() + hour * HOUR * 1_000_000, i32::MIN, limit).await.unwrap();
    write.commit().await.unwrap();
    step.moved
}

/// What a query gives, as a number.
async fn number(store: &Store, query: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, query);
    let row = store.database.readers().query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Cameras, minutes at which packs start, and minutes that they last: some are longer than an hour.
fn packs() -> impl Strategy<Value = Vec<(u8, i64, i64)>> {
    let length = prop_oneof![9 => 1..3_i64, 1 => 61..90_i64];
    prop::collection::vec((0..3_u8, 0..180_i64, length), 0..30)
}

#[test]
fn whatever_is_asked_is_answered_alike_before_during_and_after_settling() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_directory, stores) = runtime.block_on(both());
    let check = |packs: Vec<(u8, i64, i64)>| {
        let rows: Vec<_> = (1..)
            .zip(&packs)
            .map(|(number, &(camera, start, length))| {
                let (start, end) = (start * MINUTE, (start + length) * MINUTE);
                row(&make_pack(camera, id(number), &[(start, start + 4_000), (end - 4_000, end)]))
            })
            .collect();
        let ids: Vec<PackId> = rows.iter().map(|(row, _)| row.pack).collect();
        for store in &stores {
            runtime.block_on(async {
                store.empty().await;
                store.fill(rows.clone()).await;
                let before = answers(store, &ids).await;
                prop_assert_eq!(before.packs, rows.len() as u64);
                for hour in [1, 0, 2, 0].into_iter().filter(|_| store.settles()) {
                    prop_assert!(step(store, hour, 3).await <= 3);
                    prop_assert_eq!(&answers(store, &ids).await, &before, "in between");
                }
                store.settle(at(LATER)).await.unwrap();
                prop_assert_eq!(&answers(store, &ids).await, &before, "afterwards");
                prop_assert_eq!(store.settle(at(LATER)).await.unwrap(), 0, "there is nothing left");
                Ok(())
            })?;
        }
        Ok(())
    };
    TestRunner::new(ProptestConfig::with_cases(12)).run(&packs(), check).unwrap();
}

#[tokio::test]
async fn an_hour_of_a_camera_lies_together_once_it_has_settled() {
    let (_directory, [_, store]) = both().await;
    let write = store.database.write().await.unwrap();
    partition::make_day(&*write, at(0)).await.unwrap();
    for minute in 0..60 {
        let segments: Vec<_> =
            (0..15).map(|n| minute * MINUTE + n * 4_000).map(|ms| (ms, ms + 4_000)).collect();
        let pack = |number| row(&make_pack(number, PackId::generate(), &segments)).0;
        let rows: Vec<PackRow> = (0..40).map(pack).collect();
        pack::insert_many(&*write, rows.iter()).await.unwrap();
    }
    write.commit().await.unwrap();
    let pages =
        |table| format!("SELECT COUNT(DISTINCT (ctid::text::point)[0]) FROM {table} WHERE stream = 17");
    assert!(number(&store, &pages("packs_recent")).await > 45, "each minute of it on a page of its own");
    let whole = 60 * 40;
    assert!(whole > settling::TOGETHER.into(), "more than one transaction moves");
    assert_eq!(store.settle(at(LATER)).await.unwrap(), whole);
    assert!(number(&store, &pages("packs_of_days")).await <= 15);
    assert_eq!(number(&store, "SELECT COUNT(*) FROM packs_of_days WHERE stream = 17").await, 60);
}

#[tokio::test]
async fn only_hours_that_are_over_settle_and_a_late_pack_of_one_follows() {
    let (_directory, [_, store]) = both().await;
    for (number, start) in [(1, 0), (2, HOUR - 1_000), (3, HOUR), (4, HOUR + MINUTE)] {
        insert(&store, number, &[(start, start + 4_000)]).await.unwrap();
    }
    let in_days = "SELECT COUNT(*) FROM packs_of_days";
    assert_eq!(store.settle(at(HOUR + 5 * MINUTE - 1)).await.unwrap(), 0);
    assert_eq!(store.settle(at(HOUR + 5 * MINUTE)).await.unwrap(), 2);
    assert_eq!(store.settle(at(HOUR + 6 * MINUTE)).await.unwrap(), 0);
    insert(&store, 5, &[(2 * MINUTE, 3 * MINUTE)]).await.unwrap();
    assert_eq!((store.settle(at(HOUR + 7 * MINUTE)).await.unwrap(), number(&store, in_days).await), (1, 3));
    assert_eq!((step(&store, 1, 1).await, number(&store, in_days).await), (1, 4));
    assert_eq!(ids(&store, slice(0, 2 * HOUR)).await, [1, 5, 2, 3, 4].map(id));
}

#[tokio::test]
async fn a_pack_is_removed_and_refused_a_second_time_wherever_it_is() {
    let (_directory, stores) = both().await;
    for store in stores {
        for (number, start) in [(1, 0), (2, MINUTE), (3, HOUR), (4, HOUR + MINUTE)] {
            insert(&store, number, &[(start, start + 4_000)]).await.unwrap();
        }
        assert_eq!(store.settle(at(HOUR + 30 * MINUTE)).await.unwrap(), 2 * u64::from(store.settles()));
        for number in [1, 3] {
            let again = insert(&store, number, &[(9 * HOUR, 9 * HOUR + 4_000)]).await.unwrap();
            assert!(matches!(again, Inserted::Before(_)), "{again:?}");
        }
        store.bury(&[(id(1), 1), (id(3), 1)], at(LATER)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(ids(&store, slice(0, 9 * HOUR)).await, [id(2), id(4)]);
            assert_eq!(store.totals().await.unwrap().packs, 2);
            store.settle(at(LATER)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_table_of_a_day_stays_while_a_new_pack_has_to_move_there() {
    let (_directory, [_, store]) = both().await;
    let day = 24 * HOUR;
    for (number, start) in [(1, 0), (2, day), (3, 10 * day)] {
        insert(&store, number, &[(start, start + 4_000)]).await.unwrap();
    }
    assert_eq!(store.settle(at(LATER)).await.unwrap(), 2);
    assert_eq!(store.settle(at(11 * day)).await.unwrap(), 1);
    assert_eq!(ids(&store, slice(0, 20 * day)).await, [id(1), id(2), id(3)]);
}

/// Packs of two hours arrive at one replica, every other goes again at the other one, and both settle all the time.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_settle_while_others_insert_remove_and_read_lose_and_double_nothing() {
    const PACKS: usize = 120;
    let location = on(shared());
    let stores = [Store::open(&location).await.unwrap(), Store::open(&location).await.unwrap()];
    let (arrived, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let number = |place: usize| u8::try_from(place).unwrap();
    let inserting = tokio::spawn({
        let (store, arrived) = (stores[0].clone(), Arc::clone(&arrived));
        async move {
            for place in 0..PACKS {
                let start = i64::from(number(place)) * MINUTE;
                let inserted = insert(&store, number(place), &[(start, start + 4_000)]).await.unwrap();
                assert_eq!(inserted, Inserted::New);
                arrived.store(place + 1, Ordering::SeqCst);
            }
        }
    });
    let removing = tokio::spawn({
        let (store, arrived) = (stores[1].clone(), Arc::clone(&arrived));
        async move {
            for place in (1..PACKS).step_by(2) {
                while arrived.load(Ordering::SeqCst) <= place {
                    tokio::task::yield_now().await;
                }
                store.bury(&[(id(number(place)), 1)], at(0)).await.unwrap();
            }
        }
    });
    let settling = stores.clone().map(|store| {
        let is_over = Arc::clone(&is_over);
        tokio::spawn(async move {
            let mut moved = 0;
            while !is_over.load(Ordering::SeqCst) {
                moved += store.settle(at(LATER)).await.unwrap();
            }
            moved + store.settle(at(LATER)).await.unwrap()
        })
    });
    let reading = tokio::spawn({
        let (store, arrived, is_over) = (stores[1].clone(), Arc::clone(&arrived), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::SeqCst) {
                let staying: Vec<PackId> =
                    (0..arrived.load(Ordering::SeqCst)).step_by(2).map(|place| id(number(place))).collect();
                let whole = Slice { limit: 300, ..slice(-HOUR, 9 * HOUR) };
                let found = [
                    store.packs(&whole).await.unwrap(),
                    walked(&store, 300).await,
                    store.packs_by_id(&staying).await.unwrap(),
                ];
                for rows in found {
                    let mut ids: Vec<PackId> = rows.iter().map(|row| row.pack).collect();
                    ids.sort();
                    assert!(ids.is_sorted_by(|one, two| one < two), "one is there twice");
                    assert!(staying.iter().all(|id| ids.contains(id)), "one is not there");
                }
            }
        }
    });
    inserting.await.unwrap();
    removing.await.unwrap();
    is_over.store(true, Ordering::SeqCst);
    reading.await.unwrap();
    let moved: Vec<u64> = futures::future::try_join_all(settling).await.unwrap();
    assert!(moved.iter().sum::<u64>() >= 60, "{moved:?}");
    let staying: Vec<PackId> = (0..PACKS).step_by(2).map(|place| id(number(place))).collect();
    for store in &stores {
        assert_eq!(ids(store, Slice { limit: 300, ..slice(-HOUR, 9 * HOUR) }).await, staying);
        assert_eq!(store.totals().await.unwrap().packs, 60);
    }
}
