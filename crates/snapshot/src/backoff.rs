//! Waiting longer and longer between attempts, each consumer a little differently.

use std::time::Duration;

use rand::Rng as _;

/// Shortest wait.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait, before jitter: a registry that returns is heard within half a minute.
const LONGEST: Duration = Duration::from_secs(20);

/// Doubles from 0.2 s to 20 s; each wait is spread by a factor of 0.5 to 1.5, so that the
/// consumers of a registry that returns do not all come at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait is a short one again.
    pub(crate) const fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait before the next attempt.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(rand::rng().random_range(0.5..1.5));
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| backoff.wait()).collect();
        assert!(waits[0] < FIRST.mul_f64(1.5));
        assert!(waits.iter().all(|wait| *wait <= LONGEST.mul_f64(1.5)));
        assert!(waits[19] >= LONGEST.mul_f64(0.5));
        backoff.reset();
        assert!(backoff.wait() < FIRST.mul_f64(1.5));
    }
}
