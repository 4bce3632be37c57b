//! What the audit log hears of a viewing: that it begins, every 15 minutes that it goes on, and that it ends, with
//! the spans that were really released since the event before.
//!
//! A span counts as released from just before its segment is handed to whoever asked for it, opened. What was
//! fetched or opened and then handed to nobody is not among them; that its keys were released is an event of `keys`
//! (`key.released`), which is durable before this program has them. So a program that dies in the middle of a viewing
//! leaves that event and the opening here, and lacks the closing.
//!
//! Nothing is released without the log: where an event is due and is not taken, reading ends.

use std::{pin::pin, time::Duration};

use obscura_clock::{Monotonic, SharedClock, Span};
use obscura_proto::audit::v1::{View, view::Phase};
use tokio::time::sleep;

use super::{find::span_message, interrupt::Interrupt};
use crate::{log::Log, problem::Result};

/// How often a viewing that goes on is told (`audit.proto`, `View.Phase`).
const INTERVAL: Duration = Duration::from_mins(15);
/// Most spans of one event: the log takes no more (`crates/ocsf`, `view.released`).
const MAX_SPANS: usize = 400;
/// How often the clock is looked at while something else is waited for.
const POLL: Duration = Duration::from_secs(1);

/// Takes events about a viewing.
pub trait Tell {
    /// Returns once the event is durable.
    ///
    /// # Errors
    /// Where it may not be: what it tells of must not go on.
    fn tell(&self, view: View) -> impl Future<Output = Result<()>>;
}

impl Tell for Log<'_> {
    async fn tell(&self, view: View) -> Result<()> {
        self.view(view).await.map(drop)
    }
}

/// A viewing that goes on. It ends with [`Viewing::close`], however it went.
#[derive(Debug)]
pub struct Viewing<'a, T> {
    log: &'a T,
    clock: SharedClock,
    interrupt: &'a Interrupt,
    /// Grant, camera, layer and releaser.
    about: View,
    /// Released since the last event, in the order of release.
    released: Vec<Span>,
    /// When the last event was told.
    told: Monotonic,
}

impl<'a, T: Tell> Viewing<'a, T> {
    /// Tells that it begins; `about` says under which grant, of which camera, and who releases.
    pub async fn open(log: &'a T, clock: SharedClock, interrupt: &'a Interrupt, about: View) -> Result<Self> {
        let told = clock.monotonic();
        let mut viewing = Self { log, clock, interrupt, about, released: Vec::new(), told };
        viewing.tell(Phase::Open).await?;
        Ok(viewing)
    }

    /// Waits for something that releases nothing, and meanwhile tells what is due. The work is dropped where the log
    /// does not take that, and where the program is asked to end.
    pub async fn during<W: Future>(&mut self, work: W) -> Result<W::Output> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.interrupt.asked() => return Err(Interrupt::problem()),
                done = &mut work => return Ok(done),
                () = self.due() => self.tell(Phase::Ongoing).await?,
            }
        }
    }

    /// Call just before the footage of this span is handed out: it is in the next event.
    pub async fn release(&mut self, span: Span) -> Result<()> {
        // What is shown in an instant is seen too.
        let span = Span::try_new(span.start(), span.end().max(span.start() + Duration::from_nanos(1)));
        let Some(span) = span else { return Ok(()) };
        let joined = self.released.last().and_then(|last| joined(*last, span));
        if self.is_due() || (joined.is_none() && self.released.len() >= MAX_SPANS) {
            self.tell(Phase::Ongoing).await?;
            self.released.push(span);
            return Ok(());
        }
        match (joined, self.released.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => self.released.push(span),
        }
        Ok(())
    }

    /// Tells that it ended, and hands on how it went.
    ///
    /// # Errors
    /// What ended it, else why the log does not take the end.
    pub async fn close<R>(mut self, outcome: Result<R>) -> Result<R> {
        let closed = self.tell(Phase::Close).await;
        let done = outcome?;
        closed.map(|()| done)
    }

    /// What is not taken stays for the next event.
    async fn tell(&mut self, phase: Phase) -> Result<()> {
        let released = self.released.iter().map(|span| span_message(*span)).collect();
        let now = self.clock.monotonic();
        self.log.tell(View { phase: phase.into(), released, ..self.about.clone() }).await?;
        self.released.clear();
        self.told = now;
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.clock.monotonic().since(self.told) >= INTERVAL
    }

    async fn due(&self) {
        while !self.is_due() {
            sleep(POLL).await;
        }
    }
}

/// Both as one, where nothing lies between them.
fn joined(one: Span, other: Span) -> Option<Span> {
    let touch = one.start() <= other.end() && other.start() <= one.end();
    touch.then(|| Span::try_new(one.start().min(other.start()), one.end().max(other.end()))).flatten()
}

#[cfg(test)]
mod tests;
