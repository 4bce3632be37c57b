use super::*;
use crate::test_support::{Bench, HOUR, RETENTION_HOURS, nobody};

#[tokio::test]
async fn unknown_live_held_and_destroyed_keys_are_told_apart() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let (live, held, gone) = (bench.made_key(HOUR), bench.made_key(HOUR - 30), bench.made_key(HOUR - 30));
    for key in [&live, &held, &gone] {
        bench.import(&custody, key).await;
    }
    custody.place_hold(&bench.hold(&held, 7, 9), nobody()).await.unwrap();
    custody.expire().await.unwrap();
    bench.wait_hours(RETENTION_HOURS - 30);
    custody.expire().await.unwrap();
    let unknown = LayerKeyId::generate().to_string();
    let ids = [&live, &held, &gone].map(|key| key.context.key_id.to_string());
    let asked = [std::slice::from_ref(&unknown), &ids[..], &ids[..1]].concat();
    let described = custody.describe(&asked).await.unwrap();
    let told: Vec<_> = described.iter().map(|key| (key.known, key.live.len(), key.held.len())).collect();
    assert_eq!(told, [(false, 0, 0), (true, 1, 0), (true, 1, 1), (true, 0, 0), (true, 1, 0)]);
    assert_eq!(described[0].key_id, unknown);
    assert_eq!(described[2].held[0], Range { first: 7, last: 9 });
    assert!(described[3].expires_unix_ns > 0);

    let mut listed = ids[..2].to_vec();
    listed.sort();
    assert_eq!(custody.list_keys("").await.unwrap(), listed);
    assert_eq!(custody.list_keys(&listed[0]).await.unwrap(), listed[1..]);
    assert!(matches!(custody.describe(&vec![unknown; 257]).await, Err(Error::TooManyKeys(257))));
    assert!(custody.describe(&["x".into()]).await.is_err());
}

#[tokio::test]
async fn a_damaged_row_is_described_as_opening_nothing() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    bench.import(&custody, &key).await;
    bench.sql("UPDATE kept_key SET sealed_key = zeroblob(66)").await;
    assert!(bench.describes(&custody, &key).await.is_empty());
}
