//! `obscura-ingest`: the recorder.

use std::sync::Arc;

use obscura_daemon::Daemon;
use obscura_outbox::Reporting;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("ingest").await?;
    let reporting = Arc::new(Reporting::start(&daemon).await?);
    let recording = obscura_ingest::start(&daemon, &reporting).await?;
    let shutdown = daemon.shutdown.clone();
    let router = recording.router.clone();
    let served = daemon.serve(router, &[]).await;
    shutdown.cancel();
    recording.finish().await?;
    reporting.finish().await;
    served
}
