//! What this service does by itself: publish, prune, and say that it is alive.

use std::{sync::Arc, time::Duration};

use obscura_clock::Monotonic;
use obscura_proto::audit::v1::{Heartbeat, event::Body};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::Alarm,
    error::Error,
    log::Log,
    metrics::AuditMetrics,
    projection::{self, Projection, Published},
    pruning::Pruning,
};

/// How long the object store may fail before that is an alarm.
const PUBLISH_PATIENCE: Duration = Duration::from_mins(5);

/// Publishes at most once per `interval`, until the service ends; then once more.
pub struct Publishing {
    /// The log.
    pub log: Arc<Log>,
    /// Its projection.
    pub projection: Projection,
    /// Time between checkpoints.
    pub interval: Duration,
    /// How long no checkpoint may be cosigned.
    pub witness_patience: Duration,
    /// Metrics.
    pub metrics: AuditMetrics,
    /// Cancelled after the last entry: publish once more and end.
    pub finish: CancellationToken,
    /// Ends the whole service where the log is newer elsewhere.
    pub shutdown: CancellationToken,
}

/// Something that may fail for a while before it is an alarm.
struct Patience {
    alarm: Alarm,
    for_at_most: Duration,
    since: Option<Monotonic>,
}

impl Patience {
    const fn new(name: &'static str, for_at_most: Duration) -> Self {
        Self { alarm: Alarm::new(name), for_at_most, since: None }
    }

    async fn note(&mut self, log: &Log, trouble: Option<String>) {
        let Some(trouble) = trouble else {
            self.since = None;
            self.alarm.end(log).await;
            return;
        };
        let now = log.parts.clock.monotonic();
        if now.since(*self.since.get_or_insert(now)) >= self.for_at_most {
            self.alarm.raise(log, &trouble).await;
        }
    }
}

impl Publishing {
    /// Runs until the service ends. A log that is newer elsewhere ends the service.
    pub async fn run(mut self) {
        let mut unpublished = Patience::new("audit_not_published", PUBLISH_PATIENCE);
        let mut unwitnessed = Patience::new("audit_not_witnessed", self.witness_patience);
        let mut size = self.log.parts.sequencer.size();
        loop {
            let is_last = self.finish.is_cancelled();
            size.borrow_and_update();
            match self.projection.publish().await {
                Ok(lacking) => {
                    unpublished.note(&self.log, None).await;
                    unwitnessed.note(&self.log, lacking).await;
                }
                Err(error @ (projection::Error::Ahead { .. } | projection::Error::Forked { .. })) => {
                    tracing::error!(%error, "the log is not the newest one; this service ends");
                    self.shutdown.cancel();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "could not publish the log; the next time tries again");
                    unpublished.note(&self.log, Some(error.to_string())).await;
                }
            }
            self.measure();
            if is_last {
                return;
            }
            tokio::select! {
                () = sleep(self.interval) => {}
                () = self.finish.cancelled() => continue,
            }
            // With a witness away there is something to do even when nothing is new.
            tokio::select! {
                changed = size.changed() => if changed.is_err() { return },
                () = sleep(self.interval.saturating_mul(10)) => {}
                () = self.finish.cancelled() => {}
            }
        }
    }

    fn measure(&self) {
        let published = self.projection.published();
        let size = published.borrow().as_ref().map_or(0, |note| note.checkpoint().size);
        self.metrics.published(size, *self.projection.witnessed().borrow());
    }
}

/// Prunes now and then until the service ends.
pub async fn prune(
    pruning: Pruning,
    log: Arc<Log>,
    published: watch::Receiver<Published>,
    interval: Duration,
    metrics: AuditMetrics,
    shutdown: CancellationToken,
) {
    let mut clock = Alarm::new("clock_disagrees");
    let mut alarm = Alarm::new("audit_not_pruned");
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        let size = published.borrow().as_ref().map_or(0, |note| note.checkpoint().size);
        match pruning.run(size).await {
            Ok(first_kept) => {
                metrics.first_kept(first_kept);
                clock.end(&log).await;
                alarm.end(&log).await;
            }
            Err(error @ Error::ClockDisagrees) => clock.raise(&log, &error.to_string()).await,
            Err(error) => alarm.raise(&log, &error.to_string()).await,
        }
    }
}

/// Says now and then that the log is alive, until the service ends.
pub async fn heartbeat(log: Arc<Log>, interval: Duration, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        let size = *log.parts.sequencer.size().borrow();
        if let Err(error) = log.append_own(Body::Heartbeat(Heartbeat { size })).await {
            tracing::warn!(%error, "could not append a heartbeat");
        }
    }
}
