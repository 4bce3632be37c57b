//! PostgreSQL under several replicas, by day, and when it goes away.

use std::time::Duration;

use obscura_pack::Day;
use sea_orm::{DbBackend, Statement, TransactionTrait as _};

use super::*;

const DAY: i64 = 86_400_000;

/// Replicas of one service.
async fn replicas() -> [Store; 2] {
    let location = on(shared());
    [Store::open(&location).await.unwrap(), Store::open(&location).await.unwrap()]
}

/// Tables of days and their rows.
async fn days(store: &Store) -> Vec<(String, i64)> {
    let tables = "SELECT inhrelid::regclass::text FROM pg_inherits \
                  WHERE inhparent = 'packs_of_days'::regclass ORDER BY 1";
    let tables = Statement::from_string(DbBackend::Postgres, tables);
    let mut days = Vec::new();
    for row in store.database.readers().query_all_raw(tables).await.unwrap() {
        let table: String = row.try_get_by_index(0).unwrap();
        let count = Statement::from_string(DbBackend::Postgres, format!("SELECT COUNT(*) FROM {table}"));
        let count = store.database.readers().query_one_raw(count).await.unwrap().unwrap();
        days.push((table, count.try_get_by_index(0).unwrap()));
    }
    days
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_commit_neighbours_at_the_same_time_lose_none_and_leave_one_run() {
    let stores = replicas().await;
    let inserts = (0..40_u8).map(|number| {
        let store = stores[usize::from(number) % 2].clone();
        let start = i64::from(number) * 4_000;
        tokio::spawn(async move { insert(&store, number, &[(start, start + 4_000)]).await.unwrap() })
    });
    let inserted = futures::future::try_join_all(inserts).await.unwrap();
    assert!(inserted.iter().all(|inserted| *inserted == Inserted::New));
    for store in &stores {
        let runs = store.runs(None, None, 10).await.unwrap();
        assert_eq!(runs.iter().map(|run| run.run.span).collect::<Vec<_>>(), [span(0, 160_000)]);
        assert_eq!(runs[0].run.segments, 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_in_the_index_once_whatever_the_day_and_the_replica() {
    let stores = replicas().await;
    let inserts = (0..10_i64).map(|day| {
        let store = stores[usize::try_from(day).unwrap() % 2].clone();
        tokio::spawn(async move { insert(&store, 1, &[(day * DAY, day * DAY + 4_000)]).await.unwrap() })
    });
    let inserted = futures::future::try_join_all(inserts).await.unwrap();
    assert_eq!(inserted.iter().filter(|inserted| **inserted == Inserted::New).count(), 1);
    assert_eq!(stores[0].runs(None, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn each_day_has_a_table_and_long_packs_have_theirs() {
    let [store, _] = replicas().await;
    let midnight = Day::of(at(2 * DAY)).start().since(at(0)).as_millis().try_into().unwrap();
    for (number, start) in [(1, midnight - 1), (2, midnight), (3, midnight + 1), (4, midnight + 20_000 * DAY)]
    {
        insert(&store, number, &[(start, start + 4_000)]).await.unwrap();
    }
    insert(&store, 5, &[(5 * DAY, 5 * DAY + 4_000), (6 * DAY, 6 * DAY + 4_000)]).await.unwrap();
    let day = |start, rows| (partition::name(at(start)), rows);
    assert_eq!(days(&store).await.iter().map(|(_, rows)| rows).sum::<i64>(), 0, "they are new");
    assert_eq!(store.settle(at(30_000 * DAY)).await.unwrap(), 4);
    assert_eq!(days(&store).await, [day(midnight - 1, 1), day(midnight, 2), day(midnight + 20_000 * DAY, 1)]);
    assert_eq!(ids(&store, slice(midnight - 10_000, midnight + 10_000)).await, [id(1), id(2), id(3)]);
    assert_eq!(ids(&store, slice(5 * DAY + 10_000, 6 * DAY)).await, [id(5)]);
}

#[tokio::test]
async fn days_of_which_nothing_is_left_go_when_a_day_begins_and_come_again_when_needed() {
    let [store, _] = replicas().await;
    for (number, day) in [(1, 0), (2, 1), (3, 5)] {
        insert(&store, number, &[(day * DAY, day * DAY + 4_000)]).await.unwrap();
    }
    assert_eq!(store.settle(at(30 * DAY)).await.unwrap(), 3);
    let gone = format!("DELETE FROM packs_of_days WHERE start_ns <> {}", at(DAY).unix_nanos());
    store.database.readers().execute_unprepared(&gone).await.unwrap();
    insert(&store, 4, &[(10 * DAY, 10 * DAY + 4_000)]).await.unwrap();
    let names = async || days(&store).await.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names().await, [DAY, 5 * DAY, 10 * DAY].map(|start| partition::name(at(start))));
    insert(&store, 1, &[(0, 4_000)]).await.unwrap();
    assert_eq!(names().await.len(), 4);
    assert!(store.pack(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_backup_that_reads_for_long_keeps_no_new_day_waiting() {
    let [store, other] = replicas().await;
    insert(&store, 1, &[(0, 4_000)]).await.unwrap();
    assert_eq!(store.settle(at(DAY)).await.unwrap(), 1);
    let backup = other.database.readers().begin().await.unwrap();
    backup.execute_unprepared("LOCK TABLE packs, runs, gaps IN ACCESS SHARE MODE").await.unwrap();
    store.database.readers().execute_unprepared("DELETE FROM packs_of_days").await.unwrap();
    let began = insert(&store, 2, &[(20 * DAY, 20 * DAY + 4_000)]);
    // Where it waited for the backup, that would be for the 30 s that a statement waits for a lock.
    let began = tokio::time::timeout(Duration::from_secs(20), began).await.unwrap();
    assert_eq!(began.unwrap(), Inserted::New);
    assert_eq!(days(&store).await.len(), 2, "the empty one stays while somebody reads it");
}

#[tokio::test]
async fn a_commit_that_a_crash_of_the_server_cuts_off_leaves_nothing_and_can_be_repeated() {
    let postgres = Postgres::own();
    let store = Store::open(&on(&postgres)).await.unwrap();
    for number in [1, 2] {
        let start = i64::from(number) * DAY;
        let (row, runs) = row(&make_pack(1, id(number), &[(start, start + 4_000)]));
        let write = store.database.write().await.unwrap();
        partition::make_day(&*write, row.span.start()).await.unwrap();
        pack::insert_many(&*write, std::iter::once(&row)).await.unwrap();
        run::insert(&*write, row.camera, row.layer, runs[0]).await.unwrap();
        postgres.stop_immediately();
        write.commit().await.unwrap_err();
        postgres.start();
        assert_eq!(store.pack(id(number)).await.unwrap(), None);
        assert_eq!(store.insert_pack(&row, &runs, at(0)).await.unwrap(), Inserted::New);
        assert_eq!(store.runs(None, None, 10).await.unwrap().len(), usize::from(number));
    }
}

#[tokio::test]
async fn commits_go_on_through_restarts_of_the_server_and_what_was_acknowledged_is_there() {
    let postgres = Arc::new(Postgres::own());
    let store = Store::open(&on(&postgres)).await.unwrap();
    let restarting = Arc::clone(&postgres);
    let restarts = tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(300));
            restarting.stop_immediately();
            restarting.start();
        }
    });
    let mut acknowledged = Vec::new();
    for number in 0..200_u8 {
        let start = i64::from(number) * 4_000;
        // As a recorder does: the same pack until it is in the index.
        while insert(&store, number, &[(start, start + 4_000)]).await.is_err() {}
        acknowledged.push(id(number));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    restarts.await.unwrap();
    let found = store.summaries(&acknowledged).await.unwrap();
    assert_eq!(found.len(), 200);
    let runs = store.runs(None, None, 10).await.unwrap();
    assert_eq!((runs.len(), runs[0].run.segments), (1, 200), "each is counted once");
}

#[tokio::test]
async fn while_the_server_only_reads_commits_fail_with_its_words_and_searching_works() {
    let postgres = Postgres::own();
    let store = Store::open(&on(&postgres)).await.unwrap();
    insert(&store, 1, &[(0, 4_000)]).await.unwrap();
    postgres.set_read_only(true);
    let refused = insert(&store, 2, &[(4_000, 8_000)]).await.unwrap_err();
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
    assert_eq!(ids(&store, slice(0, 10_000)).await, [id(1)]);
    postgres.set_read_only(false);
    assert_eq!(insert(&store, 2, &[(4_000, 8_000)]).await.unwrap(), Inserted::New);
}
