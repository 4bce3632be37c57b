//! The audit service: see the library.

use obscura_audit::Running;
use obscura_daemon::Daemon;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let daemon = Daemon::start("audit").await?;
    let Some(running) = Running::open(&daemon).await? else { return Ok(()) };
    let served = daemon.serve(running.router(), &[]).await;
    running.finish().await?;
    served
}
