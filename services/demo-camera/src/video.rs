//! A video file as an endless stream of raw pictures.

pub mod library;
mod timeline;

use std::path::Path;

use anyhow::{Context, bail};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSink;
use timeline::Timeline;

use crate::{feed::Pictures, server::Source};

/// How long a file may take to show its first or next picture.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(5);
/// At most 1280 by 720 pixels and 30 frames a second, even sizes, square pixels.
const PLAYER: &str = "filesrc name=file ! decodebin ! videoconvert ! videoscale ! \
    videorate drop-only=true max-rate=30 ! \
    video/x-raw,format=I420,width=[16,1280,2],height=[16,720,2],pixel-aspect-ratio=1/1 ! \
    appsink name=sink sync=false max-buffers=3 drop=false";

/// Decodes a file, again and again.
#[derive(Debug)]
pub struct Player {
    pipeline: Pipeline,
    sink: AppSink,
    caps: gst::Caps,
    timeline: Timeline,
    /// Whether a picture came since the file began.
    any_picture: bool,
}

impl Player {
    /// Opens the file and decodes its first picture.
    ///
    /// # Errors
    /// When the file cannot be read, is not a video, or shows no picture in time.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let pipeline = gst::parse::launch(PLAYER)?.downcast::<gst::Pipeline>().ok();
        let pipeline = Pipeline(pipeline.context("the player is not a pipeline")?);
        let file = pipeline.0.by_name("file").context("the player has no file")?;
        file.set_property("location", path.to_str().context("the file name is not UTF-8")?);
        let sink = pipeline.0.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok());
        let sink = sink.context("the player has no sink")?;
        let caps = pipeline.first_caps(&sink)?;
        let timeline = Timeline::new(frame_duration(&caps));
        pipeline.0.set_state(gst::State::Playing)?;
        Ok(Self { pipeline, sink, caps, timeline, any_picture: false })
    }

    /// The next picture, from the start again behind the last one.
    fn pull(&mut self) -> anyhow::Result<gst::Buffer> {
        loop {
            if let Some(sample) = self.sink.try_pull_sample(PATIENCE) {
                self.any_picture = true;
                return sample.buffer_owned().context("a sample without a picture");
            }
            if !self.any_picture {
                bail!(self.pipeline.complaint().unwrap_or("no picture came for 5 s".to_owned()));
            }
            self.rewind()?;
        }
    }

    /// Back to the start: by seeking, or, where the format cannot seek, by opening the file anew.
    fn rewind(&mut self) -> anyhow::Result<()> {
        self.any_picture = false;
        self.timeline.rewind();
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        let damaged = self.pipeline.complaint().is_some();
        let Pipeline(pipeline) = &self.pipeline;
        if damaged || pipeline.seek_simple(flags, gst::ClockTime::ZERO).is_err() {
            pipeline.set_state(gst::State::Null)?;
            pipeline.set_state(gst::State::Playing)?;
        }
        Ok(())
    }
}

impl Pictures for Player {
    fn next(&mut self, running: gst::ClockTime) -> Result<gst::Buffer, String> {
        let mut picture = self.pull().map_err(|error| format!("{error:#}"))?;
        let pts = self.timeline.place(picture.pts(), running);
        let times = picture.make_mut();
        times.set_pts(pts);
        times.set_dts(None);
        Ok(picture)
    }
}

impl Source for Player {
    fn caps(&self) -> gst::Caps {
        self.caps.clone()
    }
}

/// A pipeline that stops when it is dropped; otherwise its threads would stay behind.
#[derive(Debug)]
struct Pipeline(gst::Pipeline);

impl Pipeline {
    /// Decodes up to the first picture; gives its format.
    fn first_caps(&self, sink: &AppSink) -> anyhow::Result<gst::Caps> {
        let wanted = self.0.set_state(gst::State::Paused);
        let reached = wanted.and_then(|_| self.0.state(PATIENCE).0);
        let caps = sink.static_pad("sink").and_then(|pad| pad.current_caps());
        match (reached, caps) {
            (Ok(gst::StateChangeSuccess::Success), Some(caps)) => Ok(caps),
            _ => bail!(self.complaint().unwrap_or("no picture came; is there a video in it?".to_owned())),
        }
    }

    /// What an element complained about, where one did.
    fn complaint(&self) -> Option<String> {
        let message = self.0.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Going to the null state cannot be refused.
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// Duration of a frame; 40 ms where the rate is not known.
fn frame_duration(caps: &gst::Caps) -> gst::ClockTime {
    let rate = caps.structure(0).and_then(|structure| structure.get::<gst::Fraction>("framerate").ok());
    rate.and_then(|rate| {
        let (numerator, denominator) = (u64::try_from(rate.numer()).ok()?, u64::try_from(rate.denom()).ok()?);
        gst::ClockTime::SECOND.mul_div_round(denominator, numerator)
    })
    .filter(|duration| !duration.is_zero())
    .unwrap_or(gst::ClockTime::from_mseconds(40))
}
