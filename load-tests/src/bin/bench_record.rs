//! CPU and memory per stream of everything that records, beside one `ffmpeg -c copy` per camera.
//!
//! N RTSP/TCP cameras of 1080p25 at 3 Mbit/s come from one process that is not counted. Counted is
//! all of Obscura: supervisor, recorder with sealing, hashing and upload, storage with its index,
//! keys and registry. Memory per stream is the slope between N and 2N.

#![expect(clippy::indexing_slicing, reason = "a panic in a test or bench is a failure with a line number")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use indicatif::ProgressBar;
use obscura_journeys::{Installation, program, target_dir, wait_for};
use obscura_load_tests::{
    processes::{Cost, cost, memory, tree},
    report::Line,
};
use serde_json::json;

/// Measure what recording costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Number of cameras N; memory is also measured at 2N
    #[arg(long, default_value_t = 100)]
    streams: u32,
    /// Seconds to wait before measuring, so that packs are on their way
    #[arg(long, default_value_t = 75)]
    warm_up: u64,
    /// Seconds to measure
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Do not run the peer
    #[arg(long)]
    alone: bool,
    /// Do not measure at 2N
    #[arg(long)]
    once: bool,
}

struct Measured {
    cpu_percent_per_stream: f64,
    rss_mib: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = target_dir().join("bench");
    fs::create_dir_all(&folder)?;
    let clip = clip(&folder)?;
    let n = arguments.streams;
    let ours = obscura(&arguments, &clip, n)?;
    let ours_double = if arguments.once { None } else { Some(obscura(&arguments, &clip, 2 * n)?) };
    let (mut peer, mut peer_double) = (None, None);
    if !arguments.alone {
        peer = Some(ffmpeg(&arguments, &clip, n, &folder)?);
        peer_double = if arguments.once { None } else { Some(ffmpeg(&arguments, &clip, 2 * n, &folder)?) };
    }
    let params = json!({ "streams": n, "seconds": arguments.seconds, "video": "1080p25 3 Mbit/s H.264 over RTSP/TCP" });
    let line = |metric, unit, value, peer_value: Option<f64>, params| {
        let peer = peer_value.is_some().then_some("ffmpeg -c copy");
        Line { bench: "record", metric, value, unit, peer, peer_value, params }.print();
    };
    let cpu = |measured: &Measured| measured.cpu_percent_per_stream;
    line("cpu_percent_per_stream", "% of a core", cpu(&ours), peer.as_ref().map(cpu), params.clone());
    if let Some(double) = &ours_double {
        let twice = json!({ "streams": 2 * n, "seconds": arguments.seconds });
        line("cpu_percent_per_stream", "% of a core", cpu(double), peer_double.as_ref().map(cpu), twice);
        let slope = |one: &Measured, two: &Measured| (two.rss_mib - one.rss_mib) / f64::from(n);
        let peer_slope = peer.as_ref().zip(peer_double.as_ref()).map(|(one, two)| slope(one, two));
        line("rss_mib_per_stream", "MiB", slope(&ours, double), peer_slope, params);
    }
    Ok(())
}

/// Ten seconds of 1080p25 at a constant 3 Mbit/s with a key frame every two seconds.
fn clip(folder: &Path) -> Result<PathBuf> {
    let clip = folder.join("1080p25-3M-2s.h264");
    if clip.is_file() {
        return Ok(clip);
    }
    let part = folder.join("part.h264");
    let status = Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=1920x1080:rate=25:duration=10",
        ])
        .args([
            "-vf",
            "noise=alls=12:allf=t",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-tune",
            "zerolatency",
        ])
        .args([
            "-profile:v",
            "main",
            "-bf",
            "0",
            "-g",
            "50",
            "-b:v",
            "3M",
            "-minrate",
            "3M",
            "-maxrate",
            "3M",
        ])
        .args(["-bufsize", "3M", "-x264-params", "nal-hrd=cbr:scenecut=0", "-pix_fmt", "yuv420p"])
        .arg(&part)
        .status()
        .context("ffmpeg makes the clip; `tools/need.sh test` installs it")?;
    ensure!(status.success(), "ffmpeg could not make the clip");
    fs::rename(part, &clip)?;
    Ok(clip)
}

/// Cameras in a process of their own, which is not counted.
struct Cameras {
    child: Child,
    address: String,
}

impl Cameras {
    fn start(clip: &Path) -> Result<Self> {
        let address_file = clip.with_extension("address");
        let _ = fs::remove_file(&address_file);
        let child = Command::new(program("rtsp_cameras"))
            .arg("--file")
            .arg(clip)
            .args(["--fps", "25", "--port", "0", "--address-file"])
            .arg(&address_file)
            .stdout(Stdio::null())
            .spawn()?;
        let address = wait_for("the cameras", || fs::read_to_string(&address_file).ok());
        Ok(Self { child, address: address.trim().to_owned() })
    }

    fn url(&self, n: u32) -> String {
        format!("rtsp://{}/cam/{n}", self.address)
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn obscura(arguments: &Arguments, clip: &Path, streams: u32) -> Result<Measured> {
    let cameras = Cameras::start(clip)?;
    let installation = Installation::start();
    installation.add_site();
    let bar = ProgressBar::new(streams.into()).with_message("adding cameras");
    for n in 0..streams {
        installation.add_camera(&format!("camera-{n}"), &cameras.url(n), &["--untested", "--owner", "bench"]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    wait_for("every camera to record", || {
        let status = installation.status();
        let recording =
            status["cameras"].as_array()?.iter().filter(|camera| camera["recording"] == true).count();
        (recording == streams as usize).then_some(())
    });
    let measured = measure(arguments, "obscura", streams, || tree(installation.supervisor_pid()));
    let lost = lost_packets(&installation);
    let gaps = gaps(&installation, streams)?;
    eprintln!("obscura at {streams} streams: {lost} packets lost, {gaps} gaps");
    Ok(measured)
}

/// Gaps in all recordings: on a machine that keeps up there is none.
fn gaps(installation: &Installation, streams: u32) -> Result<usize> {
    let mut gaps = 0;
    for n in 0..streams {
        let listed = installation.must(&["recording", "list", &format!("camera-{n}"), "--json"]).json();
        let lines = listed.as_array().context("`recording list --json` prints an array")?;
        gaps += lines.iter().filter(|line| line["kind"] == "gap").count();
    }
    Ok(gaps)
}

fn lost_packets(installation: &Installation) -> u64 {
    let status = installation.status();
    let cameras = status["cameras"].as_array().cloned().unwrap_or_default();
    cameras.iter().filter_map(|camera| camera["packets_lost"].as_u64()).sum()
}

fn ffmpeg(arguments: &Arguments, clip: &Path, streams: u32, folder: &Path) -> Result<Measured> {
    let cameras = Cameras::start(clip)?;
    let out = folder.join("ffmpeg");
    fs::create_dir_all(&out)?;
    let mut children = Vec::new();
    for n in 0..streams {
        let child = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-y", "-rtsp_transport", "tcp", "-i", &cameras.url(n), "-c", "copy"])
            .arg(out.join(format!("{n}.mp4")))
            .stdin(Stdio::null())
            .spawn()?;
        children.push(child);
    }
    let measured = measure(arguments, "ffmpeg", streams, || children.iter().map(Child::id).collect());
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
    fs::remove_dir_all(out)?;
    Ok(measured)
}

fn measure(arguments: &Arguments, what: &str, streams: u32, pids: impl Fn() -> Vec<u32>) -> Measured {
    let rss = || cost(&pids()).rss_mib;
    let peak = watch(&format!("{what}: warming up"), arguments.warm_up, 0.0, rss);
    let before: Cost = cost(&pids());
    let peak = watch(&format!("{what}: measuring"), arguments.seconds, peak, rss);
    let after: Cost = cost(&pids());
    let seconds = Duration::from_secs(arguments.seconds).as_secs_f64();
    let cpu_percent = (after.cpu_seconds - before.cpu_seconds) / seconds * 100.0;
    eprintln!(
        "{what} at {streams} streams: {cpu_percent:.1} % of a core, {:.0} MiB in {} processes, at most {peak:.0}",
        after.rss_mib, after.processes
    );
    for (program, mib) in memory(&pids()).into_iter().take(5) {
        eprintln!("  {program}: {mib:.0} MiB");
    }
    Measured { cpu_percent_per_stream: cpu_percent / f64::from(streams), rss_mib: after.rss_mib }
}

/// Waits, and gives back the most that was measured meanwhile, once a second, or before.
fn watch(what: &str, seconds: u64, most: f64, measure: impl Fn() -> f64) -> f64 {
    let bar = ProgressBar::new(seconds).with_message(what.to_owned());
    let mut most = most;
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        most = most.max(measure());
        bar.inc(1);
    }
    bar.finish_and_clear();
    most
}
