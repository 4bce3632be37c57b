//! What this service does by itself: publish, prune, and say that it is alive.

use std::{sync::Arc, time::Duration};

use obscura_clock::Monotonic;
use obscura_proto::audit::v1::{Heartbeat, event::Body};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::Alarm,
    error::Error,
    guard::Guard,
    log::Log,
    metrics::AuditMetrics,
    projection::{self, Projection, Published},
    pruning::Pruning,
    witness::Lacking,
};

/// How long the object store may fail before that is an alarm.
const PUBLISH_PATIENCE: Duration = Duration::from_mins(5);

/// Something that a person must look at although it may be over soon, and that somebody else may bring about as often
/// as they like: the alarm ends only after it has not been so for a while, and so the log is not filled with it.
struct Lasting {
    alarm: Alarm,
    for_at_least: Duration,
    last: Option<Monotonic>,
}

impl Lasting {
    const fn new(name: &'static str, for_at_least: Duration) -> Self {
        Self { alarm: Alarm::new(name), for_at_least, last: None }
    }

    async fn note(&mut self, log: &Log, trouble: Option<&str>) {
        let now = log.parts.clock.monotonic();
        match (trouble, self.last) {
            (Some(trouble), _) => {
                self.last = Some(now);
                self.alarm.raise(log, trouble).await;
            }
            (None, Some(last)) if now.since(last) < self.for_at_least => {}
            (None, _) => self.alarm.end(log).await,
        }
    }
}

/// Publishes at most once per `interval` and where somebody wants it, until the service ends; then once more.
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
    /// Somebody waits for what is in the log to be published.
    pub wanted: Arc<Notify>,
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
        let mut contradicted = Lasting::new("audit_witness_contradicts", self.witness_patience);
        let mut size = self.log.parts.sequencer.size();
        loop {
            let is_last = self.finish.is_cancelled();
            size.borrow_and_update();
            match self.projection.publish().await {
                Ok(lacking) => {
                    unpublished.note(&self.log, None).await;
                    let (why, contradiction) = lacking.map_or((None, None), |lacking| {
                        let Lacking { why, contradiction } = lacking;
                        (Some(why), contradiction)
                    });
                    unwitnessed.note(&self.log, why).await;
                    self.metrics.contradicted(contradiction.is_some());
                    contradicted.note(&self.log, contradiction.as_deref()).await;
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
                () = self.wanted.notified() => continue,
                () = self.finish.cancelled() => continue,
            }
            // With a witness away there is something to do even when nothing is new.
            tokio::select! {
                changed = size.changed() => if changed.is_err() { return },
                () = sleep(self.interval.saturating_mul(10)) => {}
                () = self.wanted.notified() => {}
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
    if let Err(error @ Error::ClockDisagrees(_)) = pruning.check_clock().await {
        clock.raise(&log, &error.to_string()).await;
    }
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        let size = published.borrow().as_ref().map_or(0, |note| note.checkpoint().size);
        match pruning.run(size).await {
            Ok(first_kept) => {
                metrics.first_kept(first_kept);
                clock.end(&log).await;
                alarm.end(&log).await;
            }
            Err(error @ Error::ClockDisagrees(_)) => clock.raise(&log, &error.to_string()).await,
            Err(error) => alarm.raise(&log, &error.to_string()).await,
        }
    }
}

/// Says now and then that the log is alive, and writes down that the clock is believed, until the service ends.
pub async fn heartbeat(log: Arc<Log>, guard: Arc<Guard>, interval: Duration, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        let size = *log.parts.sequencer.size().borrow();
        if let Err(error) = log.append_own(Body::Heartbeat(Heartbeat { size })).await {
            tracing::warn!(%error, "could not append a heartbeat");
        }
        // A doubt is told by whoever prunes.
        if let Err(error) = guard.now().await {
            tracing::warn!(%error, "the moment is not written down as one at which the clock was believed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Bench, test_event};

    async fn kinds_become(bench: &Bench, count: usize) -> Vec<String> {
        for _ in 0..6_000 {
            let kinds = bench.kinds().await;
            if kinds.len() >= count {
                return kinds;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("there are no {count} entries after a minute");
    }

    #[tokio::test]
    async fn a_log_with_nothing_to_say_says_that_it_is_alive() {
        let bench = Bench::sqlite().await;
        let shutdown = CancellationToken::new();
        let beating = tokio::spawn(heartbeat(
            bench.log.clone(),
            bench.guard(Duration::from_hours(24)).await,
            Duration::from_millis(20),
            shutdown.clone(),
        ));
        let kinds = kinds_become(&bench, 3).await;
        assert!(kinds.iter().all(|kind| kind == "heartbeat"), "{kinds:?}");
        shutdown.cancel();
        beating.await.unwrap();
    }

    #[tokio::test]
    async fn what_lasts_too_long_is_one_alarm_and_its_end_is_one_entry() {
        let bench = Bench::sqlite().await;
        let mut patience = Patience::new("audit_not_published", Duration::from_mins(5));
        let trouble = || Some("the disk is full".to_owned());
        for _ in 0..4 {
            patience.note(&bench.log, trouble()).await;
            assert_eq!(bench.size().await, 0, "not yet");
            bench.place.clock.advance(Duration::from_mins(1));
        }
        bench.place.clock.advance(Duration::from_mins(1));
        patience.note(&bench.log, trouble()).await;
        patience.note(&bench.log, trouble()).await;
        assert_eq!(bench.size().await, 1);
        assert!(bench.leaf(0).await.contains("the disk is full"));
        patience.note(&bench.log, None).await;
        patience.note(&bench.log, None).await;
        assert_eq!(bench.kinds().await, ["service", "service"]);
    }

    #[tokio::test]
    async fn what_others_can_bring_about_as_often_as_they_like_does_not_fill_the_log() {
        let bench = Bench::sqlite().await;
        let mut lasting = Lasting::new("audit_witness_contradicts", Duration::from_hours(1));
        lasting.note(&bench.log, None).await;
        for _ in 0..30 {
            lasting.note(&bench.log, Some("it claims 9 entries")).await;
            lasting.note(&bench.log, None).await;
            bench.place.clock.advance(Duration::from_mins(1));
        }
        assert_eq!(bench.kinds().await, ["service"]);
        assert!(bench.leaf(0).await.contains("it claims 9 entries"));
        bench.place.clock.advance(Duration::from_hours(1));
        lasting.note(&bench.log, None).await;
        lasting.note(&bench.log, None).await;
        assert_eq!(bench.kinds().await, ["service", "service"], "and its end is one entry");
    }

    #[tokio::test]
    async fn the_last_entries_are_published_before_the_end_and_those_that_are_wanted_at_once() {
        let bench = Bench::sqlite().await;
        let (finish, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let wanted = Arc::new(Notify::new());
        let Bench { place, log, blobs, projection } = bench;
        let publishing = Publishing {
            log: log.clone(),
            projection: projection.into_inner(),
            interval: Duration::from_hours(1),
            witness_patience: Duration::from_hours(1),
            metrics: AuditMetrics::new(),
            wanted: wanted.clone(),
            finish: finish.clone(),
            shutdown: shutdown.clone(),
        };
        let mut published = publishing.projection.published();
        let running = tokio::spawn(publishing.run());
        published.changed().await.unwrap();
        log.append("spiffe://example.org/obscura/cli", &test_event("wanted")).await.unwrap();
        wanted.notify_one();
        let is_there = |note: &Published| note.as_ref().is_some_and(|note| note.checkpoint().size == 1);
        published.wait_for(is_there).await.unwrap();
        log.append("spiffe://example.org/obscura/cli", &test_event("the last one")).await.unwrap();
        finish.cancel();
        running.await.unwrap();
        assert_eq!(crate::test_support::verify(&place.path("log"), &[]).checkpoint().size, 2);
        assert!(!shutdown.is_cancelled());
        drop(blobs);
    }
}
