//! Calendar months.

use obscura_clock::Timestamp;

/// A calendar month in UTC, as a number: twelve times the year plus the month from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period(u32);

impl Period {
    /// The month of this moment.
    pub fn of(moment: Timestamp) -> Self {
        let moment = jiff::Timestamp::from_nanosecond(i128::from(moment.unix_nanos())).unwrap_or_default();
        let date = jiff::tz::Offset::UTC.to_datetime(moment).date();
        let year = u32::try_from(date.year()).unwrap_or_default();
        let month = u32::try_from(date.month()).unwrap_or(1).saturating_sub(1);
        Self(year.saturating_mul(12).saturating_add(month))
    }

    /// The month with this number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_at_midnight_utc() {
        let of = |text: &str| Period::of(text.parse().unwrap());
        assert_eq!(of("2026-11-30T23:59:59.999Z").number(), 2026 * 12 + 10);
        assert_eq!(of("2026-12-01T00:00:00Z").number(), 2026 * 12 + 11);
        assert_eq!(of("2027-01-01T00:00:00Z").number(), 2027 * 12);
        assert!(Period::of(Timestamp::from_unix_nanos(i64::MIN)) < Period::of(Timestamp::from_unix_nanos(0)));
    }
}
