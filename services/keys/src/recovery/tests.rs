use super::*;
use crate::{
    key_encryption::{KeyEncryption as _, LocalKeyFile},
    rotation::Rotation,
    test_support::{Bench, HOUR},
};

async fn rehearse(bench: &Bench, custody: &Custody, shares: &[String]) -> Result<u32, Error> {
    bench.wait(REHEARSAL_INTERVAL);
    custody.rehearse_recovery(shares, None).await
}

#[tokio::test]
async fn so_many_shares_restore_the_root_and_the_key_file_and_everything_under_it() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    bench.import(&custody, &key).await;
    let shares = custody.recovery_shares(3, 5, None).await.unwrap();
    assert_eq!(rehearse(&bench, &custody, &shares[2..]).await.unwrap(), 1);
    drop(custody);
    let restored = Root::restore(&Share::parse_all(&shares[1..4]).unwrap()).unwrap();
    let path = bench.data("kek.json");
    std::fs::remove_file(&path).unwrap();
    obscura_daemon::write_atomically(&path, restored.key_file().as_bytes(), 0o600).unwrap();
    bench.assert_releasable(&bench.open().await, &key).await;
}

#[tokio::test]
async fn a_rehearsal_says_what_is_wrong_without_exposing_anything() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let shares = custody.recovery_shares(2, 3, None).await.unwrap();
    let too_few = rehearse(&bench, &custody, &shares[..1]).await.unwrap_err();
    assert!(matches!(too_few, Error::Shares(_)), "{too_few}");
    assert!(matches!(custody.rehearse_recovery(&shares, None).await, Err(Error::TooSoon)));
    let foreign = Bench::new().open().await.recovery_shares(2, 3, None).await.unwrap();
    let refused = rehearse(&bench, &custody, &foreign).await.unwrap_err();
    assert!(matches!(refused, Error::OtherRoot { restored: 1, in_use: 1 }), "{refused}");
    assert!(rehearse(&bench, &custody, &vec![String::new(); 17]).await.is_err());
    assert!(custody.recovery_shares(1, 3, None).await.is_err());
    assert!(custody.recovery_shares(2, 300, None).await.is_err());
}

#[tokio::test]
async fn shares_from_before_a_rotation_are_told_apart_and_none_are_made_during_one() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let shares = custody.recovery_shares(2, 2, None).await.unwrap();
    let mut rotation = Rotation::begin(&custody, 8, None).await.unwrap();
    let refused = custody.recovery_shares(2, 2, None).await.unwrap_err();
    assert!(refused.to_string().contains("finish the rotation first"), "{refused}");
    rotation.run(|_| {}).await.unwrap();
    drop(rotation);
    let old = rehearse(&bench, &custody, &shares).await;
    assert!(matches!(old, Err(Error::OtherRoot { restored: 1, in_use: 2 })));
    let shares = custody.recovery_shares(2, 2, None).await.unwrap();
    assert_eq!(rehearse(&bench, &custody, &shares).await.unwrap(), 2);
}

#[tokio::test]
async fn a_restored_key_file_is_one_that_the_back_end_reads() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new("eea".parse().unwrap(), 7, zeroize::Zeroizing::new([0xc3; 32]));
    let path = folder.path().join("kek.json");
    obscura_daemon::write_atomically(&path, root.key_file().as_bytes(), 0o600).unwrap();
    let (version, key) = LocalKeyFile::open_or_create(&path, false).unwrap().root().await.unwrap();
    assert_eq!((version.0, *key), (7, [0xc3; 32]));
}
