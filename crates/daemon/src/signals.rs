//! When a process has to end.

use std::env;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Set to its process id by the supervisor.
const SUPERVISOR: &str = "OBSCURA_SUPERVISOR";

/// Under a supervisor, its end is our SIGTERM, so that no recorder is left behind without one.
pub fn follow_parent() -> Result<()> {
    let Some(supervisor) = env::var_os(SUPERVISOR) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot ask to be told when the supervisor ends")?;
    // It may have ended before the kernel knew that we wanted to know.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    if parent.is_none_or(|parent| supervisor != *parent) {
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
