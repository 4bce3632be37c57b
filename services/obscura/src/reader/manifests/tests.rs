//! Against a real log and real heads, with everything that somebody who holds index and objects can do.

use std::collections::BTreeMap;

use obscura_clock::ClockQuality;
use obscura_ids::{Digest, Layer, LayerKeyId, Sequence, WriterEpoch};
use obscura_pack::{Directory, Entry, Statement};
use obscura_proto::footage::v1 as footage;
use obscura_seal::{Hour, SegmentHeader};
use obscura_tlog::{Checkpoint, Hash, LogKey, SignedCheckpoint, leaf_hash, node_hash, tree_hash};

use super::*;
use crate::reader::{Cause, everything, sha256};

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
    sha256(&directory.encode_head())
}

fn leaf_of(directory: &Directory) -> Digest {
    sha256(&Statement::of(directory, head_of(directory)).to_bytes())
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
        deleted_unix_ns: 0,
    }
}

/// An event about these packs as it stands in the log.
fn leaf_with(kind: Kind, packs: &[Directory]) -> Vec<u8> {
    let leaves: Vec<Hash> = packs.iter().map(|pack| leaf_hash(leaf_of(pack).as_bytes())).collect();
    let ids: Vec<_> = packs.iter().map(|pack| pack.pack_id.to_string()).collect();
    let root = hex::encode(tree_hash(&leaves).as_bytes());
    let event = serde_json::json!({
        "type": format!("eu.obscura.{}.stored", kind.name()),
        "data": { "unmapped": { "root": root, "pack_ids": ids } },
    });
    event.to_string().into_bytes()
}

/// The manifest of these packs as it stands in the log.
fn leaf(packs: &[Directory]) -> Vec<u8> {
    leaf_with(Kind::Manifest, packs)
}

/// What the log and storage say of the packs, while storage may say something else.
fn manifests(packs: &[Directory], told: &[PackDescription]) -> Manifests {
    let cameras = packs.iter().map(|pack| pack.camera).collect();
    let mut manifests = Manifests::new(cameras, everything());
    manifests.add(Ok(Manifest::parse(Kind::Manifest, 7, &leaf(packs)).unwrap()), told).unwrap();
    manifests
}

fn compared(manifests: &Manifests, seen: &[&Directory], camera: CameraId, destroyed: &Destroyed) -> Compared {
    let seen: BTreeMap<_, _> = seen.iter().map(|pack| (pack.pack_id, Some(leaf_of(pack)))).collect();
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

/// Storage drops a pack and tells of it as one whose keys are destroyed.
#[test]
fn a_dropped_pack_cannot_be_told_as_one_of_another_camera_hour_or_layer() {
    let packs = two();
    let hour = Duration::from_secs(3_600).as_nanos().try_into().unwrap_or(0_i64);
    let lies: [fn(&mut PackDescription, i64); 3] = [
        |told, _| told.camera_id = CameraId::from_bytes([9; 16]).to_string(),
        |told, _| told.layer = 2,
        |told, hour| {
            let span = told.span.as_mut().unwrap();
            (span.start_unix_ns, span.end_unix_ns) = (span.start_unix_ns - hour, span.end_unix_ns - hour);
        },
    ];
    for lie in lies {
        let mut told = packs.each_ref().map(description);
        told[0].deleted_by_receipt = 3;
        lie(&mut told[0], hour);
        let manifests = manifests(&packs, &told);
        assert!(manifests.troubles[0].contains("does not lead to the root"), "{:?}", manifests.troubles);
        assert!(manifests.deleted_packs.is_empty());
    }
}

/// The first of two packs is deleted; what storage tells, and the manifests that follow from it.
fn deleted(packs: &[Directory; 2], ago: Duration) -> ([PackDescription; 2], Manifests) {
    let mut told = packs.each_ref().map(description);
    told[0].deleted_by_receipt = 3;
    told[0].deleted_unix_ns = (now() - ago).unix_nanos();
    let manifests = manifests(packs, &told);
    (told, manifests)
}

#[test]
fn a_deletion_counts_only_where_an_event_of_destruction_names_the_pack() {
    let packs = two();
    let (told, manifests) = deleted(&packs, Duration::from_secs(600));
    let mut deletions = Deletions::default();
    let troubles = deletions.troubles(&manifests, now());
    assert!(troubles[0].contains(&packs[0].pack_id.to_string()), "{troubles:?}");
    let event =
        |packs| Ok(Manifest::parse(Kind::Destruction, 9, &leaf_with(Kind::Destruction, packs)).unwrap());
    deletions.add(event(&packs[1..]), &told[1..]);
    assert_eq!(deletions.troubles(&manifests, now()).len(), 1, "an event about another pack");
    deletions.add(event(&packs[..1]), &told[..1]);
    assert_eq!(deletions.troubles(&manifests, now()), [""; 0]);
    assert_eq!(deletions.count(&manifests, packs[0].camera, now()), (1, 0));
    assert_eq!(deletions.count(&manifests, packs[1].camera, now()), (0, 0));
}

#[test]
fn the_event_of_a_deletion_may_take_two_minutes_and_no_longer() {
    let packs = two();
    for (seconds, is_told) in [(60, false), (119, false), (121, true)] {
        let (_, manifests) = deleted(&packs, Duration::from_secs(seconds));
        let deletions = Deletions::default();
        assert_eq!(deletions.troubles(&manifests, now()).len(), usize::from(is_told), "{seconds} s");
        let not_yet = u64::from(!is_told);
        assert_eq!(deletions.count(&manifests, packs[0].camera, now()), (0, not_yet));
    }
    let mut told = packs.each_ref().map(description);
    told[0].deleted_by_receipt = 3;
    told[0].deleted_unix_ns = (now() + Duration::from_secs(100_000)).unix_nanos();
    let manifests = manifests(&packs, &told);
    assert_eq!(Deletions::default().troubles(&manifests, now()).len(), 1, "deleted in the future");
}

#[test]
fn an_event_of_destruction_whose_root_is_another_does_not_count() {
    let packs = two();
    let (told, manifests) = deleted(&packs, Duration::from_secs(600));
    let mut event =
        Manifest::parse(Kind::Destruction, 9, &leaf_with(Kind::Destruction, &packs[..1])).unwrap();
    event.root = Hash::EMPTY;
    let mut deletions = Deletions::default();
    deletions.add(Ok(event.clone()), &told[..1]);
    assert!(!deletions.names(packs[0].pack_id));
    assert!(deletions.troubles(&manifests, now())[0].starts_with("entry 9"));
    // Of a pack that storage has forgotten there is only the name.
    deletions.add(Ok(event), &[]);
    assert!(deletions.names(packs[0].pack_id));
    let manifest = leaf(&packs[..1]);
    assert_eq!(Manifest::parse(Kind::Destruction, 9, &manifest), None, "a manifest is no deletion");
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
    assert_eq!(checked(&verifier, &proof, Kind::Manifest, 1, &bytes).unwrap().packs.len(), 2);
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() = b' ';
    let other = LogKey::from_seed("example.org/log", &[2; 32]).unwrap();
    for refused in [
        checked(&verifier, &proof, Kind::Manifest, 0, &bytes),
        checked(&verifier, &proof, Kind::Manifest, 1, &changed),
        checked(&other.verifier(), &proof, Kind::Manifest, 1, &bytes),
    ] {
        assert!(refused.unwrap_err().contains("is not proved"));
    }
    let mut manifests = Manifests::new(BTreeSet::new(), everything());
    manifests.add(Err("entry 1 of the audit log is not proved".into()), &[]).unwrap();
    assert_eq!((manifests.proved, manifests.troubles.len()), (0, 1));
}
