//! `obscura-ingest`: the recorder.

use obscura_daemon::Daemon;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("ingest").await?;
    let recording = obscura_ingest::start(&daemon).await?;
    let shutdown = daemon.shutdown.clone();
    let router = recording.router.clone();
    let served = daemon.serve(router, &[]).await;
    shutdown.cancel();
    recording.finish().await?;
    served
}
