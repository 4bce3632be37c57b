//! The cameras, watched by clients that share no code with them: FFmpeg and retina.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt;
use obscura_load_tests::cameras::Server;
use retina::{
    client::{PlayOptions, Session, SessionOptions, SetupOptions, Transport},
    codec::CodecItem,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Frames in the video, and in a group of pictures.
const FRAMES: usize = 50;
const GROUP: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffprobe_decodes_across_the_end_of_the_file() {
    let (_directory, server) = start().await;
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-rtsp_transport", "tcp", "-read_intervals", "%+4"])
        .args(["-select_streams", "v:0", "-show_entries", "frame=pkt_pts,width", "-of", "csv=p=0"])
        .arg(server.url(12))
        .output();
    let output = timeout(PATIENCE, probe).await.unwrap().expect("ffprobe (Debian package ffmpeg)");
    let frames = String::from_utf8(output.stdout).unwrap();
    let wide = frames.lines().filter(|line| line.contains("320")).count();
    assert!(wide > FRAMES + GROUP, "only {wide} frames: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retina_gets_every_frame_in_time_and_without_loss() {
    let (_directory, server) = start().await;
    let mut watching = timeout(PATIENCE, watch(&server.url(0))).await.unwrap();
    let mut timestamps = Vec::new();
    while timestamps.len() < FRAMES * 2 {
        let item = timeout(PATIENCE, watching.next()).await.unwrap().unwrap().unwrap();
        if let CodecItem::VideoFrame(frame) = item {
            assert_eq!(frame.loss(), 0);
            timestamps.push(frame.timestamp().timestamp());
        }
    }
    assert!(timestamps.windows(2).all(|pair| pair[1] - pair[0] == 3600), "{timestamps:?}");
}

#[tokio::test]
async fn every_client_gets_a_source_and_a_session_of_its_own() {
    let (_directory, server) = start().await;
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=2-3";
    let mut answers = BTreeSet::new();
    for camera in 0..5 {
        let url = format!("{}/trackID=0", server.url(camera));
        let request = format!("SETUP {url} RTSP/1.0\r\nCSeq: 9\r\n{transport}\r\n\r\n");
        let answer = ask(server.addr, request.as_bytes()).await;
        assert!(answer.starts_with("RTSP/1.0 200 OK\r\nCSeq: 9\r\n"), "{answer}");
        assert!(answer.contains("interleaved=2-3;ssrc="), "{answer}");
        answers.insert(answer);
    }
    assert_eq!(answers.len(), 5);
}

#[tokio::test]
async fn what_is_no_camera_is_not_found_and_what_is_no_rtsp_is_dropped() {
    let (_directory, server) = start().await;
    let describe = format!("DESCRIBE rtsp://{}/other RTSP/1.0\r\nCSeq: 1\r\n\r\n", server.addr);
    assert!(ask(server.addr, describe.as_bytes()).await.starts_with("RTSP/1.0 404"));
    let play = format!("PLAY rtsp://{}/cam/1 RTSP/1.0\r\nCSeq: 1\r\n\r\n", server.addr);
    assert!(ask(server.addr, play.as_bytes()).await.starts_with("RTSP/1.0 455"));
    let udp = "Transport: RTP/AVP;unicast;client_port=5000-5001";
    let setup = format!("SETUP rtsp://{}/cam/1/trackID=0 RTSP/1.0\r\nCSeq: 1\r\n{udp}\r\n\r\n", server.addr);
    assert!(ask(server.addr, setup.as_bytes()).await.starts_with("RTSP/1.0 461"));
    assert_eq!(ask(server.addr, b"GET / HTTP/1.1\r\n\r\n").await, "");
    assert_eq!(ask(server.addr, &[b'x'; 20_000]).await, "");
}

/// Sends bytes; gives the first answer, or nothing where the server hangs up.
async fn ask(server: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = vec![0; 4096];
    let length = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

async fn watch(url: &str) -> retina::client::Demuxed {
    let url = url::Url::parse(url).unwrap();
    let mut session = Session::describe(url, SessionOptions::default()).await.unwrap();
    let setup = SetupOptions::default().transport(Transport::Tcp(Default::default()));
    session.setup(0, setup).await.unwrap();
    session.play(PlayOptions::default()).await.unwrap().demuxed().unwrap()
}

async fn start() -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let video = video(directory.path()).await;
    let server = Server::start(&video, 25, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    (directory, server)
}

async fn video(directory: &Path) -> PathBuf {
    let path = directory.join("video.h264");
    let source = format!("testsrc=size=320x240:rate=25:duration={}", FRAMES / 25);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source, "-pix_fmt", "yuv420p", "-c:v", "libx264"])
        .args(["-x264-params", &format!("keyint={GROUP}:scenecut=0:bframes=0:repeat-headers=1:aud=1")])
        .args(["-f", "h264"])
        .arg(&path)
        .status()
        .await;
    assert!(status.expect("ffmpeg (Debian package) is installed").success());
    path
}
