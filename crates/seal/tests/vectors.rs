//! The fixed vectors in `tests/vectors/seal.json`: what was sealed once opens for ever.
//!
//! `tests/vectors/check_vectors.py` opens the same file with an implementation that is not ours.
//! `OBSCURA_WRITE_VECTORS=1 cargo test -p obscura-seal --test vectors` writes it anew; that is a new
//! format, and footage of the old one no longer opens.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use std::{fs, path::PathBuf, sync::Once};

use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, Sequence, WriterEpoch};
use obscura_seal::{
    Cobblestone256, Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, LeafKey, NodeSet, RecipientKeyPair,
    SOURCE_INFO, SegmentCipher as _, SegmentHeader, Slot, SlotRange, Wrapped, unwrap, wrap,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Vectors {
    about: String,
    /// Hexadecimal, as everything below that is bytes.
    layer_key: String,
    leaves: Vec<Leaf>,
    covers: Vec<Cover>,
    segments: Vec<Segment>,
    wrapped: Vec<WrappedSecret>,
}

#[derive(Serialize, Deserialize)]
struct Leaf {
    slot: u16,
    leaf: String,
}

#[derive(Serialize, Deserialize)]
struct Cover {
    first_slot: u16,
    last_slot: u16,
    nodes: Vec<(u8, u16, String)>,
}

#[derive(Serialize, Deserialize)]
struct Segment {
    name: String,
    leaf: String,
    header: String,
    /// Byte `i` of the clear segment is `31 * i mod 251`.
    clear_length: usize,
    torn_after_chunks: Option<u32>,
    sealed: String,
}

#[derive(Serialize, Deserialize)]
struct WrappedSecret {
    name: String,
    private_key: String,
    public_key: String,
    info: String,
    aad: String,
    encapsulated_key: String,
    ciphertext: String,
    secret: String,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/seal.json")
}

fn vectors() -> Vectors {
    static WRITE: Once = Once::new();
    if std::env::var_os("OBSCURA_WRITE_VECTORS").is_some() {
        WRITE.call_once(|| fs::write(path(), text(&written())).unwrap());
    }
    serde_json::from_slice(&fs::read(path()).unwrap()).unwrap()
}

fn text(vectors: &Vectors) -> String {
    serde_json::to_string_pretty(vectors).unwrap() + "\n"
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn footage(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

fn layer_key() -> LayerKey {
    LayerKey::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

fn header(dependent: bool) -> SegmentHeader {
    SegmentHeader {
        key_id: LayerKeyId::from_bytes([0x11; 16]),
        hour: Hour::new(498_000).unwrap(),
        slot: Slot::new(900).unwrap(),
        zone: "eea-west".parse().unwrap(),
        camera: CameraId::from_bytes([0x22; 16]),
        layer: Layer::Original,
        dependent,
        writer_epoch: WriterEpoch(3),
        sequence: Sequence(0x0405_0607_0809),
        init_hash: Digest::from_bytes([0x33; 32]),
        mask_set_hash: Digest::from_bytes([0x44; 32]),
    }
}

fn context() -> LayerKeyContext {
    LayerKeyContext {
        key_id: LayerKeyId::from_bytes([0x11; 16]),
        camera: CameraId::from_bytes([0x22; 16]),
        layer: Layer::Original,
        hour: Hour::new(498_000).unwrap(),
        zone: "eea-west".parse().unwrap(),
        writer_epoch: WriterEpoch(3),
    }
}

fn written() -> Vectors {
    let leaf = |slot| Leaf { slot, leaf: hex::encode(layer_key().leaf(Slot::new(slot).unwrap()).expose()) };
    let lengths = [("empty", 0), ("short", 5), ("one full chunk", 16_384), ("two chunks", 16_700)];
    let mut segments: Vec<Segment> = lengths.map(|(name, length)| finished(name, length)).into();
    segments.push(torn("torn with a tail", 16_700, true));
    segments.push(torn("torn without a tail", 16_384, false));
    Vectors {
        about: "Sealed segments, key tree and wrapped secrets of Obscura; see crates/seal".to_owned(),
        layer_key: hex::encode(layer_key().expose()),
        leaves: [0, 1, 900, 1_799].map(leaf).into(),
        covers: [(0, 1_799), (1, 1_798), (890, 919), (900, 900)]
            .map(|(first, last)| cover(first, last))
            .into(),
        segments,
        wrapped: vec![
            wrapped("layer key", LAYER_KEY_INFO, &context().aad()),
            wrapped("source", SOURCE_INFO, b""),
        ],
    }
}

fn cover(first_slot: u16, last_slot: u16) -> Cover {
    let slots = SlotRange::new(Slot::new(first_slot).unwrap(), Slot::new(last_slot).unwrap()).unwrap();
    let nodes = layer_key().cover(slots);
    let nodes = nodes.iter().map(|node| (node.depth(), node.index(), hex::encode(node.secret()))).collect();
    Cover { first_slot, last_slot, nodes }
}

fn segment(name: &str, clear_length: usize, torn_after_chunks: Option<u32>, sealed: &[u8]) -> Segment {
    Segment {
        name: name.to_owned(),
        leaf: hex::encode(layer_key().leaf(header(false).slot).expose()),
        header: hex::encode(header(torn_after_chunks.is_some()).encode()),
        clear_length,
        torn_after_chunks,
        sealed: hex::encode(sealed),
    }
}

fn finished(name: &str, length: usize) -> Segment {
    let leaf = layer_key().leaf(header(false).slot);
    let salt = std::array::from_fn(|at| 0xa0 + u8::try_from(at).unwrap());
    let sealed = Cobblestone256::seal_again(&leaf, &header(false), salt, &footage(length)).unwrap();
    segment(name, length, None, &sealed)
}

fn torn(name: &str, length: usize, with_tail: bool) -> Segment {
    let mut sealed = Vec::new();
    let leaf = layer_key().leaf(header(true).slot);
    let mut sealer = Cobblestone256.begin(&leaf, &header(true), &mut sealed).unwrap();
    sealer.update(&footage(length), &mut sealed);
    if with_tail {
        sealed.extend(sealer.checkpoint().unwrap());
    }
    segment(name, length, Some(sealer.full_chunks()), &sealed)
}

fn wrapped(name: &str, info: &[u8], aad: &[u8]) -> WrappedSecret {
    let pair = RecipientKeyPair::from_private_bytes(&[0x55; 32]).unwrap();
    let sealed = wrap(&pair.public(), info, aad, layer_key().expose()).unwrap();
    WrappedSecret {
        name: name.to_owned(),
        private_key: hex::encode(pair.private_bytes()),
        public_key: hex::encode(pair.public().0),
        info: hex::encode(info),
        aad: hex::encode(aad),
        encapsulated_key: hex::encode(sealed.encapsulated_key),
        ciphertext: hex::encode(sealed.ciphertext),
        secret: hex::encode(layer_key().expose()),
    }
}

#[test]
fn what_was_sealed_once_still_opens_and_seals_to_the_same_bytes() {
    let vectors = vectors();
    let keys = NodeSet::new(LayerKey::from_bytes(bytes(&vectors.layer_key)).cover(SlotRange::WHOLE_HOUR));
    for segment in vectors.segments {
        let sealed = hex::decode(&segment.sealed).unwrap();
        let opened = Cobblestone256.open(&keys, &sealed, segment.torn_after_chunks).unwrap();
        assert_eq!(hex::encode(opened.header.encode()), segment.header, "{}", segment.name);
        assert_eq!(opened.header, header(segment.torn_after_chunks.is_some()), "{}", segment.name);
        assert!(opened.as_bytes() == footage(segment.clear_length), "{}", segment.name);
        if segment.torn_after_chunks.is_none() {
            let start = 2 + opened.header.encoded_length();
            let salt = sealed[start..start + 24].try_into().unwrap();
            let leaf = LeafKey::from_bytes(bytes(&segment.leaf));
            let again =
                Cobblestone256::seal_again(&leaf, &opened.header, salt, &footage(segment.clear_length))
                    .unwrap();
            assert!(again == sealed, "{}", segment.name);
        }
    }
}

#[test]
fn the_tree_still_grows_the_same_leaves_and_covers() {
    let vectors = vectors();
    let key = LayerKey::from_bytes(bytes(&vectors.layer_key));
    for leaf in vectors.leaves {
        assert_eq!(hex::encode(key.leaf(Slot::new(leaf.slot).unwrap()).expose()), leaf.leaf);
    }
    for stored in vectors.covers {
        assert_eq!(cover(stored.first_slot, stored.last_slot).nodes, stored.nodes);
    }
}

#[test]
fn what_was_wrapped_once_still_unwraps() {
    let vectors = vectors();
    assert_eq!(hex::encode(context().aad()), vectors.wrapped[0].aad);
    for stored in vectors.wrapped {
        let pair = RecipientKeyPair::from_private_bytes(&hex::decode(&stored.private_key).unwrap()).unwrap();
        assert_eq!(hex::encode(pair.public().0), stored.public_key);
        let wrapped = Wrapped {
            encapsulated_key: hex::decode(&stored.encapsulated_key).unwrap(),
            ciphertext: hex::decode(&stored.ciphertext).unwrap(),
        };
        let (info, aad) = (hex::decode(&stored.info).unwrap(), hex::decode(&stored.aad).unwrap());
        assert_eq!(
            hex::encode(unwrap(&pair, &info, &aad, &wrapped).unwrap()),
            stored.secret,
            "{}",
            stored.name
        );
    }
}
