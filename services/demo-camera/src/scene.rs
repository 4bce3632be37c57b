//! A square in front of shops, and people who walk across it, drawn frame by frame.
//!
//! The background is drawn once; a frame is a copy of it with the figures on top. What a frame shows
//! depends only on its time, so every viewer sees the same scene.

mod background;
mod canvas;
mod person;
pub(crate) mod pictures;

use canvas::Canvas;
use person::{CAST, Person};

/// Width and height of a scene in pixels, such as the raw format (I420 without padding) can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    width: usize,
    height: usize,
}

impl Size {
    /// The size, where the width is a multiple of 8 from 160 to 3840 and the height an even number
    /// from 120 to 2160.
    #[must_use]
    pub fn try_new(width: usize, height: usize) -> Option<Self> {
        let fits = width.is_multiple_of(8) && height.is_multiple_of(2);
        (fits && (160..=3840).contains(&width) && (120..=2160).contains(&height))
            .then_some(Self { width, height })
    }

    /// In pixels.
    #[must_use]
    pub const fn width(self) -> usize {
        self.width
    }

    /// In pixels.
    #[must_use]
    pub const fn height(self) -> usize {
        self.height
    }

    /// Bytes of a frame: one luma byte a pixel, and two chroma bytes for four pixels.
    #[must_use]
    pub const fn frame_bytes(self) -> usize {
        self.width * self.height * 3 / 2
    }
}

/// The scene at one size.
#[derive(Debug)]
pub struct Scene {
    size: Size,
    background: Vec<u8>,
    /// Farthest first.
    cast: Vec<Person>,
}

impl Scene {
    /// Draws the background.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let mut background = vec![0; size.frame_bytes()];
        background::draw(&mut Canvas::new(&mut background, size));
        let mut cast = CAST.to_vec();
        cast.sort_by(|one, other| one.depth.total_cmp(&other.depth));
        Self { size, background, cast }
    }

    /// The frame at so many seconds, as I420 bytes without padding.
    #[must_use]
    pub fn frame(&self, seconds: f32) -> Vec<u8> {
        let mut frame = self.background.clone();
        let mut canvas = Canvas::new(&mut frame, self.size);
        for person in &self.cast {
            person.draw(&mut canvas, seconds);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_move_and_the_rest_stands_still() {
        let scene = Scene::new(Size::try_new(320, 180).unwrap());
        let (first, later) = (scene.frame(1.0), scene.frame(2.0));
        assert_eq!(first, scene.frame(1.0));
        let changed = first.iter().zip(&later).filter(|(one, other)| one != other).count();
        let share = changed * 100 / first.len();
        assert!((1..30).contains(&share), "{share} % of the bytes changed");
    }

    #[test]
    fn somebody_is_always_to_be_seen() {
        let scene = Scene::new(Size::try_new(320, 180).unwrap());
        for second in 0_u8..120 {
            let frame = scene.frame(f32::from(second));
            let painted = frame.iter().zip(&scene.background).filter(|(one, other)| one != other).count();
            assert!(painted * 200 > frame.len(), "the square is empty after {second} s");
        }
    }

    #[test]
    fn a_size_that_needs_padding_is_refused() {
        assert_eq!(Size::try_new(1280, 720).map(Size::frame_bytes), Some(1_382_400));
        for (width, height) in [(1284, 720), (1280, 721), (8, 720), (1280, 4000)] {
            assert_eq!(Size::try_new(width, height), None);
        }
    }
}
