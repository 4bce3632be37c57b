//! The store on both databases, real ones.

use std::sync::Arc;

use obscura_clock::Timestamp;
use obscura_database::PostgresUrl;
use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch};
use obscura_seal::{Hour, LayerKeyContext, Slot};
use obscura_test_servers::postgres::{Postgres, shared};
use sea_orm::QueryOrder as _;
use tempfile::TempDir;

use super::{epoch::EpochRow, kept_key::KeptRow, *};
use crate::expiry_hour::ExpiryHour;

const EXPIRY: ExpiryHour = ExpiryHour::from_number(498_872);

fn epoch_row(byte: u8) -> EpochRow {
    let half = WrappedSecret { version: KeyVersion(1), bytes: vec![byte] };
    EpochRow { hour: EXPIRY, secret: format!("epoch-{EXPIRY}-{byte}"), half, stale: false }
}

fn on(postgres: &Postgres) -> Location {
    Location::Postgres { url: PostgresUrl::try_new(&postgres.new_database()).unwrap(), schema: SCHEMA }
}

/// One empty place on each.
fn both() -> (TempDir, [Location; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let file = Location::Sqlite(directory.path().join("keys.sqlite"));
    (directory, [file, on(shared())])
}

fn row(number: u8) -> KeptRow {
    let context = LayerKeyContext {
        key_id: LayerKeyId::from_bytes([number; 16]),
        camera: CameraId::from_bytes([1; 16]),
        layer: Layer::Original,
        hour: Hour::new(498_800).unwrap(),
        zone: "eea".parse().unwrap(),
        writer_epoch: WriterEpoch(7),
    };
    let imported = Timestamp::from_unix_nanos(1);
    KeptRow { context, expiry: EXPIRY, leaf: Some(Slot::new(9).unwrap()), sealed: vec![number; 60], imported }
}

async fn import(store: &Store, number: u8) -> Result<(), Error> {
    let writer = store.write().await?;
    kept_key::put(writer.tx(), &[row(number)]).await?;
    Ok(writer.commit().await?)
}

#[tokio::test]
async fn a_writer_that_is_dropped_leaves_nothing_behind() {
    let (_directory, locations) = both();
    for location in locations {
        let store = Store::open(&location).await.unwrap();
        let zone = "eea".parse().unwrap();
        let writer = store.write().await.unwrap();
        epoch::put(writer.tx(), &zone, &epoch_row(1)).await.unwrap();
        drop(writer);
        assert!(store.is_empty().await.unwrap());
        let writer = store.write().await.unwrap();
        epoch::put(writer.tx(), &zone, &epoch_row(1)).await.unwrap();
        writer.commit().await.unwrap();
        assert_eq!(epoch::get(store.reader(), &zone, EXPIRY).await.unwrap(), Some(epoch_row(1)));
        assert!(!store.is_empty().await.unwrap());
    }
}

#[tokio::test]
async fn versions_are_written_down_once_and_retired_once() {
    let (_directory, locations) = both();
    for location in locations {
        let store = Store::open(&location).await.unwrap();
        let at = Timestamp::from_unix_nanos;
        let writer = store.write().await.unwrap();
        for (version, seen) in [(1, 10), (2, 20), (1, 30)] {
            writer.record_version(KeyVersion(version), at(seen)).await.unwrap();
        }
        writer.record_retired_before(KeyVersion(2), at(40)).await.unwrap();
        writer.record_retired_before(KeyVersion(2), at(50)).await.unwrap();
        writer.commit().await.unwrap();
        let rows = key_version::Entity::find()
            .order_by_asc(key_version::Column::Version)
            .all(store.database.readers())
            .await
            .unwrap();
        let rows: Vec<_> =
            rows.iter().map(|row| (row.version, row.created_unix_ns, row.retired_unix_ns)).collect();
        assert_eq!(rows, [(1, 10, Some(40)), (2, 20, None)]);
    }
}

#[tokio::test]
async fn a_layer_key_reads_back_and_is_replaced_under_its_id() {
    let (_directory, locations) = both();
    for location in locations {
        let store = Store::open(&location).await.unwrap();
        import(&store, 3).await.unwrap();
        let id = LayerKeyId::from_bytes([3; 16]);
        assert_eq!(kept_key::get(store.reader(), id).await.unwrap(), Some(row(3)));
        let moved = KeptRow { expiry: ExpiryHour::from_number(5), leaf: None, sealed: vec![9; 60], ..row(3) };
        let writer = store.write().await.unwrap();
        kept_key::put(writer.tx(), std::slice::from_ref(&moved)).await.unwrap();
        writer.commit().await.unwrap();
        assert_eq!(kept_key::get(store.reader(), id).await.unwrap(), Some(moved));
        assert_eq!(store.counts().await.unwrap().layer_keys, 1);
    }
}

#[tokio::test]
async fn a_database_from_before_versions_were_counted_is_taken_over() {
    let (_directory, [location, _]) = both();
    let first = Database::open(&location, &MIGRATIONS[..1]).await.unwrap();
    let daily = "INSERT INTO epoch_key VALUES ('eea', 20786, x'01', 1)";
    first.readers().execute_unprepared(daily).await.unwrap();
    first.readers().execute_unprepared("DROP TABLE schema_version").await.unwrap();
    first.close().await.unwrap();
    let store = Store::open(&location).await.unwrap();
    assert_eq!(epoch_key::count(store.reader()).await.unwrap(), 1);
    assert!(!store.is_empty().await.unwrap());
    import(&store, 4).await.unwrap();
}

#[tokio::test]
async fn rows_from_before_there_were_leaves_stay_as_they_are() {
    let (_directory, locations) = both();
    for location in locations {
        let before = Database::open(&location, &MIGRATIONS[..3]).await.unwrap();
        let (id, camera) = (LayerKeyId::from_bytes([3; 16]), CameraId::from_bytes([1; 16]));
        let bytes = if before.backend() == DbBackend::Postgres { "'\\x0909'" } else { "x'0909'" };
        let old = format!(
            "INSERT INTO kept_key VALUES ('{id}', '{camera}', 1, 498800, 'eea', 7, 498872, {bytes}, 1)"
        );
        before.readers().execute_unprepared(&old).await.unwrap();
        before.close().await.unwrap();
        let store = Store::open(&location).await.unwrap();
        let kept = kept_key::get(store.reader(), id).await.unwrap();
        assert_eq!(kept, Some(KeptRow { leaf: None, sealed: vec![9; 2], ..row(3) }));
        import(&store, 4).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_import_at_the_same_time_agree_on_one_epoch_key() {
    let location = on(shared());
    let stores = [(); 2].map(|()| Store::open(&location));
    let stores = futures::future::try_join_all(stores).await.unwrap();
    let stores: Vec<_> = stores.into_iter().map(Arc::new).collect();
    let zone: ZoneId = "eea".parse().unwrap();
    let imports = (0..20_u8).map(|number| {
        let (store, zone) = (Arc::clone(&stores[usize::from(number) % 2]), zone.clone());
        tokio::spawn(async move {
            let writer = store.write().await.unwrap();
            let before = epoch::get(writer.tx(), &zone, EXPIRY).await.unwrap();
            let epoch = before.clone().unwrap_or(epoch_row(number));
            if before.is_none() {
                epoch::put(writer.tx(), &zone, &epoch).await.unwrap();
            }
            kept_key::put(writer.tx(), &[row(number)]).await.unwrap();
            writer.commit().await.unwrap();
            epoch.secret
        })
    });
    let used: Vec<_> = futures::future::try_join_all(imports).await.unwrap();
    assert!(used.iter().all(|key| *key == used[0]), "{used:?}");
    let counts = Counts { layer_keys: 20, epoch_keys: 1, holds: 0, shred_receipts: 0 };
    assert_eq!(stores[1].counts().await.unwrap(), counts);
}

#[tokio::test]
async fn an_import_that_a_crash_of_the_server_cuts_off_can_be_repeated() {
    let postgres = Postgres::own();
    let store = Store::open(&on(&postgres)).await.unwrap();
    for number in [1, 2] {
        let writer = store.write().await.unwrap();
        kept_key::put(writer.tx(), &[row(number)]).await.unwrap();
        postgres.stop_immediately();
        writer.commit().await.unwrap_err();
        postgres.start();
        import(&store, number).await.unwrap();
        assert_eq!(store.counts().await.unwrap().layer_keys, u64::from(number));
    }
}

#[tokio::test]
async fn while_the_server_only_reads_an_import_is_refused_for_now() {
    let postgres = Postgres::own();
    let store = Store::open(&on(&postgres)).await.unwrap();
    postgres.set_read_only(true);
    let failure = obscura_status::Failure::from(import(&store, 1).await.unwrap_err());
    assert!(failure.code().retryable() && failure.external().contains("try again later"));
    assert!(store.is_empty().await.unwrap());
    postgres.set_read_only(false);
    import(&store, 1).await.unwrap();
}
