//! How long to wait before a camera is tried again.

use std::time::Duration;

use obscura_proto::footage::v1::GapReason;
use rand::Rng as _;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// Cameras lock accounts after a few wrong passwords.
const UNAUTHORIZED: Duration = Duration::from_secs(60);

/// Doubles from half a second to 15 seconds, with jitter so that a switch that comes back is not
/// met by all its cameras' recorders at once.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The camera answered.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now.
    pub fn next(&mut self, reason: GapReason) -> Duration {
        let base = match reason {
            GapReason::Unauthorized => UNAUTHORIZED,
            _ => FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST),
        };
        self.failures = self.failures.saturating_add(1);
        base.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_to_a_bound_and_starts_again_after_success() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(GapReason::Unreachable) <= FIRST);
        let waits: Vec<_> = (0..50).map(|_| backoff.next(GapReason::Unreachable)).collect();
        assert!(waits.iter().all(|wait| *wait <= LONGEST) && waits[49] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next(GapReason::ConnectionLost) <= FIRST);
    }

    #[test]
    fn a_wrong_password_is_not_hammered() {
        assert!(Backoff::default().next(GapReason::Unauthorized) >= UNAUTHORIZED / 2);
    }
}
