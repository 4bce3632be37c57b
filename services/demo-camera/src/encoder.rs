//! Which encoder, and with which settings.

use clap::ValueEnum;

use crate::elements::{MissingElement, is_installed};

/// Name of the encoder in the pipelines.
pub const ENCODER: &str = "encoder";

/// How pictures are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// ITU-T H.264, which plays everywhere.
    H264,
    /// ITU-T H.265, to see what becomes of a camera that sends nothing else.
    H265,
}

/// An encoder of GStreamer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// Better pictures for the bits.
    X264,
    /// Where x264 is not installed.
    OpenH264,
    /// For H.265.
    X265,
}

impl Encoder {
    /// The best encoder that is installed.
    ///
    /// # Errors
    /// When there is none.
    pub fn choose(codec: Codec) -> Result<Self, MissingElement> {
        if codec == Codec::H265 {
            let missing = MissingElement { element: "x265enc", package: "gstreamer1.0-plugins-bad" };
            return if is_installed(missing.element) { Ok(Self::X265) } else { Err(missing) };
        }
        if is_installed("x264enc") {
            Ok(Self::X264)
        } else if is_installed("openh264enc") {
            Ok(Self::OpenH264)
        } else {
            Err(MissingElement { element: "x264enc", package: "gstreamer1.0-plugins-ugly" })
        }
    }

    /// The part of a launch line from raw pictures to RTP packets. No B-frames, one slice, as most
    /// cameras send it.
    pub fn launch(self, kilobits_per_second: u32) -> String {
        let encoder = match self {
            Self::X264 => format!(
                "x264enc name={ENCODER} tune=zerolatency speed-preset=veryfast threads=1 \
                 bitrate={kilobits_per_second} ! video/x-h264,profile=main"
            ),
            Self::OpenH264 => {
                let bits_per_second = u64::from(kilobits_per_second) * 1000;
                format!(
                    "openh264enc name={ENCODER} complexity=low rate-control=bitrate bitrate={bits_per_second}"
                )
            }
            Self::X265 => {
                format!(
                    "x265enc name={ENCODER} tune=zerolatency speed-preset=ultrafast bitrate={kilobits_per_second}"
                )
            }
        };
        let payload = if self == Self::X265 { "h265" } else { "h264" };
        format!("{encoder} ! rtp{payload}pay name=pay0 pt=96 config-interval=-1")
    }

    /// The property that bounds the number of frames from one key frame to the next.
    pub const fn key_frame_property(self) -> &'static str {
        match self {
            Self::X264 | Self::X265 => "key-int-max",
            Self::OpenH264 => "gop-size",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstreamer::{self as gst, prelude::*};

    #[test]
    fn every_installed_encoder_accepts_its_settings() {
        gst::init().unwrap();
        let encoders =
            [(Encoder::X264, "x264enc"), (Encoder::OpenH264, "openh264enc"), (Encoder::X265, "x265enc")];
        for (encoder, element) in encoders {
            if !is_installed(element) {
                continue;
            }
            let bin = gst::parse::bin_from_description(&encoder.launch(1000), false).unwrap();
            let found = bin.by_name(ENCODER).unwrap();
            found.set_property_from_str(encoder.key_frame_property(), "30");
            assert!(bin.by_name("pay0").is_some());
        }
    }
}
