//! Decode times for streams that send pictures out of presentation order.
//!
//! RTP carries presentation times only. Frames come in decode order, so the n-th frame is decoded
//! at the n-th smallest presentation time; the difference becomes the composition offset. How far
//! a stream reorders is learned from the stream: most cameras never do, and then nothing waits
//! longer than for the next frame, which is needed anyway to know how long a frame lasts.

use std::collections::{BTreeSet, VecDeque};

use crate::frame::{Frame, Released};

/// H.264 reorders at most this many frames (ITU-T H.264, `max_num_reorder_frames`).
const MAX_DEPTH: usize = 16;

/// A frame with its place in decode order.
#[derive(Debug)]
pub struct Timed {
    /// The frame.
    pub frame: Frame<Released>,
    /// Decode time in the camera's 90 kHz time.
    pub decode_time: i64,
    /// Presentation time minus decode time, in 90 kHz ticks.
    pub composition_offset: i32,
}

/// Gives frames their decode times.
#[derive(Debug, Default)]
pub struct Reorder {
    waiting: VecDeque<Frame<Released>>,
    /// Presentation times that are not yet given out as decode times, with a tie-break.
    times: BTreeSet<(i64, u64)>,
    counter: u64,
    depth: usize,
    newest: Option<i64>,
    last_decode_time: Option<i64>,
}

impl Reorder {
    /// Takes the next frame in decode order and returns one whose decode time is certain, if any.
    pub fn push(&mut self, frame: Frame<Released>) -> Option<Timed> {
        let time = frame.picture().media_time;
        self.learn_depth(time);
        self.counter += 1;
        self.times.insert((time, self.counter));
        self.waiting.push_back(frame);
        if self.waiting.len() > self.depth { self.pop() } else { None }
    }

    /// Gives out what still waits: the next frame depends on nothing before it.
    pub fn pop(&mut self) -> Option<Timed> {
        let frame = self.waiting.pop_front()?;
        let (earliest, _) = self.times.pop_first()?;
        let decode_time = self.last_decode_time.map_or(earliest, |last| earliest.max(last.saturating_add(1)));
        self.last_decode_time = Some(decode_time);
        let offset = frame.picture().media_time.saturating_sub(decode_time);
        let composition_offset = i32::try_from(offset).unwrap_or(0);
        Some(Timed { frame, decode_time, composition_offset })
    }

    /// How many frames later than its successors a frame may come: as many as are newer than it.
    fn learn_depth(&mut self, time: i64) {
        if self.newest.is_some_and(|newest| time < newest) {
            let later = self.times.range((time, u64::MAX)..).count();
            self.depth = self.depth.max(later).min(MAX_DEPTH);
        }
        self.newest = self.newest.max(Some(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::samples::released;
    use proptest::prelude::*;

    fn run(times: &[i64]) -> Vec<(i64, i64)> {
        let mut reorder = Reorder::default();
        let mut timed: Vec<_> =
            times.iter().filter_map(|time| reorder.push(released(*time, 0, false))).collect();
        timed.extend(std::iter::from_fn(|| reorder.pop()));
        timed.iter().map(|t| (t.decode_time, t.decode_time + i64::from(t.composition_offset))).collect()
    }

    #[test]
    fn a_stream_in_order_is_left_alone_and_nothing_waits() {
        assert_eq!(run(&[10, 20, 30]), [(10, 10), (20, 20), (30, 30)]);
        assert!(Reorder::default().push(released(1, 0, true)).is_some());
    }

    #[test]
    fn bidirectional_frames_keep_their_presentation_times_once_the_depth_is_learned() {
        // I0 P3 B1 B2 P6 B4 B5 P9 B7 B8
        let timed = run(&[0, 3, 1, 2, 6, 4, 5, 9, 7, 8]);
        let shown: Vec<i64> = timed.iter().map(|(_, shown)| *shown).collect();
        assert_eq!(shown, [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]);
        assert!(timed.windows(2).all(|pair| pair[0].0 < pair[1].0), "{timed:?}");
    }

    proptest! {
        #[test]
        fn decode_times_always_grow_and_no_frame_is_lost(times in prop::collection::vec(0..1_000_000_i64, 0..200)) {
            let timed = run(&times);
            prop_assert_eq!(timed.len(), times.len());
            prop_assert!(timed.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
