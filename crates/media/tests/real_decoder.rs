//! What this crate writes, read by FFmpeg, which shares no code with it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::{fs, io::BufWriter, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use obscura_clock::{ClockQuality, Timestamp};
use obscura_media::{
    ClipSummary, ClipWriter, Sample, Trailer, VideoParameters, fragment_head, init_segment, nal_units,
    read_segment,
};

/// 90 kHz units of a frame at 25 frames a second.
const FRAME: u32 = 3600;

/// H.264 as a camera would send it: parameter sets, and access units without them.
struct Video {
    parameters: VideoParameters,
    /// NAL units of each access unit.
    access_units: Vec<Vec<Vec<u8>>>,
}

#[test]
fn a_clip_decodes_completely_and_has_exactly_the_nal_units_of_the_camera() {
    let dir = tempfile::tempdir().unwrap();
    let video = video(dir.path(), "testsrc=size=320x240:rate=25:duration=6");
    assert_eq!((video.parameters.width, video.parameters.height), (320, 240));

    let clip = dir.path().join("clip.mp4");
    let summary = write_clip(&clip, &segments(&video));
    assert_eq!(
        summary,
        ClipSummary { frames: 150, duration: Duration::from_secs(6), skipped_gaps: 0, sample_entries: 1 }
    );
    assert_decodes(&clip, 150);
    assert_eq!(nal_units_by_ffmpeg(&clip), video.access_units.concat());
}

#[test]
fn a_single_segment_is_a_playable_file_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let video = video(dir.path(), "testsrc=size=320x240:rate=25:duration=2");
    let file = dir.path().join("segment.mp4");
    let segment = segments(&video).remove(0);
    fs::write(&file, &segment).unwrap();
    let read = read_segment(&segment).unwrap();
    assert_eq!(read.parameters, video.parameters);
    assert_decodes(&file, read.samples.len());
}

#[test]
fn a_torn_segment_still_gives_its_whole_frames() {
    let dir = tempfile::tempdir().unwrap();
    let video = video(dir.path(), "testsrc=size=320x240:rate=25:duration=2");
    let whole = segments(&video).remove(0);
    let frames = read_segment(&whole).unwrap().samples.len();
    // Somewhere in the last fragment, which holds one frame.
    let torn = &whole[..whole.len() - trailer(frames).encode().len() - 30];
    let read = read_segment(torn).unwrap();
    assert!(read.trailer.is_none());
    assert_eq!(read.samples.len(), frames - 1);
    let clip = dir.path().join("clip.mp4");
    let summary = write_clip(&clip, &[torn.to_vec()]);
    assert_eq!(usize::try_from(summary.frames).unwrap(), read.samples.len());
    assert_decodes(&clip, read.samples.len());
}

#[test]
fn a_change_of_resolution_gets_a_second_sample_entry_and_still_decodes() {
    let dir = tempfile::tempdir().unwrap();
    let small = segments(&video(dir.path(), "testsrc=size=320x240:rate=25:duration=2"));
    let large = segments(&video(dir.path(), "testsrc2=size=640x480:rate=25:duration=2"));
    let clip = dir.path().join("clip.mp4");
    let summary = write_clip(&clip, &[small, large].concat());
    assert_eq!((summary.frames, summary.sample_entries), (100, 2));
    assert_decodes(&clip, 100);
}

/// One segment for every group of pictures, one fragment for each half second.
fn segments(video: &Video) -> Vec<Vec<u8>> {
    let is_key = |unit: &Vec<Vec<u8>>| unit.iter().any(|nal_unit| nal_unit[0] & 31 == 5);
    let mut groups: Vec<Vec<&Vec<Vec<u8>>>> = Vec::new();
    for access_unit in &video.access_units {
        if is_key(access_unit) {
            groups.push(Vec::new());
        }
        groups.last_mut().expect("a stream begins with a key frame").push(access_unit);
    }
    groups.iter().map(|group| segment(&video.parameters, group, is_key)).collect()
}

fn segment(
    parameters: &VideoParameters,
    group: &[&Vec<Vec<u8>>],
    is_key: fn(&Vec<Vec<u8>>) -> bool,
) -> Vec<u8> {
    let mut out = init_segment(parameters).unwrap();
    let mut decode_time = 0;
    for (sequence, part) in (1..).zip(group.chunks(12)) {
        let data: Vec<Vec<u8>> = part.iter().map(|access_unit| length_prefixed(access_unit)).collect();
        let samples: Vec<_> = part
            .iter()
            .zip(&data)
            .map(|(unit, data)| Sample {
                data,
                duration: FRAME,
                random_access: is_key(unit),
                composition_offset: 0,
            })
            .collect();
        out.extend(fragment_head(sequence, decode_time, &samples));
        out.extend(data.concat());
        decode_time += u64::from(FRAME) * part.len() as u64;
    }
    out.extend(trailer(group.len()).encode());
    out
}

fn trailer(frames: usize) -> Trailer {
    let media_duration_90k = u64::from(FRAME) * frames as u64;
    Trailer {
        start: Timestamp::from_unix_nanos(0),
        wall_duration: Duration::from_nanos(media_duration_90k * 100_000 / 9),
        media_duration_90k,
        frames: u32::try_from(frames).unwrap(),
        lost_packets: 0,
        dependent: false,
        clock_quality: ClockQuality::Synchronised,
        rtcp_sender_report: None,
        drift_ppm: 0,
    }
}

fn length_prefixed(nal_units: &[Vec<u8>]) -> Vec<u8> {
    let prefixed = |nal_unit: &Vec<u8>| {
        let length = u32::try_from(nal_unit.len()).unwrap().to_be_bytes();
        [&length[..], nal_unit].concat()
    };
    nal_units.iter().flat_map(prefixed).collect()
}

fn write_clip(path: &Path, segments: &[Vec<u8>]) -> ClipSummary {
    let mut clip = ClipWriter::new(BufWriter::new(fs::File::create(path).unwrap()));
    let mut start = Timestamp::from_unix_nanos(1_790_000_000_000_000_000);
    for segment in segments {
        clip.add(segment, start).unwrap();
        let read = read_segment(segment).unwrap();
        let frames: u64 = read.samples.iter().map(|sample| u64::from(sample.duration)).sum();
        start = start + Duration::from_nanos(frames * 100_000 / 9);
        for sample in read.samples {
            assert!(nal_units(&segment[sample.range]).count() > 0);
        }
    }
    clip.finish().unwrap()
}

/// Key frames every second, several slices, no B-frames, as surveillance cameras send it.
fn video(dir: &Path, source: &str) -> Video {
    let path = dir.join("source.h264");
    let x264 = "keyint=25:min-keyint=25:scenecut=0:bframes=0:slices=2:repeat-headers=1:aud=0";
    let arguments = ["-y", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "-c:v", "libx264"];
    run("ffmpeg", &[&arguments[..], &["-x264-params", x264, "-f", "h264", text(&path)]].concat());
    let nal_units = split_annex_b(&fs::read(&path).unwrap());
    let first = |kind: u8| nal_units.iter().find(|unit| unit[0] & 31 == kind).unwrap().clone();
    let size = probe(&path, "stream=width,height");
    let (width, height) = size.split_once(',').unwrap();
    let entry = sample_entry(width.parse().unwrap(), height.parse().unwrap(), &first(7), &first(8));
    Video {
        parameters: VideoParameters::from_sample_entry(entry).unwrap(),
        access_units: access_units(nal_units),
    }
}

/// Groups NAL units into pictures and leaves the parameter sets out, as an RTP receiver does.
fn access_units(nal_units: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut units: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    for nal_unit in nal_units.into_iter().filter(|unit| !matches!(unit[0] & 31, 7 | 8)) {
        let is_slice = |unit: &[u8]| matches!(unit[0] & 31, 1 | 5);
        let begins_picture = if is_slice(&nal_unit) { nal_unit[1] & 0x80 != 0 } else { true };
        let unit = units.last_mut().unwrap();
        if begins_picture && unit.iter().any(|unit| is_slice(unit)) {
            units.push(Vec::new());
        }
        units.last_mut().unwrap().push(nal_unit);
    }
    units
}

fn split_annex_b(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        (0..stream.len().saturating_sub(2)).filter(|&at| stream[at..at + 3] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let trimmed = |unit: &[u8]| {
        let length = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        unit[..length].to_vec()
    };
    starts.iter().zip(ends).map(|(start, end)| trimmed(&stream[start + 3..end])).collect()
}

/// All NAL units of a file as FFmpeg gives them, without the parameter sets that it repeats.
fn nal_units_by_ffmpeg(path: &Path) -> Vec<Vec<u8>> {
    let out = path.with_extension("h264");
    let filter = "h264_mp4toannexb,filter_units=remove_types=7-8";
    run("ffmpeg", &["-y", "-i", text(path), "-c", "copy", "-bsf:v", filter, "-f", "h264", text(&out)]);
    split_annex_b(&fs::read(out).unwrap())
}

fn assert_decodes(path: &Path, frames: usize) {
    assert_eq!(probe(path, "stream=nb_read_frames"), frames.to_string());
    let complaints = run(
        "ffmpeg",
        &["-v", "warning", "-xerror", "-err_detect", "explode", "-i", text(path), "-f", "null", "-"],
    );
    assert_eq!(complaints, "", "ffmpeg complains");
}

fn probe(path: &Path, entries: &str) -> String {
    let program = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", entries])
        .args(["-of", "csv=p=0", text(path)])
        .output()
        .expect("ffprobe (Debian package ffmpeg) is installed");
    assert!(program.status.success() && program.stderr.is_empty(), "{program:?}");
    String::from_utf8(program.stdout).unwrap().trim().trim_end_matches(',').to_owned()
}

/// Runs a program that must succeed; gives what it wrote to its standard error.
fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().expect("ffmpeg (Debian package) is installed");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {complaints}");
    complaints
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A sample entry as an RTSP client builds it from the parameter sets (ISO/IEC 14496-15 5.4.2.1).
fn sample_entry(width: u16, height: u16, sps: &[u8], pps: &[u8]) -> Bytes {
    let set = |set: &[u8]| [&u16::try_from(set.len()).unwrap().to_be_bytes()[..], set].concat();
    let configuration = [&[1, sps[1], sps[2], sps[3], 0xff, 0xe1][..], &set(sps), &[1], &set(pps)].concat();
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let resolution = [0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1];
    let visual =
        [&[0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &size, &resolution, &[0; 32], &[0, 0x18, 0xff, 0xff]]
            .concat();
    boxed(b"avc1", &[visual, boxed(b"avcC", &configuration)].concat()).into()
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len() + 8).unwrap().to_be_bytes()[..], kind, content].concat()
}
