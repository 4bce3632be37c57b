use gstreamer::ClockTime;

/// Longest time that one picture may be shown. A longer step is an error in the file.
const LONGEST_STEP: ClockTime = ClockTime::from_seconds(2);
/// How far the pictures may fall behind before they catch up at once.
const LONGEST_DELAY: ClockTime = ClockTime::from_mseconds(500);

/// Gives the pictures of a file that is played again and again times that never jump back.
#[derive(Debug)]
pub struct Timeline {
    frame: ClockTime,
    /// Time in the file of the newest picture, since the file began.
    in_file: Option<ClockTime>,
    /// Time that the newest picture got.
    newest: Option<ClockTime>,
}

impl Timeline {
    /// A timeline of pictures that usually last `frame`.
    pub const fn new(frame: ClockTime) -> Self {
        Self { frame, in_file: None, newest: None }
    }

    /// The file begins again: its first picture follows the last one by one frame.
    pub const fn rewind(&mut self) {
        self.in_file = None;
    }

    /// Time of the next picture, whose time in the file is `in_file`, when the stream stands at
    /// `running`.
    pub fn place(&mut self, in_file: Option<ClockTime>, running: ClockTime) -> ClockTime {
        let step = self.step(in_file);
        self.in_file = in_file;
        let time = self.newest.map_or(running, |newest| newest.saturating_add(step));
        let late = running.saturating_sub(time) > LONGEST_DELAY;
        let time = if late { running } else { time };
        self.newest = Some(time);
        time
    }

    fn step(&self, in_file: Option<ClockTime>) -> ClockTime {
        in_file
            .zip(self.in_file)
            .and_then(|(now, before)| now.checked_sub(before))
            .filter(|step| !step.is_zero() && *step <= LONGEST_STEP)
            .unwrap_or(self.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(milliseconds: u64) -> ClockTime {
        ClockTime::from_mseconds(milliseconds)
    }

    #[test]
    fn the_first_picture_follows_the_last_one_by_a_frame() {
        let mut timeline = Timeline::new(ms(40));
        let mut times = Vec::new();
        for _ in 0..2 {
            for picture in [0, 40, 80] {
                times.push(timeline.place(Some(ms(picture)), ClockTime::ZERO).mseconds());
            }
            timeline.rewind();
        }
        assert_eq!(times, [0, 40, 80, 120, 160, 200]);
    }

    #[test]
    fn a_hole_in_the_file_is_closed_and_a_delay_is_caught_up() {
        let mut timeline = Timeline::new(ms(40));
        timeline.place(Some(ms(0)), ms(0));
        assert_eq!(timeline.place(Some(ms(60_000)), ms(40)), ms(40));
        assert_eq!(timeline.place(Some(ms(60_040)), ms(9_000)), ms(9_000));
    }

    proptest! {
        #[test]
        fn time_always_goes_forward(
            pictures in proptest::collection::vec((proptest::option::of(0_u64..1 << 50), 0_u64..1 << 50, any::<bool>()), 1..50),
        ) {
            let mut timeline = Timeline::new(ms(40));
            let mut newest = None;
            for (in_file, running, rewind) in pictures {
                if rewind {
                    timeline.rewind();
                }
                let in_file = in_file.map(ClockTime::from_nseconds);
                let time = timeline.place(in_file, ClockTime::from_nseconds(running));
                prop_assert!(newest.is_none_or(|newest| time > newest));
                newest = Some(time);
            }
        }
    }
}
