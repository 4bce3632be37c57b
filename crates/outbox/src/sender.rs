//! The task that sends what waits, in order, for ever.

use std::sync::Arc;

use tokio::time;
use uuid::Uuid;

use crate::{AuditLog, Error, MAX_BATCH_EVENTS, OnOld, backoff::Backoff, outbox::Shared};

/// Sends until it is aborted. A log that is away is tried again after 0.1 to 30 s.
pub async fn run(shared: Arc<Shared>, log: AuditLog, on_old: OnOld) {
    let mut sender = Sender { shared, log, limit: MAX_BATCH_EVENTS, asked: None, on_old };
    let mut backoff = Backoff::new();
    loop {
        match sender.step().await {
            Ok(()) => backoff = Backoff::new(),
            Err(trouble) => {
                let wait = backoff.wait();
                trouble.log(wait);
                time::sleep(wait).await;
            }
        }
    }
}

/// Why the next attempt is to wait.
enum Trouble {
    Log(Error),
    /// It answered, and took nothing.
    NoProgress,
    /// That the file is old could not be written down.
    Old(std::io::Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Log(error)
    }
}

impl Trouble {
    fn log(&self, wait: time::Duration) {
        match self {
            Self::Log(Error::Unavailable(status)) => {
                tracing::info!(code = ?status.code(), ?wait, "audit log away; events wait in the outbox");
            }
            Self::Log(error) => tracing::warn!(%error, ?wait, "the audit log does not take events"),
            Self::Old(error) => tracing::error!(%error, ?wait, "an old outbox cannot begin anew"),
            Self::NoProgress => tracing::warn!(?wait, "the audit log acknowledged none of the events"),
        }
    }
}

struct Sender {
    shared: Arc<Shared>,
    log: AuditLog,
    /// Most events of the next batch: smaller while one that the log refuses is looked for.
    limit: usize,
    /// The outbox of which the log said how far it is.
    asked: Option<Uuid>,
    on_old: OnOld,
}

impl Sender {
    async fn step(&mut self) -> Result<(), Trouble> {
        let outbox = self.shared.lock().queue.outbox();
        if self.asked == Some(outbox) { self.send(outbox).await } else { self.ask(outbox).await }
    }

    /// Before anything is sent: if the log knows more than the file did, the file is an old one, and
    /// its next counters would look to the log like events that it already has.
    async fn ask(&mut self, outbox: Uuid) -> Result<(), Trouble> {
        let through = self.log.report(outbox.to_string(), Vec::new()).await?;
        if through > self.shared.lock().queue.recovered() {
            tracing::error!(
                "the file of the audit outbox is older than what the log knows: was it restored?"
            );
            (self.on_old)().map_err(Trouble::Old)?;
            self.shared.start_over();
        } else {
            self.shared.acknowledge(through);
            self.asked = Some(outbox);
            self.shared.compared();
        }
        Ok(())
    }

    async fn send(&mut self, outbox: Uuid) -> Result<(), Trouble> {
        let batch = self.shared.batch(self.limit).await;
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let (first, last, events) = (first.0, last.0, batch.len());
        match self.log.report(outbox.to_string(), batch).await {
            Ok(through) => {
                self.limit = (self.limit * 2).min(MAX_BATCH_EVENTS);
                // It cannot know what was never sent.
                let freed = self.shared.acknowledge(through.min(last));
                if freed > 0 { Ok(()) } else { Err(Trouble::NoProgress) }
            }
            Err(error) if error.is_about_the_event() && events > 1 => {
                self.limit = events / 2;
                Ok(())
            }
            Err(error) if error.is_about_the_event() => self.give_up(first, error),
            Err(error) => Err(error.into()),
        }
    }

    /// One event alone is refused: for ever, so the log learns at least of its absence.
    fn give_up(&self, counter: u64, error: Error) -> Result<(), Trouble> {
        if !self.shared.lock().queue.replace_refused(counter) {
            return Err(error.into());
        }
        tracing::error!(counter, %error, "the audit log refuses an event; an overflow event takes its place");
        self.shared.metrics.dropped.inc();
        Ok(())
    }
}
