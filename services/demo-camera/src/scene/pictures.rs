use gstreamer as gst;

use super::{Scene, Size};
use crate::{feed::Pictures, server::Source};

/// The scene as a stream of raw pictures at a fixed rate.
#[derive(Debug)]
pub struct ScenePictures {
    scene: Scene,
    fps: u32,
    /// Number of the next frame.
    next: u64,
}

impl ScenePictures {
    /// The scene at this size with so many frames a second.
    pub fn new(size: Size, fps: u32) -> Self {
        Self { scene: Scene::new(size), fps: fps.max(1), next: 0 }
    }

    fn time_of(&self, frame: u64) -> gst::ClockTime {
        let nanos = u128::from(frame) * 1_000_000_000 / u128::from(self.fps);
        gst::ClockTime::from_nseconds(u64::try_from(nanos).unwrap_or(u64::MAX - 1))
    }

    /// Number of the frame that is shown at `running`.
    fn frame_at(&self, running: gst::ClockTime) -> u64 {
        let frame = u128::from(running.nseconds()) * u128::from(self.fps) / 1_000_000_000;
        u64::try_from(frame).unwrap_or(u64::MAX)
    }
}

impl Pictures for ScenePictures {
    fn next(&mut self, running: gst::ClockTime) -> Result<gst::Buffer, String> {
        // Frames whose time has passed while nobody took them are left out.
        let number = self.next.max(self.frame_at(running));
        self.next = number + 1;
        let pts = self.time_of(number);
        let frame = self.scene.frame(seconds(pts));
        let mut buffer = gst::Buffer::from_mut_slice(frame);
        let times = buffer.make_mut();
        times.set_pts(pts);
        times.set_duration(self.time_of(number + 1).saturating_sub(pts));
        Ok(buffer)
    }
}

impl Source for ScenePictures {
    fn caps(&self) -> gst::Caps {
        let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", number(self.scene.size.width()))
            .field("height", number(self.scene.size.height()))
            .field("framerate", gst::Fraction::new(i32::try_from(self.fps).unwrap_or(i32::MAX), 1))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("colorimetry", "bt601")
            .build()
    }
}

/// Seconds that still resolve a frame after days: the scene repeats every hour.
fn seconds(time: gst::ClockTime) -> f32 {
    let milliseconds = time.mseconds() % 3_600_000;
    let whole = u16::try_from(milliseconds / 1000).unwrap_or_default();
    let rest = u16::try_from(milliseconds % 1000).unwrap_or_default();
    f32::from(whole) + f32::from(rest) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures() -> ScenePictures {
        gst::init().unwrap();
        ScenePictures::new(Size::try_new(160, 120).unwrap(), 15)
    }

    #[test]
    fn frames_follow_each_other_without_a_hole() {
        let mut pictures = pictures();
        let times: Vec<_> =
            (0..3).map(|_| pictures.next(gst::ClockTime::ZERO).unwrap().pts().unwrap().nseconds()).collect();
        assert_eq!(times, [0, 66_666_666, 133_333_333]);
    }

    #[test]
    fn frames_that_nobody_took_are_left_out() {
        let mut pictures = pictures();
        pictures.next(gst::ClockTime::ZERO).unwrap();
        let late = pictures.next(gst::ClockTime::from_seconds(10)).unwrap();
        assert_eq!(late.pts(), Some(gst::ClockTime::from_seconds(10)));
    }

    #[test]
    fn time_keeps_its_resolution_after_days() {
        let day = gst::ClockTime::from_seconds(86_400 * 30);
        assert!((seconds(day + gst::ClockTime::from_mseconds(1_500)) - 1.5).abs() < 0.001);
    }
}
