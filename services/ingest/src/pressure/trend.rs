//! How fast something grows, by its low points: packs come and go, and only what does not go counts.

use std::{collections::VecDeque, time::Duration};

use obscura_clock::Monotonic;

/// Samples in a window.
const SAMPLES: u32 = 60;

/// A level over the last minutes.
#[derive(Debug)]
pub struct Trend {
    window: Duration,
    samples: VecDeque<(Monotonic, u64)>,
}

impl Trend {
    /// Looks back over `window`.
    pub fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Takes note of the level. Of levels that follow each other closely the lowest counts.
    pub fn observe(&mut self, now: Monotonic, level: u64) {
        let every = self.window / SAMPLES;
        match self.samples.back_mut() {
            Some((at, lowest)) if now.since(*at) < every => *lowest = level.min(*lowest),
            _ => self.samples.push_back((now, level)),
        }
        while self.samples.front().is_some_and(|(at, _)| now.since(*at) > self.window) {
            self.samples.pop_front();
        }
    }

    /// How long it takes to grow by so much; `None` where it does not grow, shrinks just now, or was
    /// not watched for half a window yet.
    pub fn takes(&self, more: u64) -> Option<Duration> {
        let ((start, _), (end, _)) = (self.samples.front()?, self.samples.back()?);
        let watched = end.since(*start);
        if watched < self.window / 2 || self.shrinks(watched) {
            return None;
        }
        let half = watched / 2;
        let (before, after) = (self.lowest(watched, half)?, self.lowest(half, Duration::ZERO)?);
        let grown = after.checked_sub(before).filter(|grown| *grown > 0)?;
        let nanos = u128::from(more) * half.as_nanos() / u128::from(grown);
        Some(u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos))
    }

    /// Whether the newest low point is below the one before it.
    fn shrinks(&self, watched: Duration) -> bool {
        let sixth = watched / 6;
        self.lowest(sixth, Duration::ZERO) < self.lowest(2 * sixth, sixth)
    }

    /// The lowest level between so long and so long ago.
    fn lowest(&self, from: Duration, to: Duration) -> Option<u64> {
        let (newest, _) = self.samples.back()?;
        let ago = |at: Monotonic| newest.since(at);
        let levels = self.samples.iter().filter(|(at, _)| to <= ago(*at) && ago(*at) <= from);
        levels.map(|(_, level)| *level).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn watched(levels: impl IntoIterator<Item = u64>) -> Trend {
        let mut trend = Trend::new(WINDOW);
        for (step, level) in (0_u64..).zip(levels) {
            trend.observe(Monotonic::from_nanos(step * 10_000_000_000), level);
        }
        trend
    }

    proptest! {
        #[test]
        fn what_grows_evenly_is_full_when_it_should_be(start in 0..1_u64 << 40, rate in 1..1_u64 << 30, steps in 40..200_u64, more in 0..1_u64 << 45) {
            let trend = watched((0..steps).map(|step| start + step * rate));
            let expected = u128::from(more) * 10_000 / u128::from(rate);
            let found = trend.takes(more).unwrap().as_millis();
            prop_assert!(found.abs_diff(expected) <= 1 + expected / 20, "{found} instead of {expected} ms");
        }

        #[test]
        fn what_shrinks_has_no_forecast(levels in prop::collection::vec(0..1_u64 << 40, 0..60), start in 0..1_u64 << 40, rate in 1..1_000_u64) {
            let shrinking = (0..22).map(|step| (start + (1 << 20)).saturating_sub(step * rate));
            let trend = watched(levels.into_iter().chain(shrinking));
            prop_assert_eq!(trend.takes(1), None);
        }

        #[test]
        fn what_comes_back_to_its_low_point_has_no_forecast(low in 0..1_u64 << 40, rise in 0..1_u64 << 30, period in 1..9_u64, steps in 0..200_u64) {
            let trend = watched((0..steps).map(|step| low + rise * (step % period)));
            prop_assert_eq!(trend.takes(1), None);
        }

        #[test]
        fn memory_is_bounded_and_no_level_makes_it_panic(levels: Vec<(u64, u64)>, more: u64) {
            let mut trend = Trend::new(WINDOW);
            for (now, level) in levels {
                trend.observe(Monotonic::from_nanos(now), level);
                prop_assert!(trend.samples.len() <= SAMPLES as usize + 2);
                let _ = trend.takes(more);
            }
        }
    }

    #[test]
    fn the_first_minutes_tell_nothing() {
        assert_eq!(watched((0..20).map(|step| step * 1_000_000)).takes(1), None);
    }
}
