//! Segments that an earlier run left in the spool, complete or cut.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use obscura_clock::{ClockQuality, Monotonic, Span, Timestamp};
use obscura_ids::{CameraId, Digest};
use obscura_pack::Entry;
use obscura_proto::footage::v1::PackEntry;
use obscura_seal::{CHUNK_BYTES, SegmentHeader, TAG_BYTES};
use prost::Message as _;

use super::{Opening, Sealed, Tail, opening::sealed_part};
use crate::spool::{
    Error, Extent, Position, Serial, Spool,
    record::Record,
    recovery::{self, losses::Cut},
};

/// Bytes of a full sealed chunk.
const CHUNK_TAG_BYTES: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;

/// Prepares a recovered segment for its pack. A complete one is taken as it is; a cut one becomes
/// prefix, full chunks, and the tail that was sealed after them. `None` where the prefix is not
/// whole or no frame was committed.
///
/// # Errors
/// Where the spool cannot be read.
pub fn recovered(
    spool: &Spool,
    serial: Serial,
    segment: &recovery::Segment,
) -> Result<Option<Sealed>, Error> {
    if let Some(cut) = segment.cut.as_ref().filter(|_| is_cut(segment)) {
        return recovered(spool, serial, &before_loss(segment, cut));
    }
    let Some(opening) = Opening::decode(&segment.opening) else { return Ok(None) };
    let Some(header) = header(&opening.prefix) else { return Ok(None) };
    if segment.data.is_empty() && segment.tail.is_none() && segment.entry.is_none() {
        return Ok(None);
    }
    let mut extents = vec![prefix_extent(segment, &opening)];
    extents.extend(&segment.data);
    let complete = segment.entry.as_deref().and_then(|bytes| PackEntry::decode(bytes).ok());
    let complete = complete.and_then(|entry| Entry::try_from(entry).ok());
    let entry = match complete {
        Some(entry) => {
            let whole: u64 = extents.iter().map(|extent| u64::from(extent.length)).sum();
            if let Some((extent, _)) = segment.tail.filter(|_| entry.length > whole) {
                extents.push(sealed_part(extent)); // It was given up while recording, and ends with its tail.
            }
            entry
        }
        None => cut_entry(spool, segment, &opening, header, &mut extents)?,
    };
    Ok(Some(Sealed {
        serial,
        entry,
        extents,
        placement: opening.placement,
        end: Position::default(),
        since: Monotonic::from_nanos(0),
        waited_before: Duration::ZERO,
    }))
}

/// The header in the payload of an `Open` record, and when the segment began.
pub fn opened(payload: &[u8]) -> Option<(SegmentHeader, Timestamp)> {
    let opening = Opening::decode(payload)?;
    Some((header(&opening.prefix)?, opening.start))
}

/// Whether the disk lost something of it: then only what came before that counts. A segment is as long as its
/// entry says, or has as many chunks as its tail.
pub fn is_cut(segment: &recovery::Segment) -> bool {
    let Some(cut) = &segment.cut else { return false };
    let sealed = |extents: &[Extent]| extents.iter().map(|extent| u64::from(extent.length)).sum::<u64>();
    let Some(bytes) = segment.entry.as_deref() else {
        let chunks = cut.full_chunks.map(u64::from);
        let told = chunks.is_some_and(|chunks| chunks * CHUNK_TAG_BYTES == sealed(&segment.data));
        let all = segment.tail.is_some_and(|(_, before)| before == segment.data.len());
        // Where nothing of it comes behind the loss it is as it was before it.
        let follows = segment.data.len() > cut.data || cut.full_chunks.is_some();
        return follows && !(told && all);
    };
    let Ok(entry) = PackEntry::decode(bytes) else { return true };
    let prefix = Opening::decode(&segment.opening).map_or(0, |opening| opening.prefix.len() as u64);
    let tail = segment.tail.map_or(0, |(extent, _)| u64::from(sealed_part(extent).length));
    let length = prefix + sealed(&segment.data);
    entry.length != length && (entry.torn_after_chunks.is_none() || entry.length != length + tail)
}

/// As it was before the disk lost something of it.
fn before_loss(segment: &recovery::Segment, cut: &Cut) -> recovery::Segment {
    recovery::Segment {
        opening: segment.opening.clone(),
        first: segment.first,
        data: segment.data.iter().take(cut.data).copied().collect(),
        tail: cut.tail,
        entry: None,
        cut: None,
    }
}

/// Whose segment it is and when it began; `None` where not even its prefix is whole.
pub fn beginning(segment: &recovery::Segment) -> Option<(CameraId, Timestamp)> {
    let opening = Opening::decode(&segment.opening)?;
    Some((header(&opening.prefix)?.camera, opening.start))
}

/// The prefix lies at the end of the `Open` record.
fn prefix_extent(segment: &recovery::Segment, opening: &Opening) -> Extent {
    let before = (segment.opening.len() - opening.prefix.len()) as u64;
    let length = u32::try_from(opening.prefix.len()).unwrap_or(u32::MAX);
    Extent { start: Position(segment.first.0 + before), length }
}

fn header(prefix: &[u8]) -> Option<SegmentHeader> {
    let (length, rest) = prefix.split_first_chunk::<2>()?;
    let header = SegmentHeader::decode(rest.get(..usize::from(u16::from_be_bytes(*length)))?).ok()?;
    (obscura_seal::prefix_length(&header) == prefix.len()).then_some(header)
}

fn cut_entry(
    spool: &Spool,
    segment: &recovery::Segment,
    opening: &Opening,
    header: SegmentHeader,
    extents: &mut Vec<Extent>,
) -> Result<Entry, Error> {
    let sealed_bytes: u64 = segment.data.iter().map(|extent| u64::from(extent.length)).sum();
    let chunks = u32::try_from(sealed_bytes / CHUNK_TAG_BYTES).unwrap_or(u32::MAX);
    // Only the last chunk is short: the crash came between the sealed bytes and their entry.
    let finished = !sealed_bytes.is_multiple_of(CHUNK_TAG_BYTES);
    let mut tail = None;
    if let Some((extent, _)) = segment.tail {
        tail = Tail::decode(&spool.read(extent)?).map(|tail| (tail, extent));
    }
    if let Some((tail, extent)) = &tail
        && tail.full_chunks == chunks
        && !finished
    {
        extents.push(sealed_part(*extent));
    }
    let (sha256, length) = hash(spool, extents)?;
    let tail = tail.map(|(tail, _)| tail);
    let end = tail.as_ref().map_or(opening.start, |tail| tail.end.max(opening.start));
    Ok(Entry {
        header,
        offset: 0,
        length,
        sha256,
        span: Span::try_new(opening.start, end).unwrap_or_else(|| empty(opening)),
        media_duration: Duration::from_nanos(tail.as_ref().map_or(0, |tail| tail.media_nanos)),
        frames: tail.as_ref().map_or(0, |tail| tail.frames),
        damaged: tail.as_ref().is_some_and(|tail| tail.damaged),
        torn_after_chunks: (!finished).then_some(chunks),
        clock_quality: ClockQuality::FreeRunning,
    })
}

#[expect(clippy::expect_used, reason = "a moment is never before itself")]
fn empty(opening: &Opening) -> Span {
    Span::try_new(opening.start, opening.start).expect("a moment is never before itself")
}

fn hash(spool: &Spool, extents: &[Extent]) -> Result<(Digest, u64), Error> {
    let mut context = Context::new(&SHA256);
    let mut length = 0;
    for extent in extents {
        context.update(&spool.read(*extent)?);
        length += u64::from(extent.length);
    }
    Ok((digest(context), length))
}

/// The finished hash.
pub fn digest(context: Context) -> Digest {
    Digest::try_from(context.finish().as_ref()).unwrap_or(Digest::ZERO)
}

/// A record, for short.
pub fn record(kind: crate::spool::record::Kind, serial: Serial, payload: &[u8]) -> Record<'_> {
    Record { kind, serial, payload }
}
