use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The text is not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: write it like 2026-11-23T10:00:00Z (RFC 3339)")]
pub struct InvalidTime(String);

/// A moment of wall time: nanoseconds since the Unix epoch, leap seconds ignored as in POSIX.
/// Reads and writes RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_nanos(self) -> i64 {
        self.0
    }

    /// Time that passed since `earlier`; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime(text.chars().take(64).collect());
        let moment: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        i64::try_from(moment.as_nanosecond()).map(Self).map_err(|_| invalid())
    }
}

/// From `start`, inclusive, to `end`, exclusive. Never runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    start: Timestamp,
    end: Timestamp,
}

impl Span {
    /// The span between two moments; `None` where it would run backwards.
    #[must_use]
    pub fn try_new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// First moment, inclusive.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        self.start
    }

    /// Last moment, exclusive.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        self.end
    }

    /// How long it is.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.end.since(self.start)
    }

    /// Whether the moment lies in it.
    #[must_use]
    pub fn contains(self, moment: Timestamp) -> bool {
        self.start <= moment && moment < self.end
    }

    /// Whether the two have a moment in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timestamp_reads_and_writes_rfc_3339() {
        let moment: Timestamp = "2026-11-23T10:00:00.25Z".parse().unwrap();
        assert_eq!(moment.to_string(), "2026-11-23T10:00:00.250Z");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    proptest! {
        #[test]
        fn arithmetic_saturates_instead_of_wrapping(nanos: i64, by: u64) {
            let moment = Timestamp::from_unix_nanos(nanos);
            let by = Duration::from_nanos(by);
            prop_assert!(moment + by >= moment);
            prop_assert!(moment - by <= moment);
        }

        #[test]
        fn a_span_overlaps_itself_unless_empty(start: i64, length in 0..i64::MAX) {
            let start = Timestamp::from_unix_nanos(start);
            let span = Span::try_new(start, start + Duration::from_nanos(length.unsigned_abs())).unwrap();
            prop_assert_eq!(span.overlaps(span), !span.duration().is_zero());
        }
    }
}
