//! How fast packs leave: a backlog must not take the disk and the network from recording.

use std::time::Duration;

use obscura_clock::Monotonic;

/// How long the rate of recording is measured.
const MEASURE: Duration = Duration::from_secs(10);
/// Packs may always leave so much faster than footage comes in, or a backlog would never shrink.
const CATCH_UP: u64 = 2;

/// A bound on bytes per second, over packs.
#[derive(Debug)]
pub struct Pace {
    limit: u64,
    measured: Option<(Monotonic, u64)>,
    recorded_per_second: u64,
    /// Bytes that left and whose time has not passed, at that moment.
    owed: (Monotonic, u64),
}

impl Pace {
    /// At most so many bytes per second, unless recording itself needs more.
    pub fn new(bytes_per_second: u64) -> Self {
        let owed = (Monotonic::from_nanos(0), 0);
        Self { limit: bytes_per_second.max(1), measured: None, recorded_per_second: 0, owed }
    }

    /// Takes note of how many bytes were recorded in all.
    pub fn observe(&mut self, now: Monotonic, recorded: u64) {
        let (since, before) = *self.measured.get_or_insert((now, recorded));
        let passed = now.since(since);
        if passed >= MEASURE {
            let bytes = u128::from(recorded.saturating_sub(before)) * 1_000;
            self.recorded_per_second = u64::try_from(bytes / passed.as_millis().max(1)).unwrap_or(u64::MAX);
            self.measured = Some((now, recorded));
        }
    }

    /// Whether the next pack may leave.
    pub fn may_start(&self, now: Monotonic) -> bool {
        self.owed_at(now) == 0
    }

    /// A pack left: the next one waits for the time that this one may take.
    pub fn started(&mut self, now: Monotonic, bytes: u64) {
        self.owed = (now, self.owed_at(now).saturating_add(bytes));
    }

    fn owed_at(&self, now: Monotonic) -> u64 {
        let (at, owed) = self.owed;
        let rate = self.limit.max(self.recorded_per_second.saturating_mul(CATCH_UP));
        let paid = u128::from(rate) * now.since(at).as_micros() / 1_000_000;
        owed.saturating_sub(u64::try_from(paid).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_nanos(millis * 1_000_000)
    }

    /// Bytes that leave in a minute.
    fn minute(pace: &mut Pace, recorded_per_second: u64) -> u64 {
        let mut sent = 0;
        for millis in (0..60_000).step_by(10) {
            pace.observe(at(millis), recorded_per_second * millis / 1_000);
            if pace.may_start(at(millis)) {
                pace.started(at(millis), 1_000);
                sent += 1_000;
            }
        }
        sent
    }

    #[test]
    fn a_backlog_leaves_at_the_rate_that_was_set_and_not_faster() {
        let sent = minute(&mut Pace::new(10_000), 100);
        assert!((590_000..=602_000).contains(&sent), "{sent} bytes in a minute");
    }

    #[test]
    fn whatever_was_set_more_leaves_than_is_recorded() {
        let sent = minute(&mut Pace::new(1), 20_000);
        assert!(sent > 60 * 20_000, "{sent} bytes in a minute");
    }
}
