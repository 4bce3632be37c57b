//! Walks by key, slices by time, and the streams beside which rows lie.

use obscura_ids::Digest;
use obscura_pack::Directory;
use sea_orm::{DbBackend, Statement};

use super::*;

const DAY: i64 = 86_400_000;

/// The same pack with another initialisation segment.
fn with_init(pack: &Directory, init: u8) -> Directory {
    let mut pack = pack.clone();
    pack.entries.iter_mut().for_each(|entry| entry.header.init_hash = Digest::from_bytes([init; 32]));
    pack
}

/// Packs of three cameras on some days, one of them long, beside several streams, the ids in no order of time.
fn packs() -> Vec<PackRow> {
    let pack = |number: u8| {
        let start = i64::from(number % 7) * DAY / 2 + i64::from(number) * 10_000;
        let length = if number == 11 { DAY + 5_000 } else { 4_000 };
        let segments = [(start, start + 2_000), (start + length - 2_000, start + length)];
        row(&with_init(&make_pack(number % 3, id(number.wrapping_mul(83)), &segments), number % 4)).0
    };
    (1..=60).map(pack).collect()
}

#[tokio::test]
async fn a_walk_gives_every_pack_once_in_the_order_of_keys_whatever_its_steps() {
    let (_directory, stores) = both().await;
    let mut expected = packs();
    expected.sort_by(|one, two| one.key.cmp(&two.key));
    for store in stores {
        store.fill(packs().into_iter().map(|row| (row, Vec::new()))).await;
        let spans = [None, Some(span(DAY, 2 * DAY)), Some(span(-5 * DAY, -4 * DAY))];
        for (camera, span) in
            [None, Some(camera(1))].into_iter().flat_map(|camera| spans.map(|span| (camera, span)))
        {
            let is_wanted = |row: &&PackRow| {
                camera.is_none_or(|camera| camera == row.camera)
                    && span.is_none_or(|span| row.span.overlaps(span))
            };
            let wanted: Vec<PackRow> = expected.iter().filter(is_wanted).cloned().collect();
            for limit in [1, 7, 100] {
                let (mut found, mut next) = (Vec::new(), Some(Walk { camera, span, after: None, limit }));
                while let Some(walk) = next {
                    let rows = store.walk(&walk).await.unwrap();
                    next = walk.behind(&rows);
                    found.extend(rows);
                }
                assert_eq!(found, wanted, "{camera:?} {span:?} {limit}");
            }
        }
    }
}

#[tokio::test]
async fn slices_of_any_size_give_every_pack_of_a_layer_once_in_the_order_of_time() {
    let (_directory, stores) = both().await;
    let mut expected = packs();
    expected.retain(|row| row.camera == camera(2));
    expected.sort_by_key(|row| (row.span.start(), row.pack));
    for store in stores {
        store.fill(packs().into_iter().map(|row| (row, Vec::new()))).await;
        for (from, to) in [(-DAY, 9 * DAY), (DAY, 2 * DAY), (0, 1)] {
            let wanted: Vec<PackRow> = expected
                .iter()
                .filter(|row| row.span.start() < at(to) && row.span.end() >= at(from))
                .cloned()
                .collect();
            for limit in [1, 3, 100] {
                let first = Slice { camera: camera(2), limit, ..slice(from, to) };
                let (mut found, mut next) = (Vec::new(), Some(first));
                while let Some(slice) = next {
                    let rows = store.packs(&slice).await.unwrap();
                    next = slice.behind(&rows);
                    found.extend(rows);
                }
                assert_eq!(found, wanted, "{from} {to} {limit}");
            }
        }
    }
}

/// `EXPLAIN QUERY PLAN` says the same whichever of the bounds SQLite begins at, so the steps of the statement are looked
/// at: the last two values that are put in place before the table is searched are the stream and the start from which it
/// is.
#[tokio::test]
async fn a_search_in_sqlite_begins_where_the_slice_does_and_not_at_the_first_pack_of_the_stream() {
    let (_directory, [store, _]) = both().await;
    let explain = format!("EXPLAIN {}", pack::stretch_sql(DbBackend::Sqlite, pack::Way::InOrder));
    let steps = store.database.readers();
    let steps = steps.query_all_raw(Statement::from_string(DbBackend::Sqlite, explain)).await.unwrap();
    let steps = steps.iter().map(|step| {
        let name: String = step.try_get_by_index(1).unwrap();
        let parameter: i64 = step.try_get_by_index(2).unwrap();
        (name, parameter)
    });
    let before: Vec<(String, i64)> = steps.take_while(|(name, _)| !name.starts_with("Seek")).collect();
    let values = before.iter().rev().filter(|(name, _)| name == "Variable").map(|(_, parameter)| *parameter);
    assert_eq!(values.take(2).collect::<Vec<_>>(), [2, 1], "`$2` is the start and `$1` the stream");
}

#[tokio::test]
async fn a_camera_that_changes_its_parameters_all_the_time_has_few_streams_and_all_its_packs() {
    let (_directory, stores) = both().await;
    let rows: Vec<PackRow> = (0..40_u8)
        .map(|number| {
            let start = i64::from(number) * 4_000;
            row(&with_init(&make_pack(1, id(number), &[(start, start + 4_000)]), number)).0
        })
        .collect();
    for store in stores {
        store.fill(rows.clone().into_iter().map(|row| (row, Vec::new()))).await;
        assert_eq!(stream::all(store.database.readers()).await.unwrap().len(), 16);
        assert_eq!(store.packs(&Slice { limit: 100, ..slice(0, DAY) }).await.unwrap(), rows);
    }
}

#[tokio::test]
async fn the_bytes_of_a_walk_are_those_of_its_runs_or_a_share_of_them() {
    let (_directory, stores) = both().await;
    for store in stores {
        let (row, runs) = row(&make_pack(1, id(1), &[(0, 4_000), (4_000, 8_000)]));
        let sealed = row.directory.body_length();
        store.fill([(row, runs)]).await;
        assert_eq!(store.weigh(&Walk::default()).await.unwrap(), sealed);
        let half = Walk { span: Some(span(4_000, 60_000)), ..Walk::default() };
        assert_eq!(store.weigh(&half).await.unwrap(), sealed / 2);
    }
}
