use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{Clock, Monotonic, Timestamp};

/// A clock that stands still until a test turns it.
#[derive(Debug)]
pub struct SimulatedClock {
    hands: Mutex<(Timestamp, Monotonic)>,
}

impl SimulatedClock {
    /// A clock whose wall time is `wall`.
    #[must_use]
    pub fn at(wall: Timestamp) -> Arc<Self> {
        Arc::new(Self { hands: Mutex::new((wall, Monotonic::from_nanos(0))) })
    }

    /// Lets time pass on both hands.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        *hands = (hands.0 + by, Monotonic::from_nanos(hands.1.as_nanos().saturating_add(nanos)));
    }

    /// Sets the wall time as an operator or NTP would; monotonic time stands.
    pub fn step_wall(&self, to: Timestamp) {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).0 = to;
    }
}

impl Clock for SimulatedClock {
    fn wall(&self) -> Timestamp {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Monotonic {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stepping_the_wall_leaves_monotonic_time_alone() {
        let clock = SimulatedClock::at(Timestamp::from_unix_nanos(1_000));
        clock.advance(Duration::from_nanos(5));
        clock.step_wall(Timestamp::from_unix_nanos(0));
        assert_eq!(clock.wall(), Timestamp::from_unix_nanos(0));
        assert_eq!(clock.monotonic(), Monotonic::from_nanos(5));
    }
}
