//! N cameras from one process: `rtsp://<address>/cam/<n>` for every n.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Parser;
use obscura_load_tests::cameras::Server;
use tokio::signal::unix::{SignalKind, signal};

/// Loops one H.264 file to any number of RTSP/TCP clients on 127.0.0.1, at very low cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// H.264 in Annex B format, for example from: ffmpeg -i clip.mp4 -an -c:v libx264 -bf 0 clip.h264
    #[arg(long)]
    file: PathBuf,
    /// Frames a second.
    #[arg(long, default_value_t = 25)]
    fps: u32,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write host:port once the server listens.
    #[arg(long)]
    address_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let server = Server::start(&arguments.file, arguments.fps, listen).await?;
    if let Some(file) = &arguments.address_file {
        write_atomically(file, &format!("{}\n", server.addr))
            .with_context(|| format!("address file {} cannot be written", file.display()))?;
    }
    eprintln!("cameras at {} and so on", server.url(0));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Whoever waits for the file finds either nothing or the whole address.
fn write_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, path)
}
