use obscura_ids::{CameraId, LayerKeyId};
use obscura_proto::registry::v1::SignedPlacement;
use obscura_seal::RecipientKeyPair;
use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, HOUR};

#[tokio::test]
async fn a_key_imported_is_there_after_a_restart() {
    let bench = Bench::new();
    let key = bench.made_key(HOUR);
    let custody = bench.open().await;
    let public = custody.intake.public();
    custody.import(&bench.import_of(&custody, &key)).await.unwrap();
    drop(custody);
    let custody = bench.open().await;
    assert_eq!(custody.intake.public(), public);
    bench.assert_releasable(&custody, &key).await;
}

#[tokio::test]
async fn importing_the_same_key_again_is_harmless_and_another_under_its_id_is_refused() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    for _ in 0..3 {
        custody.import(&bench.import_of(&custody, &key)).await.unwrap();
    }
    let mut other = bench.made_key(HOUR);
    other.context.key_id = key.context.key_id;
    let refused = custody.import(&bench.import_of(&custody, &other)).await;
    assert!(matches!(refused, Err(Error::Conflict(id)) if id == key.context.key_id));
    let mut moved = bench.made_key(HOUR + 1);
    moved.context.key_id = key.context.key_id;
    moved.key = LayerKey::from_bytes(*key.key.expose());
    assert!(matches!(custody.import(&bench.import_of(&custody, &moved)).await, Err(Error::Conflict(_))));
    assert_eq!(custody.parts.store.counts().await.unwrap().layer_keys, 1);
    bench.assert_releasable(&custody, &key).await;
}

#[tokio::test]
async fn many_imports_at_once_share_one_epoch_key_per_hour() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let keys: Vec<_> = (0..20).map(|_| bench.made_key(HOUR)).collect();
    let requests: Vec<_> = keys.iter().map(|key| bench.import_of(&custody, key)).collect();
    let imports = requests.iter().map(|request| custody.import(request));
    for imported in futures::future::join_all(imports).await {
        imported.unwrap();
    }
    let counts = custody.parts.store.counts().await.unwrap();
    assert_eq!((counts.layer_keys, counts.epoch_keys), (20, 1));
    for key in &keys {
        bench.assert_releasable(&custody, key).await;
    }
}

#[tokio::test]
async fn a_placement_in_another_zone_for_another_camera_or_by_another_authority_is_refused() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    let good = bench.import_of(&custody, &key);
    let with =
        |placement: SignedPlacement| ImportLayerKeyRequest { placement: Some(placement), ..good.clone() };

    let elsewhere = with(bench.placement(key.context.camera, "uk", 72));
    assert!(matches!(custody.import(&elsewhere).await, Err(Error::WrongZone { what: "placement", .. })));
    let other_camera = with(bench.placement(CameraId::generate(), "eea", 72));
    assert!(matches!(custody.import(&other_camera).await, Err(Error::OtherCamera(_))));
    let forged = with(Bench::new().placement(key.context.camera, "eea", 72));
    assert!(matches!(custody.import(&forged).await, Err(Error::Placement(_))));
    let mut stretched = bench.placement(key.context.camera, "eea", 72);
    let longer = bench.placement(key.context.camera, "eea", 700);
    stretched.placement = longer.placement;
    assert!(matches!(custody.import(&with(stretched)).await, Err(Error::Placement(_))));
    let none = ImportLayerKeyRequest { placement: None, ..good.clone() };
    assert!(matches!(custody.import(&none).await, Err(Error::Malformed { .. })));
    assert_eq!(custody.parts.store.counts().await.unwrap().layer_keys, 0);
    custody.import(&good).await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_zone_is_refused_even_with_a_placement_in_ours() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let mut key = bench.made_key(HOUR);
    key.context.zone = "uk".parse().unwrap();
    let refused = custody.import(&bench.import_of(&custody, &key)).await;
    assert!(matches!(refused, Err(Error::WrongZone { what: "key", .. })));
}

#[tokio::test]
async fn a_key_wrapped_to_someone_else_or_relabelled_on_its_way_does_not_open() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    let stranger = RecipientKeyPair::generate().unwrap();
    let request = bench.import_wrapped_to(stranger.public(), &key);
    assert!(matches!(custody.import(&request).await, Err(Error::Unwrap(_))));

    let relabel: [fn(&mut WrappedLayerKey); 4] = [
        |key| key.key_id = LayerKeyId::generate().to_string(),
        |key| key.layer = 2,
        |key| key.hour += 1,
        |key| key.writer_epoch += 1,
    ];
    for change in relabel {
        let mut request = bench.import_of(&custody, &key);
        change(request.key.as_mut().unwrap());
        assert!(matches!(custody.import(&request).await, Err(Error::Unwrap(_))));
    }
}

#[tokio::test]
async fn no_layer_key_ever_lies_in_the_clear_in_any_file_of_custody() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let key = bench.made_key(HOUR);
    custody.import(&bench.import_of(&custody, &key)).await.unwrap();
    bench.assert_releasable(&custody, &key).await;
    let epoch = custody.stored_epoch(custody.parts.store.reader(), bench.expiry(&key)).await;
    let epoch = epoch.unwrap().unwrap();
    let private = custody.intake.private_bytes();
    let secrets: [&[u8]; 3] = [key.key.expose(), epoch.expose(), &private];
    for closed in [false, true] {
        let mut bytes = 0;
        for (name, content) in bench.files() {
            bytes += content.len();
            for secret in secrets {
                assert!(
                    !content.windows(16).any(|window| window == &secret[..16]),
                    "{name}, closed: {closed}"
                );
                assert!(!content.windows(32).any(|window| window == hex::encode(&secret[..16]).as_bytes()));
            }
        }
        assert!(bytes > 10_000, "the files were really read");
        // Closing checkpoints the write-ahead log into the database.
        custody.parts.store.close_for_test().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_fields_never_panic(
        key_id in ".{0,40}", camera_id in ".{0,40}", layer: i32, hour: u32, zone in ".{0,40}",
        writer_epoch: u64, sealed in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let message = WrappedLayerKey {
            key_id, camera_id, layer, hour, zone, writer_epoch,
            encapsulated_key: sealed.clone().into(), ciphertext: sealed.into(),
        };
        prop_assert!(context(&message).is_err());
    }
}
