//! Frames, and whether their pictures may leave the recorder.
//!
//! What a permanent mask hides must never be stored. So a frame that comes off the network is
//! [`Clear`], everything that stores or shows frames takes [`Released`], and the only way from the
//! one to the other is [`Release`].

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use obscura_clock::{Monotonic, Timestamp};
use obscura_media::VideoParameters;

/// As the camera sent it.
#[derive(Debug)]
pub struct Clear;

/// Nothing that a permanent mask hides is in it.
#[derive(Debug)]
pub struct Released;

/// One access unit.
#[derive(Debug)]
pub struct Picture {
    /// Length-prefixed NAL units without parameter sets.
    pub data: Bytes,
    /// Presentation time in the camera's own 90 kHz time, from an arbitrary origin.
    pub media_time: i64,
    /// Wall time of arrival.
    pub arrived: Timestamp,
    /// Monotonic time of arrival.
    pub arrived_monotonic: Monotonic,
    /// Whether decoding can start here.
    pub random_access: bool,
    /// Packets that were lost before this frame.
    pub lost_packets: u16,
    /// The parameter sets in force.
    pub parameters: Arc<VideoParameters>,
}

/// A picture with the knowledge whether it may leave the recorder.
#[derive(Debug)]
pub struct Frame<State> {
    picture: Arc<Picture>,
    state: PhantomData<fn() -> State>,
}

impl<State> Clone for Frame<State> {
    fn clone(&self) -> Self {
        Self { picture: Arc::clone(&self.picture), state: PhantomData }
    }
}

impl Frame<Clear> {
    /// A frame as it came off the network.
    #[must_use]
    pub fn received(picture: Picture) -> Self {
        Self { picture: Arc::new(picture), state: PhantomData }
    }
}

impl Frame<Released> {
    /// The picture.
    #[must_use]
    pub fn picture(&self) -> &Picture {
        &self.picture
    }
}

/// How frames of one camera get from [`Clear`] to [`Released`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The camera has no permanent mask: its frames are released as they are.
    Unmasked,
    /// The camera has a permanent mask: only a masking service may release its frames.
    NeedsMasking,
}

impl Release {
    /// Releases a frame where no mask stands in the way; a frame that needs masking is dropped here.
    #[must_use]
    pub fn release(self, frame: Frame<Clear>) -> Option<Frame<Released>> {
        match self {
            Self::Unmasked => Some(Frame { picture: frame.picture, state: PhantomData }),
            Self::NeedsMasking => None,
        }
    }
}

#[cfg(test)]
pub mod samples {
    //! Frames for tests.

    use super::*;

    /// Parameters of a tiny picture.
    pub fn parameters() -> Arc<VideoParameters> {
        Arc::new(VideoParameters {
            sample_entry: Bytes::from_static(include_bytes!("../tests/data/avc1.bin")),
            width: 64,
            height: 64,
            codec: "avc1.42C00A".into(),
        })
    }

    /// A frame with these times (90 kHz and nanoseconds since the Unix epoch).
    pub fn frame(media_time: i64, arrived_nanos: i64, random_access: bool) -> Frame<Clear> {
        Frame::received(picture(media_time, arrived_nanos, random_access))
    }

    /// Its picture.
    pub fn picture(media_time: i64, arrived_nanos: i64, random_access: bool) -> Picture {
        Picture {
            data: Bytes::from(vec![0, 0, 0, 2, if random_access { 0x65 } else { 0x41 }, 0x88]),
            media_time,
            arrived: Timestamp::from_unix_nanos(arrived_nanos),
            arrived_monotonic: Monotonic::from_nanos(arrived_nanos.unsigned_abs()),
            random_access,
            lost_packets: 0,
            parameters: parameters(),
        }
    }

    /// The same, released.
    pub fn released(media_time: i64, arrived_nanos: i64, random_access: bool) -> Frame<Released> {
        Release::Unmasked.release(frame(media_time, arrived_nanos, random_access)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_under_a_permanent_mask_is_dropped_and_never_released() {
        assert!(Release::NeedsMasking.release(samples::frame(0, 0, true)).is_none());
        assert!(Release::Unmasked.release(samples::frame(0, 0, true)).is_some());
    }
}
