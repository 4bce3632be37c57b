//! Sequence numbers: the recorder counts the segments of one run without holes, and gives each number once.

use std::{collections::BTreeMap, time::Duration};

use obscura_clock::{Span, Timestamp};
use obscura_ids::{Digest, PackId, WriterEpoch};
use obscura_pack::parse_object_key;
use obscura_proto::footage::v1::{Gap, GapReason};

use crate::{
    reader::{Cause, Fault, Located},
    words::gap_reason,
};

/// Most holes that are told of one camera.
const MAX_HOLES: usize = 1_000;
const NANOSECOND: Duration = Duration::from_nanos(1);

/// Segments that the recorder counted and the index does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The run of the recorder.
    pub writer_epoch: WriterEpoch,
    /// First sequence number that is missing.
    pub first: u64,
    /// Last one.
    pub last: u64,
    /// From the end of the segment before to the start of the one behind.
    pub between: Span,
    /// Reason of a recorded gap in that span.
    pub explained: Option<GapReason>,
}

impl Missing {
    /// Takes the reason of a gap that touches it, where it has none.
    pub fn explain(&mut self, gaps: &[Gap]) {
        let (from, to) = (self.between.start(), self.between.end());
        let reason = || gaps.iter().find(|gap| touches(gap, from, to)).map(Gap::reason);
        self.explained = self.explained.or_else(reason);
    }

    /// What every gap that touches it overlaps.
    pub fn reach(&self) -> Span {
        let (from, to) = (self.between.start() - NANOSECOND, self.between.end() + NANOSECOND);
        Span::try_new(from.max(Timestamp::from_unix_nanos(0)), to).unwrap_or(self.between)
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { writer_epoch, first, last, between, explained } = self;
        let (from, to) = (between.start(), between.end());
        write!(
            f,
            "segments {first} to {last} of recorder run {} are missing, between {from} and {to}",
            writer_epoch.0
        )?;
        match explained {
            Some(reason) => write!(f, "; a recorded gap explains it: {}", gap_reason(*reason)),
            None => Ok(()),
        }
    }
}

/// What the sequence numbers of a camera say.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    /// The holes, each with the gap that explains it.
    pub missing: Vec<Missing>,
    /// Segments that lie in a second pack as well, byte for byte: a recorder that stopped between upload and its note
    /// of it uploads them again.
    pub copies: u64,
    /// Different segments under one number.
    pub faults: Vec<Fault>,
}

/// Collects sequence numbers.
#[derive(Debug, Default)]
pub struct Continuity {
    runs: BTreeMap<WriterEpoch, Vec<Seen>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    sequence: u64,
    start: Timestamp,
    end: Timestamp,
    /// Where it lies.
    pack: Option<PackId>,
    offset: u64,
    sha256: Digest,
}

impl Continuity {
    /// Takes note of a segment.
    pub fn saw(&mut self, located: &Located) {
        let entry = &located.entry;
        let seen = Seen {
            sequence: entry.header.sequence.0,
            start: entry.span.start(),
            end: entry.span.end(),
            pack: parse_object_key(&located.object_key).ok().map(|name| name.pack),
            offset: entry.offset,
            sha256: entry.sha256,
        };
        self.runs.entry(entry.header.writer_epoch).or_default().push(seen);
    }

    /// What came of it.
    pub fn finish(mut self, gaps: &[Gap]) -> Sequences {
        let mut found = Sequences::default();
        for (writer_epoch, seen) in &mut self.runs {
            seen.sort_unstable();
            // A segment that the index told twice is one.
            seen.dedup();
            for pair in seen.windows(2) {
                let [before, behind] = pair else { continue };
                found.pair(*writer_epoch, *before, *behind, gaps);
            }
        }
        found
    }
}

impl Sequences {
    fn pair(&mut self, writer_epoch: WriterEpoch, before: Seen, behind: Seen, gaps: &[Gap]) {
        if behind.sequence > before.sequence + 1 && self.missing.len() < MAX_HOLES {
            self.missing.push(hole(writer_epoch, before, behind, gaps));
        }
        if behind.sequence == before.sequence && behind.sha256 == before.sha256 {
            self.copies += 1;
        } else if behind.sequence == before.sequence && self.faults.len() < MAX_HOLES {
            self.faults.push(twice(writer_epoch, before, behind));
        }
    }
}

fn twice(writer_epoch: WriterEpoch, before: Seen, behind: Seen) -> Fault {
    let place = |seen: Seen| match seen.pack {
        Some(pack) => format!("pack {pack}, byte {} behind its head", seen.offset),
        None => "an object without a valid name".to_owned(),
    };
    let cause = Cause::NumberTwice { run: writer_epoch.0, number: behind.sequence, other: place(before) };
    Fault { object_key: format!("of {}", place(behind)), bytes: 0..0, time: Some(behind.start), cause }
}

fn hole(writer_epoch: WriterEpoch, before: Seen, behind: Seen, gaps: &[Gap]) -> Missing {
    let (from, to) = (before.end.min(behind.start), before.end.max(behind.start));
    let mut missing = Missing {
        writer_epoch,
        first: before.sequence + 1,
        last: behind.sequence - 1,
        between: Span::try_new(from, to).unwrap_or_else(|| unreachable!("the smaller of two comes first")),
        explained: None,
    };
    missing.explain(gaps);
    missing
}

/// A gap that still lasts ends at the end of time.
fn touches(gap: &Gap, from: Timestamp, to: Timestamp) -> bool {
    let end = if gap.end_unix_ns == 0 { i64::MAX } else { gap.end_unix_ns };
    gap.start_unix_ns <= to.unix_nanos() && from.unix_nanos() <= end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::open::samples::located;

    fn missing(sequences: &[u64], gaps: &[Gap]) -> Vec<Missing> {
        let mut continuity = Continuity::default();
        for sequence in sequences {
            continuity.saw(&located(*sequence));
        }
        continuity.finish(gaps).missing
    }

    /// The segment with this number at this place with this content.
    fn placed(sequence: u64, pack: u8, offset: u64, content: u8) -> Located {
        let mut located = located(sequence);
        let pack = PackId::from_bytes([pack; 16]);
        let header = &located.entry.header;
        let (zone, start) = (&header.zone, located.entry.span.start());
        located.object_key = obscura_pack::object_key(zone, header.camera, header.layer, start, pack);
        located.entry.offset = offset;
        located.entry.sha256 = Digest::from_bytes([content; 32]);
        located
    }

    fn finished(segments: &[Located]) -> Sequences {
        let mut continuity = Continuity::default();
        segments.iter().for_each(|segment| continuity.saw(segment));
        continuity.finish(&[])
    }

    #[test]
    fn a_segment_that_is_told_twice_is_one_and_a_copy_in_another_pack_is_counted() {
        let one = finished(&[placed(1, 1, 0, 1), placed(1, 1, 0, 1), placed(2, 1, 100, 2)]);
        assert_eq!((one.copies, one.faults.len(), one.missing.len()), (0, 0, 0));
        let copy = finished(&[placed(1, 1, 0, 1), placed(1, 2, 0, 1), placed(2, 1, 100, 2)]);
        assert_eq!((copy.copies, copy.faults.len(), copy.missing.len()), (1, 0, 0));
    }

    #[test]
    fn two_different_segments_under_one_number_are_a_fault_that_names_both_places() {
        let places = [placed(1, 2, 0, 2), placed(1, 1, 100, 2)];
        for other in places {
            let found = finished(&[placed(1, 1, 0, 1), other, placed(2, 1, 200, 3)]);
            assert_eq!((found.copies, found.faults.len()), (0, 1));
            let words = found.faults[0].to_string();
            let first = PackId::from_bytes([1; 16]).to_string();
            assert!(words.contains("number 1 of recorder run") && words.contains(&first), "{words}");
        }
    }

    #[test]
    fn an_unbroken_run_misses_nothing_wherever_it_begins() {
        assert_eq!(missing(&[7, 5, 6, 8], &[]), []);
        assert_eq!(missing(&[], &[]), []);
    }

    #[test]
    fn a_hole_is_told_with_its_numbers_and_its_time() {
        let found = missing(&[1, 2, 6], &[]);
        assert_eq!((found[0].first, found[0].last), (3, 5));
        assert_eq!(found[0].between.duration(), Duration::from_secs(6));
        assert_eq!(found[0].explained, None);
    }

    #[test]
    fn a_recorded_gap_explains_a_hole() {
        let at = located(3).entry.span.start().unix_nanos();
        let gap = Gap {
            start_unix_ns: at,
            end_unix_ns: at + 1,
            reason: GapReason::SpoolFull.into(),
            ..Gap::default()
        };
        assert_eq!(missing(&[1, 2, 6], std::slice::from_ref(&gap))[0].explained, Some(GapReason::SpoolFull));
        let elsewhere = Gap { start_unix_ns: 0, end_unix_ns: 1, ..gap };
        assert_eq!(missing(&[1, 2, 6], &[elsewhere])[0].explained, None);
    }
}
