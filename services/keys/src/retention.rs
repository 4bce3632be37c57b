//! Which retention counts for a layer key.
//!
//! Retention is a maximum: what is recorded never gets longer, and a shorter one counts at once. So a
//! key follows the shortest retention that was in force for its camera at any time from the start of
//! its hour on.

use obscura_clock::Timestamp;
use obscura_seal::{Hour, Slot, SlotRange};

use crate::expiry_hour::ExpiryHour;

/// A retention and when it came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Version of the placement that says so; later ones replace earlier ones.
    pub version: u64,
    /// Hours.
    pub hours: u32,
    /// When it came into force, as far as is known.
    pub since: Timestamp,
}

/// When a key of this hour expires, given the periods of its camera by version; `None` without any.
pub fn expiry(hour: Hour, periods: &[Period]) -> Option<ExpiryHour> {
    let start = hour.slot_start(FIRST);
    let in_force = periods.iter().rposition(|period| period.since <= start).unwrap_or_default();
    let shortest = periods.iter().skip(in_force).map(|period| period.hours).min()?;
    Some(ExpiryHour::of(hour, shortest))
}

const FIRST: Slot = SlotRange::WHOLE_HOUR.first();

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn hour(number: u32) -> Hour {
        Hour::new(number).unwrap()
    }

    fn period(version: u64, hours: u32, since: u32) -> Period {
        Period { version, hours, since: hour(since).slot_start(FIRST) + Duration::from_secs(900) }
    }

    #[test]
    fn what_was_recorded_before_a_longer_retention_keeps_the_shorter() {
        let periods = [period(1, 72, 0), period(2, 720, 1_000)];
        let of = |number| expiry(hour(number), &periods).unwrap().number() - number;
        assert_eq!((of(999), of(1_000), of(1_001)), (72, 72, 720), "the hour of the change has both");
    }

    #[test]
    fn a_shorter_retention_counts_for_what_is_already_recorded() {
        let periods = [period(1, 720, 0), period(2, 24, 1_000)];
        assert_eq!(expiry(hour(10), &periods), Some(ExpiryHour::from_number(34)));
    }

    #[test]
    fn a_moment_of_a_shorter_one_in_between_is_not_forgotten() {
        let periods = [period(1, 720, 0), period(2, 24, 1_000), period(3, 720, 1_000)];
        let of = |number| expiry(hour(number), &periods).unwrap().number() - number;
        assert_eq!((of(999), of(1_000), of(1_001)), (24, 24, 720));
        assert_eq!(expiry(hour(1), &[]), None);
    }

    proptest! {
        #[test]
        fn no_change_ever_lengthens_what_is_recorded(
            lengths in prop::collection::vec(1..8_760_u32, 1..6), starts in prop::collection::vec(0..2_000_u32, 6), number in 0..2_000_u32,
        ) {
            let mut starts = starts;
            starts.sort_unstable();
            let periods: Vec<Period> = lengths.iter().zip(&starts).zip(1..)
                .map(|((hours, since), version)| period(version, *hours, *since)).collect();
            let known_after: Vec<_> = (1..=periods.len())
                .filter(|known| starts[known - 1] >= number)
                .map(|known| expiry(hour(number), &periods[..known]).unwrap())
                .collect();
            prop_assert!(known_after.windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }
}
