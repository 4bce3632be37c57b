//! What a directory promises, and which lies it refuses.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::time::Duration;

use obscura_clock::{ClockQuality, Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, PackId, Sequence, WriterEpoch, ZoneId};
use obscura_pack::{
    Directory, Entry, Error, HEAD_PREFIX, InvalidEntry, MAX_BODY_BYTES, MAX_DIRECTORY_BYTES, MAX_ENTRIES,
};
use obscura_proto::footage::v1 as proto;
use obscura_seal::{CHUNK_BYTES, Hour, SegmentHeader, Slot, TAG_BYTES, prefix_length};
use proptest::prelude::*;
use prost::Message as _;

const SEALED_CHUNK: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;

fn zone() -> ZoneId {
    "eea-west".parse().unwrap()
}

fn camera() -> CameraId {
    CameraId::from_bytes([2; 16])
}

fn pack_id() -> PackId {
    PackId::from_bytes([7; 16])
}

fn header(sequence: u64) -> SegmentHeader {
    SegmentHeader {
        key_id: LayerKeyId::from_bytes([1; 16]),
        hour: Hour::new(498_000).unwrap(),
        slot: Slot::new(900).unwrap(),
        zone: zone(),
        camera: camera(),
        layer: Layer::Original,
        dependent: false,
        writer_epoch: WriterEpoch(3),
        sequence: Sequence(sequence),
        init_hash: Digest::from_bytes([5; 32]),
        mask_set_hash: Digest::ZERO,
    }
}

/// A segment of so many full chunks and an empty last one.
fn entry(sequence: u64, chunks: u32) -> Entry {
    let header = header(sequence);
    let start = header.hour.slot_start(header.slot) + Duration::from_secs(sequence.min(1_000) * 2);
    let prefix = u64::try_from(prefix_length(&header)).unwrap();
    Entry {
        offset: 0,
        length: prefix + u64::from(chunks) * SEALED_CHUNK + 16,
        sha256: Digest::from_bytes([9; 32]),
        span: Span::try_new(start, start + Duration::from_secs(2)).unwrap(),
        media_duration: Duration::from_nanos(2_000_000_001),
        frames: 50,
        damaged: false,
        torn_after_chunks: None,
        clock_quality: ClockQuality::Synchronised,
        header,
    }
}

fn lay_out(entries: Vec<Entry>) -> Result<Directory, Error> {
    Directory::lay_out(pack_id(), camera(), zone(), Layer::Original, entries)
}

fn three() -> Directory {
    lay_out(vec![entry(0, 3), entry(1, 0), entry(5, 10)]).unwrap()
}

fn message(directory: &Directory) -> proto::PackDirectory {
    proto::PackDirectory::decode(&directory.encode_head()[HEAD_PREFIX..]).unwrap()
}

/// The head that a liar would write around this message.
fn head(message: &proto::PackDirectory) -> Vec<u8> {
    let directory = message.encode_to_vec();
    let length = u32::try_from(directory.len()).unwrap().to_be_bytes();
    [b"OBSPACK\x01", &length[..], &directory].concat()
}

/// Decodes the directory of three segments after someone changed it.
fn refusal_of(change: impl FnOnce(&mut proto::PackDirectory)) -> Error {
    let mut message = message(&three());
    change(&mut message);
    Directory::decode_head(&head(&message)).unwrap_err()
}

fn entry_refusal(change: impl FnOnce(&mut proto::PackEntry)) -> String {
    match refusal_of(|message| change(&mut message.entries[1])) {
        Error::Entry { index: 1, why } => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn moved(change: impl FnOnce(&mut SegmentHeader)) -> String {
    entry_refusal(|entry| {
        let mut header = SegmentHeader::decode(&entry.header).unwrap();
        change(&mut header);
        entry.header = header.encode().into();
    })
}

/// Any entries that a recorder may write.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let fields = (1..5_u64, 0..200_u32, any::<[u8; 32]>(), 0..100_u64, any::<bool>(), 1..=3_u8);
    let times = (any::<u32>(), -3_000_000_000_i64..3_000_000_000, 0..10_000_000_000_u64);
    let torn = prop::option::of(prop::option::of(0..CHUNK_BYTES));
    prop::collection::vec((fields, times, torn), 1..20).prop_map(|rows| {
        let mut sequence = 0;
        let mut entries = Vec::new();
        for ((step, chunks, sha256, media, damaged, quality), (frames, start, length), torn) in rows {
            sequence += step;
            let mut entry = entry(sequence, chunks);
            let start = Timestamp::from_unix_nanos(start);
            if let Some(tail) = torn {
                let tail = tail.map_or(0, |tail| u64::try_from(56 + TAG_BYTES + tail).unwrap());
                entry.length = entry.length - 16 + tail;
                entry.torn_after_chunks = Some(chunks);
            }
            entry.sha256 = Digest::from_bytes(sha256);
            entry.media_duration = Duration::from_millis(media);
            entry.span = Span::try_new(start, start + Duration::from_nanos(length)).unwrap();
            entry.clock_quality = ClockQuality::from_code(quality).unwrap();
            (entry.frames, entry.damaged) = (frames, damaged);
            entries.push(entry);
        }
        entries
    })
}

#[test]
fn segments_lie_back_to_back_behind_the_head() {
    let directory = three();
    let [first, second, third] = &directory.entries[..] else { panic!("three entries") };
    assert_eq!((first.offset, second.offset), (0, first.length));
    assert_eq!(third.offset, first.length + second.length);
    assert_eq!(directory.body_length(), first.length + second.length + third.length);
    assert_eq!(directory.span().start(), first.span.start());
    assert_eq!(directory.span().end(), third.span.end());
}

#[test]
fn a_header_of_another_camera_zone_or_layer_is_refused_by_name() {
    assert!(moved(|header| header.camera = CameraId::from_bytes([8; 16])).contains("another camera"));
    assert!(moved(|header| header.zone = "eea-east".parse().unwrap()).contains("another zone"));
    assert!(moved(|header| header.layer = Layer::Masked).contains("another layer"));
    let error =
        Directory::lay_out(pack_id(), camera(), zone(), Layer::Masked, vec![entry(0, 1)]).unwrap_err();
    assert_eq!(error, Error::Entry { index: 0, why: InvalidEntry::Moved("layer") });
}

#[test]
fn a_directory_of_another_camera_zone_or_layer_is_refused() {
    let changes: [fn(&mut proto::PackDirectory); 6] = [
        |message| message.camera_id = CameraId::from_bytes([8; 16]).to_string(),
        |message| message.zone = "eea-east".to_owned(),
        |message| message.layer = 2,
        |message| message.layer = 0,
        |message| message.zone = "../x".to_owned(),
        |message| message.pack_id = message.pack_id.to_uppercase() + " ",
    ];
    for change in changes {
        refusal_of(change);
    }
}

#[test]
fn segments_that_overlap_leave_a_hole_or_are_out_of_order_are_refused() {
    assert!(entry_refusal(|entry| entry.offset -= 1).contains("offset"));
    assert!(entry_refusal(|entry| entry.offset += 1).contains("offset"));
    assert!(entry_refusal(|entry| entry.offset = u64::MAX).contains("offset"));
    assert!(matches!(refusal_of(|message| message.entries.swap(0, 1)), Error::Entry { .. }));
    assert!(moved(|header| header.sequence = Sequence(0)).contains("sequence"));
    assert!(moved(|header| header.writer_epoch = WriterEpoch(2)).contains("sequence"));
}

#[test]
fn a_length_that_no_sealed_segment_has_is_refused() {
    for wrong in [0, 1, 100, u64::MAX, u64::MAX / 2] {
        assert!(entry_refusal(|entry| entry.length = wrong).contains("length"), "{wrong}");
    }
    assert!(entry_refusal(|entry| entry.length -= 1).contains("length"));
    assert!(entry_refusal(|entry| entry.torn_after_chunks = Some(1)).contains("length"));
    assert!(entry_refusal(|entry| entry.torn_after_chunks = Some(u32::MAX)).contains("length"));
}

#[test]
fn a_pack_over_its_limit_is_refused() {
    let chunks = u32::try_from(MAX_BODY_BYTES / SEALED_CHUNK).unwrap();
    let error = lay_out(vec![entry(0, chunks - 1), entry(1, 2)]).unwrap_err();
    assert!(error.to_string().contains("entry 1") && error.to_string().contains("4 GiB"), "{error}");
    assert!(lay_out((0..=4096).map(|sequence| entry(sequence, 0)).collect()).is_err());
    assert!(lay_out(Vec::new()).is_err());
}

#[test]
fn a_full_pack_fits_into_the_largest_directory() {
    let directory =
        lay_out((0..4096).map(|sequence| entry(u64::MAX - 4096 + sequence, 20)).collect()).unwrap();
    assert_eq!(directory.entries.len(), MAX_ENTRIES);
    let head = directory.encode_head();
    assert!(head.len() <= HEAD_PREFIX + MAX_DIRECTORY_BYTES);
    assert_eq!(Directory::decode_head(&head), Ok(directory));
}

#[test]
fn fields_that_make_no_sense_are_refused() {
    assert!(entry_refusal(|entry| entry.sha256.truncate(31)).contains("sha256"));
    assert!(entry_refusal(|entry| entry.end_unix_ns = entry.start_unix_ns - 1).contains("span"));
    assert!(entry_refusal(|entry| entry.media_duration_ns = -1).contains("media duration"));
    assert!(entry_refusal(|entry| entry.clock_quality = 0).contains("clock quality"));
    assert!(entry_refusal(|entry| entry.clock_quality = 257).contains("clock quality"));
    assert!(entry_refusal(|entry| entry.header.truncate(10)).contains("header"));
}

#[test]
fn a_head_that_is_cut_too_long_or_of_another_version_is_refused() {
    let head = three().encode_head();
    for length in 0..head.len() {
        assert!(Directory::decode_head(&head[..length]).is_err(), "cut to {length}");
    }
    assert!(matches!(Directory::decode_head(&[&head[..], b"x"].concat()), Err(Error::HeadLength { .. })));
    let mut newer = head;
    newer[7] = 2;
    assert_eq!(Directory::decode_head(&newer), Err(Error::Magic));
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_read() {
    let first = [&b"OBSPACK\x01"[..], &0x0010_0001_u32.to_be_bytes()].concat();
    let error = Directory::head_length(&first.try_into().unwrap()).unwrap_err();
    assert!(error.to_string().contains("1 MiB"), "{error}");
    let first = [&b"OBSPACK\x01"[..], &0x0010_0000_u32.to_be_bytes()].concat();
    assert_eq!(Directory::head_length(&first.try_into().unwrap()), Ok(HEAD_PREFIX + MAX_DIRECTORY_BYTES));
}

#[test]
fn a_second_way_to_write_the_same_directory_is_refused() {
    let mut directory = message(&three()).encode_to_vec();
    directory.extend([0xf8, 0x01, 0x01]); // field 31, which no version has
    let length = u32::try_from(directory.len()).unwrap().to_be_bytes();
    let head = [b"OBSPACK\x01", &length[..], &directory].concat();
    assert!(matches!(Directory::decode_head(&head), Err(Error::Directory(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_directory_reads_back_from_its_head(entries in entries()) {
        let directory = lay_out(entries).unwrap();
        let head = directory.encode_head();
        let first = head[..HEAD_PREFIX].try_into().unwrap();
        prop_assert_eq!(Directory::head_length(first), Ok(head.len()));
        prop_assert_eq!(Directory::decode_head(&head), Ok(directory));
    }

    #[test]
    fn an_entry_reads_back_from_its_message(entries in entries()) {
        for entry in entries {
            prop_assert_eq!(Entry::try_from(proto::PackEntry::from(entry.clone())), Ok(entry));
        }
    }

    #[test]
    fn what_can_be_read_after_a_change_has_no_other_encoding(
        entries in entries(), at: prop::sample::Index, flip in 1..=255_u8
    ) {
        let mut head = lay_out(entries).unwrap().encode_head();
        let at = at.index(head.len());
        head[at] ^= flip;
        if let Ok(directory) = Directory::decode_head(&head) {
            prop_assert_eq!(directory.encode_head(), head);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let _ = Directory::decode_head(&bytes);
        let _ = Directory::decode_head(&[b"OBSPACK\x01", &length[..], &bytes].concat());
    }
}
