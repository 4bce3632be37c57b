//! When a process has to end.

use std::env;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Set to `1` by the supervisor.
const SUPERVISED: &str = "OBSCURA_SUPERVISED";

/// Under a supervisor, its end is our SIGTERM, so that no recorder is left behind without one.
pub fn follow_parent() -> Result<()> {
    if env::var_os(SUPERVISED).is_none_or(|value| value != "1") {
        return Ok(());
    }
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot ask to be told when the supervisor ends")?;
    // It may have ended before the kernel knew that we wanted to know.
    if getppid() != parent {
        bail!("the supervisor ended while this process was starting");
    }
    Ok(())
}

/// Cancels `shutdown` at the first SIGTERM or SIGINT.
pub fn cancel_on_signal(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
        shutdown.cancel();
    });
    Ok(())
}
