//! What was sent and may not have arrived: marks in time, so that no event has to be kept.

use std::{collections::VecDeque, time::Duration};

use obscura_clock::Monotonic;

/// Marks within this part of the settling time count as one.
const MARKS: u32 = 16;
/// How long the other kernel may take nothing.
const STUCK: Duration = Duration::from_secs(30);

/// Everything below `through` was written by `written`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    through: u64,
    written: Monotonic,
    acknowledged: Option<Monotonic>,
}

/// The events that were sent and do not count as arrived.
#[derive(Debug)]
pub struct Window {
    settle: Duration,
    settled: u64,
    marks: VecDeque<Mark>,
}

impl Window {
    /// Nothing was sent; everything below `from` has arrived.
    pub const fn new(from: u64, settle: Duration) -> Self {
        Self { settle, settled: from, marks: VecDeque::new() }
    }

    /// Everything below `through` was handed to our kernel.
    pub fn sent(&mut self, through: u64, now: Monotonic) {
        let grain = self.settle / MARKS;
        if let Some(last) = self.marks.back_mut().filter(|last| now.since(last.written) < grain) {
            // It counts anew, so that many small writes make few marks.
            (last.through, last.acknowledged) = (through, None);
        } else {
            self.marks.push_back(Mark { through, written: now, acknowledged: None });
        }
    }

    /// The other kernel has everything that was sent.
    pub fn acknowledged(&mut self, now: Monotonic) {
        for mark in self.marks.iter_mut().filter(|mark| mark.acknowledged.is_none()) {
            mark.acknowledged = Some(now);
        }
    }

    /// Whether the other kernel has been taking nothing for too long.
    pub fn is_stuck(&self, now: Monotonic) -> bool {
        let oldest = self.marks.iter().find(|mark| mark.acknowledged.is_none());
        oldest.is_some_and(|mark| now.since(mark.written) > STUCK)
    }

    /// Everything below this has arrived: the other kernel has had it for the settling time.
    pub fn settled(&mut self, now: Monotonic) -> u64 {
        let is_old = |mark: &Mark| mark.acknowledged.is_some_and(|since| now.since(since) >= self.settle);
        while let Some(mark) = self.marks.front().copied().filter(is_old) {
            self.settled = mark.through;
            self.marks.pop_front();
        }
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTLE: Duration = Duration::from_secs(16);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn an_event_has_arrived_once_it_was_acknowledged_and_the_connection_stood_on() {
        let mut window = Window::new(5, SETTLE);
        window.sent(8, at(0));
        assert_eq!(window.settled(at(100)), 5);
        window.acknowledged(at(100));
        assert_eq!(window.settled(at(115)), 5);
        assert_eq!(window.settled(at(116)), 8);
    }

    #[test]
    fn what_was_sent_after_an_acknowledgement_needs_its_own() {
        let mut window = Window::new(0, SETTLE);
        window.sent(3, at(0));
        window.acknowledged(at(0));
        window.sent(4, at(2));
        assert_eq!(window.settled(at(50)), 3);
    }

    #[test]
    fn a_receiver_that_takes_nothing_is_noticed() {
        let mut window = Window::new(0, SETTLE);
        window.sent(3, at(0));
        assert!(!window.is_stuck(at(30)));
        assert!(window.is_stuck(at(31)));
        window.acknowledged(at(31));
        assert!(!window.is_stuck(at(99)));
    }

    proptest! {
        #[test]
        fn the_window_stays_small_and_never_runs_ahead(
            steps in prop::collection::vec((0..2_000_u64, any::<bool>()), 1..500),
        ) {
            let mut window = Window::new(0, SETTLE);
            let (mut now, mut through, mut acknowledged) = (0, 0, 0);
            for (millis, acknowledge) in steps {
                now += millis * 1_000_000;
                let moment = Monotonic::from_nanos(now);
                through += 1;
                window.sent(through, moment);
                if acknowledge {
                    window.acknowledged(moment);
                    acknowledged = through;
                }
                prop_assert!(window.settled(moment) <= acknowledged);
                // The connection is given up then.
                if window.is_stuck(moment) {
                    break;
                }
                let grains = (STUCK + SETTLE).as_secs() / (SETTLE / MARKS).as_secs();
                prop_assert!(window.marks.len() as u64 <= grains + 3, "{} marks", window.marks.len());
            }
        }
    }
}
