use std::time::Duration;

use obscura_clock::{Clock as _, Timestamp};
use obscura_seal::LayerKeyContext;

use super::*;
use crate::{
    custody::Custody,
    key_encryption::Row,
    test_support::{Bench, HOUR, MadeKey},
};

/// Stores a key as versions with daily epochs did.
async fn store_daily(bench: &Bench, custody: &Custody, key: &MadeKey, day: u32) {
    let epoch = row_cipher::generate().unwrap();
    let (id, zone) = (day.to_string(), &custody.parts.zone);
    let row = Row { kind: RowKind::EpochKey, id: &id, zone };
    let wrapped = custody.parts.encryption.wrap(row, epoch.as_ref()).await.unwrap();
    let LayerKeyContext { key_id, camera, layer, hour, writer_epoch, .. } = &key.context;
    let sealed = row_cipher::seal(&epoch, &daily_aad(day, &key.context), key.key.expose()).unwrap();
    bench
        .sql(&format!("INSERT INTO epoch_key VALUES ('eea', {day}, x'{}', 1)", hex::encode(wrapped.bytes)))
        .await;
    bench
        .sql(&format!(
            "INSERT INTO layer_key VALUES ('{key_id}', '{camera}', {}, {}, 'eea', {}, {day}, x'{}', 5)",
            layer.code(),
            hour.get(),
            writer_epoch.0,
            hex::encode(sealed)
        ))
        .await;
}

#[tokio::test]
async fn what_daily_epochs_had_opens_under_hourly_ones_and_expires_on_its_day() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    let day = (HOUR + 73).div_ceil(24);
    store_daily(&bench, &custody, &key, day).await;
    drop(custody);
    for _ in 0..2 {
        let custody = bench.open().await;
        bench.assert_releasable(&custody, &key).await;
        let described = custody.describe(&[key.context.key_id.to_string()]).await.unwrap();
        let expires = ExpiryHour::from_number(day * 24 - 1).end();
        assert_eq!(described[0].expires_unix_ns, expires.unix_nanos());
        assert_eq!(epoch_key::count(custody.parts.store.reader()).await.unwrap(), 0);
        assert_eq!(layer_key::count(custody.parts.store.reader()).await.unwrap(), 0);
        assert_eq!(custody.parts.secrets.names().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_a_daily_epoch_promised_is_destroyed_as_its_day_begins_also_where_custody_was_away_or_a_step_fails()
 {
    let minute = Duration::from_secs(60);
    for (away, fails) in [(None, false), (Some(50 * minute), false), (None, true), (Some(20 * minute), true)]
    {
        let bench = Bench::new();
        let custody = bench.open().await;
        custody.expire().await.unwrap();
        let key = bench.made_key(HOUR);
        let day = (HOUR + 73).div_ceil(24);
        let promise = Timestamp::from_unix_nanos(i64::from(day) * 86_400_000_000_000);
        store_daily(&bench, &custody, &key, day).await;
        drop(custody);
        let mut custody = bench.open().await;
        custody.expire().await.unwrap();
        bench.wait(promise.since(bench.clock.wall()) - 10 * minute);
        bench.rounds_until(&custody, promise - minute).await;
        assert!(!bench.describes(&custody, &key).await.is_empty(), "not before its time");
        if let Some(away) = away {
            drop(custody);
            bench.wait(minute + away);
            custody = bench.open().await;
        }
        if fails {
            custody.parts.secrets.faults.lock().unwrap().insert("erase");
            let from = bench.clock.wall();
            bench.rounds_until(&custody, from + 20 * minute).await;
            custody.parts.secrets.faults.lock().unwrap().clear();
        }
        let last = bench.clock.wall().max(promise) + 2 * minute;
        bench.rounds_until(&custody, last).await;
        let receipts = bench.receipts(&custody).await;
        let effective = Timestamp::from_unix_nanos(receipts[0].effective_unix_ns);
        assert!(effective >= promise && effective.since(promise) <= Duration::from_hours(1), "{effective:?}");
        assert!(bench.describes(&custody, &key).await.is_empty());
    }
}

#[tokio::test]
async fn a_day_that_does_not_open_stays_and_stops_nothing() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let (key, other) = (bench.made_key(HOUR), bench.made_key(HOUR + 24));
    store_daily(&bench, &custody, &key, 20_900).await;
    store_daily(&bench, &custody, &other, 20_901).await;
    drop(custody);
    bench.sql("UPDATE layer_key SET sealed_key = zeroblob(60) WHERE expiry_day = 20900").await;
    let custody = bench.open().await;
    bench.assert_releasable(&custody, &other).await;
    assert_eq!(layer_key::count(custody.parts.store.reader()).await.unwrap(), 1);
}
