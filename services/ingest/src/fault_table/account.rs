//! Accounts for every frame: it is in exactly one segment, which opens under its key, or it is in a gap
//! with a reason.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use obscura_ids::{Digest, Layer, LayerKeyId, WriterEpoch};
use obscura_media::read_segment;
use obscura_proto::{
    footage::v1::{Gap, GapReason},
    keys::v1::ImportLayerKeyRequest,
};
use obscura_seal::{
    Cobblestone256, Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, NodeSet, RecipientKeyPair,
    SegmentCipher as _, SlotRange, Wrapped, unwrap,
};

use super::{
    peers::{Indexed, Stored},
    world::{World, lies_in, number, picture},
};

/// Where every frame of a camera is.
pub fn account(world: &World) {
    let stored = world.peers.stored();
    assert_eq!(stored.twice, 0, "segments that are in two packs");
    for (number, camera) in world.cameras.iter().enumerate() {
        let found = frames(world, &stored, number);
        let gaps: Vec<&Gap> =
            stored.gaps.values().filter(|gap| gap.camera_id == camera.to_string()).collect();
        for gap in &gaps {
            assert_ne!(gap.reason(), GapReason::Unspecified);
            assert!(gap.end_unix_ns >= gap.start_unix_ns, "a gap that never ended: {gap:?}");
        }
        let reel = &world.reels[number];
        let lost: Vec<u64> = reel.acknowledged.keys().filter(|n| !found.contains(n)).copied().collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let when = |n: u64| reel.sent.get(&n).copied().unwrap_or_else(|| world.when(n));
        let first = reel.sent.keys().next().copied().unwrap_or(world.next);
        let unexplained: Vec<u64> = (first..world.next)
            .filter(|n| !found.contains(n) && !gaps.iter().any(|gap| lies_in(when(*n), gap)))
            .collect();
        assert!(unexplained.is_empty(), "neither recorded nor in a gap: {unexplained:?} of {gaps:?}");
        let shared = gaps.iter().filter(|gap| gap.reason() != GapReason::PacketLoss);
        let both = shared.flat_map(|gap| found.iter().filter(|n| lies_in(when(**n), gap)));
        let both: Vec<_> = both.collect();
        assert!(both.len() <= 2, "recorded and in a gap: {both:?} of {gaps:?}");
    }
}

/// The frames of one camera, each found once and as it was sent.
pub fn frames(world: &World, stored: &Stored, camera: usize) -> BTreeSet<u64> {
    let keys: BTreeMap<LayerKeyId, LayerKey> =
        stored.keys.iter().map(|(id, request)| (*id, layer_key(&world.peers.intake, request))).collect();
    let mut found = BTreeSet::new();
    let of_camera = |indexed: &&Indexed| indexed.entry.header.camera == world.cameras[camera];
    for indexed in stored.index.values().filter(of_camera) {
        for sample in open(indexed, &keys) {
            let n = number(&sample);
            let key = n.is_multiple_of(world.setup.key_every);
            assert_eq!(
                sample,
                picture(camera, n, world.setup.frame_bytes, key),
                "frame {n} is not as it was"
            );
            assert!(found.insert(n), "frame {n} is recorded twice");
        }
    }
    found
}

/// As a viewer with every key would.
fn open(indexed: &Indexed, keys: &BTreeMap<LayerKeyId, LayerKey>) -> Vec<Vec<u8>> {
    let hash = digest::digest(&digest::SHA256, &indexed.bytes);
    assert_eq!(Digest::try_from(hash.as_ref()).unwrap(), indexed.entry.sha256);
    let key = keys.get(&indexed.entry.header.key_id).expect("a segment whose key never came into custody");
    let nodes = NodeSet::new(key.cover(SlotRange::WHOLE_HOUR));
    let clear = Cobblestone256.open(&nodes, &indexed.bytes, indexed.entry.torn_after_chunks).unwrap();
    let segment = read_segment(clear.as_bytes()).unwrap();
    let samples = segment.samples.iter().map(|sample| clear.as_bytes()[sample.range.clone()].to_vec());
    let samples: Vec<Vec<u8>> = samples.collect();
    assert!(samples.len() >= indexed.entry.frames as usize, "fewer frames than the index says");
    samples
}

/// The key in a request, for who has the intake key.
pub fn layer_key(intake: &RecipientKeyPair, request: &ImportLayerKeyRequest) -> LayerKey {
    let key = request.key.as_ref().unwrap();
    let context = LayerKeyContext {
        key_id: key.key_id.parse().unwrap(),
        camera: key.camera_id.parse().unwrap(),
        layer: Layer::Original,
        hour: Hour::new(key.hour).unwrap(),
        zone: key.zone.parse().unwrap(),
        writer_epoch: WriterEpoch(key.writer_epoch),
    };
    let wrapped =
        Wrapped { encapsulated_key: key.encapsulated_key.to_vec(), ciphertext: key.ciphertext.to_vec() };
    let secret = unwrap(intake, LAYER_KEY_INFO, &context.aad(), &wrapped).unwrap();
    LayerKey::from_bytes(secret.as_slice().try_into().unwrap())
}
