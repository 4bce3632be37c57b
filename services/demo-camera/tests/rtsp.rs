//! The real binary, watched by FFmpeg.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

/// How often a stream is looked at before what it shows is believed to be wrong.
const LOOKS: usize = 5;

/// A running camera; ends with the test.
struct Camera {
    child: Child,
    address: String,
    directory: tempfile::TempDir,
}

impl Camera {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("videos")).unwrap();
        fs::write(directory.path().join("password"), "correct-horse\n").unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_obscura-demo-camera"))
            .args(["--address-file", "address", "--videos", "videos", "--width", "320", "--height", "180"])
            .args(arguments)
            .current_dir(directory.path())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut camera = Self { child, address: String::new(), directory };
        camera.address = camera.wait_for("the address", |directory| {
            fs::read_to_string(directory.join("address")).ok().map(|line| line.trim().to_owned())
        });
        camera
    }

    fn url(&self, user: &str, path: &str) -> String {
        format!("rtsp://{user}{}{path}", self.address)
    }

    fn add_video(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.path().join("videos").join(name), bytes).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn wait_for<T>(&self, what: &str, look: impl Fn(&Path) -> Option<T>) -> T {
        wait_for(what, || look(self.directory.path()))
            .unwrap_or_else(|error| panic!("{error}; the log of the camera:\n{}", self.log()))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_scene_needs_the_right_password() {
    for method in ["digest", "basic"] {
        let arguments = ["--user", "viewer", "--password-file", "password", "--auth", method];
        let camera = Camera::start(&arguments);
        let right =
            probe(&camera.url("viewer:correct-horse@", "/scene"), "tcp", "stream=codec_name,width,height");
        assert_eq!(text(&right.stdout), "h264,320,180", "{method}: {}", text(&right.stderr));
        for user in ["viewer:wrong@", ""] {
            let wrong = probe(&camera.url(user, "/scene"), "tcp", "stream=codec_name");
            assert!(text(&wrong.stderr).contains("401"), "{method}: {}", text(&wrong.stderr));
        }
        assert!(!camera.log().contains("correct-horse"));
    }
}

#[test]
fn the_scene_comes_over_udp_and_announces_its_parameter_sets() {
    let camera = Camera::start(&[]);
    let output = probe(&camera.url("", "/scene"), "udp", "stream=profile,width");
    assert_eq!(text(&output.stdout), "Main,320", "{}", text(&output.stderr));
    let sdp = describe(&camera.address, "/scene");
    assert!(sdp.contains("sprop-parameter-sets="), "{sdp}");
}

#[test]
fn a_short_video_goes_on_across_its_end_without_a_jump_in_time() {
    let camera = Camera::start(&[]);
    for name in ["loop.mp4", "raw.h264"] {
        camera.add_video(name, &video(camera.directory.path(), name));
    }
    for path in ["/video/loop", "/video/raw"] {
        camera.wait_for(path, |_| camera.log().contains(path).then_some(()));
        // A camera that the machine held up jumps to where it would be: then another look. What jumps at the end
        // of a file does so three times in every look.
        let jumps = || {
            let times = packet_times(&camera.url("", path), 6);
            let steps: Vec<f64> =
                times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one).collect();
            let smooth = times.len() > 60 && steps.iter().all(|step| (0.01..0.2).contains(step));
            (!smooth).then_some(steps)
        };
        let looks: Vec<_> = (0..LOOKS).map_while(|_| jumps()).collect();
        assert!(looks.len() < LOOKS, "{path}: {looks:?}");
    }
}

#[test]
fn a_broken_video_is_named_in_the_log_and_the_rest_goes_on() {
    let camera = Camera::start(&[]);
    camera.add_video("broken.mp4", b"this is no video");
    camera.add_video("no url.mp4", b"x");
    camera.add_video("good.mp4", &video(camera.directory.path(), "good.mp4"));
    camera.wait_for("/video/good", |_| camera.log().contains("/video/good").then_some(()));
    camera.wait_for("a complaint", |_| camera.log().contains("broken.mp4").then_some(()));
    camera.wait_for("another one", |_| camera.log().contains("no url.mp4").then_some(()));
    let broken = probe(&camera.url("", "/video/broken"), "tcp", "stream=width");
    assert!(text(&broken.stderr).contains("404"), "{}", text(&broken.stderr));
    let good = probe(&camera.url("", "/video/good"), "tcp", "stream=width");
    assert_eq!(text(&good.stdout), "176", "{}", text(&good.stderr));
}

#[test]
fn the_camera_ends_in_peace_when_told() {
    let mut camera = Camera::start(&[]);
    let pid = camera.child.id();
    signal("-TERM", &pid.to_string());
    camera.wait_for("the end", |_| has_ended(&pid.to_string()));
    assert!(camera.child.wait().unwrap().success(), "{}", camera.log());
}

#[test]
fn a_supervised_camera_does_not_outlive_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let camera = env!("CARGO_BIN_EXE_obscura-demo-camera");
    let script = format!("OBSCURA_SUPERVISOR=$$ {camera} --address-file address & echo $! >pid; wait");
    let mut parent = Command::new("sh").args(["-c", &script]).current_dir(directory.path()).spawn().unwrap();
    wait_for("the address", || fs::read_to_string(directory.path().join("address")).ok()).unwrap();
    let written = || fs::read_to_string(directory.path().join("pid")).ok().filter(|pid| pid.ends_with('\n'));
    let pid = wait_for("the number of the camera", written).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_for("the end", || has_ended(pid.trim())).unwrap();
}

/// Whether a process is gone, or has ended and only its parent does not know yet.
fn has_ended(pid: &str) -> Option<()> {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    (state.is_empty() || state.contains(") Z ")).then_some(())
}

fn signal(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

/// Looks ten times a second, for a minute at most.
fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> Result<T, String> {
    for _ in 0..600 {
        if let Some(found) = look() {
            return Ok(found);
        }
        sleep(Duration::from_millis(100));
    }
    Err(format!("{what} did not come within a minute"))
}

/// Two seconds of H.264 of 176x144 at 25 frames a second.
fn video(directory: &Path, name: &str) -> Vec<u8> {
    let path = directory.join(format!("made-{name}"));
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc=size=176x144:rate=25:duration=2"])
        .args(["-pix_fmt", "yuv420p", "-c:v", "libx264"])
        .arg(&path)
        .output()
        .expect("ffmpeg (Debian package) is installed");
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::read(path).unwrap()
}

fn probe(url: &str, transport: &str, entries: &str) -> Output {
    Command::new("ffprobe")
        .args(["-v", "error", "-rtsp_transport", transport, "-show_entries", entries, "-of", "csv=p=0", url])
        .stdin(Stdio::null())
        .output()
        .expect("ffprobe (Debian package ffmpeg) is installed")
}

/// Presentation times of the packets of so many seconds.
fn packet_times(url: &str, seconds: u32) -> Vec<f64> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-rtsp_transport", "tcp", "-i", url, "-t", &seconds.to_string()])
        .args(["-c", "copy", "-copyts", "-f", "framehash", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg (Debian package) is installed");
    let lines = text(&output.stdout);
    let rows = lines.lines().filter(|line| !line.starts_with('#'));
    // stream, dts, pts, duration, size, hash; times in 1/90000 s
    rows.filter_map(|row| row.split(',').nth(1)?.trim().parse::<f64>().ok())
        .map(|time| time / 90_000.0)
        .collect()
}

/// The answer to a DESCRIBE request.
fn describe(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request =
        format!("DESCRIBE rtsp://{address}{path} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while !is_whole(&String::from_utf8_lossy(&answer)) {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "the camera hung up: {}", text(&answer));
        answer.extend_from_slice(piece.get(..length).unwrap_or_default());
    }
    text(&answer)
}

/// Whether an answer has its head and as much of a body as that announces.
fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let announced = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    announced.is_none_or(|length| body.len() >= length.trim().parse().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
