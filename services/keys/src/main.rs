//! The key service: see the library.

use obscura_daemon::Daemon;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("keys").await?;
    let router = obscura_keys::router(&daemon).await?;
    daemon.serve(router, &[]).await
}
