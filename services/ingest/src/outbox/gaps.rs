//! Gaps on their way into the index.
//!
//! They go in batches. A batch that is refused is halved until what is refused stands alone; that one is
//! offered by itself and ever more rarely from then on, and the others grow into large batches again.

use std::collections::BTreeMap;

use obscura_clock::Monotonic;
use obscura_proto::footage::v1::Gap;

use super::{MOST_REFUSALS, Outbox};
use crate::{spool::Serial, upload::much_later};

/// All gaps that have not left.
#[derive(Debug, Default)]
pub struct Gaps {
    waiting: BTreeMap<Serial, Waiting>,
    /// Most gaps of the next batch, since a larger one was refused.
    narrowed: Option<usize>,
}

#[derive(Debug)]
struct Waiting {
    gap: Gap,
    /// Times that it was refused where it stood alone.
    refusals: u32,
    not_before: Monotonic,
}

impl Waiting {
    fn is_refused(&self) -> bool {
        self.refusals >= MOST_REFUSALS
    }
}

impl Gaps {
    /// What was never refused; where there is no such thing, one that was and is due.
    fn batch(&self, limit: usize, now: Monotonic) -> (Vec<Serial>, Vec<Gap>) {
        let most = self.narrowed.map_or(limit, |narrowed| narrowed.clamp(1, limit));
        let fresh = self.waiting.iter().filter(|(_, waiting)| waiting.refusals == 0).take(most);
        let due = |waiting: &Waiting| waiting.refusals > 0 && waiting.not_before <= now;
        let batch: Vec<_> = fresh.collect();
        let alone = self.waiting.iter().find(|(_, waiting)| batch.is_empty() && due(waiting));
        batch.into_iter().chain(alone).map(|(serial, waiting)| (*serial, waiting.gap.clone())).unzip()
    }

    /// A batch was refused. True where it is one gap, refused so often that somebody should hear of it.
    fn refused(&mut self, serials: &[Serial], now: Monotonic) -> bool {
        let [serial] = serials else {
            self.narrowed = Some(serials.len() / 2);
            return false;
        };
        self.waiting.get_mut(serial).is_some_and(|waiting| {
            waiting.not_before = much_later(now, waiting.refusals);
            waiting.refusals = waiting.refusals.saturating_add(1);
            waiting.refusals == MOST_REFUSALS
        })
    }

    fn done(&mut self, serials: &[Serial]) {
        serials.iter().for_each(|serial| drop(self.waiting.remove(serial)));
        self.narrowed = self.narrowed.map(|narrowed| narrowed.saturating_mul(2));
    }

    /// What is refused, at most so many, where the gap of this record is.
    pub fn refused_with(&self, serial: Serial, most: usize) -> Option<Vec<(Serial, Gap)>> {
        self.waiting.get(&serial).filter(|waiting| waiting.is_refused())?;
        let refused = self.waiting.range(serial..).filter(|(_, waiting)| waiting.is_refused());
        Some(refused.take(most).map(|(serial, waiting)| (*serial, waiting.gap.clone())).collect())
    }

    /// A gap has another record.
    pub fn moved(&mut self, from: Serial, to: Serial) {
        if let Some(waiting) = self.waiting.remove(&from) {
            self.waiting.insert(to, waiting);
        }
    }
}

impl Outbox {
    /// A gap began, changed or ended.
    pub fn add_gap(&self, serial: Serial, gap: Gap) {
        let waiting = Waiting { gap, refusals: 0, not_before: Monotonic::from_nanos(0) };
        self.lock().gaps.waiting.insert(serial, waiting);
    }

    /// The gaps that are to be told next, with their serials; at most `limit`.
    #[must_use]
    pub fn gap_batch(&self, limit: usize, now: Monotonic) -> (Vec<Serial>, Vec<Gap>) {
        self.lock().gaps.batch(limit, now)
    }

    /// A batch was refused: the next one is smaller, or a single gap waits. True where that one was
    /// refused so often that somebody should hear of it.
    pub fn gaps_refused(&self, serials: &[Serial], now: Monotonic) -> bool {
        self.lock().gaps.refused(serials, now)
    }

    /// Gaps are indexed.
    pub fn gaps_done(&self, serials: &[Serial]) {
        self.lock().gaps.done(serials);
        self.changed.notify_waiters();
    }

    /// Gaps that have not left.
    #[must_use]
    pub fn waiting_gaps(&self) -> usize {
        self.lock().gaps.waiting.len()
    }

    /// Gaps among them that are refused again and again.
    #[must_use]
    pub fn refused_gaps(&self) -> usize {
        self.lock().gaps.waiting.values().filter(|waiting| waiting.is_refused()).count()
    }

    #[cfg(test)]
    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().gaps.waiting.values().map(|waiting| waiting.gap.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic::from_nanos(1_000);

    fn outbox(gaps: u64) -> Outbox {
        let outbox = Outbox::default();
        (0..gaps).for_each(|serial| outbox.add_gap(Serial(serial), Gap::default()));
        outbox
    }

    #[test]
    fn a_batch_is_narrowed_down_to_what_is_refused_and_all_others_go() {
        let outbox = outbox(1_000);
        let refused = [Serial(0), Serial(499), Serial(999)];
        let mut calls = 0;
        loop {
            let (batch, _) = outbox.gap_batch(1_000, NOW);
            if batch.is_empty() {
                break;
            }
            calls += 1;
            assert!(calls < 100, "it takes too many calls");
            if batch.iter().any(|serial| refused.contains(serial)) {
                assert!(!outbox.gaps_refused(&batch, NOW), "one refusal is no news");
            } else {
                outbox.gaps_done(&batch);
            }
        }
        assert_eq!(outbox.waiting_gaps(), refused.len());
    }

    #[test]
    fn what_is_refused_is_offered_alone_ever_more_rarely_and_goes_once_it_is_taken() {
        let outbox = outbox(1);
        let much_later = Monotonic::from_nanos(u64::MAX);
        let news: Vec<bool> = (0..20).map(|_| outbox.gaps_refused(&[Serial(0)], NOW)).collect();
        assert_eq!(news.iter().filter(|news| **news).count(), 1);
        assert_eq!(outbox.refused_gaps(), 1);
        assert!(outbox.gap_batch(10, NOW).0.is_empty());
        outbox.add_gap(Serial(1), Gap::default());
        assert_eq!(outbox.gap_batch(10, much_later).0, [Serial(1)], "what was not refused goes first");
        outbox.gaps_done(&[Serial(1)]);
        assert_eq!(outbox.gap_batch(10, much_later).0, [Serial(0)]);
        outbox.gaps_done(&[Serial(0)]);
        assert_eq!((outbox.waiting_gaps(), outbox.refused_gaps()), (0, 0));
    }
}
