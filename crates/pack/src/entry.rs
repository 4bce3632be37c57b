//! One segment in a pack, as protobuf and as a type.

use std::time::Duration;

use obscura_clock::{ClockQuality, Span, Timestamp};
use obscura_ids::Digest;
use obscura_proto::footage::v1 as proto;
use obscura_seal::{SegmentHeader, is_possible_length};

use crate::InvalidEntry;

/// One segment in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The clear header of the segment.
    pub header: SegmentHeader,
    /// Position of the sealed bytes, counted from the end of the directory.
    pub offset: u64,
    /// Number of sealed bytes.
    pub length: u64,
    /// SHA-256 of the sealed bytes.
    pub sha256: Digest,
    /// Wall time from the first frame to the end of the last one.
    pub span: Span,
    /// Duration in the camera's own time; kept to the nanosecond, at most 584 years.
    pub media_duration: Duration,
    /// Number of frames; 0 where a crash kept the recorder from counting.
    pub frames: u32,
    /// Packets were lost inside this segment: frames may refer to missing ones.
    pub damaged: bool,
    /// A crash cut this segment: so many full chunks precede the separately sealed tail.
    pub torn_after_chunks: Option<u32>,
    /// How well the time is known.
    pub clock_quality: ClockQuality,
}

impl Entry {
    /// Position behind the last sealed byte; `None` where no offset can express it.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.length)
    }

    pub(crate) fn check_length(&self) -> Result<(), InvalidEntry> {
        if is_possible_length(&self.header, self.length, self.torn_after_chunks) {
            return Ok(());
        }
        Err(InvalidEntry::field("length", "is not one that a sealed segment with this header can have"))
    }
}

impl TryFrom<proto::PackEntry> for Entry {
    type Error = InvalidEntry;

    fn try_from(entry: proto::PackEntry) -> Result<Self, InvalidEntry> {
        let quality = u8::try_from(entry.clock_quality).ok().and_then(ClockQuality::from_code);
        let start = Timestamp::from_unix_nanos(entry.start_unix_ns);
        let end = Timestamp::from_unix_nanos(entry.end_unix_ns);
        let entry = Self {
            header: SegmentHeader::decode(&entry.header)?,
            offset: entry.offset,
            length: entry.length,
            sha256: Digest::try_from(&*entry.sha256)
                .map_err(|_| InvalidEntry::field("sha256", "is not 32 bytes long"))?,
            span: Span::try_new(start, end).ok_or(InvalidEntry::field("span", "runs backwards"))?,
            media_duration: duration(entry.media_duration_ns)?,
            frames: entry.frames,
            damaged: entry.damaged,
            torn_after_chunks: entry.torn_after_chunks,
            clock_quality: quality.ok_or(InvalidEntry::field("clock quality", "is unknown"))?,
        };
        entry.check_length()?;
        Ok(entry)
    }
}

impl From<Entry> for proto::PackEntry {
    fn from(entry: Entry) -> Self {
        (&entry).into()
    }
}

impl From<&Entry> for proto::PackEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            header: entry.header.encode().into(),
            offset: entry.offset,
            length: entry.length,
            sha256: entry.sha256.as_bytes().to_vec().into(),
            start_unix_ns: entry.span.start().unix_nanos(),
            end_unix_ns: entry.span.end().unix_nanos(),
            media_duration_ns: i64::try_from(entry.media_duration.as_nanos()).unwrap_or(i64::MAX),
            frames: entry.frames,
            damaged: entry.damaged,
            torn_after_chunks: entry.torn_after_chunks,
            clock_quality: i32::from(entry.clock_quality.code()),
        }
    }
}

fn duration(nanos: i64) -> Result<Duration, InvalidEntry> {
    let nanos = u64::try_from(nanos).map_err(|_| InvalidEntry::field("media duration", "is negative"))?;
    Ok(Duration::from_nanos(nanos))
}
