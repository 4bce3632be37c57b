//! When the file has to be written anew because it still holds events that the log has taken.
//!
//! In the log a person can be erased; here their names are in clear. So they are here no longer than it takes to
//! deliver them and a moment more.

use std::time::Duration;

use obscura_clock::{Monotonic, SharedClock};

/// What the file holds that nobody needs any more, and since when.
#[derive(Debug)]
pub struct Forgetting {
    after: Duration,
    clock: SharedClock,
    /// No event up to this counter is in the file.
    free_of: u64,
    written_anew: Monotonic,
}

impl Forgetting {
    /// Of a file that is about to be written anew.
    pub fn new(after: Duration, clock: SharedClock) -> Self {
        let written_anew = clock.monotonic();
        Self { after, clock, free_of: 0, written_anew }
    }

    /// The file was written anew without what was `done`.
    pub fn written_anew(&mut self, done: u64) {
        (self.free_of, self.written_anew) = (done, self.clock.monotonic());
    }

    /// How long it may still hold what is `done`; `None` where it holds nothing of it.
    pub fn left(&self, done: u64) -> Option<Duration> {
        let passed = self.clock.monotonic().since(self.written_anew);
        (done > self.free_of).then(|| self.after.saturating_sub(passed))
    }
}

#[cfg(test)]
mod tests {
    use obscura_clock::SimulatedClock;

    use super::*;

    #[test]
    fn what_is_done_is_forgotten_in_time_and_nothing_is_owed_where_nothing_is_done() {
        let clock = SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap());
        let minute = Duration::from_secs(60);
        let mut forgetting = Forgetting::new(minute, clock.clone());
        assert_eq!(forgetting.left(0), None);
        assert_eq!(forgetting.left(1), Some(minute));
        clock.advance(minute / 4);
        assert_eq!(forgetting.left(1), Some(minute / 4 * 3));
        clock.advance(minute);
        assert_eq!(forgetting.left(1), Some(Duration::ZERO));
        forgetting.written_anew(1);
        assert_eq!(forgetting.left(1), None);
        assert_eq!(forgetting.left(2), Some(minute));
    }
}
