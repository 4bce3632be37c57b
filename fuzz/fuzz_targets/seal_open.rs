//! Sealed segments that someone made up: nothing opens, and what was sealed opens only unchanged.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use obscura_seal::{
    ChunkReader, Cobblestone256, LayerKey, NodeSet, SegmentCipher as _, SegmentHeader, SlotRange,
    is_possible_length, prefix_length,
};

static KEY: LazyLock<LayerKey> = LazyLock::new(|| LayerKey::from_bytes([7; 32]));
static KEYS: LazyLock<NodeSet> = LazyLock::new(|| NodeSet::new(KEY.cover(SlotRange::WHOLE_HOUR)));

fuzz_target!(|input: (Option<u32>, &[u8], &[u8], usize, u8)| {
    let (torn, bytes, clear, at, flip) = input;
    assert!(Cobblestone256.open(&KEYS, bytes, torn).is_err());
    assert!(ChunkReader::new(&KEYS, bytes).is_err());
    if let Ok(header) = SegmentHeader::decode(bytes) {
        let _ = is_possible_length(&header, at as u64, torn);
        changed(&header, clear, at, flip);
    }
});

/// Seals what the fuzzer found, changes one byte, and expects a refusal.
fn changed(header: &SegmentHeader, clear: &[u8], at: usize, flip: u8) {
    let leaf = KEY.leaf(header.slot);
    let mut sealed = Cobblestone256::seal_again(&leaf, header, [1; 24], clear).expect("sealing");
    assert!(is_possible_length(header, sealed.len() as u64, None));
    assert!(sealed.len() > prefix_length(header));
    let opened = Cobblestone256.open(&KEYS, &sealed, None).expect("what was sealed opens");
    assert_eq!(opened.as_bytes(), clear);
    let at = at % sealed.len();
    sealed[at] ^= flip;
    assert_eq!(Cobblestone256.open(&KEYS, &sealed, None).is_ok(), flip == 0);
    assert!(Cobblestone256.open(&KEYS, &sealed[..at], None).is_err());
}
