//! Waiting longer and longer for an audit log that is away.

use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_millis(200);
/// Longest wait, jitter included.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 0.2 s to 30 s; each wait is cut by up to a half, so that the producers of a log that
/// returns do not all come at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The next wait is a short one.
    pub const fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(rand::rng().random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_no_further() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| backoff.wait()).collect();
        assert!(waits[0] < FIRST);
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[19] >= LONGEST / 2);
    }
}
