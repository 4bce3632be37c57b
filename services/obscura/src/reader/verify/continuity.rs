//! Sequence numbers: the recorder counts the segments of one run without holes.

use std::collections::BTreeMap;

use obscura_clock::{Span, Timestamp};
use obscura_ids::WriterEpoch;
use obscura_pack::Entry;
use obscura_proto::footage::v1::{Gap, GapReason};

use crate::words::gap_reason;

/// Most holes that are told of one camera.
const MAX_HOLES: usize = 1_000;

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
}

impl Continuity {
    /// Takes note of a segment.
    pub fn saw(&mut self, entry: &Entry) {
        let seen =
            Seen { sequence: entry.header.sequence.0, start: entry.span.start(), end: entry.span.end() };
        self.runs.entry(entry.header.writer_epoch).or_default().push(seen);
    }

    /// The holes, each with the gap that explains it.
    pub fn missing(mut self, gaps: &[Gap]) -> Vec<Missing> {
        let mut missing = Vec::new();
        for (writer_epoch, seen) in &mut self.runs {
            seen.sort_unstable();
            for pair in seen.windows(2) {
                let [before, behind] = pair else { continue };
                if behind.sequence > before.sequence + 1 && missing.len() < MAX_HOLES {
                    missing.push(hole(*writer_epoch, *before, *behind, gaps));
                }
            }
        }
        missing
    }
}

fn hole(writer_epoch: WriterEpoch, before: Seen, behind: Seen, gaps: &[Gap]) -> Missing {
    let (from, to) = (before.end.min(behind.start), before.end.max(behind.start));
    let explained = gaps.iter().find(|gap| touches(gap, from, to)).map(Gap::reason);
    Missing {
        writer_epoch,
        first: before.sequence + 1,
        last: behind.sequence - 1,
        between: Span::try_new(from, to).unwrap_or_else(|| unreachable!("the smaller of two comes first")),
        explained,
    }
}

/// A gap that still lasts ends at the end of time.
fn touches(gap: &Gap, from: Timestamp, to: Timestamp) -> bool {
    let end = if gap.end_unix_ns == 0 { i64::MAX } else { gap.end_unix_ns };
    gap.start_unix_ns <= to.unix_nanos() && from.unix_nanos() <= end
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reader::open::samples::located;

    fn missing(sequences: &[u64], gaps: &[Gap]) -> Vec<Missing> {
        let mut continuity = Continuity::default();
        for sequence in sequences {
            continuity.saw(&located(*sequence).entry);
        }
        continuity.missing(gaps)
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
