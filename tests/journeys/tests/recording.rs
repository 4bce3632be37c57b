//! The main job: somebody adds a camera, it is recorded, and what is read back is what it sent.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

mod annex_b;
mod browser;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use annex_b::{frames, of_clip};
use obscura_journeys::{Auth, Installation, PASSWORD, TestCamera, USER, program, wait_for};

/// A camera that sends a file which the test knows byte for byte, over and over.
struct KnownCamera {
    child: Child,
    url: String,
}

impl KnownCamera {
    fn start(file: &Path) -> Self {
        let address = file.with_extension("address");
        let mut command = Command::new(program("rtsp_cameras"));
        command.arg("--file").arg(file).args(["--fps", "25", "--port", "0", "--address-file"]).arg(&address);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let address = wait_for("the camera's address", || fs::read_to_string(&address).ok());
        Self { child, url: format!("rtsp://{}/cam/1", address.trim()) }
    }
}

impl Drop for KnownCamera {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encode(path: &Path, options: &[&str]) {
    let mut command = Command::new("ffmpeg");
    command.args([
        "-loglevel",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=25:duration=8",
    ]);
    command.args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "50"]).args(options).arg(path);
    assert!(command.status().unwrap().success());
}

/// Whether the clip is a contiguous part of the video looped.
fn is_part_of_loop(clip: &[Vec<Vec<u8>>], video: &[Vec<Vec<u8>>]) -> bool {
    let starts = (0..video.len()).filter(|start| video[*start] == clip[0]);
    starts
        .into_iter()
        .any(|start| clip.iter().enumerate().all(|(n, frame)| *frame == video[(start + n) % video.len()]))
}

fn get(installation: &Installation, camera: &str, name: &str) -> std::path::PathBuf {
    let clip = installation.folder().join(name);
    let to = clip.to_str().unwrap();
    installation.must(&[
        "recording",
        "get",
        camera,
        "--from",
        "-30s",
        "--to",
        "now",
        "-o",
        to,
        "--reason",
        "A journey",
    ]);
    clip
}

fn record_and_compare(options: &[&str]) {
    let mut installation = Installation::start();
    let video = installation.folder().join("known.h264");
    encode(&video, options);
    let camera = KnownCamera::start(&video);
    installation.add_site();
    installation.add_camera("door", &camera.url, &[]);
    installation.camera("door", "three segments", |camera| camera["segments"].as_u64() >= Some(3));
    let clip = get(&installation, "door", "clip.mp4");
    let (sent, got) = (frames(&fs::read(&video).unwrap()), of_clip(&clip));
    assert!(got.len() >= 100, "{} frames", got.len());
    assert!(is_part_of_loop(&got, &sent), "the clip is not what the camera sent");
    let decoded = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-select_streams",
            "v",
            "-show_entries",
            "stream=nb_read_frames",
            "-of",
            "csv=p=0",
        ])
        .arg(&clip)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(decoded.stdout).unwrap().trim().parse::<usize>().unwrap(), got.len());
    assert!(decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let played = browser::play(&clip);
    assert_eq!((&played["end"], &played["error"]), (&"ended".into(), &serde_json::Value::Null), "{played}");
    assert_eq!((played["width"].as_u64(), played["height"].as_u64()), (Some(640), Some(360)), "{played}");
    assert!(played["frames"].as_u64() > Some(0), "{played}");
    installation.must(&["recording", "verify"]);
    installation.down();
}

#[test]
fn a_clip_has_exactly_the_nal_units_that_the_camera_sent() {
    record_and_compare(&["-profile:v", "main", "-bf", "0"]);
}

#[test]
fn a_stream_with_bidirectional_frames_and_several_slices_comes_back_whole_and_in_order() {
    record_and_compare(&["-profile:v", "high", "-bf", "3", "-x264-params", "slices=4"]);
}

#[test]
fn cameras_with_digest_and_basic_authentication_record_and_nothing_prints_their_password() {
    let installation = Installation::start();
    installation.add_site();
    let password = installation.folder().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let credentials = ["--username", USER, "--password-file", password.to_str().unwrap()];
    for (name, auth) in [("digest", Auth::Digest), ("basic", Auth::Basic)] {
        let camera = TestCamera::start(auth);
        installation.add_camera(name, &camera.url("/scene"), &credentials);
        installation.camera(name, "a segment", |camera| camera["segments"].as_u64() >= Some(1));
        let tested = installation.must(&["camera", "test", name]);
        assert!(tested.out.contains("640x360") || tested.err.contains("640x360"), "{tested:?}");
    }
    for everything in [vec!["status", "--json"], vec!["camera", "list", "--json"]] {
        let said = installation.must(&everything).out;
        assert!(!said.contains(PASSWORD) && !said.contains(USER), "{said}");
    }
    assert_nowhere(&installation.state(), PASSWORD.as_bytes());
}

#[test]
fn what_is_wrong_with_a_source_is_said_in_words() {
    let installation = Installation::start();
    installation.add_site();
    let camera = TestCamera::start(Auth::Digest);
    let modern = TestCamera::start_h265();
    let wrong = installation.folder().join("wrong");
    fs::write(&wrong, "not the password").unwrap();
    let right = installation.folder().join("right");
    fs::write(&right, PASSWORD).unwrap();
    let credentials = |file: &Path| ["--username".into(), USER.into(), "--password-file".into(), text(file)];
    let tried = [
        ("nobody", "rtsp://127.0.0.1:9/nothing".to_owned(), None, "nothing listens"),
        ("wrong", camera.url("/scene"), Some(&wrong), "password"),
        ("missing", camera.url("/no-such-stream"), Some(&right), "stream"),
        ("modern", modern.url("/scene"), None, "video/h265"),
    ];
    for (name, url, password, word) in tried {
        let more: Vec<String> = password.map(|file| credentials(file)).into_iter().flatten().collect();
        let add =
            ["camera", "add", name, &url, "--purpose", "Burglaries", "--legal-basis", "legitimate-interests"];
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let said = installation.refused(&[&add[..], &more].concat());
        assert!(said.contains(word) && !said.contains("not the password"), "{word}: {said}");
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// No file of the installation holds these bytes: credentials are sealed, logs do not know them. It runs, so files may
/// go while one looks.
fn assert_nowhere(folder: &Path, needle: &[u8]) {
    for entry in there(fs::read_dir(folder)).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(&path, needle);
        } else if path.is_file() {
            let bytes = there(fs::read(&path)).unwrap_or_default();
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", path.display());
        }
    }
}

/// Nothing where it is not there any more.
fn there<T>(looked: std::io::Result<T>) -> Option<T> {
    let is_gone = looked.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    (!is_gone).then(|| looked.unwrap())
}

#[test]
fn a_strangers_video_file_becomes_a_camera_with_one_command() {
    let installation = Installation::start();
    installation.add_site();
    let video = installation.folder().join("Somebody's holiday (1).mp4");
    encode(&video, &["-profile:v", "high", "-bf", "2"]);
    installation.add_camera("holiday", video.to_str().unwrap(), &[]);
    installation.camera("holiday", "two segments", |camera| camera["segments"].as_u64() >= Some(2));
    let clip = get(&installation, "holiday", "holiday.mp4");
    assert!(of_clip(&clip).len() > 25);
}

#[test]
fn a_clip_plays_in_gstreamers_demuxer_and_ffmpegs_decoder() {
    let installation = Installation::start();
    installation.add_site();
    let camera = TestCamera::start(Auth::None);
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "two segments", |camera| camera["segments"].as_u64() >= Some(2));
    let clip = get(&installation, "door", "door.mp4");
    let played = Command::new("gst-launch-1.0")
        .args([
            "-q",
            "filesrc",
            &format!("location={}", clip.display()),
            "!",
            "qtdemux",
            "!",
            "h264parse",
            "!",
            "avdec_h264",
        ])
        .args(["!", "fakesink"])
        .output()
        .unwrap();
    assert!(
        played.status.success() && played.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&played.stderr)
    );
}

#[test]
fn nothing_on_the_disk_is_clear_footage() {
    let installation = Installation::start();
    let video = installation.folder().join("known.h264");
    encode(&video, &["-profile:v", "main", "-bf", "0"]);
    let camera = KnownCamera::start(&video);
    installation.add_site();
    installation.add_camera("door", &camera.url, &[]);
    installation.camera("door", "three segments", |camera| camera["segments"].as_u64() >= Some(3));
    installation.must(&["recording", "verify"]);
    let frames = frames(&fs::read(&video).unwrap());
    let picture = frames.iter().flatten().max_by_key(|nal| nal.len()).unwrap();
    assert_nowhere(&installation.state(), &picture[100..164]);
}

/// Objects by name, oldest first: ids of packs begin with their time.
fn packs(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(packs(&path));
        } else if path.extension().is_some_and(|extension| extension == "pack") {
            found.push(path);
        }
    }
    found.sort_by_key(|path| path.file_name().unwrap().to_owned());
    found
}

#[test]
fn a_pack_that_was_dropped_is_found_by_the_audit_log_though_the_index_was_rebuilt_without_it() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = Installation::start();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    for segments in [2, 5] {
        installation.camera("door", "segments", |camera| camera["segments"].as_u64() >= Some(segments));
        installation.must(&["recording", "verify"]);
    }
    let compared = || {
        let found = installation.must(&["--json", "recording", "verify"]).json();
        found[0]["audit_log"]["packs_compared"].as_u64().unwrap()
    };
    wait_for("packs in manifests", || (compared() >= 2).then_some(()));

    installation.down();
    let data = installation.state().join("storage/data");
    fs::remove_file(&packs(&data.join("objects"))[0]).unwrap();
    for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        let _ = fs::remove_file(data.join(name));
    }
    installation.up();
    installation.must(&["storage", "reindex"]);
    let found = installation.run(&["recording", "verify", "--to", "-1s"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.out.contains("which storage does not know any more"), "{found:?}");
}

#[test]
fn a_flipped_bit_is_found_by_reading_again_and_named_to_its_chunk() {
    let camera = TestCamera::start(Auth::None);
    let installation = Installation::start();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "segments", |camera| camera["segments"].as_u64() >= Some(2));
    installation.must(&["recording", "verify"]);
    installation.must(&["storage", "scrub"]);
    let pack = &packs(&installation.state().join("storage/data/objects"))[0];
    let mut bytes = fs::read(pack).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(pack, bytes).unwrap();
    let found = installation.run(&["--json", "storage", "scrub"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    let findings = found.json()["findings"].to_string();
    let name = pack.file_stem().unwrap().to_str().unwrap().to_owned();
    assert!(findings.contains(&name) && findings.contains("chunk"), "{findings}");
}
