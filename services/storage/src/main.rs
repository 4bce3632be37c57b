//! The storage service: see the library.

use obscura_daemon::Daemon;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("storage").await?;
    let router = obscura_storage::router(&daemon, None).await?;
    daemon.serve(router, obscura_storage::ROUTES).await
}
