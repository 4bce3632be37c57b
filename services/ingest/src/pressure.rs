//! Spool pressure: how full it is, when it will be full, and who is paused before it is.
//!
//! The spool is bounded in bytes, in time (footage must not wait here longer than it may be kept) and
//! by its disk. Near the bound cameras are paused by the priority of their purpose, the least
//! important first, and come back in the reverse order: the last room goes to what matters most, and
//! each pause is a gap with its reason. What was acknowledged is never dropped.

mod alarm;
mod bands;
mod trend;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use obscura_clock::Monotonic;
use obscura_proto::registry::v1::Purpose;

use self::{alarm::Alarm, trend::Trend};
use crate::spool::Spool;

/// The forecast looks back this far, and not less than over six packs, which are freed at once.
const WINDOW: Duration = Duration::from_secs(600);

/// Who is recorded longest when the spool runs full: from 1, paused first, to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    const MOST: u8 = 9;
    const UNSET: u8 = 5;

    /// The priority of a purpose; a camera without one is as important as most.
    #[must_use]
    pub fn of(purpose: Option<&Purpose>) -> Self {
        match purpose.map_or(0, |purpose| purpose.priority) {
            0 => Self(Self::UNSET),
            priority => Self(u8::try_from(priority).unwrap_or(Self::MOST).min(Self::MOST)),
        }
    }
}

/// What the spool is like at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The moment.
    pub now: Monotonic,
    /// Bytes on disk.
    pub used_bytes: u64,
    /// Bytes that there can be: the bound, or less where the disk is smaller.
    pub limit_bytes: u64,
    /// Bytes that are still needed: without the rest of files that are freed whole.
    pub needed_bytes: u64,
    /// How long the oldest segment waits.
    pub oldest: Duration,
    /// How long a segment may wait.
    pub limit_time: Duration,
    /// Whether the disk refuses to take more.
    pub disk_is_full: bool,
}

impl Reading {
    /// What `spool` is like now, where its oldest segment waits for so long and may wait for so long.
    pub fn of(spool: &Spool, oldest: Duration, limit_time: Duration, now: Monotonic) -> Self {
        Self {
            now,
            used_bytes: spool.used_bytes(),
            limit_bytes: spool.reachable_bytes(),
            needed_bytes: spool.needed_bytes(),
            oldest,
            limit_time,
            disk_is_full: spool.disk_is_full(),
        }
    }

    /// How full the spool is, in thousandths of the nearest bound.
    fn permille(&self) -> u16 {
        let of = |part: u128, whole: u128| (part * 1_000).checked_div(whole).unwrap_or(1_000);
        let bytes = of(self.used_bytes.into(), self.limit_bytes.into());
        let time = of(self.oldest.as_millis(), self.limit_time.as_millis());
        let full = if self.disk_is_full { 1_000 } else { 0 };
        u16::try_from(bytes.max(time).max(full)).unwrap_or(u16::MAX)
    }
}

/// What is told about the pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Time until the spool is full at the rate of the last minutes; `None` while it does not grow.
    pub full_in: Option<Duration>,
    /// Whether someone has to act: full within 48 h by that forecast, or nearly full already.
    pub alarm: bool,
    /// How long the oldest segment waits.
    pub oldest: Duration,
}

/// The pressure of one spool.
#[derive(Debug)]
pub struct Pressure {
    state: Mutex<State>,
    /// Cameras up to this priority are paused; 0 for none.
    paused_through: AtomicU8,
}

#[derive(Debug)]
struct State {
    bytes: Trend,
    time: Trend,
    alarm: Alarm,
    forecast: Forecast,
}

impl Pressure {
    /// None yet. Packs are `pack_age` old at most when storage and keys answer.
    #[must_use]
    pub fn new(pack_age: Duration) -> Self {
        let window = WINDOW.max(pack_age * 6);
        let state = State {
            bytes: Trend::new(window),
            time: Trend::new(window),
            alarm: Alarm::new(window),
            forecast: Forecast::default(),
        };
        Self { state: Mutex::new(state), paused_through: AtomicU8::new(0) }
    }

    /// Whether a camera of this priority may start a segment.
    #[must_use]
    pub fn admits(&self, priority: Priority) -> bool {
        priority.0 > self.paused_through.load(Ordering::Relaxed)
    }

    /// What was last found.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        self.lock().forecast
    }

    /// Takes note of how the spool is now, and tells each change of state once.
    pub fn observe(&self, reading: Reading) {
        let permille = reading.permille();
        self.pause(permille);
        let mut state = self.lock();
        let oldest_ms = u64::try_from(reading.oldest.as_millis()).unwrap_or(u64::MAX);
        let limit_ms = u64::try_from(reading.limit_time.as_millis()).unwrap_or(u64::MAX);
        state.bytes.observe(reading.now, reading.needed_bytes);
        state.time.observe(reading.now, oldest_ms);
        let bytes = state.bytes.takes(reading.limit_bytes.saturating_sub(reading.used_bytes));
        let time = state.time.takes(limit_ms.saturating_sub(oldest_ms));
        let full_in = bytes.into_iter().chain(time).min();
        if let Some(alarm) = state.alarm.next(reading.now, full_in, permille) {
            tell(alarm, full_in, permille);
        }
        state.forecast = Forecast { full_in, alarm: state.alarm.is_on(), oldest: reading.oldest };
    }

    fn pause(&self, permille: u16) {
        let before = self.paused_through.load(Ordering::Relaxed);
        let after = bands::paused_through(permille, before);
        if before == after {
            return;
        }
        self.paused_through.store(after, Ordering::Relaxed);
        if after > before {
            tracing::warn!(
                permille,
                through_priority = after,
                "the spool is nearly full; cameras are paused"
            );
        } else {
            tracing::info!(permille, through_priority = after, "the spool has room again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(alarm: bool, full_in: Option<Duration>, permille: u16) {
    let full_in_hours = full_in.map(|time| time.as_secs() / 3600);
    if alarm {
        tracing::warn!(full_in_hours, permille, "the spool will be full: bring storage and keys back");
    } else {
        tracing::info!(permille, "the spool will not be full any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn reading(second: u64) -> Reading {
        Reading {
            now: Monotonic::from_nanos(second * 1_000_000_000),
            used_bytes: 0,
            limit_bytes: 1_000_000_000,
            needed_bytes: 0,
            oldest: Duration::ZERO,
            limit_time: 72 * HOUR,
            disk_is_full: false,
        }
    }

    fn pressure() -> Pressure {
        Pressure::new(Duration::from_secs(90))
    }

    fn growing(bytes_per_second: u64, second: u64) -> Reading {
        let bytes = bytes_per_second * second;
        Reading { used_bytes: bytes, needed_bytes: bytes, ..reading(second) }
    }

    #[test]
    fn a_priority_of_zero_is_that_of_most_and_none_is_out_of_range() {
        let of = |priority| Priority::of(Some(&Purpose { priority, ..Purpose::default() }));
        assert_eq!((of(0), of(7), of(1_000)), (Priority(5), Priority(7), Priority(9)));
        assert_eq!(Priority::of(None), Priority(5));
    }

    #[test]
    fn the_alarm_comes_48_hours_before_the_floor_and_not_before() {
        for (bytes_per_second, expected) in [(5_500, false), (6_000, true)] {
            let pressure = pressure();
            (0..900).for_each(|second| pressure.observe(growing(bytes_per_second, second)));
            let forecast = pressure.forecast();
            let hours = forecast.full_in.unwrap().as_secs_f64() / 3600.0;
            assert_eq!(forecast.alarm, expected, "full in {hours} h");
        }
    }

    #[test]
    fn an_outage_alarms_48_hours_before_footage_would_wait_too_long() {
        let pressure = pressure();
        let alarm_at = (0..72 * 60).find(|minute| {
            pressure.observe(Reading { oldest: Duration::from_secs(minute * 60), ..reading(minute * 60) });
            pressure.forecast().alarm
        });
        let hours = alarm_at.unwrap() / 60;
        assert!((23..=24).contains(&hours), "after {hours} h of 72");
    }

    #[test]
    fn packs_that_come_and_go_are_no_growth() {
        let pressure = pressure();
        for second in 0..3_600 {
            let waiting = Duration::from_secs(second % 90);
            let bytes = 400_000 * (second % 90);
            let reading = reading(second);
            pressure.observe(Reading { used_bytes: bytes, needed_bytes: bytes, oldest: waiting, ..reading });
            assert_eq!((pressure.forecast().full_in, pressure.forecast().alarm), (None, false), "{second}");
        }
    }

    #[test]
    fn the_least_important_are_paused_first_and_come_back_last() {
        let pressure = pressure();
        let admitted = |permille: u64| {
            pressure.observe(Reading { used_bytes: permille * 1_000_000, ..reading(0) });
            (1..=9).filter(|priority| pressure.admits(Priority(*priority))).collect::<Vec<u8>>()
        };
        assert_eq!(admitted(899).len(), 9);
        assert_eq!(admitted(900), [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(admitted(965), [7, 8, 9]);
        assert_eq!(admitted(1_000), [0_u8; 0]);
        assert_eq!(admitted(940), [9], "the most important ones come back first");
        assert_eq!(admitted(870), [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(admitted(849).len(), 9);
    }

    #[test]
    fn footage_that_waits_too_long_leaves_no_room_for_more() {
        let pressure = pressure();
        let limit_time = reading(0).limit_time;
        pressure.observe(Reading { oldest: limit_time * 95 / 100, ..reading(0) });
        assert!(!pressure.admits(Priority(4)) && pressure.admits(Priority(5)));
        pressure.observe(Reading { oldest: limit_time, ..reading(1) });
        assert!(!pressure.admits(Priority(9)));
    }

    #[test]
    fn a_full_disk_pauses_everybody_whatever_the_bound_says() {
        let pressure = pressure();
        pressure.observe(Reading { disk_is_full: true, ..reading(0) });
        assert!(!pressure.admits(Priority(9)) && pressure.forecast().alarm);
    }

    proptest! {
        #[test]
        fn no_reading_makes_it_panic(readings: Vec<(u64, u64, u64, u64, u64, bool)>) {
            let pressure = pressure();
            for (now, used_bytes, limit_bytes, needed_bytes, oldest, disk_is_full) in readings {
                let (oldest, limit_time) = (Duration::from_nanos(oldest), Duration::from_nanos(used_bytes));
                let now = Monotonic::from_nanos(now);
                pressure.observe(Reading { now, used_bytes, limit_bytes, needed_bytes, oldest, limit_time, disk_is_full });
                let _ = pressure.forecast();
            }
        }
    }
}
