//! One ring of frames per camera, read through cursors.
//!
//! The writer never waits. A reader that falls behind is told how much it missed and goes on with
//! the oldest key frame that is still there: a slow reader can never hold up the camera.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::frame::Frame;

/// Most frames that a ring holds: two seconds at 30 frames per second.
pub const MAX_FRAMES: usize = 60;

/// Position of a reader: the number of the frame that it reads next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(u64);

/// What a reader finds at its cursor.
#[derive(Debug)]
pub enum Read<State> {
    /// The next frame.
    Frame(Frame<State>),
    /// The writer overtook the reader; so many frames were skipped.
    Skipped(u64),
    /// Nothing new yet.
    Empty,
}

/// Frames of one camera; the oldest ones make room for new ones.
#[derive(Debug)]
pub struct Ring<State> {
    frames: Mutex<Frames<State>>,
}

#[derive(Debug)]
struct Frames<State> {
    /// Number of the frame at the front.
    first: u64,
    queue: VecDeque<(Frame<State>, bool)>,
}

impl<State> Default for Ring<State> {
    fn default() -> Self {
        Self { frames: Mutex::new(Frames { first: 0, queue: VecDeque::new() }) }
    }
}

impl<State> Ring<State> {
    /// Adds a frame, dropping the oldest one where the ring is full.
    pub fn push(&self, frame: Frame<State>, random_access: bool) {
        let mut frames = self.lock();
        if frames.queue.len() >= MAX_FRAMES {
            frames.queue.pop_front();
            frames.first += 1;
        }
        frames.queue.push_back((frame, random_access));
    }

    /// A cursor that starts with the next frame to come.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let frames = self.lock();
        Cursor(frames.first + frames.queue.len() as u64)
    }

    /// Reads at the cursor and moves it on.
    pub fn read(&self, cursor: &mut Cursor) -> Read<State> {
        let frames = self.lock();
        if cursor.0 < frames.first {
            let skip = frames.queue.iter().position(|(_, key)| *key).unwrap_or(frames.queue.len());
            let next = frames.first + skip as u64;
            let skipped = next - cursor.0;
            cursor.0 = next;
            return Read::Skipped(skipped);
        }
        let index = usize::try_from(cursor.0 - frames.first).unwrap_or(usize::MAX);
        match frames.queue.get(index) {
            Some((frame, _)) => {
                cursor.0 += 1;
                Read::Frame(frame.clone())
            }
            None => Read::Empty,
        }
    }

    /// Drops frames that every one of the given readers has passed.
    pub fn trim(&self, slowest: Cursor) {
        let mut frames = self.lock();
        while frames.first < slowest.0 && frames.queue.pop_front().is_some() {
            frames.first += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames<State>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Released, samples::released};

    fn push(ring: &Ring<Released>, n: i64, key: bool) {
        ring.push(released(n, n, key), key);
    }

    #[test]
    fn each_reader_gets_every_frame_once_and_in_order() {
        let ring = Ring::default();
        let (mut one, mut two) = (ring.cursor(), ring.cursor());
        for n in 0..5 {
            push(&ring, n, n == 0);
            for cursor in [&mut one, &mut two] {
                let Read::Frame(frame) = ring.read(cursor) else { panic!("no frame") };
                assert_eq!(frame.picture().media_time, n);
            }
        }
        assert!(matches!(ring.read(&mut one), Read::Empty));
    }

    #[test]
    fn a_reader_that_falls_behind_goes_on_at_a_key_frame_and_knows_what_it_missed() {
        let ring = Ring::default();
        let mut slow = ring.cursor();
        for n in 0..100 {
            push(&ring, n, n % 25 == 0);
        }
        let Read::Skipped(missed) = ring.read(&mut slow) else { panic!("should have missed frames") };
        assert_eq!(missed, 50);
        let Read::Frame(frame) = ring.read(&mut slow) else { panic!("no frame") };
        assert_eq!(frame.picture().media_time, 50);
    }

    #[test]
    fn trimming_frees_only_what_the_slowest_reader_has_passed() {
        let ring = Ring::default();
        let (mut fast, slow) = (ring.cursor(), ring.cursor());
        push(&ring, 1, true);
        let _ = ring.read(&mut fast);
        ring.trim(slow);
        assert_eq!(ring.lock().queue.len(), 1);
        ring.trim(fast);
        assert_eq!(ring.lock().queue.len(), 0);
    }
}
