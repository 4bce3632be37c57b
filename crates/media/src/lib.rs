//! Fragmented MP4 segments and plain MP4 clips with the NAL units of the camera.
//!
//! A segment is what gets sealed: an initialisation part ([`init_segment`]), fragments
//! ([`fragment_head`], each followed by its samples), and a [`Trailer`] with refined times. The
//! recorder streams these parts and copies no sample. [`read_segment`] takes a segment apart again,
//! also one whose end was cut off, and [`ClipWriter`] joins segments into one MP4 that plays
//! everywhere. None of them touches a byte of a NAL unit.
//!
//! The boxes are those of ISO/IEC 14496-12 (CMAF profile, ISO/IEC 23000-19) and 14496-15.

mod boxes;
mod clip;
mod error;
mod fragment;
mod init;
mod nal;
mod parameters;
mod segment;
mod trailer;

pub use clip::{ClipSummary, ClipWriter};
pub use error::Error;
pub use fragment::{Sample, fragment_head};
pub use init::init_segment;
pub use nal::nal_units;
pub use parameters::VideoParameters;
pub use segment::{MAX_SAMPLES_PER_SEGMENT, Segment, StoredSample, read_segment};
pub use trailer::{SenderReport, Trailer};

/// Units of media time in a second, everywhere in Obscura: the RTP clock of video (RFC 6184).
pub const TIMESCALE: u32 = 90_000;
