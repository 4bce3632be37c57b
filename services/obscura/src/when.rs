//! Times and durations as a person types them and reads them.

use std::{str::FromStr, time::Duration};

use jiff::{Timestamp as Moment, tz::TimeZone};
use obscura_clock::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Longest duration that is understood: ten years. Anything longer is a slip of the finger.
const LONGEST: Duration = Duration::from_secs(3653 * DAY);

/// The text is neither a time nor a duration that is understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a time.
    #[error("`{0}` is not a time: write 2026-11-23T10:00:00Z (RFC 3339), -2m (two minutes ago) or now")]
    When(String),
    /// Not a duration.
    #[error("`{0}` is not a duration: write for example 30s, 2m, 1h30m or 30d")]
    Duration(String),
    /// Not a retention.
    #[error("`{0}` is not a retention: write whole hours or days, for example 72h or 30d")]
    Retention(String),
}

/// A moment as it is typed; what `now` means is asked later, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The present.
    Now,
    /// So long before the present.
    Ago(Duration),
    /// A moment on the calendar.
    At(Timestamp),
}

impl When {
    /// The moment, seen from `now`.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::Ago(by) => now - by,
            Self::At(moment) => moment,
        }
    }
}

impl FromStr for When {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::When(short(text));
        match text.strip_prefix('-') {
            _ if text == "now" => Ok(Self::Now),
            Some(ago) => duration(ago).map(Self::Ago).map_err(|_| invalid()),
            None => text.parse().map(Self::At).map_err(|_| invalid()),
        }
    }
}

/// Reads `30s`, `2m`, `1h30m`, `30d`, `500ms`: whole numbers with units, largest first or not.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    let invalid = || Invalid::Duration(short(text));
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (part, tail) = leading_part(rest).ok_or_else(invalid)?;
        total = total.checked_add(part).filter(|sum| *sum <= LONGEST).ok_or_else(invalid)?;
        rest = tail;
    }
    if total.is_zero() { Err(invalid()) } else { Ok(total) }
}

/// Splits `1h30m` into one hour and `30m`.
fn leading_part(text: &str) -> Option<(Duration, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (unit, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
    let number: u64 = digits.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some((Duration::from_millis(number), tail)),
        "s" => 1,
        "m" | "min" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    Some((Duration::from_secs(number.checked_mul(seconds)?), tail))
}

/// How long footage is kept at most, in whole hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Hours, at least one.
    pub hours: u32,
}

impl FromStr for Retention {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::Retention(short(text));
        let length = duration(text).map_err(|_| invalid())?;
        if length.subsec_nanos() != 0 || length.as_secs() % HOUR != 0 {
            return Err(invalid());
        }
        u32::try_from(length.as_secs() / HOUR).map(|hours| Self { hours }).map_err(|_| invalid())
    }
}

/// The moment in the time zone of this machine, to the second.
pub fn local(moment: Timestamp) -> String {
    in_zone(moment, &TimeZone::system(), "%Y-%m-%d %H:%M:%S")
}

/// The day one year from now on, `YYYY-MM-DD`: when a purpose is looked at again unless someone said
/// otherwise.
pub fn in_a_year(now: Timestamp) -> String {
    in_zone(now + Duration::from_secs(365 * DAY), &TimeZone::system(), "%Y-%m-%d")
}

/// Name of the time zone of this machine, for the line that says in which times are given.
pub fn zone_name() -> String {
    let zone = TimeZone::system();
    zone.iana_name().map_or_else(|| "the time zone of this machine".to_owned(), str::to_owned)
}

fn in_zone(moment: Timestamp, zone: &TimeZone, format: &str) -> String {
    match Moment::from_nanosecond(i128::from(moment.unix_nanos())) {
        Ok(instant) => instant.to_zoned_datetime(zone.clone()).strftime(format).to_string(),
        Err(_) => moment.to_string(),
    }
}

/// A duration in words: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn words(length: Duration) -> String {
    let seconds = length.as_secs();
    let pair = |big: u64, big_unit, small_unit, small: u64| match (seconds % big) / small {
        0 => format!("{} {big_unit}", seconds / big),
        rest => format!("{} {big_unit} {rest} {small_unit}", seconds / big),
    };
    match seconds {
        0..10 => format!("{:.1} s", length.as_secs_f64()),
        10..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => pair(MINUTE, "min", "s", 1),
        HOUR..DAY => pair(HOUR, "h", "min", MINUTE),
        _ => pair(DAY, "d", "h", HOUR),
    }
}

/// At most 40 characters of what was typed, for messages.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_as_calendar_as_relative_and_as_now() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<When>().unwrap().resolve(now).to_string();
        assert_eq!(at("now"), "2026-11-23T10:00:00.000Z");
        assert_eq!(at("-2m"), "2026-11-23T09:58:00.000Z");
        assert_eq!(at("-1h30m"), "2026-11-23T08:30:00.000Z");
        assert_eq!(at("2026-11-23T11:00:00+02:00"), "2026-11-23T09:00:00.000Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused_with_an_example() {
        for text in ["", "yesterday", "-", "-5", "2m", "10:00"] {
            let error = text.parse::<When>().unwrap_err().to_string();
            assert!(error.contains("RFC 3339"), "{text:?}: {error}");
        }
    }

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1d2h3m4s500ms"), Ok(Duration::from_millis(93_784_500)));
        for text in ["", "0s", "5", "s", "5 s", "-5s", "1y", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn retention_is_whole_hours() {
        assert_eq!("72h".parse(), Ok(Retention { hours: 72 }));
        assert_eq!("30d".parse(), Ok(Retention { hours: 720 }));
        for text in ["30m", "0h", "90s", "soon", "1h1ms"] {
            assert!(text.parse::<Retention>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        let said: Vec<_> = [0, 9, 42, 60, 200, 7_500, 273_600].map(|s| words(Duration::from_secs(s))).into();
        assert_eq!(said, ["0.0 s", "9.0 s", "42 s", "1 min", "3 min 20 s", "2 h 5 min", "3 d 4 h"]);
    }

    #[test]
    fn local_time_follows_the_zone_it_is_given() {
        let moment: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(in_zone(moment, &zone, "%Y-%m-%d %H:%M:%S"), "2026-11-23 12:00:00");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = (text.parse::<When>(), text.parse::<Retention>(), duration(&text));
        }

        #[test]
        fn a_typed_duration_reads_back(hours in 0u64..1000, minutes in 0u64..60, seconds in 1u64..60) {
            let text = format!("{hours}h{minutes}m{seconds}s");
            prop_assert_eq!(duration(&text), Ok(Duration::from_secs(hours * 3600 + minutes * 60 + seconds)));
        }
    }
}
