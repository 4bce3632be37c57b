//! When layer keys expire: epochs are hours, so that destruction follows within an hour of the promise.

use std::{fmt, time::Duration};

use obscura_clock::Timestamp;
use obscura_seal::Hour;

const HOUR_NANOS: i64 = 3_600_000_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// The hour, counted in hours since the Unix epoch, at whose end the keys of an epoch expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExpiryHour(u32);

impl ExpiryHour {
    /// For a layer key of `hour` whose footage may be kept for `retention_hours` from the end of its hour.
    pub const fn of(hour: Hour, retention_hours: u32) -> Self {
        Self(hour.get().saturating_add(retention_hours))
    }

    /// The hour with this number, as the store has it.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The hour in which the moment lies: the keys of every earlier one have expired. Before 1970
    /// nothing has.
    pub fn now(moment: Timestamp) -> Self {
        Self(u32::try_from(moment.unix_nanos().div_euclid(HOUR_NANOS)).unwrap_or_default())
    }

    /// Hours since the Unix epoch.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The moment at which its keys expire.
    pub fn end(self) -> Timestamp {
        let start = Timestamp::from_unix_nanos(i64::from(self.0).saturating_mul(HOUR_NANOS));
        start + HOUR
    }

    /// Hours from `earlier` to this one; 0 where `earlier` is later.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for ExpiryHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use obscura_seal::{SLOT_DURATION, SLOTS_PER_HOUR, Slot};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn before_1970_nothing_has_expired() {
        assert_eq!(ExpiryHour::now(Timestamp::from_unix_nanos(i64::MIN)), ExpiryHour(0));
        assert_eq!(ExpiryHour::now(ExpiryHour(7).end()), ExpiryHour(8));
    }

    proptest! {
        #[test]
        fn a_slot_expires_after_its_retention_and_within_an_hour(
            hour in 0..=Hour::MAX.get() / 2, retention in 1..=8_760_u32, slot in 0..SLOTS_PER_HOUR, early in 1..3_600_u64,
        ) {
            let hour = Hour::new(hour).unwrap();
            let expiry = ExpiryHour::of(hour, retention);
            let recorded = hour.slot_start(Slot::new(slot).unwrap()) + SLOT_DURATION;
            let promise = recorded + HOUR * retention;
            prop_assert!(expiry.end() >= promise && expiry.end().since(promise) < HOUR);
            prop_assert!(ExpiryHour::now(expiry.end()) > expiry);
            prop_assert!(ExpiryHour::now(expiry.end() - Duration::from_secs(early)) <= expiry);
        }
    }
}
