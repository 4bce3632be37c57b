//! An index of packs as large as wanted, as recorders would have filled it.
//!
//! Each camera records packs of a minute with a segment every four seconds, and every four hours it is
//! away for a minute, so that there are runs and gaps to find.

pub mod bulk;

use anyhow::{Context as _, Result};
use obscura_clock::{ClockQuality, Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, PackId, Sequence, WriterEpoch};
use obscura_pack::{Directory, Entry, object_key};
use obscura_seal::{Hour, SegmentHeader};
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
/// Sealed bytes of a segment: 3 Mbit/s for four seconds.
const SEGMENT_BYTES: u64 = 1_500_000;
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
    let zone: obscura_ids::ZoneId = "eea".parse()?;
    let (pack, key_id) = (PackId::generate(), LayerKeyId::generate());
    let entries = (0..i64::try_from(SEGMENTS_OF_PACK)?).map(|number| {
        let start = Timestamp::from_unix_nanos(START + minute * MINUTE + number * SEGMENT);
        let span = Span::try_new(start, Timestamp::from_unix_nanos(start.unix_nanos() + SEGMENT));
        let span = span.context("a segment takes time")?;
        let (hour, slot) = Hour::of(start).context("an hour that a key can have")?;
        let header = SegmentHeader {
            key_id,
            hour,
            slot,
            zone: zone.clone(),
            camera,
            layer: Layer::Original,
            dependent: false,
            writer_epoch: WriterEpoch(1),
            sequence: Sequence(u64::try_from(minute)? * SEGMENTS_OF_PACK + u64::try_from(number)?),
            init_hash: Digest::from_bytes([7; 32]),
            mask_set_hash: Digest::ZERO,
        };
        anyhow::Ok(Entry {
            header,
            offset: 0,
            length: SEGMENT_BYTES,
            // Random, because a database must not be able to compress what it never can.
            sha256: Digest::from_bytes(rand::random()),
            span,
            media_duration: span.duration(),
            frames: 100,
            damaged: false,
            torn_after_chunks: None,
            clock_quality: ClockQuality::Synchronised,
        })
    });
    let directory =
        Directory::lay_out(pack, camera, zone.clone(), Layer::Original, entries.collect::<Result<_>>()?)?;
    let key = object_key(&zone, camera, Layer::Original, directory.span().start(), pack).parse()?;
    let head = directory.encode_head();
    let bytes = head.len() as u64 + directory.body_length();
    Ok(PackRow::of(&directory, key, head.into(), bytes))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(row.directory().unwrap().entries.len(), 15);
        assert_eq!(row.span.start(), Plan::moment(61));
    }
}
