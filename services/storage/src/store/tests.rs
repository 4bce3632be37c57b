//! The index on both databases, real ones.

mod arrivals;
mod before;
mod receipts;
mod replicas;
mod settling;
mod walks;

use std::sync::Arc;

use obscura_database::PostgresUrl;
use obscura_ids::{GapId, Layer, WriterEpoch};
use obscura_proto::footage::v1::GapReason;
use obscura_test_servers::postgres::{Postgres, shared};
use proptest::{prelude::*, test_runner::TestRunner};
use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;

use super::*;
use crate::{
    run::runs_of,
    test_support::{at, camera, pack as make_pack, row, span},
};

impl Store {
    /// Closes the file, so that it can be lost.
    pub(crate) async fn close_for_test(&self) {
        self.database.close().await.unwrap();
    }

    /// Many packs in one transaction: ten thousand synced ones would take a minute.
    pub(crate) async fn fill(&self, packs: impl IntoIterator<Item = (PackRow, Vec<Run>)>) {
        let transaction = self.database.write().await.unwrap();
        for (row, runs) in packs {
            partition::make_day(&*transaction, row.span.start()).await.unwrap();
            pack::insert_many(&*transaction, std::iter::once(&row)).await.unwrap();
            for run in runs {
                run::insert(&*transaction, row.camera, row.layer, run).await.unwrap();
            }
        }
        transaction.commit().await.unwrap();
    }

    async fn empty(&self) {
        let tables = partition::tables_by_start(self.database.backend());
        for table in tables.iter().chain(&["packs_over_an_hour", "runs"]) {
            self.database.readers().execute_unprepared(&format!("DELETE FROM {table}")).await.unwrap();
        }
    }
}

fn on(postgres: &Postgres) -> Location {
    Location::Postgres { url: PostgresUrl::try_new(&postgres.new_database()).unwrap(), schema: SCHEMA }
}

/// One empty index on each database.
pub(super) async fn both() -> (TempDir, [Store; 2]) {
    let directory = TempDir::new().unwrap();
    let file = Location::Sqlite(directory.path().join("index.sqlite"));
    let stores = [Store::open(&file).await.unwrap(), Store::open(&on(shared())).await.unwrap()];
    (directory, stores)
}

async fn insert(store: &Store, number: u8, segments: &[(i64, i64)]) -> Result<Inserted, Error> {
    let (row, runs) = row(&make_pack(1, id(number), segments));
    store.insert_pack(&row, &runs, at(0)).await
}

fn id(number: u8) -> PackId {
    PackId::from_bytes([number; 16])
}

fn slice(from: i64, to: i64) -> Slice {
    Slice { camera: camera(1), layer: Layer::Original, from: at(from), to: at(to), after: None, limit: 10 }
}

async fn ids(store: &Store, slice: Slice) -> Vec<PackId> {
    store.packs(&slice).await.unwrap().into_iter().map(|row| row.pack).collect()
}

fn gap(number: u8, start: i64, end: Option<i64>) -> Gap {
    Gap {
        id: GapId::from_bytes([number; 16]),
        camera: camera(1),
        start: at(start),
        end: end.map(at),
        reason: GapReason::ConnectionLost,
        writer: None,
    }
}

#[tokio::test]
async fn a_pack_reads_back_and_is_inserted_once() {
    let (_directory, stores) = both().await;
    for store in stores {
        let (first, runs) = row(&make_pack(1, id(1), &[(0, 4_000), (4_000, 8_000)]));
        assert_eq!(store.insert_pack(&first, &runs, at(0)).await.unwrap(), Inserted::New);
        assert_eq!(store.pack(id(1)).await.unwrap(), Some(first.clone()));
        assert_eq!(store.pack(id(2)).await.unwrap(), None);

        let (second, runs) = row(&make_pack(1, id(1), &[(60_000, 64_000)]));
        let again = store.insert_pack(&second, &runs, at(0)).await.unwrap();
        assert_eq!(again, Inserted::Before(Box::new(first)));
        assert_eq!(store.runs(None, None, 10).await.unwrap().len(), 1, "the refused pack left no run");
    }
}

#[tokio::test]
async fn many_writers_at_once_queue_up() {
    let (_directory, stores) = both().await;
    for store in stores {
        let store = Arc::new(store);
        let writers = (0..20_u8).map(|number| {
            let store = Arc::clone(&store);
            let start = i64::from(number) * 4_000;
            tokio::spawn(async move {
                let (row, runs) = row(&make_pack(1, id(number), &[(start, start + 4_000)]));
                store.insert_pack(&row, &runs, at(0)).await.unwrap()
            })
        });
        for writer in futures::future::join_all(writers).await {
            assert_eq!(writer.unwrap(), Inserted::New);
        }
        let runs = store.runs(None, None, 10).await.unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].run.span, runs[0].run.segments), (span(0, 80_000), 20));
    }
}

#[tokio::test]
async fn packs_are_found_by_time_and_slice_by_slice() {
    let (_directory, stores) = both().await;
    for store in stores {
        store
            .fill(
                [(1, 0), (2, 60_000), (3, 120_000)]
                    .map(|(n, start)| row(&make_pack(1, id(n), &[(start, start + 60_000)]))),
            )
            .await;
        store.fill([row(&make_pack(2, id(9), &[(0, 60_000)]))]).await;
        assert_eq!(ids(&store, slice(0, 200_000)).await, [id(1), id(2), id(3)]);
        assert_eq!(ids(&store, slice(60_001, 120_000)).await, [id(2)]);
        assert_eq!(ids(&store, Slice { limit: 2, ..slice(0, 200_000) }).await, [id(1), id(2)]);
        assert_eq!(
            ids(&store, Slice { after: Some((at(60_000), id(2))), ..slice(0, 200_000) }).await,
            [id(3)]
        );
        assert_eq!(ids(&store, Slice { layer: Layer::Masked, ..slice(0, 200_000) }).await, []);
    }
}

#[tokio::test]
async fn a_pack_that_a_clock_step_made_longer_than_an_hour_is_found_too() {
    let (_directory, stores) = both().await;
    for store in stores {
        let day = 86_400_000;
        store.fill([row(&make_pack(1, id(1), &[(0, 4_000), (day, day + 4_000)]))]).await;
        store.fill([row(&make_pack(1, id(2), &[(day - 2_000, day)]))]).await;
        assert_eq!(ids(&store, slice(day - 10_000, day + 10_000)).await, [id(1), id(2)]);
        assert_eq!(store.runs(None, None, 10).await.unwrap().len(), 2, "the day between them is no footage");
    }
}

#[tokio::test]
async fn summaries_name_the_packs_that_exist() {
    let (_directory, stores) = both().await;
    for store in stores {
        let (row, runs) = row(&make_pack(1, id(1), &[(0, 4_000)]));
        store.insert_pack(&row, &runs, at(0)).await.unwrap();
        let summaries = store.summaries(&[id(1), id(2)]).await.unwrap();
        let expected = PackSummary { pack: id(1), key: row.key, span: span(0, 4_000), bytes: row.bytes };
        assert_eq!(summaries, [expected]);
        assert_eq!(store.summaries(&[]).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_gap_is_replaced_by_its_later_report() {
    let (_directory, stores) = both().await;
    for store in stores {
        store.record_gaps(&[gap(1, 0, None), gap(2, 50, Some(60))]).await.unwrap();
        store.record_gaps(&[gap(1, 0, Some(10))]).await.unwrap();
        store.record_gaps(&[]).await.unwrap();
        assert_eq!(store.gaps(None, None, 10).await.unwrap(), [gap(1, 0, Some(10)), gap(2, 50, Some(60))]);
    }
}

#[tokio::test]
async fn a_recorder_that_was_killed_leaves_no_gap_open_for_ever() {
    let (_directory, stores) = both().await;
    for store in stores {
        store.record_gaps(&[gap(1, 0, None)]).await.unwrap();
        let stopped = Gap { reason: GapReason::RecorderStopped, ..gap(2, 50, None) };
        let later = gap(3, 70, None);
        for _ in 0..2 {
            store.record_gaps(&[stopped, later]).await.unwrap();
            let expected = [gap(1, 0, Some(50)), stopped, later];
            assert_eq!(store.gaps(None, None, 10).await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn a_recorder_ends_the_gaps_of_its_own_directory_and_not_those_of_another_recorder() {
    let (_directory, stores) = both().await;
    let of = |writer: u64, gap: Gap| Gap { writer: Some(WriterEpoch(writer)), ..gap };
    let (one, two) = (7_u64 << 32, 9_u64 << 32);
    for store in stores {
        let own = of(one + 3, gap(1, 0, None));
        let other = of(two + 1, gap(2, 1, None));
        let newer = of(one + 5, gap(3, 2, None));
        let unknown = gap(4, 3, None);
        store.record_gaps(&[own, other, newer, unknown]).await.unwrap();
        let stopped = of(one + 4, Gap { reason: GapReason::RecorderStopped, ..gap(5, 50, Some(60)) });
        store.record_gaps(std::slice::from_ref(&stopped)).await.unwrap();
        let end = Some(at(50));
        let expected = [Gap { end, ..own }, other, newer, Gap { end, ..unknown }, stopped];
        assert_eq!(store.gaps(None, None, 10).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn runs_and_gaps_are_chosen_by_camera_and_span() {
    let (_directory, stores) = both().await;
    for store in stores {
        store
            .fill([row(&make_pack(1, id(1), &[(0, 4_000)])), row(&make_pack(1, id(2), &[(60_000, 64_000)]))])
            .await;
        store.fill([row(&make_pack(2, id(3), &[(0, 4_000)]))]).await;
        let gaps = [gap(1, 4_000, Some(60_000)), gap(2, 64_000, None)];
        store.record_gaps(&gaps).await.unwrap();
        assert_eq!(store.runs(None, None, 10).await.unwrap().len(), 3);
        assert_eq!(store.runs(None, None, 2).await.unwrap().len(), 2);
        let runs = store.runs(Some(camera(1)), Some(span(1_000, 60_000)), 10).await.unwrap();
        assert_eq!(runs.iter().map(|run| run.run.span).collect::<Vec<_>>(), [span(0, 4_000)]);
        for between in [span(0, 4_001), span(70_000, 70_001), span(4_000, 70_000), span(60_000, 64_000)] {
            let expected: Vec<Gap> = gaps.iter().filter(|gap| gap.overlaps(between)).copied().collect();
            assert_eq!(
                store.gaps(Some(camera(1)), Some(between), 10).await.unwrap(),
                expected,
                "{between:?}"
            );
        }
        assert_eq!(store.gaps(Some(camera(2)), None, 10).await.unwrap(), []);
        // Of another camera, which comes behind the first, and in between in time.
        let other = Gap { camera: camera(2), ..gap(3, 30_000, Some(31_000)) };
        store.record_gaps(&[other]).await.unwrap();
        assert_eq!(store.gaps(None, None, 10).await.unwrap(), [gaps[0], gaps[1], other]);
        assert_eq!(store.gaps(None, None, 2).await.unwrap(), [gaps[1], other], "the oldest is left out");
    }
}

/// Starts of packs, and pause and length of each of their segments.
fn packs() -> impl Strategy<Value = Vec<Vec<(i64, i64)>>> {
    let segments = prop::collection::vec((0..3_i64, 1..5_i64), 1..4);
    let pack = (0..120_i64, segments).prop_map(|(start, segments)| {
        let mut end = start * 500;
        let mut place = |(pause, length): (i64, i64)| {
            let start = end + pause * 750;
            end = start + length * 500;
            (start, end)
        };
        segments.into_iter().map(&mut place).collect()
    });
    prop::collection::vec(pack, 0..40)
}

#[test]
fn the_table_of_runs_does_not_depend_on_the_order_of_commits() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_directory, stores) = runtime.block_on(both());
    let check = |packs: Vec<Vec<(i64, i64)>>| {
        let segments = packs.iter().flatten().map(|&(start, end)| (span(start, end), 0));
        let expected: Vec<_> = runs_of(segments).iter().map(|run| (run.span, run.segments)).collect();
        for store in &stores {
            let runs = runtime.block_on(async {
                store.empty().await;
                let rows =
                    (1..).zip(&packs).map(|(number, segments)| row(&make_pack(1, id(number), segments)));
                store.fill(rows).await;
                store.runs(Some(camera(1)), None, 1_000).await.unwrap()
            });
            let runs: Vec<_> = runs.iter().map(|run| (run.run.span, run.run.segments)).collect();
            prop_assert_eq!(&runs, &expected);
        }
        Ok(())
    };
    TestRunner::new(ProptestConfig::with_cases(24)).run(&packs(), check).unwrap();
}
