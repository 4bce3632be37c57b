//! The key service: see the library.

use std::sync::Arc;

use obscura_daemon::Daemon;
use obscura_outbox::Reporting;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("keys").await?;
    let reporting = Arc::new(Reporting::start_after(&daemon, obscura_keys::on_old(&daemon)).await?);
    let router = obscura_keys::router(&daemon, &reporting).await?;
    let served = daemon.serve(router, &[]).await;
    reporting.finish().await;
    served
}
