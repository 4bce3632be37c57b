//! When this program is asked to end: Ctrl-C, SIGTERM, and a terminal that is closed (SIGHUP).

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::problem::{Context as _, Result};

/// Cancelled by the first SIGTERM, SIGINT or SIGHUP; not by a SIGHUP that is ignored, as under `nohup`, which asks for
/// the work to go on without its terminal.
pub fn ending() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).doing("wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).doing("wait for signals")?;
    let mut hangup = hangup()?;
    let ending = CancellationToken::new();
    let told = ending.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            Some(()) = next(&mut hangup) => {}
        }
        told.cancel();
    });
    Ok(ending)
}

fn hangup() -> Result<Option<Signal>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let heeded = !ignores(&status, SignalKind::hangup());
    heeded.then(|| signal(SignalKind::hangup())).transpose().doing("wait for signals")
}

async fn next(signal: &mut Option<Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// Whether a process with this status (proc(5), `SigIgn`: a mask of signals from 1 on) ignores a signal.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let bit = u32::try_from(kind.as_raw_value()).ok().and_then(|number| number.checked_sub(1));
    bit.and_then(|bit| mask.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_closed_terminal_asks_a_program_to_end() {
        // Not ignored from here on, whatever started the tests.
        let _heeded = signal(SignalKind::hangup()).unwrap();
        let ending = ending().unwrap();
        assert!(!ending.is_cancelled());
        kill_process(getpid(), Signal::HUP).unwrap();
        ending.cancelled().await;
    }

    #[test]
    fn a_program_that_was_started_to_outlive_its_terminal_is_known() {
        let status =
            |mask: &str| format!("Name:\tobscura\nSigBlk:\t00000001\nSigIgn:\t{mask}\nSigCgt:\t00000001\n");
        assert!(ignores(&status("0000000000000001"), SignalKind::hangup()));
        assert!(ignores(&status("0000000000001003"), SignalKind::interrupt()));
        assert!(!ignores(&status("0000000000001002"), SignalKind::hangup()));
        assert!(!ignores("", SignalKind::hangup()) && !ignores("SigIgn:\tx", SignalKind::hangup()));
    }
}
