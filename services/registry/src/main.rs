//! The registry: sites, cameras, purposes, zones and their signed snapshots.

use obscura_daemon::Daemon;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("registry").await?;
    let router = obscura_registry::router(&daemon).await?;
    daemon.serve(router, &[]).await
}
