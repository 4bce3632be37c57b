//! Opening one segment, and saying exactly what is wrong with one that does not open.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use obscura_ids::LayerKeyId;
use obscura_media::read_segment;
use obscura_pack::Entry;
use obscura_seal::{
    ChunkReader, ClearSegment, Cobblestone256, NodeSet, SLOT_DURATION, SegmentCipher as _, SegmentHeader,
};

use super::{Cause, Located};

/// The trailer's start is refined by every frame of the segment, the one in the index is that known
/// when it was begun. A delay beyond this is no refinement but another moment.
const MAX_REFINEMENT: Duration = SLOT_DURATION;

/// Opens a sealed segment that is, byte for byte, the one of the index. Where `examine` is set, what
/// is inside must also read as media and agree with the index.
pub fn open(
    sealed: &[u8],
    located: &Located,
    keys: &BTreeMap<LayerKeyId, NodeSet>,
    examine: bool,
) -> Result<ClearSegment, Cause> {
    let entry = &located.entry;
    let keys = keys.get(&entry.header.key_id);
    if digest(&SHA256, sealed).as_ref() != entry.sha256.as_bytes() {
        return Err(what_changed(sealed, located, keys));
    }
    let keys = keys.ok_or(Cause::NoKey)?;
    let clear = Cobblestone256.open(keys, sealed, entry.torn_after_chunks)?;
    if clear.header != entry.header {
        return Err(other_header(&clear.header, &entry.header));
    }
    if examine {
        examine_media(&clear, entry)?;
    }
    Ok(clear)
}

/// Finds the reason for a hash that differs.
fn what_changed(sealed: &[u8], located: &Located, keys: Option<&NodeSet>) -> Cause {
    let whole = Cause::Changed {
        first: located.object_offset,
        last: located.bytes().end.saturating_sub(1),
        what: "the whole segment; its header is not readable",
    };
    let Some(header) = header_of(sealed) else { return whole };
    if header != located.entry.header {
        return other_header(&header, &located.entry.header);
    }
    changed_chunk(sealed, located, keys).unwrap_or(Cause::Changed {
        first: located.object_offset,
        last: located.bytes().end.saturating_sub(1),
        what: "somewhere in this segment",
    })
}

/// The chunk that does not authenticate, where that can be told.
fn changed_chunk(sealed: &[u8], located: &Located, keys: Option<&NodeSet>) -> Option<Cause> {
    let keys = keys?;
    let error = Cobblestone256.open(keys, sealed, located.entry.torn_after_chunks).err()?;
    let obscura_seal::Error::Chunk { index } = error else {
        return matches!(error, obscura_seal::Error::Commitment).then(|| Cause::Changed {
            first: located.object_offset,
            last: located.object_offset + u64::try_from(ChunkReader::MAX_PREFIX_BYTES).unwrap_or(0),
            what: "its salt or key commitment",
        });
    };
    let prefix = sealed.get(..ChunkReader::MAX_PREFIX_BYTES).unwrap_or(sealed);
    let range = ChunkReader::new(keys, prefix).ok()?.chunk_range(index);
    Some(Cause::Changed {
        first: located.object_offset + range.start,
        last: (located.object_offset + range.end).min(located.bytes().end).saturating_sub(1),
        what: "a chunk of this segment",
    })
}

/// The clear header that the stored bytes begin with.
fn header_of(sealed: &[u8]) -> Option<SegmentHeader> {
    let (length, rest) = sealed.split_first_chunk()?;
    let header = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    SegmentHeader::decode(header).ok()
}

/// Says how one header differs from the one that belongs there, the most telling difference first.
fn other_header(found: &SegmentHeader, expected: &SegmentHeader) -> Cause {
    let swapped = |what, named: String, expected: String| Cause::Swapped { what, named, expected };
    if found.camera != expected.camera {
        return swapped("camera", found.camera.to_string(), expected.camera.to_string());
    }
    if found.zone != expected.zone {
        return swapped("zone", found.zone.to_string(), expected.zone.to_string());
    }
    if found.layer != expected.layer {
        return swapped("layer", found.layer.to_string(), expected.layer.to_string());
    }
    Cause::OtherSegment { named: place(found), expected: place(expected) }
}

fn place(header: &SegmentHeader) -> String {
    let (run, number) = (header.writer_epoch.0, header.sequence.0);
    format!("segment {number} of recorder run {run}, slot of {}", header.hour.slot_start(header.slot))
}

/// Whether a crash cut the segment before its first frame was whole: it is authentic, and empty.
pub fn has_no_frame(clear: &ClearSegment) -> bool {
    clear.is_torn() && matches!(read_segment(clear.as_bytes()), Err(obscura_media::Error::Cut(_)))
}

/// A finished segment has a trailer, and it says what the index says. A torn one has none.
fn examine_media(clear: &ClearSegment, entry: &Entry) -> Result<(), Cause> {
    if has_no_frame(clear) {
        return Ok(());
    }
    let segment = read_segment(clear.as_bytes()).map_err(|error| Cause::Media(error.to_string()))?;
    let Some(trailer) = segment.trailer else {
        return if entry.torn_after_chunks.is_some() {
            Ok(())
        } else {
            Err(Cause::Media("the trailer is missing, though the segment was finished".to_owned()))
        };
    };
    agree("frames", &trailer.frames, &entry.frames)?;
    let (inside, index) = (trailer.start, entry.span.start());
    if inside.since(index).max(index.since(inside)) > MAX_REFINEMENT {
        agree("start", &inside, &index)?;
    }
    let counted = u32::try_from(segment.samples.len()).unwrap_or(u32::MAX);
    agree("frames, counted", &counted, &trailer.frames)
}

fn agree<T: PartialEq + std::fmt::Display>(what: &str, inside: &T, index: &T) -> Result<(), Cause> {
    if inside == index {
        return Ok(());
    }
    Err(Cause::Disagrees { inside: format!("{what} {inside}"), index: index.to_string() })
}

#[cfg(test)]
pub mod samples {
    //! Sealed segments for the tests of the reader.

    use std::time::Duration;

    use obscura_clock::{ClockQuality, Span, Timestamp};
    use obscura_ids::{CameraId, Digest, Layer, Sequence, WriterEpoch};
    use obscura_seal::{Hour, LayerKey, SlotRange};

    use super::*;

    /// A layer key and what a grant for all of its hour releases.
    pub struct Keys {
        pub key: LayerKey,
        pub released: BTreeMap<LayerKeyId, NodeSet>,
    }

    fn header(sequence: u64) -> SegmentHeader {
        let start: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let (hour, slot) = Hour::of(start + Duration::from_secs(2 * sequence)).unwrap();
        SegmentHeader {
            key_id: LayerKeyId::from_bytes([1; 16]),
            hour,
            slot,
            zone: "eea".parse().unwrap(),
            camera: CameraId::from_bytes([2; 16]),
            layer: Layer::Original,
            dependent: false,
            writer_epoch: WriterEpoch(3),
            sequence: Sequence(sequence),
            init_hash: Digest::ZERO,
            mask_set_hash: Digest::ZERO,
        }
    }

    /// A row of the index for the segment with this sequence number.
    pub fn located(sequence: u64) -> Located {
        let header = header(sequence);
        let start = header.hour.slot_start(header.slot);
        let entry = Entry {
            header,
            offset: 0,
            length: 0,
            sha256: Digest::ZERO,
            span: Span::try_new(start, start + Duration::from_secs(2)).unwrap(),
            media_duration: Duration::from_secs(2),
            frames: 50,
            damaged: false,
            torn_after_chunks: None,
            clock_quality: ClockQuality::Synchronised,
        };
        Located { object_key: "eea/x.pack".into(), object_offset: 1000, entry }
    }

    pub fn keys() -> Keys {
        let key = LayerKey::generate().unwrap();
        let nodes = NodeSet::new(key.cover(SlotRange::WHOLE_HOUR));
        Keys { key, released: BTreeMap::from([(LayerKeyId::from_bytes([1; 16]), nodes)]) }
    }

    /// Seals these bytes as the segment of the row and writes hash and length into the row.
    pub fn seal(keys: &Keys, located: &mut Located, clear: &[u8]) -> Vec<u8> {
        let header = &located.entry.header;
        let mut sealed = Vec::new();
        let mut sealer = Cobblestone256.begin(&keys.key.leaf(header.slot), header, &mut sealed).unwrap();
        sealer.update(clear, &mut sealed);
        sealer.finish(&mut sealed).unwrap();
        located.entry.length = u64::try_from(sealed.len()).unwrap();
        located.entry.sha256 = Digest::try_from(digest(&SHA256, &sealed).as_ref()).unwrap();
        sealed
    }
}

#[cfg(test)]
mod tests {
    use obscura_ids::CameraId;

    use super::{
        samples::{keys, located, seal},
        *,
    };

    #[test]
    fn what_was_sealed_opens() {
        let (keys, mut row) = (keys(), located(4));
        let sealed = seal(&keys, &mut row, b"footage");
        assert_eq!(open(&sealed, &row, &keys.released, false).unwrap().as_bytes(), b"footage");
    }

    #[test]
    fn a_segment_of_another_camera_is_named() {
        let (keys, mut row) = (keys(), located(4));
        seal(&keys, &mut row, b"footage");
        let mut other = located(4);
        other.entry.header.camera = CameraId::from_bytes([9; 16]);
        let swapped = seal(&keys, &mut other, b"footage");
        let cause = open(&swapped, &row, &keys.released, false).unwrap_err().to_string();
        let named = CameraId::from_bytes([9; 16]);
        assert!(cause.starts_with(&format!("object swapped: the header names camera {named}")), "{cause}");
    }

    #[test]
    fn a_segment_of_another_moment_is_named() {
        let (keys, mut row, mut other) = (keys(), located(4), located(5));
        seal(&keys, &mut row, b"footage");
        let swapped = seal(&keys, &mut other, b"footage");
        let cause = open(&swapped, &row, &keys.released, false).unwrap_err();
        assert!(matches!(cause, Cause::OtherSegment { .. }), "{cause}");
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_chunk() {
        let (keys, mut row) = (keys(), located(4));
        let mut sealed = seal(&keys, &mut row, &vec![7; 100_000]);
        let position = sealed.len() - 40_000;
        sealed[position] ^= 1;
        let cause = open(&sealed, &row, &keys.released, false).unwrap_err();
        let Cause::Changed { first, last, .. } = cause else { panic!("{cause}") };
        let at = 1000 + u64::try_from(position).unwrap();
        assert!((first..=last).contains(&at) && last - first < 17_000, "{first} to {last}, changed {at}");
    }

    #[test]
    fn a_broken_header_is_a_change_of_the_segment() {
        let (keys, mut row) = (keys(), located(4));
        let mut sealed = seal(&keys, &mut row, b"footage");
        sealed[2] ^= 0xff;
        assert!(matches!(
            open(&sealed, &row, &keys.released, false),
            Err(Cause::Changed { first: 1000, .. })
        ));
    }

    #[test]
    fn without_a_released_key_nothing_opens_and_the_message_says_so() {
        let (keys, mut row) = (keys(), located(4));
        let sealed = seal(&keys, &mut row, b"footage");
        assert_eq!(open(&sealed, &row, &BTreeMap::new(), false).unwrap_err(), Cause::NoKey);
    }

    #[test]
    fn a_segment_that_a_crash_cut_before_its_first_frame_is_authentic_and_empty() {
        let (keys, mut row) = (keys(), located(4));
        let header = &row.entry.header;
        let mut sealed = Vec::new();
        Cobblestone256.begin(&keys.key.leaf(header.slot), header, &mut sealed).unwrap();
        row.entry.torn_after_chunks = Some(0);
        row.entry.sha256 = obscura_ids::Digest::try_from(digest(&SHA256, &sealed).as_ref()).unwrap();
        let clear = open(&sealed, &row, &keys.released, true).unwrap();
        assert!(has_no_frame(&clear) && clear.as_bytes().is_empty());
    }

    #[test]
    fn a_segment_that_opens_but_holds_no_media_fails_the_examination() {
        let (keys, mut row) = (keys(), located(4));
        let sealed = seal(&keys, &mut row, b"not an mp4 at all");
        assert!(matches!(open(&sealed, &row, &keys.released, true), Err(Cause::Media(_))));
    }
}
