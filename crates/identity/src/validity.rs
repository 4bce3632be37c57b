//! When a certificate counts, and what a person should be told of that in time.

use std::{fmt, time::Duration};

use obscura_clock::Timestamp;

const DAY: Duration = Duration::from_hours(24);
/// Certificates that live longer than this are renewed by people, who need days.
const LONG_LIFE: Duration = Duration::from_hours(60 * 24);
/// What is left of a long life when a person is told, again and again.
const REMINDERS: [Duration; 3] = [DAY, Duration::from_hours(7 * 24), Duration::from_hours(30 * 24)];
/// A shorter life is renewed by a program, which has failed where so little is left: a third.
const SHORT_SHARE: u32 = 3;

/// From when to when a certificate counts, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its beginning.
    pub not_before: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
}

/// Why a person should look at a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// It counts later only: most often the clock is wrong.
    NotYetValid,
    /// It has ended.
    Ended,
    /// It ends within this time, and has not been renewed.
    EndsWithin(Duration),
}

impl Validity {
    /// What to say about it at `now`; nothing while it is good for long enough.
    #[must_use]
    pub fn concern(&self, now: Timestamp) -> Option<Concern> {
        if now < self.not_before {
            return Some(Concern::NotYetValid);
        }
        if now > self.not_after {
            return Some(Concern::Ended);
        }
        let left = self.not_after.since(now);
        let lifetime = self.not_after.since(self.not_before);
        let short = [lifetime / SHORT_SHARE];
        let reminders = if lifetime > LONG_LIFE { &REMINDERS[..] } else { &short[..] };
        reminders.iter().find(|reminder| left <= **reminder).copied().map(Concern::EndsWithin)
    }
}

impl Concern {
    /// Whether peers refuse the certificate already.
    #[must_use]
    pub const fn is_refused(self) -> bool {
        matches!(self, Self::NotYetValid | Self::Ended)
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetValid => f.write_str("not valid yet: is the clock right?"),
            Self::Ended => f.write_str("expired"),
            Self::EndsWithin(time) if *time > DAY => {
                write!(f, "expires within {} days", time.as_secs() / DAY.as_secs())
            }
            Self::EndsWithin(time) if *time > Duration::from_hours(1) => {
                write!(f, "expires within {} h", time.as_secs().div_ceil(3_600))
            }
            Self::EndsWithin(time) => write!(f, "expires within {} min", time.as_secs().div_ceil(60)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concern(lifetime: Duration, left: Duration) -> Option<String> {
        let not_before: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let not_after = not_before + lifetime;
        Validity { not_before, not_after }.concern(not_after - left).map(|concern| concern.to_string())
    }

    #[test]
    fn a_long_lived_certificate_is_warned_about_a_month_a_week_and_a_day_before_its_end() {
        let year = DAY * 365;
        let told = |left| concern(year, left);
        assert_eq!(told(DAY * 31), None);
        assert_eq!(told(DAY * 30).as_deref(), Some("expires within 30 days"));
        assert_eq!(told(DAY * 7).as_deref(), Some("expires within 7 days"));
        assert_eq!(told(DAY).as_deref(), Some("expires within 24 h"));
    }

    #[test]
    fn a_short_lived_certificate_is_warned_about_at_a_third_of_its_life() {
        assert_eq!(concern(DAY, Duration::from_hours(9)), None);
        assert_eq!(concern(DAY, Duration::from_hours(8)).as_deref(), Some("expires within 8 h"));
        assert_eq!(
            concern(Duration::from_hours(1), Duration::ZERO).as_deref(),
            Some("expires within 20 min")
        );
    }

    #[test]
    fn outside_of_its_time_a_certificate_is_refused_and_that_is_said() {
        let not_before: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let validity = Validity { not_before, not_after: not_before + DAY };
        let second = Duration::from_secs(1);
        assert_eq!(validity.concern(not_before - second), Some(Concern::NotYetValid));
        assert_eq!(validity.concern(not_before), None);
        assert_eq!(validity.concern(not_before + DAY + second), Some(Concern::Ended));
        assert!(Concern::Ended.is_refused() && !Concern::EndsWithin(DAY).is_refused());
    }
}
