//! When to say that the spool will be full, and when to take it back.

use std::time::Duration;

use obscura_clock::Monotonic;

/// Alarm so long before the spool is full.
const BEFORE: Duration = Duration::from_hours(48);
/// Taken back only when it is further away than this,
const AGAIN_AFTER: Duration = Duration::from_hours(60);
/// or not coming at all, and less is used than this.
const CALM_PERMILLE: u16 = 850;
/// Alarm at this level whatever the forecast says: cameras are being paused.
const NEAR_PERMILLE: u16 = 900;

/// An alarm with hysteresis in level and time.
#[derive(Debug)]
pub struct Alarm {
    on: bool,
    calm_for: Duration,
    calm_since: Option<Monotonic>,
}

impl Alarm {
    /// Off. Once on, it goes off after the spool was calm for so long.
    pub fn new(calm_for: Duration) -> Self {
        Self { on: false, calm_for, calm_since: None }
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Takes note of the forecast and the level; `Some` where the state changed.
    pub fn next(&mut self, now: Monotonic, full_in: Option<Duration>, permille: u16) -> Option<bool> {
        let soon = permille >= NEAR_PERMILLE || full_in.is_some_and(|time| time <= BEFORE);
        let calm = permille < CALM_PERMILLE && full_in.is_none_or(|time| time > AGAIN_AFTER);
        if !calm {
            self.calm_since = None;
        }
        let next = if self.on { !(calm && self.has_been_calm(now)) } else { soon };
        let changed = next != self.on;
        self.on = next;
        changed.then_some(next)
    }

    fn has_been_calm(&mut self, now: Monotonic) -> bool {
        now.since(*self.calm_since.get_or_insert(now)) >= self.calm_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM_FOR: Duration = Duration::from_secs(600);

    fn at(second: u64) -> Monotonic {
        Monotonic::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn it_is_told_once_and_taken_back_once() {
        let mut alarm = Alarm::new(CALM_FOR);
        assert_eq!(alarm.next(at(0), Some(Duration::from_hours(49)), 100), None);
        assert_eq!(alarm.next(at(1), Some(BEFORE), 100), Some(true));
        // A forecast around the border, or one that comes and goes, is no news.
        let trembling = [Some(Duration::from_hours(49)), Some(Duration::from_hours(47)), None];
        for (second, full_in) in (2..500).zip(trembling.into_iter().cycle()) {
            assert_eq!(alarm.next(at(second), full_in, 100), None);
        }
        assert_eq!(alarm.next(at(500), None, 100), None);
        assert_eq!(alarm.next(at(1_097), None, 100), None);
        assert_eq!(alarm.next(at(1_101), None, 100), Some(false));
    }

    #[test]
    fn a_spool_that_stays_nearly_full_keeps_alarming_although_it_does_not_grow() {
        let mut alarm = Alarm::new(CALM_FOR);
        assert_eq!(alarm.next(at(0), None, 900), Some(true));
        assert!((1..5_000).all(|second| alarm.next(at(second), None, 860).is_none()));
    }
}
