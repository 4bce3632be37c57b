//! NAL units of a video, as FFmpeg and a few lines see them: nothing here is shared with what is tested.

use std::{path::Path, process::Command};

/// The frames of an Annex B stream, each a list of NAL units without parameter sets and delimiters.
pub fn frames(stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut frames: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut before: Vec<Vec<u8>> = Vec::new();
    for nal in units(stream) {
        match nal[0] & 31 {
            7..=9 => {}
            1 | 5 if nal[1] & 0x80 != 0 => {
                // `first_mb_in_slice` is 0: a new picture, to which what came before it belongs.
                before.push(nal);
                frames.push(std::mem::take(&mut before));
            }
            1 | 5 => frames.last_mut().unwrap().push(nal),
            _ => before.push(nal),
        }
    }
    frames
}

/// The frames of an MP4, taken out by FFmpeg.
pub fn of_clip(clip: &Path) -> Vec<Vec<Vec<u8>>> {
    let raw = clip.with_extension("h264");
    let status = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-y", "-i"])
        .arg(clip)
        .args(["-c", "copy", "-bsf:v", "h264_mp4toannexb"])
        .arg(&raw)
        .status()
        .unwrap();
    assert!(status.success());
    frames(&std::fs::read(raw).unwrap())
}

fn units(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        (0..stream.len().saturating_sub(3)).filter(|at| stream[*at..*at + 3] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let unit = |(start, end): (usize, usize)| {
        let mut nal = stream[start + 3..end].to_vec();
        while nal.last() == Some(&0) {
            nal.pop();
        }
        nal
    };
    starts.iter().copied().zip(ends).map(unit).filter(|nal| nal.len() > 1).collect()
}
