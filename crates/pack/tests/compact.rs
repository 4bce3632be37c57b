//! Compact directories: nothing of a head is lost, and there is one way to write each.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use std::time::Duration;

use obscura_clock::{ClockQuality, Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, PackId, Sequence, WriterEpoch, ZoneId};
use obscura_pack::{Directory, Entry, Error, Stream};
use obscura_seal::{CHUNK_BYTES, Hour, SegmentHeader, Slot, TAG_BYTES, prefix_length};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_800_000_000 * SECOND;

fn zone() -> ZoneId {
    "eea-west".parse().unwrap()
}

fn pack_id() -> PackId {
    PackId::from_bytes([7; 16])
}

fn lay_out(entries: Vec<Entry>) -> Directory {
    Directory::lay_out(pack_id(), CameraId::from_bytes([2; 16]), zone(), Layer::Original, entries).unwrap()
}

fn header(start: i64, sequence: u64) -> SegmentHeader {
    let first = (Hour::new(0).unwrap(), Slot::new(0).unwrap());
    let (hour, slot) = Hour::of(Timestamp::from_unix_nanos(start)).unwrap_or(first);
    SegmentHeader {
        key_id: LayerKeyId::from_bytes([1; 16]),
        hour,
        slot,
        zone: zone(),
        camera: CameraId::from_bytes([2; 16]),
        layer: Layer::Original,
        dependent: false,
        writer_epoch: WriterEpoch((77 << 32) + 3),
        sequence: Sequence(sequence),
        init_hash: Digest::from_bytes([5; 32]),
        mask_set_hash: Digest::ZERO,
    }
}

/// A segment of so many full chunks and a last one of `rest` bytes.
fn entry(start: i64, nanos: i64, sequence: u64, chunks: u64, rest: u64) -> Entry {
    let header = header(start, sequence);
    let prefix = u64::try_from(prefix_length(&header)).unwrap();
    let at = Timestamp::from_unix_nanos;
    Entry {
        offset: 0,
        length: prefix + chunks * u64::try_from(CHUNK_BYTES + TAG_BYTES).unwrap() + 16 + rest,
        sha256: Digest::from_bytes([9; 32]),
        span: Span::try_new(at(start), at(start + nanos)).unwrap(),
        media_duration: Duration::from_nanos(nanos.unsigned_abs()),
        frames: 100,
        damaged: false,
        torn_after_chunks: None,
        clock_quality: ClockQuality::Synchronised,
        header,
    }
}

/// A minute of a camera of 3 Mbit/s with a segment every four seconds, whose clock is not quite the wall's.
fn minute() -> Directory {
    let mut start = START;
    lay_out(
        (0..15_u32)
            .map(|number| {
                let wobble = i64::from(number * 7_919 % 100) * 1_000 - 50_000;
                let mut entry = entry(
                    start,
                    4 * SECOND + wobble,
                    600_000 + u64::from(number),
                    u64::from(88 + number * 5 % 7),
                    u64::from(number * 1_009),
                );
                entry.media_duration = Duration::from_secs(4);
                entry.sha256 = Digest::from_bytes([u8::try_from(number).unwrap(); 32]);
                start += 4 * SECOND + wobble;
                entry
            })
            .collect(),
    )
}

fn read(directory: &Directory, stream: &Stream, bytes: &[u8]) -> Result<Directory, Error> {
    Directory::from_compact(directory.pack_id, directory.span().start(), stream, bytes)
}

/// Any entries, most of which are like their neighbours.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let names = (0..3_u8, 0..3_u8, 0..3_u8, 0..3_u64, 0..3_u64);
    let times =
        (-2_000_i64..20_000, 0..9_000_000_000_i64, prop_oneof![Just(None), any::<i64>().prop_map(Some)]);
    let rest = (any::<[u8; 32]>(), any::<(bool, bool, bool)>(), 1..=3_u8, any::<u32>(), 0..40_u64, 0..60_u64);
    let start = prop_oneof![Just(START), any::<i64>().prop_map(|nanos| nanos / 4)];
    (start, prop::collection::vec((names, times, rest), 1..20)).prop_map(|(mut start, rows)| {
        let (mut epoch, mut sequence, mut entries) = (0, 0, Vec::new());
        for ((key, init, mask, new_epoch, step), (pause, length, media), rest) in rows {
            let (sha256, (dependent, damaged, is_torn), quality, frames, chunks, tail) = rest;
            (epoch, sequence) =
                if new_epoch == 2 { (epoch + 1 + step, step) } else { (epoch, sequence + 1 + step) };
            let mut entry = entry(start + pause, length, sequence, chunks, if is_torn { 0 } else { tail });
            start += pause + length;
            entry.header.key_id = LayerKeyId::from_bytes([key; 16]);
            entry.header.init_hash = Digest::from_bytes([init; 32]);
            entry.header.mask_set_hash = Digest::from_bytes([mask; 32]);
            entry.header.writer_epoch = WriterEpoch(epoch);
            entry.header.dependent = dependent;
            if is_torn {
                entry.length -= 16;
                entry.torn_after_chunks = Some(u32::try_from(chunks).unwrap());
            }
            entry.sha256 = Digest::from_bytes(sha256);
            entry.damaged = damaged;
            entry.frames = frames;
            entry.clock_quality = ClockQuality::from_code(quality).unwrap();
            if let Some(media) = media {
                entry.media_duration =
                    Duration::from_nanos(media.unsigned_abs().min(i64::MAX.unsigned_abs()));
            }
            entries.push(entry);
        }
        entries
    })
}

#[test]
fn a_usual_pack_takes_less_than_41_bytes_a_segment_and_keeps_its_head() {
    let directory = minute();
    let stream = Stream::of(&directory);
    let compact = directory.to_compact(&stream);
    assert!(compact.len() < 15 * 41, "{} bytes", compact.len());
    let back = read(&directory, &stream, &compact).unwrap();
    assert_eq!(back.encode_head(), directory.encode_head());
    assert_eq!(back.encoded_head_length(), directory.encode_head().len());
}

#[test]
fn beside_another_stream_of_the_camera_it_is_longer_and_no_less_exact() {
    let directory = minute();
    let own = Stream::of(&directory);
    let other =
        Stream { init_hash: Digest::from_bytes([6; 32]), writer: WriterEpoch(9 << 32), ..own.clone() };
    let compact = directory.to_compact(&other);
    assert!(compact.len() > directory.to_compact(&own).len());
    assert_eq!(read(&directory, &other, &compact).unwrap(), directory);
    assert_ne!(read(&directory, &own, &compact).ok(), Some(directory));
}

#[test]
fn a_full_pack_comes_back() {
    let entries = (0..4_096_u16).map(|number| {
        let number = u64::from(number);
        entry(
            START + i64::try_from(number).unwrap() * SECOND,
            SECOND,
            number * number,
            number % 9,
            number % 1_000,
        )
    });
    let directory = lay_out(entries.collect());
    let stream = Stream::of(&directory);
    assert_eq!(read(&directory, &stream, &directory.to_compact(&stream)).unwrap(), directory);
}

#[test]
fn what_is_cut_too_long_or_of_another_format_or_start_is_refused() {
    let directory = minute();
    let stream = Stream::of(&directory);
    let compact = directory.to_compact(&stream);
    for length in 0..compact.len() {
        assert!(read(&directory, &stream, &compact[..length]).is_err(), "cut to {length}");
    }
    assert!(read(&directory, &stream, &[&compact[..], &[0]].concat()).is_err());
    assert!(read(&directory, &stream, &[&[2], &compact[1..]].concat()).is_err());
    assert!(read(&directory, &stream, &[&[1, 0], &compact[2..]].concat()).is_err());
    // A column moved to where it says the same to a pack that starts later.
    let later = Timestamp::from_unix_nanos(START + 1);
    let moved = Directory::from_compact(pack_id(), later, &stream, &compact);
    assert_ne!(moved.map(|directory| directory.encode_head()).ok(), Some(directory.encode_head()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_directory_reads_back_with_the_same_head(entries in entries(), is_own: bool) {
        let directory = lay_out(entries);
        let own = Stream::of(&directory);
        let other = Stream { init_hash: Digest::from_bytes([1; 32]), writer: WriterEpoch(2), ..own.clone() };
        let stream = if is_own { own } else { other };
        let back = read(&directory, &stream, &directory.to_compact(&stream)).unwrap();
        prop_assert_eq!(back.encode_head(), directory.encode_head());
        prop_assert_eq!(back.encoded_head_length(), directory.encoded_head_length());
        prop_assert_eq!(back, directory);
    }

    #[test]
    fn what_can_be_read_after_a_change_has_no_other_form(
        entries in entries(), at: prop::sample::Index, flip in 1..=255_u8
    ) {
        let directory = lay_out(entries);
        let stream = Stream::of(&directory);
        let mut compact = directory.to_compact(&stream);
        let at = at.index(compact.len());
        compact[at] ^= flip;
        if let Ok(back) = read(&directory, &stream, &compact) {
            prop_assert_eq!(back.to_compact(&stream), compact);
            prop_assert_eq!(Directory::decode_head(&back.encode_head()), Ok(back));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), start: i64) {
        let stream = Stream::of(&minute());
        let start = Timestamp::from_unix_nanos(start);
        let _ = Directory::from_compact(pack_id(), start, &stream, &bytes);
        let _ = Directory::from_compact(pack_id(), start, &stream, &[&[1, 2], &bytes[..]].concat());
    }
}
