//! How fast the scrub may read: a bucket of tokens, a byte each.

use std::time::Duration;

use obscura_clock::Monotonic;

/// Seconds for which tokens are saved up at most.
const BURST_SECONDS: u64 = 2;

/// A set rate in bytes per second.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: u64,
    /// Bytes that may be read now; below zero where more was taken than there was.
    balance: i128,
    filled: Monotonic,
}

impl Rate {
    /// So many bytes per second, from now on.
    #[must_use]
    pub const fn new(per_second: u64, now: Monotonic) -> Self {
        Self { per_second, balance: 0, filled: now }
    }

    /// Takes bytes that were read and says how long to wait before the next. A rate of 0 waits an hour.
    pub fn take(&mut self, bytes: u64, now: Monotonic) -> Duration {
        self.fill(now);
        self.balance -= i128::from(bytes);
        let missing = u64::try_from(-self.balance).unwrap_or(0);
        match self.per_second {
            0 => Duration::from_secs(3_600),
            rate => Duration::from_secs_f64(missing as f64 / rate as f64).min(Duration::from_secs(3_600)),
        }
    }

    fn fill(&mut self, now: Monotonic) {
        let nanos = now.since(self.filled).as_nanos();
        let earned = nanos.saturating_mul(u128::from(self.per_second)) / 1_000_000_000;
        let most = i128::from(self.per_second.saturating_mul(BURST_SECONDS));
        let earned = i128::try_from(earned).unwrap_or(most);
        self.balance = self.balance.saturating_add(earned).min(most);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_is_read_than_the_rate_and_a_burst(
            rate in 1..100_000_u64, reads in prop::collection::vec((1..50_000_u64, 0..3_000_u64), 1..60),
        ) {
            let mut now = 0_u64;
            let mut bucket = Rate::new(rate, Monotonic::from_nanos(0));
            let (mut read, mut last) = (0_u64, 0_u64);
            for (bytes, idle_ms) in reads {
                read += bytes;
                last = bytes;
                let wait = bucket.take(bytes, Monotonic::from_nanos(now));
                prop_assume!(wait < Duration::from_secs(3_600));
                now += u64::try_from(wait.as_nanos()).unwrap() + 1 + idle_ms * 1_000_000;
            }
            let allowed = (now as f64 / 1e9 + BURST_SECONDS as f64) * rate as f64 + last as f64 + 64.0;
            prop_assert!((read as f64) <= allowed, "{read} bytes, {allowed} allowed");
        }

        #[test]
        fn a_steady_reader_gets_its_rate(rate in 1_000..1_000_000_u64) {
            let (mut now, mut bucket) = (0_u64, Rate::new(rate, Monotonic::from_nanos(0)));
            for _ in 0..100 {
                now += u64::try_from(bucket.take(rate / 10, Monotonic::from_nanos(now)).as_nanos()).unwrap();
            }
            prop_assert!((9.0..=10.2).contains(&(now as f64 / 1e9)), "{now} ns for ten seconds' worth");
        }
    }
}
