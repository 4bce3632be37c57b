//! What is left of a run when segments in it are shredded.
//!
//! Expiry takes segments from the beginning of runs that may be weeks long, so the rest of a run is
//! not read again. Walk its segments in order of their starts until one that is left starts behind
//! everything that goes: from there on nothing that joined the segments of the run went away, and the
//! rest is one run whose numbers are those of the whole less those that were walked over.

use obscura_clock::{Span, Timestamp};

use crate::run::Run;

/// One run, while it loses segments.
#[derive(Clone, Debug)]
pub struct Shrinking {
    run: Run,
    last_loss: Timestamp,
    walked: (u64, u64),
    left: Vec<Run>,
    is_done: bool,
}

impl Shrinking {
    /// `run` as it was. Segments that end after `last_loss` are not lost.
    #[must_use]
    pub const fn new(run: Run, last_loss: Timestamp) -> Self {
        Self { run, last_loss, walked: (0, 0), left: Vec::new(), is_done: false }
    }

    /// Takes the next segment of the run, in order of start, those that are lost included. Returns
    /// whether the rest is known, after which nothing more is taken.
    pub fn walk(&mut self, span: Span, bytes: u64, is_lost: bool) -> bool {
        if self.is_done {
            return true;
        }
        self.is_done = !is_lost && span.start() > self.last_loss;
        if self.is_done {
            self.keep(self.rest(span));
            return true;
        }
        self.walked = (self.walked.0.saturating_add(1), self.walked.1.saturating_add(bytes));
        if !is_lost {
            self.keep(Run { span, segments: 1, bytes });
        }
        false
    }

    /// What is left, in order of time.
    #[must_use]
    pub fn finish(self) -> Vec<Run> {
        self.left
    }

    fn rest(&self, first: Span) -> Run {
        Run {
            span: Span::try_new(first.start(), self.run.span.end()).unwrap_or(first),
            segments: self.run.segments.saturating_sub(self.walked.0),
            bytes: self.run.bytes.saturating_sub(self.walked.1),
        }
    }

    fn keep(&mut self, run: Run) {
        match self.left.last_mut() {
            Some(last) if last.joins(&run) => *last = last.union(&run),
            _ => self.left.push(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{run::runs_of, test_support::span};

    /// What shrinking every run gives, and how many segments were walked.
    fn shrink(segments: &[(Span, u64, bool)]) -> (Vec<Run>, usize) {
        let mut sorted = segments.to_vec();
        sorted.sort_by_key(|(span, ..)| span.start());
        let (mut left, mut walked) = (Vec::new(), 0);
        for run in runs_of(segments.iter().map(|&(span, bytes, _)| (span, bytes))) {
            let of_run: Vec<_> = sorted
                .iter()
                .filter(|(span, ..)| run.span.start() <= span.start() && span.end() <= run.span.end())
                .collect();
            let Some(last) = of_run.iter().filter(|(.., lost)| *lost).map(|(span, ..)| span.end()).max()
            else {
                left.push(run);
                continue;
            };
            let mut shrinking = Shrinking::new(run, last);
            walked += of_run
                .iter()
                .position(|&&(span, bytes, lost)| shrinking.walk(span, bytes, lost))
                .unwrap_or(of_run.len());
            left.extend(shrinking.finish());
        }
        (left, walked)
    }

    #[test]
    fn expiry_of_the_first_minute_does_not_walk_the_month_behind_it() {
        let segments: Vec<_> = (0..10_000).map(|n| (span(n * 4_000, n * 4_000 + 4_000), 7, n < 15)).collect();
        let (left, walked) = shrink(&segments);
        assert_eq!(left, [Run { span: span(60_000, 40_000_000), segments: 9_985, bytes: 69_895 }]);
        assert!(walked <= 16, "{walked}");
    }

    #[test]
    fn a_run_that_loses_everything_is_gone() {
        assert_eq!(shrink(&[(span(0, 4_000), 1, true), (span(4_000, 8_000), 1, true)]).0, []);
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_counting_the_rest_anew_gives(
            segments in prop::collection::vec((0..80_i64, 0..16_i64, 1..9_u64, any::<bool>()), 0..24),
        ) {
            let segments: Vec<_> = segments.into_iter()
                .map(|(start, length, bytes, lost)| (span(start * 250, (start + length) * 250), bytes, lost))
                .collect();
            let rest = segments.iter().filter(|(.., lost)| !lost).map(|&(span, bytes, _)| (span, bytes));
            prop_assert_eq!(shrink(&segments).0, runs_of(rest));
        }
    }
}
