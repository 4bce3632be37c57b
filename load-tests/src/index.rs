//! An index of packs as large as wanted, as recorders would have filled it.
//!
//! Each camera records packs of a minute with a segment every four seconds, and every four hours it is
//! away for a minute, so that there are runs and gaps to find.

pub mod bulk;
pub mod row;

use std::{ops::Range, time::Duration};

use anyhow::{Context as _, Result};
use obscura_clock::{ClockQuality, Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, PackId, Sequence, WriterEpoch};
use obscura_pack::{Directory, Entry, object_key};
use obscura_seal::{CHUNK_BYTES, Hour, SegmentHeader, TAG_BYTES};
use obscura_storage::{PackRow, Run};

/// Segments in a pack.
pub const SEGMENTS_OF_PACK: u64 = 15;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const SEGMENT: i64 = 4 * SECOND;
/// First moment of the index: a midnight in November 2026.
const START: i64 = 20_780 * 86_400 * SECOND;
/// Minutes from one pause to the next.
const PAUSE_MINUTES: i64 = 240;
/// Sealed bytes of a segment, about: 3 Mbit/s for four seconds.
const SEGMENT_BYTES: u64 = 1_500_000;
/// Full chunks of a segment, which is a fifth longer or shorter than another, and bytes behind them.
const CHUNKS: Range<u64> = 73..110;
const WHOLE_CHUNK: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;
const LAST_CHUNK: Range<u64> = 1_000..16_000;
/// How far the time of a camera wanders from the wall's, nanoseconds.
const WANDER: i64 = 100_000;
/// Zone of every camera.
const ZONE: &str = "eea";
/// Initialisation segment of every camera.
const INIT: Digest = Digest::from_bytes([7; 32]);
/// Recorder of every camera.
const WRITER: WriterEpoch = WriterEpoch(1);
/// Minutes of a day.
const DAY_MINUTES: i64 = 1_440;

/// Who recorded for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cameras.
    pub cameras: Vec<CameraId>,
    /// Minutes that each of them recorded or was away.
    pub minutes: i64,
}

impl Plan {
    /// About so many segments, in whole minutes over at most so many days.
    ///
    /// # Errors
    /// Where there is nothing to record.
    pub fn new(segments: u64, days: u32) -> Result<Self> {
        let packs = i64::try_from(segments / SEGMENTS_OF_PACK)?.max(1);
        let minutes_of_all = packs + packs / (PAUSE_MINUTES - 1);
        let most = i64::from(days) * DAY_MINUTES;
        let cameras = minutes_of_all.checked_add(most - 1).context("fewer segments")? / most.max(1);
        let minutes = minutes_of_all / cameras.max(1);
        let cameras = (0..cameras).map(|_| CameraId::generate()).collect();
        Ok(Self { cameras, minutes: minutes.max(2) })
    }

    /// Whether a camera is away in the minute.
    #[must_use]
    pub const fn is_away(minute: i64) -> bool {
        minute % PAUSE_MINUTES == PAUSE_MINUTES - 1
    }

    /// First moment of a minute.
    #[must_use]
    pub fn moment(minute: i64) -> Timestamp {
        Timestamp::from_unix_nanos(START + minute * MINUTE)
    }

    /// The stretches of minutes, end exclusive, in which no camera was away.
    pub fn runs(&self) -> impl Iterator<Item = (i64, i64)> {
        let starts = (0..self.minutes).step_by(usize::try_from(PAUSE_MINUTES).unwrap_or(1));
        starts.map(|start| (start, (start + PAUSE_MINUTES - 1).min(self.minutes)))
    }

    /// Days, each as a stretch of minutes with its end exclusive.
    pub fn days(&self) -> impl Iterator<Item = (i64, i64)> {
        let starts = (0..self.minutes).step_by(usize::try_from(DAY_MINUTES).unwrap_or(1));
        starts.map(|start| (start, (start + DAY_MINUTES).min(self.minutes)))
    }
}

/// The pack of a camera in a minute, as a commit makes it.
///
/// # Errors
/// Where times are beyond what a pack can hold.
pub fn pack(camera: CameraId, minute: i64) -> Result<(PackRow, Vec<Run>)> {
    let directory = directory(camera, minute)?;
    let Directory { zone, layer, pack_id, .. } = &directory;
    let key = object_key(zone, camera, *layer, directory.span().start(), *pack_id).parse()?;
    let bytes = directory.encoded_head_length() as u64 + directory.body_length();
    Ok(PackRow::of(directory, key, bytes))
}

/// What lies in the pack of a camera in a minute.
///
/// # Errors
/// Where times are beyond what a pack can hold.
pub fn directory(camera: CameraId, minute: i64) -> Result<Directory> {
    let zone: obscura_ids::ZoneId = ZONE.parse()?;
    let (pack, key_id) = (PackId::generate(), LayerKeyId::generate());
    let mut start = START + minute * MINUTE;
    let entries = (0..i64::try_from(SEGMENTS_OF_PACK)?).map(|number| {
        // By the wall, which corrections of a clock make longer or shorter.
        let end = START + minute * MINUTE + (number + 1) * SEGMENT;
        let end = if end % MINUTE == 0 { end } else { end + rand::random_range(-WANDER..WANDER) };
        let moment = Timestamp::from_unix_nanos(std::mem::replace(&mut start, end));
        let span = Span::try_new(moment, Timestamp::from_unix_nanos(end)).context("a segment takes time")?;
        let (hour, slot) = Hour::of(moment).context("an hour that a key can have")?;
        let header = SegmentHeader {
            key_id,
            hour,
            slot,
            zone: zone.clone(),
            camera,
            layer: Layer::Original,
            dependent: false,
            writer_epoch: WRITER,
            sequence: Sequence(u64::try_from(minute)? * SEGMENTS_OF_PACK + u64::try_from(number)?),
            init_hash: INIT,
            mask_set_hash: Digest::ZERO,
        };
        anyhow::Ok(Entry {
            header,
            offset: 0,
            length: rand::random_range(CHUNKS) * WHOLE_CHUNK + rand::random_range(LAST_CHUNK),
            // Random, because a database must not be able to compress what it never can.
            sha256: Digest::from_bytes(rand::random()),
            span,
            media_duration: Duration::from_nanos(SEGMENT.unsigned_abs()),
            frames: 100,
            damaged: false,
            torn_after_chunks: None,
            clock_quality: ClockQuality::Synchronised,
        })
    });
    let entries = entries.collect::<Result<_>>()?;
    Ok(Directory::lay_out(pack, camera, zone, Layer::Original, entries)?)
}

#[cfg(test)]
mod tests {
    use obscura_pack::Stream;

    use super::*;

    #[test]
    fn a_plan_has_about_as_many_segments_as_asked_for() {
        for (segments, days) in [(100_000, 30), (10_000_000, 30), (650_000_000, 30), (1, 1)] {
            let plan = Plan::new(segments, days).unwrap();
            let minutes = (0..plan.minutes).filter(|minute| !Plan::is_away(*minute)).count();
            let planned = u64::try_from(minutes * plan.cameras.len()).unwrap() * SEGMENTS_OF_PACK;
            assert!(
                planned.abs_diff(segments) <= segments / 50 + 2 * SEGMENTS_OF_PACK,
                "{planned} for {segments}"
            );
            let of_runs: i64 = plan.runs().map(|(start, end)| end - start).sum();
            assert_eq!(usize::try_from(of_runs).unwrap(), minutes);
        }
        assert_eq!(Plan::new(650_000_000, 30).unwrap().cameras.len(), 1_008);
    }

    #[test]
    fn a_pack_is_one_that_the_index_can_read() {
        let (row, runs) = pack(CameraId::generate(), 61).unwrap();
        assert_eq!((row.segments, runs.len(), runs[0].segments), (15, 1, 15));
        assert_eq!(row.directory.entries.len(), 15);
        assert_eq!(row.span.start(), Plan::moment(61));
    }

    #[test]
    fn the_stream_of_every_pack_is_the_one_of_its_camera() {
        let stream = Stream::of(&directory(CameraId::generate(), 61).unwrap());
        assert_eq!((stream.zone.as_str(), stream.layer.code().into()), (ZONE, bulk::LAYER));
        assert_eq!((stream.init_hash, stream.writer), (INIT, WRITER.first_of_directory()));
    }
}
