//! An intake key that was kept on disk and is not that of the zone any more.

use std::time::Duration;

use obscura_ids::{CameraId, Layer, WriterEpoch};
use obscura_proto::keys::v1::ImportLayerKeyRequest;
use obscura_seal::{Hour, RecipientKeyPair};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{account::layer_key, peers::Peers, world::START};
use crate::{intake::Intake, layer_key::LayerKeys};

const SOON: Duration = Duration::from_millis(20);

fn intake(dir: &tempfile::TempDir, peers: &Peers) -> Intake {
    Intake {
        path: dir.path().join("intake.key"),
        zone: "eea".parse().unwrap(),
        keys: peers.custody(),
        shutdown: CancellationToken::new(),
    }
}

#[tokio::test]
async fn recording_starts_from_the_kept_key_and_the_next_layer_key_is_wrapped_to_what_keys_answers() {
    let (dir, peers) = (tempfile::tempdir().unwrap(), Peers::start().await);
    let before = RecipientKeyPair::generate().unwrap();
    let intake = intake(&dir, &peers);
    std::fs::write(&intake.path, before.public().0).unwrap();
    peers.stored().away = true;
    let kept = intake.key().await.unwrap();
    assert_eq!(kept.0, before.public().0, "keys is away and nobody waits for it");

    let (newest, following) = watch::channel(kept);
    let (zone, camera) = ("eea".parse().unwrap(), CameraId::generate());
    let mut keys = LayerKeys::new(camera, Layer::Original, zone, WriterEpoch(1), following);
    let (hour, _) = Hour::of(START).unwrap();
    let mut next = || {
        let key = keys.of(hour).unwrap().wrapped?;
        Some(ImportLayerKeyRequest { key: Some(key), ..ImportLayerKeyRequest::default() })
    };
    layer_key(&before, &next().unwrap());
    let unanswered = tokio::time::timeout(5 * SOON, intake.replaced(&kept, SOON)).await;
    assert!(unanswered.is_err() && next().is_none(), "nothing changes while keys is away");

    peers.stored().away = false;
    newest.send_replace(intake.replaced(&kept, SOON).await.unwrap());
    layer_key(&peers.intake, &next().unwrap());
    assert!(next().is_none(), "one layer key for the hour");
    assert_eq!(intake.key().await.unwrap().0, peers.intake.public().0, "the next start uses it");
}

#[tokio::test]
async fn a_kept_key_that_is_still_that_of_the_zone_stays() {
    let (dir, peers) = (tempfile::tempdir().unwrap(), Peers::start().await);
    let intake = intake(&dir, &peers);
    let key = intake.key().await.unwrap();
    let same = tokio::time::timeout(10 * SOON, intake.replaced(&key, SOON)).await;
    assert!(same.is_err(), "there is nothing to replace");
}
