//! Time as a dependency.
//!
//! Nothing else in Obscura asks the operating system for the time: it is handed a [`Clock`], so
//! that a test can turn it, and so that wall time (which jumps) and monotonic time (which does
//! not) are never mistaken for each other.

#![expect(clippy::disallowed_methods, reason = "this is the one place that asks the operating system")]

mod machine;
mod quality;
mod simulated;
mod timestamp;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub use machine::{Linux, Machine, Uptime};
pub use quality::ClockQuality;
pub use simulated::SimulatedClock;
pub use timestamp::{InvalidTime, Span, Timestamp};

/// A reading of a clock that never goes back and does not know the date: nanoseconds since some
/// moment before the process started using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(u64);

impl Monotonic {
    /// The reading this many nanoseconds after the clock's own origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's own origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time that passed since `earlier`; zero where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration as a person says it in a sentence about clocks: minutes, hours from two of them on, days from two of
/// them on, rounded up.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let minutes = duration.as_secs().div_ceil(60);
    match minutes {
        0..=120 => format!("{minutes} min"),
        121..=2_880 => format!("{} h", minutes.div_ceil(60)),
        _ => format!("{} days", minutes.div_ceil(1_440)),
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall time: may jump when the operating system's clock is set.
    fn wall(&self) -> Timestamp;
    /// Monotonic time: never goes back.
    fn monotonic(&self) -> Monotonic;
}

/// A clock that everyone in a process shares.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// The operating system's clocks, ready to be shared.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self { origin: Instant::now() })
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        // A machine whose clock stands before 1970 has no usable time; the epoch is as wrong as any.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_knows_that_it_is_later_than_2026_and_moves_on() {
        let clock = SystemClock::shared();
        let first = clock.monotonic();
        assert!(clock.wall() > "2026-01-01T00:00:00Z".parse().unwrap());
        assert!(clock.monotonic() >= first);
    }

    #[test]
    fn durations_are_said_in_the_largest_unit_of_which_there_are_two() {
        let said = |minutes| in_words(Duration::from_mins(minutes) - Duration::from_secs(1));
        assert_eq!([1, 120, 121, 2_880, 2_881].map(said), ["1 min", "120 min", "3 h", "48 h", "3 days"]);
    }
}
