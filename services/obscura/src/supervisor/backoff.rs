//! How long to wait before a child that died is started again.

use std::time::Duration;

/// First wait.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(10);
/// A child that lived this long starts with a clean slate.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Doubles the wait with every early death, so that a child that cannot start does not eat the machine.
#[derive(Debug, Default)]
pub struct Backoff {
    early_deaths: u32,
}

impl Backoff {
    /// The wait after a child that lived for `lived`; `jitter` is between 0 and 1 and takes off up to
    /// a quarter, so that children that died together do not start together.
    pub fn after(&mut self, lived: Duration, jitter: f64) -> Duration {
        if lived >= HEALTHY_AFTER {
            self.early_deaths = 0;
        }
        let doubled = FIRST.saturating_mul(1 << self.early_deaths.min(16)).min(LONGEST);
        self.early_deaths = self.early_deaths.saturating_add(1);
        doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0).max(FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.after(Duration::ZERO, 0.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn jitter_shortens_a_wait_by_a_quarter_at_most() {
        for jitter in [-1.0, 0.0, 0.3, 1.0, 9.0] {
            let mut backoff = Backoff { early_deaths: 3 };
            let wait = backoff.after(Duration::ZERO, jitter);
            assert!((Duration::from_millis(1200)..=Duration::from_millis(1600)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn a_child_that_lived_long_is_started_again_at_once() {
        let mut backoff = Backoff { early_deaths: 100 };
        assert_eq!(backoff.after(Duration::from_secs(29), 0.0), LONGEST);
        assert_eq!(backoff.after(Duration::from_secs(30), 0.0), FIRST);
    }
}
