//! Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP) while footage is read: viewings are closed before the program
//! ends. Of what kills it without a word (SIGKILL, a power cut) the log has the opening and what `keys` released.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    problem::{Context as _, Problem, Result},
    up::ending,
};

/// Whether the program was asked to end, and how many viewings still have to be closed.
#[derive(Clone, Debug)]
pub struct Interrupt {
    asked: CancellationToken,
    viewings: Arc<watch::Sender<usize>>,
}

/// A viewing that has to be closed before the program ends.
#[derive(Debug)]
pub struct Unclosed<'a>(&'a Interrupt);

impl Interrupt {
    /// One that comes when the token is cancelled.
    pub fn of(asked: CancellationToken) -> Self {
        Self { asked, viewings: Arc::new(watch::Sender::new(0)) }
    }

    /// One that never comes: a signal ends the program at once.
    pub fn never() -> Self {
        Self::of(CancellationToken::new())
    }

    /// Does work that reads footage, until it is done or a signal comes. Then viewings are closed first, and the work
    /// is dropped with its temporary files.
    pub async fn watch<T>(work: impl AsyncFnOnce(Self) -> Result<T>) -> Result<T> {
        let asked = ending()?;
        hung_up(asked.clone())?;
        let interrupt = Self::of(asked);
        interrupt.clone().unless(work(interrupt)).await
    }

    async fn unless<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.asked_and_closed() => Err(Self::problem()),
        }
    }

    /// Returns when the program is asked to end.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    async fn asked_and_closed(&self) {
        self.asked.cancelled().await;
        // Fails only where the sender is gone, and it is here.
        let _ = self.viewings.subscribe().wait_for(|open| *open == 0).await;
    }

    /// The program waits for the end of what this returns.
    pub fn unclosed(&self) -> Unclosed<'_> {
        self.viewings.send_modify(|open| *open += 1);
        Unclosed(self)
    }

    /// What a person is told who pressed Ctrl-C.
    pub fn problem() -> Problem {
        Problem::new("interrupted before its end")
    }
}

/// Cancels the token once the terminal is closed; not under `nohup`, which asks for the work to go on then.
fn hung_up(asked: CancellationToken) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !ignores(&status, SignalKind::hangup()) {
        let mut hangup = signal(SignalKind::hangup()).doing("wait for signals")?;
        tokio::spawn(async move {
            if hangup.recv().await.is_some() {
                asked.cancel();
            }
        });
    }
    Ok(())
}

/// Whether a process with this status (proc(5), `SigIgn`: a mask of signals from 1 on) ignores a signal.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let bit = u32::try_from(kind.as_raw_value()).ok().and_then(|number| number.checked_sub(1));
    bit.and_then(|bit| mask.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
}

impl Drop for Unclosed<'_> {
    fn drop(&mut self) {
        self.0.viewings.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_work_at_once_but_waits_for_a_viewing_to_be_closed() {
        let asked = CancellationToken::new();
        let interrupt = Interrupt::of(asked.clone());
        let (closed, is_closed) = watch::channel(false);
        let viewing = async {
            let unclosed = interrupt.unclosed();
            asked.cancel();
            sleep(Duration::from_secs(5)).await;
            closed.send_replace(true);
            drop(unclosed);
            std::future::pending().await
        };
        let ended: Result<()> = interrupt.clone().unless(viewing).await;
        assert!(ended.unwrap_err().what().contains("interrupted"));
        assert!(*is_closed.borrow(), "the viewing was closed first");
        let idle: Result<()> = interrupt.clone().unless(std::future::pending()).await;
        assert!(idle.is_err());
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

    #[tokio::test]
    async fn work_that_is_done_is_done() {
        let interrupt = Interrupt::never();
        assert_eq!(interrupt.clone().unless(async { Ok(7) }).await.unwrap(), 7);
    }
}
