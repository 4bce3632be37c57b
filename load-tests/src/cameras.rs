//! Any number of H.264 cameras from one process, at a cost that disappears beside what is measured.
//!
//! One file is cut into RTP packets once; each client gets copies of them with its own numbers, its
//! own clock and its own phase, as if it had a camera of its own. RTSP over TCP only (RFC 2326, RTP
//! interleaved as in its section 10.12; H.264 as in RFC 6184). No authentication, no RTCP.

mod client;
mod packets;
mod request;

use std::{fs, io::Read, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use packets::Video;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Largest video file, in bytes.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// Most clients at a time; more are turned away.
const MAX_CLIENTS: usize = 8192;

/// A server of cameras at `rtsp://<addr>/cam/<n>`, for every number. Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves an H.264 file in Annex B format, again and again, with so many frames a second.
    ///
    /// # Errors
    /// When the file cannot be read or is not such a video, or nobody can listen there.
    pub async fn start(file: &Path, fps: u32, listen: SocketAddr) -> anyhow::Result<Self> {
        ensure!((1..=240).contains(&fps), "{fps} frames a second: expected 1 to 240");
        let bytes = read(file).with_context(|| format!("video {} cannot be read", file.display()))?;
        let video = Video::parse(&bytes, fps).with_context(|| format!("video {}", file.display()))?;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let addr = listener.local_addr()?;
        Ok(Self { addr, accepting: tokio::spawn(accept(listener, Arc::new(video))) })
    }

    /// URL of a camera; every number has one.
    #[must_use]
    pub fn url(&self, camera: usize) -> String {
        format!("rtsp://{}/cam/{camera}", self.addr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_FILE_BYTES, "it is larger than {} MiB", MAX_FILE_BYTES >> 20);
    Ok(bytes)
}

/// Takes clients in until the task is aborted, which ends all of them.
async fn accept(listener: TcpListener, video: Arc<Video>) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if clients.len() < MAX_CLIENTS => serve(&mut clients, stream, &video),
            Ok(_) => {}
            // Out of file descriptors, most likely: some may be free in a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn serve(clients: &mut JoinSet<()>, stream: TcpStream, video: &Arc<Video>) {
    let client = client::Client::new(stream, Arc::clone(video));
    clients.spawn(async move {
        // A client that goes away, or misbehaves, is no event in a load generator.
        let _ = client.serve().await;
    });
}
