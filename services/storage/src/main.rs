//! The storage service: see the library.

use obscura_daemon::Daemon;
use obscura_outbox::Reporting;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("storage").await?;
    let reporting = Reporting::start(&daemon).await?;
    let router = obscura_storage::router(&daemon, reporting.outbox()).await?;
    let served = daemon.serve(router, obscura_storage::ROUTES).await;
    reporting.finish().await;
    served
}
