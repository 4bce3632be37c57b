//! Contiguous coverage: what "recorded without a break" means.
//!
//! Two stretches of one camera and layer belong to one run where the later starts no more than
//! [`JOIN`] after the earlier ends. Packs may arrive late and in any order; the runs do not depend
//! on it.

use std::time::Duration;

use obscura_clock::{Span, Timestamp};

/// Longest pause inside a run: less than one lost group of pictures, more than what clocks wander
/// between two segments.
pub const JOIN: Duration = Duration::from_secs(1);

/// A stretch of footage of one camera and layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// From its first to its last frame.
    pub span: Span,
    /// Number of segments.
    pub segments: u64,
    /// Sealed bytes.
    pub bytes: u64,
}

impl Run {
    /// Whether the two belong to one run.
    #[must_use]
    pub fn joins(&self, other: &Self) -> bool {
        self.span.start() <= other.span.end() + JOIN && other.span.start() <= self.span.end() + JOIN
    }

    /// Whether a segment with this span, of the same camera and layer, is part of it.
    #[must_use]
    pub fn holds(&self, segment: Span) -> bool {
        self.span.start() <= segment.start() && segment.end() <= self.span.end()
    }

    /// The two as one.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let start = self.span.start().min(other.span.start());
        let end = self.span.end().max(other.span.end());
        Self {
            span: Span::try_new(start, end).unwrap_or(self.span),
            segments: self.segments.saturating_add(other.segments),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The runs that segments form, in order of time. Each segment is a span and its sealed bytes.
#[must_use]
pub fn runs_of(segments: impl IntoIterator<Item = (Span, u64)>) -> Vec<Run> {
    let mut segments: Vec<Run> =
        segments.into_iter().map(|(span, bytes)| Run { span, segments: 1, bytes }).collect();
    segments.sort_by_key(|segment| segment.span.start());
    let mut runs: Vec<Run> = Vec::new();
    for segment in segments {
        match runs.last_mut() {
            Some(last) if last.joins(&segment) => *last = last.union(&segment),
            _ => runs.push(segment),
        }
    }
    runs
}

/// What inserting a run does to the table of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insertion {
    /// Starts of the runs that end to exist by themselves.
    pub absorbed: Vec<Timestamp>,
    /// The run that takes their place.
    pub run: Run,
}

/// Inserts `run` among `neighbours`, runs of the table that are further than [`JOIN`] apart from each
/// other. All that `run` joins must be among them; others do no harm.
///
/// One pass is enough: the new run reaches no further than itself or a run that it absorbs, and
/// those do not reach each other.
#[must_use]
pub fn insert(run: Run, neighbours: &[Run]) -> Insertion {
    let joined = || neighbours.iter().filter(|neighbour| neighbour.joins(&run));
    Insertion {
        absorbed: joined().map(|neighbour| neighbour.span.start()).collect(),
        run: joined().fold(run, |whole, neighbour| whole.union(neighbour)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(start_ms: i64, end_ms: i64) -> Span {
        let at = |ms: i64| Timestamp::from_unix_nanos(ms * 1_000_000);
        Span::try_new(at(start_ms), at(end_ms)).unwrap()
    }

    fn run(start_ms: i64, end_ms: i64) -> Run {
        Run { span: span(start_ms, end_ms), segments: 1, bytes: 10 }
    }

    #[test]
    fn a_pause_of_one_second_joins_and_a_longer_one_does_not() {
        assert!(run(0, 4_000).joins(&run(5_000, 9_000)));
        assert!(!run(0, 4_000).joins(&run(5_001, 9_000)));
        assert!(run(5_000, 9_000).joins(&run(0, 4_000)), "the order does not matter");
    }

    #[test]
    fn a_late_run_bridges_two_others() {
        let insertion = insert(run(4_000, 8_000), &[run(0, 4_000), run(8_500, 9_000), run(60_000, 61_000)]);
        assert_eq!(insertion.absorbed, [span(0, 0).start(), span(8_500, 8_500).start()]);
        assert_eq!(insertion.run, Run { span: span(0, 9_000), segments: 3, bytes: 30 });
    }

    #[test]
    fn a_break_inside_a_pack_shows_as_two_runs() {
        let runs = runs_of([(span(0, 4_000), 10), (span(30_000, 34_000), 10), (span(4_000, 8_000), 10)]);
        assert_eq!(runs, [Run { span: span(0, 8_000), segments: 2, bytes: 20 }, run(30_000, 34_000)]);
    }

    /// Which milliseconds are covered, pauses of up to a second filled: nothing but counting.
    fn brute_force(segments: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let covered = |ms: i64| segments.iter().any(|&(start, end)| start <= ms && ms <= end);
        let times: Vec<i64> = (0..80).map(|step| step * 250).filter(|&ms| covered(ms)).collect();
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for ms in times {
            match runs.last_mut() {
                Some(last) if ms - last.1 <= 1_000 => last.1 = ms,
                _ => runs.push((ms, ms)),
            }
        }
        runs
    }

    proptest! {
        #[test]
        fn inserting_in_any_order_gives_the_runs_that_counting_gives(
            segments in prop::collection::vec((0..60_i64, 0..16_i64), 0..14),
        ) {
            let segments: Vec<(i64, i64)> =
                segments.iter().map(|&(start, length)| (start * 250, (start + length) * 250)).collect();
            let mut table: Vec<Run> = Vec::new();
            for &(start, end) in &segments {
                let insertion = insert(run(start, end), &table);
                table.retain(|run| !insertion.absorbed.contains(&run.span.start()));
                table.push(insertion.run);
            }
            table.sort_by_key(|run| run.span.start());
            let expected = brute_force(&segments);
            prop_assert_eq!(table.iter().map(|run| run.span).collect::<Vec<_>>(),
                expected.iter().map(|&(start, end)| span(start, end)).collect::<Vec<_>>());
            prop_assert_eq!(table.iter().map(|run| run.segments).sum::<u64>(), segments.len() as u64);
            let at_once = runs_of(segments.iter().map(|&(start, end)| (span(start, end), 10)));
            prop_assert_eq!(table, at_once);
        }

        #[test]
        fn no_moment_makes_joining_panic(a: i64, b: i64, c: i64, d: i64) {
            let make = |x: i64, y: i64| {
                let at = Timestamp::from_unix_nanos;
                Run { span: Span::try_new(at(x.min(y)), at(x.max(y))).unwrap(), segments: 1, bytes: u64::MAX }
            };
            let (first, second) = (make(a, b), make(c, d));
            prop_assert_eq!(first.joins(&second), second.joins(&first));
            prop_assert_eq!(first.union(&second), second.union(&first));
        }
    }
}
