//! What sealing promises: what was changed, cut, moved or mixed never opens.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, Sequence, WriterEpoch};
use obscura_seal::{
    CHUNK_BYTES, ChunkReader, Cobblestone256, Error, Hour, LayerKey, NodeSet, SegmentCipher as _,
    SegmentHeader, SegmentSealer, Slot, SlotRange, TAG_BYTES, is_possible_length, prefix_length,
};
use proptest::prelude::*;

const SEALED_CHUNK: usize = CHUNK_BYTES + TAG_BYTES;

fn header() -> SegmentHeader {
    SegmentHeader {
        key_id: LayerKeyId::from_bytes([1; 16]),
        hour: Hour::new(498_000).unwrap(),
        slot: Slot::new(900).unwrap(),
        zone: "eea".parse().unwrap(),
        camera: CameraId::from_bytes([2; 16]),
        layer: Layer::Original,
        dependent: false,
        writer_epoch: WriterEpoch(3),
        sequence: Sequence(4),
        init_hash: Digest::from_bytes([5; 32]),
        mask_set_hash: Digest::ZERO,
    }
}

/// Every header that differs from [`header`] in one field.
fn moved_headers() -> Vec<SegmentHeader> {
    vec![
        SegmentHeader { key_id: LayerKeyId::from_bytes([9; 16]), ..header() },
        SegmentHeader { hour: Hour::new(498_001).unwrap(), ..header() },
        SegmentHeader { slot: Slot::new(901).unwrap(), ..header() },
        SegmentHeader { zone: "eeb".parse().unwrap(), ..header() },
        SegmentHeader { camera: CameraId::from_bytes([9; 16]), ..header() },
        SegmentHeader { layer: Layer::Masked, ..header() },
        SegmentHeader { dependent: true, ..header() },
        SegmentHeader { writer_epoch: WriterEpoch(9), ..header() },
        SegmentHeader { sequence: Sequence(9), ..header() },
        SegmentHeader { init_hash: Digest::ZERO, ..header() },
        SegmentHeader { mask_set_hash: Digest::from_bytes([9; 32]), ..header() },
    ]
}

fn layer_key() -> LayerKey {
    LayerKey::from_bytes([77; 32])
}

fn all_keys() -> NodeSet {
    NodeSet::new(layer_key().cover(SlotRange::WHOLE_HOUR))
}

fn begin(header: &SegmentHeader, out: &mut Vec<u8>) -> Box<dyn SegmentSealer> {
    Cobblestone256.begin(&layer_key().leaf(header.slot), header, out).unwrap()
}

fn seal(header: &SegmentHeader, clear: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sealer = begin(header, &mut out);
    sealer.update(clear, &mut out);
    sealer.finish(&mut out).unwrap();
    out
}

/// A segment as a crash leaves it: its full chunks, and the tail of the last checkpoint.
fn seal_torn(header: &SegmentHeader, clear: &[u8]) -> (Vec<u8>, Vec<u8>, u32) {
    let mut out = Vec::new();
    let mut sealer = begin(header, &mut out);
    sealer.update(clear, &mut out);
    (out, sealer.checkpoint().unwrap(), sealer.full_chunks())
}

fn open(sealed: &[u8], torn_after_chunks: Option<u32>) -> Result<Vec<u8>, Error> {
    Cobblestone256.open(&all_keys(), sealed, torn_after_chunks).map(obscura_seal::ClearSegment::into_bytes)
}

fn footage(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

/// Lengths around the borders of chunks, and others.
fn lengths() -> impl Strategy<Value = usize> {
    let near =
        |chunks: usize| (0..=3_usize).prop_map(move |off| (chunks * CHUNK_BYTES + off).saturating_sub(1));
    prop_oneof![near(0), near(1), near(2), near(3), 0..4 * CHUNK_BYTES]
}

#[test]
fn a_segment_under_another_header_fails_at_the_commitment_before_anything_is_decrypted() {
    let clear = footage(40_000);
    let original = seal(&header(), &clear);
    let body = &original[prefix_length(&header()) - 56..];
    for moved in moved_headers() {
        let encoded = moved.encode();
        let length = u16::try_from(encoded.len()).unwrap().to_be_bytes();
        let sealed = [&length[..], &encoded, body].concat();
        assert_eq!(open(&sealed, None), Err(Error::Commitment), "{moved:?}");
        assert_eq!(ChunkReader::new(&all_keys(), &sealed).unwrap_err(), Error::Commitment, "{moved:?}");
    }
}

#[test]
fn a_segment_of_a_slot_that_was_not_released_is_refused_by_name() {
    let before = SlotRange::new(Slot::new(0).unwrap(), Slot::new(899).unwrap()).unwrap();
    let keys = NodeSet::new(layer_key().cover(before));
    let error = Cobblestone256.open(&keys, &seal(&header(), b"footage"), None).unwrap_err();
    assert_eq!(error, Error::NotCovered { slot: header().slot });
}

#[test]
fn a_segment_does_not_open_under_the_layer_key_of_someone_else() {
    let keys = NodeSet::new(LayerKey::from_bytes([78; 32]).cover(SlotRange::WHOLE_HOUR));
    let error = Cobblestone256.open(&keys, &seal(&header(), b"footage"), None).unwrap_err();
    assert_eq!(error, Error::Commitment);
}

#[test]
fn the_same_segment_sealed_twice_shares_no_salt() {
    let start = prefix_length(&header()) - 56;
    let (one, two) = (seal(&header(), b"footage"), seal(&header(), b"footage"));
    assert_ne!(one[start..start + 24], two[start..start + 24]);
    assert_ne!(one[start + 56..], two[start + 56..]);
}

#[test]
fn bodies_of_two_segments_cannot_be_swapped_even_chunk_by_chunk() {
    let (one, two) = (seal(&header(), &footage(40_000)), seal(&header(), &footage(40_000)));
    let start = prefix_length(&header());
    let swapped = [&one[..start], &two[start..]].concat();
    assert!(matches!(open(&swapped, None), Err(Error::Chunk { .. })));
    let mut one_chunk = one;
    one_chunk[start..start + SEALED_CHUNK].copy_from_slice(&two[start..start + SEALED_CHUNK]);
    assert_eq!(open(&one_chunk, None), Err(Error::Chunk { index: 0 }));
}

#[test]
fn chunks_in_another_order_do_not_open() {
    let sealed = seal(&header(), &footage(4 * CHUNK_BYTES));
    let start = prefix_length(&header());
    for (a, b) in [(0, 1), (1, 3), (0, 3)] {
        let mut mixed = sealed.clone();
        let (low, high) = mixed.split_at_mut(start + b * SEALED_CHUNK);
        low[start + a * SEALED_CHUNK..][..SEALED_CHUNK].swap_with_slice(&mut high[..SEALED_CHUNK]);
        assert_eq!(open(&mixed, None), Err(Error::Chunk { index: u32::try_from(a).unwrap() }));
    }
}

#[test]
fn a_segment_cut_at_any_byte_does_not_open() {
    let sealed = seal(&header(), &footage(CHUNK_BYTES + 300));
    for length in 0..sealed.len() {
        assert!(open(&sealed[..length], None).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn a_segment_cut_between_chunks_is_refused_before_anything_is_decrypted() {
    let sealed = seal(&header(), &footage(3 * CHUNK_BYTES));
    let cut = prefix_length(&header()) + 2 * SEALED_CHUNK;
    assert!(matches!(open(&sealed[..cut], None), Err(Error::Length(_))));
}

#[test]
fn a_finished_segment_is_not_a_torn_one_and_the_other_way_round() {
    let clear = footage(2 * CHUNK_BYTES + 5_000);
    let sealed = seal(&header(), &clear);
    let (full, tail, count) = seal_torn(&header(), &clear);
    for claimed in 0..4 {
        assert!(open(&sealed, Some(claimed)).is_err(), "finished, claimed torn after {claimed}");
    }
    assert!(open(&[full.clone(), tail].concat(), None).is_err());
    assert!(open(&full, None).is_err());
    assert_eq!(count, 2);
}

#[test]
fn a_torn_segment_without_a_tail_opens_up_to_its_last_full_chunk_and_says_so() {
    let clear = footage(2 * CHUNK_BYTES + 5_000);
    let (full, _, count) = seal_torn(&header(), &clear);
    let opened = Cobblestone256.open(&all_keys(), &full, Some(count)).unwrap();
    assert!(opened.is_torn());
    assert_eq!(opened.as_bytes(), &clear[..2 * CHUNK_BYTES]);
    assert!(!Cobblestone256.open(&all_keys(), &seal(&header(), &clear), None).unwrap().is_torn());
}

#[test]
fn a_tail_belongs_to_one_segment_and_one_place() {
    let clear = footage(2 * CHUNK_BYTES + 5_000);
    let (full, tail, _) = seal_torn(&header(), &clear);
    assert!(open(&[&full[..], &tail].concat(), Some(2)).is_ok());
    let earlier = seal_torn(&header(), &clear[..CHUNK_BYTES + 5_000]).1;
    assert_eq!(open(&[&full[..], &earlier].concat(), Some(2)), Err(Error::Commitment));
    for moved in moved_headers() {
        let foreign = seal_torn(&moved, &clear).1;
        assert_eq!(open(&[&full[..], &foreign].concat(), Some(2)), Err(Error::Commitment), "{moved:?}");
    }
}

#[test]
fn a_checkpoint_disturbs_nothing_and_never_reuses_a_salt() {
    let clear = footage(CHUNK_BYTES + 100);
    let mut out = Vec::new();
    let mut sealer = begin(&header(), &mut out);
    let mut tails = Vec::new();
    for piece in clear.chunks(1_000) {
        sealer.update(piece, &mut out);
        tails.push(sealer.checkpoint().unwrap());
    }
    let again = sealer.checkpoint().unwrap();
    assert_ne!(tails.last().unwrap()[..24], again[..24]);
    sealer.finish(&mut out).unwrap();
    assert_eq!(open(&out, None).unwrap(), clear);
}

#[test]
fn nothing_that_is_printed_shows_footage() {
    let sealed = seal(&header(), b"a face");
    let opened = Cobblestone256.open(&all_keys(), &sealed, None).unwrap();
    let printed = format!("{opened:?} {:?}", begin(&header(), &mut Vec::new()));
    assert!(!printed.contains("face") && !printed.contains("97, 32"), "{printed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_segment_comes_back_however_it_was_written(length in lengths(), piece in 1..40_000_usize) {
        let clear = footage(length);
        let mut out = b"what is there already".to_vec();
        let mut sealer = begin(&header(), &mut out);
        for piece in clear.chunks(piece) {
            sealer.update(piece, &mut out);
        }
        prop_assert_eq!(usize::try_from(sealer.full_chunks()).unwrap(), length / CHUNK_BYTES);
        sealer.finish(&mut out).unwrap();
        let sealed = out.strip_prefix(b"what is there already").unwrap();
        let opened = Cobblestone256.open(&all_keys(), sealed, None).unwrap();
        prop_assert_eq!(&opened.header, &header());
        prop_assert!(opened.into_bytes() == clear);
        prop_assert!(is_possible_length(&header(), u64::try_from(sealed.len()).unwrap(), None));
    }

    #[test]
    fn sealing_again_under_the_same_salt_proves_the_footage(length in lengths()) {
        let (sealed, leaf) = (seal(&header(), &footage(length)), layer_key().leaf(header().slot));
        let start = prefix_length(&header()) - 56;
        let salt = sealed[start..start + 24].try_into().unwrap();
        let again = Cobblestone256::seal_again(&leaf, &header(), salt, &footage(length)).unwrap();
        prop_assert!(again == sealed);
    }

    #[test]
    fn a_torn_segment_comes_back_up_to_its_checkpoint(length in lengths()) {
        let (full, tail, count) = seal_torn(&header(), &footage(length));
        let sealed = [full, tail].concat();
        prop_assert!(open(&sealed, Some(count)).unwrap() == footage(length));
        prop_assert!(is_possible_length(&header(), u64::try_from(sealed.len()).unwrap(), Some(count)));
        for wrong in (0..8).chain([u32::MAX]).filter(|wrong| *wrong != count) {
            prop_assert!(open(&sealed, Some(wrong)).is_err(), "torn after {}, not {}", wrong, count);
        }
    }

    #[test]
    fn a_torn_segment_cut_within_its_tail_or_chunks_does_not_open(length in lengths(), at: prop::sample::Index) {
        let (full, tail, count) = seal_torn(&header(), &footage(length));
        let sealed = [&full[..], &tail].concat();
        let cut = at.index(sealed.len());
        prop_assume!(cut != full.len());
        prop_assert!(open(&sealed[..cut], Some(count)).is_err());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed(length in 0..40_000_usize, at: prop::sample::Index, bit in 0..8_u32, torn: bool) {
        let (mut sealed, torn) = if torn {
            let (full, tail, count) = seal_torn(&header(), &footage(length));
            ([full, tail].concat(), Some(count))
        } else {
            (seal(&header(), &footage(length)), None)
        };
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(open(&sealed, torn).is_err(), "byte {} bit {}", at, bit);
    }

    #[test]
    fn bytes_behind_the_end_are_noticed(length in lengths(), more in prop::collection::vec(any::<u8>(), 1..20_000)) {
        let sealed = [seal(&header(), &footage(length)), more].concat();
        prop_assert!(open(&sealed, None).is_err());
    }

    #[test]
    fn chunks_open_in_any_order_to_what_the_whole_segment_opens_to(length in lengths()) {
        let clear = footage(length);
        let sealed = seal(&header(), &clear);
        let reader = ChunkReader::new(&all_keys(), &sealed[..ChunkReader::MAX_PREFIX_BYTES.min(sealed.len())]).unwrap();
        prop_assert_eq!(reader.header(), &header());
        let expected: Vec<&[u8]> = clear.chunks(CHUNK_BYTES).collect();
        let count = length / CHUNK_BYTES;
        for index in (0..=count).rev() {
            let number = u32::try_from(index).unwrap();
            let range = reader.chunk_range(number);
            let start = usize::try_from(range.start).unwrap();
            let end = usize::try_from(range.end).unwrap().min(sealed.len());
            let opened = reader.open_chunk(number, &sealed[start..end], index == count).unwrap();
            prop_assert!(*opened == *expected.get(index).copied().unwrap_or_default());
            prop_assert!(reader.open_chunk(number, &sealed[start..end], index != count).is_err());
            prop_assert!(reader.open_chunk(number + 1, &sealed[start..end], index == count).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_open_and_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..40_000), torn in prop::option::of(0..4_u32)
    ) {
        prop_assert!(open(&bytes, torn).is_err());
        let behind_a_header = [&seal(&header(), b"")[..prefix_length(&header())], &bytes].concat();
        // Without chunks and tail, a torn segment is empty, and that is no lie.
        prop_assume!(!(bytes.is_empty() && torn == Some(0)));
        prop_assert!(open(&behind_a_header, torn).is_err());
        let reader = ChunkReader::new(&all_keys(), &behind_a_header).unwrap();
        prop_assert!(reader.open_chunk(0, &bytes, bytes.len() < SEALED_CHUNK).is_err());
        prop_assert!(reader.open_tail(0, &bytes).is_err());
    }

    #[test]
    fn only_lengths_that_sealing_gives_are_possible(body in 0..80_000_usize, torn in prop::option::of(0..5_u32)) {
        let length = u64::try_from(prefix_length(&header()) + body).unwrap();
        let rest = match torn {
            None => Some(body % SEALED_CHUNK),
            Some(count) => match body.checked_sub(usize::try_from(count).unwrap() * SEALED_CHUNK) {
                Some(0) => Some(TAG_BYTES),
                tail => tail.and_then(|tail| tail.checked_sub(56)).filter(|tail| *tail < SEALED_CHUNK),
            },
        };
        prop_assert_eq!(is_possible_length(&header(), length, torn), rest.is_some_and(|rest| rest >= TAG_BYTES));
    }
}
