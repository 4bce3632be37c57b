//! From the camera's time to wall time.
//!
//! A frame can arrive late but never early, so the least delayed frame tells the offset between
//! the camera's time and ours best: the offset is the minimum over frames of arrival minus media
//! time. While a session settles the offset may fall freely; afterwards it follows the minimum of
//! the last window by at most 500 ppm, so that wall time never jumps inside a run (the method of
//! moonfire-nvr, design/time.md). A step of the recorder's own clock ends the run.

use std::time::Duration;

use obscura_clock::{Monotonic, Timestamp};

/// Ticks per second of the camera's time.
pub const MEDIA_HZ: i64 = 90_000;
/// How long the offset of a new session may fall freely, in media time.
const SETTLE: i64 = 2 * MEDIA_HZ;
/// Window over which the least delayed frame is sought, in media time.
const WINDOW: i64 = 10 * MEDIA_HZ;
/// Fastest correction: 500 parts per million.
const SLEW_PER_SECOND_NS: i64 = 500_000;
/// The recorder's clock was stepped when wall and monotonic time part by more than this.
const STEP: Duration = Duration::from_millis(500);

/// The camera's time cannot run ahead of ours by more than this once a session has settled.
const AHEAD_NANOS: i64 = 5 * 1_000_000_000;
/// The camera's time cannot go back by more than reordered pictures do.
const BACK: i64 = 2 * MEDIA_HZ;

/// One of the two clocks was set while frames arrived: start a new timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The recorder's clock, by so many nanoseconds; negative where it was set back.
    Recorder(i64),
    /// The camera's.
    Camera,
}

/// Offset between the camera's time and wall time in one session.
#[derive(Debug)]
pub struct Timeline {
    first_media: i64,
    last_media: i64,
    /// Wall nanoseconds minus media nanoseconds.
    offset: i64,
    /// Least delayed frame of the current and of the previous window.
    window: Window,
    previous: Option<i64>,
    last_arrival: (Timestamp, Monotonic),
    settled_offset: Option<i64>,
}

#[derive(Debug)]
struct Window {
    start: i64,
    least: i64,
}

impl Timeline {
    /// Starts with the first frame of a session.
    #[must_use]
    pub fn start(media: i64, arrived: Timestamp, monotonic: Monotonic) -> Self {
        let offset = arrived.unix_nanos().saturating_sub(media_nanos(media));
        Self {
            first_media: media,
            last_media: media,
            offset,
            window: Window { start: media, least: offset },
            previous: None,
            last_arrival: (arrived, monotonic),
            settled_offset: None,
        }
    }

    /// Takes note of a frame.
    ///
    /// # Errors
    /// [`Step`] where a clock was set since the last frame: start a new timeline.
    pub fn observe(&mut self, media: i64, arrived: Timestamp, monotonic: Monotonic) -> Result<(), Step> {
        self.check_step(arrived, monotonic)?;
        let candidate = arrived.unix_nanos().saturating_sub(media_nanos(media));
        let ahead = self.settled_offset.is_some() && candidate < self.offset.saturating_sub(AHEAD_NANOS);
        if ahead || media < self.last_media.saturating_sub(BACK) {
            return Err(Step::Camera);
        }
        if media.saturating_sub(self.window.start) >= WINDOW {
            self.previous = Some(self.window.least);
            self.window = Window { start: media, least: candidate };
        }
        self.window.least = self.window.least.min(candidate);
        if media.saturating_sub(self.first_media) < SETTLE {
            self.offset = self.offset.min(candidate);
        } else {
            self.slew(media);
        }
        self.last_media = self.last_media.max(media);
        Ok(())
    }

    /// Wall time of a moment in the camera's time, by what is known now.
    #[must_use]
    pub fn wall(&self, media: i64) -> Timestamp {
        Timestamp::from_unix_nanos(self.offset.saturating_add(media_nanos(media)))
    }

    /// How fast the camera's clock runs against ours since the session settled, in parts per
    /// million; positive where the camera is slow.
    #[must_use]
    pub fn drift_ppm(&self) -> i32 {
        let Some(settled) = self.settled_offset else { return 0 };
        let elapsed = media_nanos(self.last_media.saturating_sub(self.first_media));
        let moved = self.offset.saturating_sub(settled);
        moved
            .saturating_mul(1_000_000)
            .checked_div(elapsed)
            .and_then(|ppm| i32::try_from(ppm).ok())
            .unwrap_or(0)
    }

    fn check_step(&mut self, arrived: Timestamp, monotonic: Monotonic) -> Result<(), Step> {
        let (wall, mono) = self.last_arrival;
        self.last_arrival = (arrived, monotonic);
        let passed = i64::try_from(monotonic.since(mono).as_nanos()).unwrap_or(i64::MAX);
        let by_nanos = arrived.unix_nanos().saturating_sub(wall.unix_nanos()).saturating_sub(passed);
        if Duration::from_nanos(by_nanos.unsigned_abs()) > STEP {
            return Err(Step::Recorder(by_nanos));
        }
        Ok(())
    }

    fn slew(&mut self, media: i64) {
        let settled = *self.settled_offset.get_or_insert(self.offset);
        debug_assert!(settled != i64::MIN);
        let target = self.previous.map_or(self.window.least, |previous| previous.min(self.window.least));
        let passed = media.saturating_sub(self.last_media).clamp(0, MEDIA_HZ);
        let most = passed * SLEW_PER_SECOND_NS / MEDIA_HZ;
        self.offset = self.offset.saturating_add(target.saturating_sub(self.offset).clamp(-most, most));
    }
}

/// Nanoseconds of a duration in the camera's time.
#[must_use]
pub fn media_nanos(media: i64) -> i64 {
    i64::try_from(i128::from(media) * 1_000_000_000 / i128::from(MEDIA_HZ)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(nanos: i64) -> (Timestamp, Monotonic) {
        (Timestamp::from_unix_nanos(nanos), Monotonic::from_nanos(nanos.unsigned_abs()))
    }

    fn timeline(nanos: i64) -> Timeline {
        let (wall, mono) = at(nanos);
        Timeline::start(0, wall, mono)
    }

    #[test]
    fn the_least_delayed_frame_wins() {
        let mut line = timeline(300_000_000); // The first frame came 300 ms late.
        for (frame, delay_ms) in [(1, 200), (2, 5), (3, 90)] {
            let (wall, mono) = at(frame * SECOND / 25 + delay_ms * 1_000_000);
            // Arrival may not run backwards on a monotonic clock; this only moves wall and monotonic alike.
            line.observe(frame * MEDIA_HZ / 25, wall, mono).unwrap_or_default();
        }
        assert_eq!(line.wall(0), Timestamp::from_unix_nanos(5_000_000));
    }

    #[test]
    fn after_settling_wall_time_follows_a_drifting_camera_by_at_most_500_ppm() {
        let mut line = timeline(0);
        let mut last = line.wall(0).unix_nanos();
        for frame in 1..25 * 120 {
            let media = frame * MEDIA_HZ / 25;
            let (wall, mono) = at(frame * SECOND / 25 + frame * 40_000_000 * 200 / 1_000_000);
            line.observe(media, wall, mono).unwrap();
            let now = line.wall(media).unix_nanos();
            let step = now - last;
            assert!((39_980_000..=40_020_001).contains(&step), "step {step}");
            last = now;
        }
        let late = line.wall(25 * 120 * MEDIA_HZ / 25).unix_nanos() - 120 * SECOND;
        assert!((15_000_000..=24_000_000).contains(&late), "followed by {late} ns of 24 ms");
        assert!((100..=220).contains(&line.drift_ppm()), "{}", line.drift_ppm());
    }

    #[test]
    fn a_stepped_clock_is_reported_with_its_size() {
        let mut line = timeline(0);
        let mono = Monotonic::from_nanos(SECOND.unsigned_abs());
        let step = line.observe(MEDIA_HZ, Timestamp::from_unix_nanos(-59 * SECOND), mono);
        assert_eq!(step, Err(Step::Recorder(-60 * SECOND)));
    }

    #[test]
    fn a_camera_whose_time_jumps_is_reported_in_both_directions() {
        for jump in [-30 * MEDIA_HZ, 30 * MEDIA_HZ] {
            let mut line = timeline(0);
            for frame in 1..100 {
                let (wall, mono) = at(frame * SECOND / 25);
                line.observe(frame * MEDIA_HZ / 25, wall, mono).unwrap();
            }
            let (wall, mono) = at(4 * SECOND);
            assert_eq!(line.observe(4 * MEDIA_HZ + jump, wall, mono), Err(Step::Camera));
        }
    }

    #[test]
    fn a_stalled_network_is_not_mistaken_for_a_jump() {
        let mut line = timeline(0);
        for frame in 1..100 {
            let (wall, mono) = at(frame * SECOND / 25);
            line.observe(frame * MEDIA_HZ / 25, wall, mono).unwrap();
        }
        let (wall, mono) = at(12 * SECOND);
        assert_eq!(line.observe(4 * MEDIA_HZ, wall, mono), Ok(()));
    }

    proptest! {
        #[test]
        fn no_camera_time_and_no_arrival_makes_it_panic(first: i64, frames: Vec<(i64, i64, u64)>) {
            let mut line = Timeline::start(first, Timestamp::from_unix_nanos(0), Monotonic::from_nanos(0));
            for (media, wall, mono) in frames {
                let _ = line.observe(media, Timestamp::from_unix_nanos(wall), Monotonic::from_nanos(mono));
                let _ = (line.wall(media), line.drift_ppm());
            }
        }
    }
}
