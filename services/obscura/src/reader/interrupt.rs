//! Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP) while footage is read: viewings are closed before the program
//! ends. Of what kills it without a word (SIGKILL, a power cut) the log has the opening and what `keys` released.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    ending::ending,
    problem::{Problem, Result},
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
        let interrupt = Self::of(ending()?);
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

    #[tokio::test]
    async fn work_that_is_done_is_done() {
        let interrupt = Interrupt::never();
        assert_eq!(interrupt.clone().unless(async { Ok(7) }).await.unwrap(), 7);
    }
}
