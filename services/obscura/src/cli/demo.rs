use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use super::Session;
use crate::{
    demo::{self, Footage},
    problem::{Problem, Result},
    source::Source,
    when,
};

const EXAMPLES: &str = "\
Examples:
  obscura demo                                       a drawn scene, until Ctrl-C
  obscura demo --video clip.mp4                      your own footage
  obscura demo --rtsp rtsp://viewer:pw@10.0.0.5/1    your own camera
  obscura demo --for 30s --json                      record, verify all of it, and say how it went";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// End by itself this long after the first footage is durable, and verify all of it
    #[arg(long = "for", value_name = "DURATION", value_parser = when::duration)]
    length: Option<Duration>,
    /// Record this video file instead of the drawn scene
    #[arg(long, value_name = "FILE", conflicts_with = "rtsp")]
    video: Option<PathBuf>,
    /// Record this camera instead of the drawn scene
    #[arg(long, value_name = "URL")]
    rtsp: Option<String>,
    /// Keep the state directory afterwards
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        let footage = self.footage()?;
        let root = session.state.as_ref().map(|_| session.root()).transpose()?;
        let demo = demo::Demo { root, footage, length: self.length, keep: self.keep };
        let passed = demo::run(demo, session.out, &session.clock).await?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn footage(&self) -> Result<Footage> {
        match (&self.video, &self.rtsp) {
            (Some(video), _) => Ok(Footage::Video(video.clone())),
            (None, Some(url)) => match url.parse().map_err(Problem::usage)? {
                Source::Rtsp(rtsp) => Ok(Footage::Rtsp(rtsp)),
                Source::Video(_) => {
                    Err(Problem::usage("--rtsp takes an rtsp:// URL; for a file use --video"))
                }
            },
            (None, None) => Ok(Footage::Scene),
        }
    }
}
