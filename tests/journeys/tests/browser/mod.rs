//! A real browser that plays a clip: Chromium without a window, a page with one `<video>`, and what it says about it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

/// How long starting and playing may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

const PAGE: &str = r"<!doctype html><video muted src='/clip.mp4'></video><script>
const video = document.querySelector('video');
const tell = (end) => fetch('/played?' + encodeURIComponent(JSON.stringify({
  end, error: video.error && video.error.message, width: video.videoWidth, height: video.videoHeight,
  seconds: video.duration, at: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames })));
video.onended = () => tell('ended');
video.onerror = () => tell('error');
video.playbackRate = 4;
video.play().catch((refused) => tell(String(refused)));
</script>";

/// Ends with the test.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Plays the clip to its end, and answers what the browser says of it.
pub fn play(clip: &Path) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (clip, (tell, told)) = (fs::read(clip).unwrap(), mpsc::channel());
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &clip, &tell)));
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--autoplay-policy=no-user-gesture-required", "--mute-audio"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
    let _browser = Browser(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    told.recv_timeout(PATIENCE).unwrap()
}

fn answer(mut stream: TcpStream, clip: &[u8], tell: &mpsc::Sender<Value>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let (kind, body) = match target.split_once('?') {
        Some(("/played", said)) => {
            let said = decoded(said);
            let _ = tell.send(serde_json::from_str(&said).unwrap());
            ("text/plain", &b""[..])
        }
        _ if target == "/clip.mp4" => ("video/mp4", clip),
        _ => ("text/html", PAGE.as_bytes()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // A browser that has seen enough closes the connection.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// What `encodeURIComponent` made of a text.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
