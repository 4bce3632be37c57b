//! The demonstration, which is what the README promises.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use obscura_journeys::{Auth, TestCamera, from_a_terminal, program, wait_for};
use serde_json::Value;

fn demo(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(program("obscura")).args(["demo", "--json"]).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let summary = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said} {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), summary)
}

#[test]
fn the_demo_records_its_scene_and_reads_everything_back() {
    let (code, summary) = demo(&["--for", "12s"]);
    assert_eq!(code, Some(0), "{summary}");
    assert_eq!(
        (summary["failures"].as_u64(), summary["segments"].as_u64()),
        (Some(0), summary["verified"].as_u64())
    );
    assert!(summary["seconds_recorded"].as_f64() >= Some(9.6), "{summary}");
}

#[test]
fn the_demo_plays_a_strangers_video() {
    let folder = tempfile::TempDir::new().unwrap();
    let video = folder.path().join("clip.avi");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args([
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=768x576:rate=10:duration=4",
        "-c:v",
        "mpeg4",
    ]);
    assert!(ffmpeg.arg(&video).status().unwrap().success());
    let (code, summary) = demo(&["--for", "8s", "--video", video.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{summary}");
}

#[test]
fn the_demo_records_a_strangers_camera() {
    let camera = TestCamera::start(Auth::None);
    let (code, summary) = demo(&["--for", "10s", "--rtsp", &camera.url("/scene")]);
    assert_eq!(code, Some(0), "{summary}");
    assert!(summary["verified"].as_u64() >= Some(1), "{summary}");
}

#[test]
fn the_demo_fails_with_a_reason_where_there_is_nothing_to_record() {
    let output = Command::new(program("obscura"))
        .args(["demo", "--for", "5s", "--json", "--rtsp", "rtsp://127.0.0.1:9/nothing"])
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(0));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("cannot be reached"), "{said}");
}

/// What demonstrations have in a directory for temporary files.
fn folders(temporary: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains("obscura-demo-")).collect()
}

/// A demonstration without an end that has begun.
fn begun(temporary: &Path) -> Child {
    let mut demo = Command::new(program("obscura"));
    demo.arg("demo");
    let mut demo = from_a_terminal(&demo);
    demo.env("TMPDIR", temporary).stdout(Stdio::null()).stderr(Stdio::null());
    let child = demo.spawn().unwrap();
    let own = child.id().to_string();
    wait_for("the demonstration to begin", || {
        let locks = folders(temporary).into_iter().map(|folder| folder.join("lock"));
        locks.filter_map(|lock| fs::read_to_string(lock).ok()).any(|holder| holder == own).then_some(())
    });
    child
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn the_demo_leaves_nothing_when_its_terminal_is_closed_and_what_a_killed_one_left_goes_with_the_next() {
    let temporary = tempfile::TempDir::new().unwrap();
    let temporary = temporary.path();
    let mut closed = begun(temporary);
    signal(&closed, "-HUP");
    assert!(closed.wait().unwrap().code().is_some(), "it ends by itself");
    assert_eq!(folders(temporary), Vec::<PathBuf>::new());

    let mut killed = begun(temporary);
    signal(&killed, "-KILL");
    killed.wait().unwrap();
    let left = folders(temporary);
    assert_eq!(left.len(), 1);
    let mut next = begun(temporary);
    assert!(!left[0].exists(), "the next one removes it");
    signal(&next, "-TERM");
    next.wait().unwrap();
    assert_eq!(folders(temporary), Vec::<PathBuf>::new());
}
