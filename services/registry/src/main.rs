//! The registry: sites, cameras, purposes, zones and their signed snapshots.

use obscura_daemon::Daemon;
use obscura_outbox::Reporting;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("registry").await?;
    let reporting = Reporting::start(&daemon).await?;
    let router = obscura_registry::router(&daemon, reporting.outbox()).await?;
    let served = daemon.serve(router, &[]).await;
    reporting.finish().await;
    served
}
