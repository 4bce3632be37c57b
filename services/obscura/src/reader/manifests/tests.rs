//! Against a real log and real heads, with everything that somebody who holds index and objects can do.

use std::collections::BTreeMap;

use obscura_clock::ClockQuality;
use obscura_ids::{Digest, Layer, LayerKeyId, Sequence, WriterEpoch};
use obscura_pack::{Directory, Entry};
use obscura_proto::footage::v1 as footage;
use obscura_seal::{Hour, SegmentHeader};
use obscura_tlog::{Checkpoint, Hash, LogKey, SignedCheckpoint, leaf_hash, node_hash, tree_hash};

use super::*;
use crate::reader::{Cause, everything};

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// Three segments of two seconds.
fn directory(camera: CameraId) -> Directory {
    let start: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    let entries = (0..3_u64).map(|number| {
        let start = start + Duration::from_secs(2 * number);
        let (hour, slot) = Hour::of(start).unwrap();
        let header = SegmentHeader {
            key_id: LayerKeyId::from_bytes([1; 16]),
            hour,
            slot,
            zone: "eea".parse().unwrap(),
            camera,
            layer: Layer::Original,
            dependent: false,
            writer_epoch: WriterEpoch(1),
            sequence: Sequence(number),
            init_hash: Digest::ZERO,
            mask_set_hash: Digest::ZERO,
        };
        Entry {
            length: obscura_seal::prefix_length(&header) as u64 + 16 + 1_000,
            header,
            offset: 0,
            sha256: Digest::ZERO,
            span: Span::try_new(start, start + Duration::from_secs(2)).unwrap(),
            media_duration: Duration::from_secs(2),
            frames: 50,
            damaged: false,
            torn_after_chunks: None,
            clock_quality: ClockQuality::Synchronised,
        }
    });
    let entries = entries.collect();
    let zone = "eea".parse().unwrap();
    Directory::lay_out(id_at(now() - Duration::from_secs(7_000)), camera, zone, Layer::Original, entries)
        .unwrap()
}

/// An id as it was made at that moment.
fn id_at(at: Timestamp) -> PackId {
    let mut bytes = *PackId::generate().as_bytes();
    let millis = u64::try_from(at.unix_nanos() / 1_000_000).unwrap().to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    PackId::from_bytes(bytes)
}

fn head_of(directory: &Directory) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &directory.encode_head());
    Digest::try_from(hash.as_ref()).unwrap()
}

fn description(directory: &Directory) -> PackDescription {
    let span = directory.span();
    PackDescription {
        pack_id: directory.pack_id.to_string(),
        camera_id: directory.camera.to_string(),
        layer: 1,
        span: Some(footage::Span {
            start_unix_ns: span.start().unix_nanos(),
            end_unix_ns: span.end().unix_nanos(),
        }),
        head_sha256: head_of(directory).as_bytes().to_vec().into(),
        deleted_by_receipt: 0,
    }
}

/// The manifest of these packs as it stands in the log.
fn leaf(packs: &[Directory]) -> Vec<u8> {
    let leaves: Vec<Hash> = packs.iter().map(|pack| leaf_hash(head_of(pack).as_bytes())).collect();
    let ids: Vec<_> = packs.iter().map(|pack| pack.pack_id.to_string()).collect();
    let root = hex::encode(tree_hash(&leaves).as_bytes());
    let event = serde_json::json!({
        "type": "eu.obscura.manifest.v1",
        "data": { "unmapped": { "root": root, "pack_ids": ids } },
    });
    event.to_string().into_bytes()
}

/// What the log and storage say of the packs, while storage may say something else.
fn manifests(packs: &[Directory], told: &[PackDescription]) -> Manifests {
    let cameras = packs.iter().map(|pack| pack.camera).collect();
    let mut manifests = Manifests::new(cameras, everything());
    manifests.add(Ok(Manifest::parse(7, &leaf(packs)).unwrap()), told).unwrap();
    manifests
}

fn compared(manifests: &Manifests, seen: &[&Directory], camera: CameraId, destroyed: &Destroyed) -> Compared {
    let seen: BTreeMap<_, _> = seen.iter().map(|pack| (pack.pack_id, Some(head_of(pack)))).collect();
    Compared::new(manifests, camera, everything(), &seen, destroyed, now())
}

fn two() -> [Directory; 2] {
    [directory(CameraId::generate()), directory(CameraId::generate())]
}

#[test]
fn packs_that_are_as_they_were_are_compared_and_good() {
    let packs = two();
    let manifests = manifests(&packs, &packs.each_ref().map(description));
    assert!(manifests.troubles.is_empty() && manifests.proved == 1);
    let compared = compared(&manifests, &[&packs[0]], packs[0].camera, &Destroyed::default());
    assert_eq!((compared.same, compared.faults.len()), (1, 0));
}

#[test]
fn a_segment_that_was_shortened_and_called_torn_is_found_though_index_and_object_agree() {
    let packs = two();
    let mut forged = packs[0].clone();
    let last = forged.entries.last_mut().unwrap();
    last.length -= 500;
    last.torn_after_chunks = Some(0);
    // Storage tells the log's hash and serves the shortened object …
    let honest = manifests(&packs, &packs.each_ref().map(description));
    let found = compared(&honest, &[&forged], packs[0].camera, &Destroyed::default());
    assert_eq!(found.faults[0].cause, Cause::NotAsLogged { entry: 7 });
    // … or tells the hash of what it serves.
    let lying = manifests(&packs, &[description(&forged), description(&packs[1])]);
    assert!(lying.troubles[0].contains("entry 7"), "{:?}", lying.troubles);
    let found = compared(&lying, &[&forged], packs[0].camera, &Destroyed::default());
    assert_eq!((found.same, found.unproved), (0, 1));
}

#[test]
fn a_dropped_pack_is_found_unless_its_keys_are_destroyed() {
    let packs = two();
    let manifests = manifests(&packs, &packs.each_ref().map(description));
    let found = compared(&manifests, &[], packs[0].camera, &Destroyed::default());
    assert_eq!(found.faults[0].cause, Cause::Dropped { entry: 7 });
    assert!(found.faults[0].to_string().contains(&packs[0].pack_id.to_string()));
    let mut destroyed = Destroyed::default();
    destroyed.add_inside(packs[0].camera, Layer::Original, packs[0].span());
    let found = compared(&manifests, &[], packs[0].camera, &destroyed);
    assert_eq!((found.destroyed, found.faults.len()), (1, 0));
}

#[test]
fn a_pack_that_storage_says_it_deleted_needs_a_receipt() {
    let packs = two();
    let mut told: Vec<_> = packs.iter().map(description).collect();
    told[0].deleted_by_receipt = 3;
    let manifests = manifests(&packs, &told);
    let found = compared(&manifests, &[], packs[0].camera, &Destroyed::default());
    assert!(found.faults.is_empty());
    assert_eq!(manifests.deleted.beyond(&Destroyed::default())[0].0, packs[0].camera);
    let mut destroyed = Destroyed::default();
    destroyed.add_inside(packs[0].camera, Layer::Original, packs[0].span());
    assert!(manifests.deleted.beyond(&destroyed).is_empty());
}

#[test]
fn a_pack_that_storage_does_not_know_leaves_its_neighbours_unproved_and_is_named() {
    let packs = two();
    let manifests = manifests(&packs, &[description(&packs[1])]);
    let unknown: Vec<_> = manifests.unknown_within().map(|(pack, entry, _)| (pack, entry)).collect();
    assert_eq!(unknown, [(packs[0].pack_id, 7)]);
    let found = compared(&manifests, &[&packs[1]], packs[1].camera, &Destroyed::default());
    assert_eq!((found.same, found.unproved), (0, 1));
}

#[test]
fn the_newest_packs_are_not_yet_in_a_manifest_and_older_ones_in_none() {
    let manifests = Manifests::new(BTreeSet::new(), everything());
    let seen = |ago| BTreeMap::from([(id_at(now() - Duration::from_secs(ago)), Some(Digest::ZERO))]);
    let compare = |ago| {
        let (camera, destroyed) = (CameraId::generate(), Destroyed::default());
        Compared::new(&manifests, camera, everything(), &seen(ago), &destroyed, now())
    };
    assert_eq!((compare(10).not_yet, compare(10).unlisted), (1, 0));
    assert_eq!((compare(600).not_yet, compare(600).unlisted), (0, 1));
    assert!(compare(600).faults.is_empty());
}

/// In a log of two entries the second one is proved by the first.
fn proof_of(leaf: &[u8], key: &LogKey) -> LogProof {
    let (first, second) = (leaf_hash(b"first"), leaf_hash(leaf));
    let checkpoint = Checkpoint {
        origin: key.origin().to_owned(),
        size: 2,
        root: node_hash(&first, &second),
        extension: String::new(),
    };
    let checkpoint = SignedCheckpoint::sign(checkpoint, key).unwrap();
    LogProof { extra: Vec::new(), index: 1, hashes: vec![first], checkpoint }
}

#[test]
fn an_id_tells_when_its_pack_was_formed() {
    let at = now() - Duration::from_secs(5);
    assert_eq!(formed_at(id_at(at)), at);
}

#[test]
fn only_an_entry_that_is_proved_counts() {
    let packs = two();
    let (bytes, key) = (leaf(&packs), LogKey::from_seed("example.org/log", &[1; 32]).unwrap());
    let (proof, verifier) = (proof_of(&bytes, &key), key.verifier());
    assert_eq!(checked(&verifier, &proof, 1, &bytes).unwrap().packs.len(), 2);
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() = b' ';
    let other = LogKey::from_seed("example.org/log", &[2; 32]).unwrap();
    for refused in [
        checked(&verifier, &proof, 0, &bytes),
        checked(&verifier, &proof, 1, &changed),
        checked(&other.verifier(), &proof, 1, &bytes),
    ] {
        assert!(refused.unwrap_err().contains("is not proved"));
    }
    let mut manifests = Manifests::new(BTreeSet::new(), everything());
    manifests.add(Err("entry 1 of the audit log is not proved".into()), &[]).unwrap();
    assert_eq!((manifests.proved, manifests.troubles.len()), (0, 1));
}
