//! What goes on in the background: custody is followed, the audit log is told, objects are read again,
//! and once a day everything is accounted for.

use std::{sync::Arc, time::Duration};

use obscura_blob::BlobStore;
use obscura_clock::SharedClock;
use obscura_ids::ZoneId;
use crate::outbox_shim::Outbox;
use obscura_proto::audit::v1::{Outcome, ServiceAct, event::Body, service_act::Act};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    custody::Custody,
    expiry::Follower,
    manifest,
    metrics::Metrics,
    orphan::Orphans,
    reconcile::Reconciler,
    report::Reporter,
    scrub::{Pace, Scrubber, rate::Rate},
    store::{Fact, Store, moment},
};

/// How often custody is asked for receipts. Objects are gone within minutes of their keys.
const FOLLOW: Duration = Duration::from_secs(60);
/// How often the audit log hears of new packs.
const TELL: Duration = Duration::from_secs(10);
/// How often it is seen whether a reconciliation is due.
const DUE: Duration = Duration::from_secs(600);
/// How often everything is accounted for.
const DAILY: Duration = Duration::from_hours(24);
/// How long the scrub rests after a fault, or where there is nothing to read.
const REST: Duration = Duration::from_secs(60);
/// Shortest pause between two packs of the scrub.
const PAUSE: Duration = Duration::from_millis(100);
/// Name of the alarm.
const EXPIRY_STOPPED: &str = "storage_expiry_stopped";

/// Everything that keeps the bucket in order.
#[derive(Debug)]
pub struct Upkeep {
    /// The index.
    pub store: Store,
    /// The objects.
    pub blobs: Arc<dyn BlobStore>,
    /// The custody of the zone, where the configuration names it.
    pub custody: Option<Custody>,
    /// The zone.
    pub zone: ZoneId,
    /// What time it is.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
    /// Where events for the audit log go. Without one they wait in the index.
    pub outbox: Option<Outbox>,
    /// Bytes per second that the scrub reads in the background; 0 turns it off.
    pub scrub_bytes_per_second: u64,
    /// Held by the reconciliation that is under way.
    pub reconciling: Arc<Mutex<()>>,
    /// Held by the scrub on demand that is under way.
    pub scrubbing: Arc<Mutex<()>>,
}

impl Upkeep {
    /// Starts what goes on in the background, until shutdown. A step that is under way is finished.
    pub fn spawn(self: &Arc<Self>, shutdown: &CancellationToken) -> Vec<JoinHandle<()>> {
        let (follow, tell, scrub, daily) =
            (Arc::clone(self), Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let [first, second, third, fourth] = [(); 4].map(|()| shutdown.clone());
        vec![
            tokio::spawn(async move { follow.follow(&first).await }),
            tokio::spawn(async move { tell.tell(&second).await }),
            tokio::spawn(async move { scrub.scrub(&third).await }),
            tokio::spawn(async move { daily.account(&fourth).await }),
        ]
    }

    /// Follows custody.
    ///
    /// # Errors
    /// [`Error::NoCustody`].
    pub fn follower(&self) -> Result<Follower, Error> {
        Ok(Follower {
            store: self.store.clone(),
            blobs: Arc::clone(&self.blobs),
            custody: self.custody.clone().ok_or(Error::NoCustody)?,
            zone: self.zone.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        })
    }

    /// Looks at objects that the index does not know.
    pub fn orphans(&self) -> Orphans {
        Orphans {
            store: self.store.clone(),
            blobs: Arc::clone(&self.blobs),
            zone: self.zone.clone(),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Accounts for everything.
    ///
    /// # Errors
    /// [`Error::NoCustody`].
    pub fn reconciler(&self) -> Result<Reconciler, Error> {
        let custody = self.custody.clone().ok_or(Error::NoCustody)?;
        Ok(Reconciler { orphans: self.orphans(), custody, metrics: self.metrics.clone() })
    }

    /// Reads objects again.
    pub fn scrubber(&self) -> Scrubber {
        Scrubber {
            store: self.store.clone(),
            blobs: Arc::clone(&self.blobs),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        }
    }

    async fn follow(&self, shutdown: &CancellationToken) {
        let Ok(follower) = self.follower() else {
            return tracing::warn!("no peer `keys` is configured: nothing expires from this storage");
        };
        let mut is_failing = false;
        let mut pause = Duration::ZERO;
        while rest(shutdown, pause).await {
            let round = follower.round().await;
            pause = match &round {
                Ok(round) if round.is_cut => Duration::ZERO,
                _ => FOLLOW,
            };
            if round.is_err() {
                self.metrics.failed_rounds.inc();
            }
            if round.is_err() != is_failing {
                is_failing = round.is_err();
                self.alarm(round.err());
            }
        }
    }

    /// Says once that expiry stands still, and once that it goes on.
    fn alarm(&self, error: Option<Error>) {
        let act = match &error {
            Some(error) => {
                tracing::error!(%error, "objects of destroyed keys are not deleted for now");
                Act::Alarm
            }
            None => {
                tracing::info!("objects of destroyed keys are deleted again");
                Act::AlarmEnded
            }
        };
        let body = ServiceAct {
            act: act.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            alarm: EXPIRY_STOPPED.to_owned(),
            detail: error.map_or_else(String::new, |error| error.to_string()),
        };
        if let Some(outbox) = &self.outbox {
            outbox.record_body(Outcome::Success, Body::Service(body));
        }
    }

    async fn tell(&self, shutdown: &CancellationToken) {
        let Some(outbox) = &self.outbox else { return };
        while rest(shutdown, TELL).await {
            if let Err(error) = manifest::tell(&self.store, outbox).await {
                tracing::warn!(%error, "the audit log could not be told of packs; it will be");
            }
        }
    }

    async fn scrub(&self, shutdown: &CancellationToken) {
        if self.scrub_bytes_per_second == 0 {
            return;
        }
        let rate = Rate::new(self.scrub_bytes_per_second, self.clock.monotonic());
        let mut pace = Pace::Set(rate, Arc::clone(&self.clock));
        let scrubber = self.scrubber();
        let mut pause = REST;
        while rest(shutdown, pause).await {
            let sample = tokio::select! {
                sample = scrubber.sample(&mut pace) => sample,
                () = shutdown.cancelled() => return,
            };
            pause = if matches!(sample, Ok(true)) { PAUSE } else { REST };
            if let Err(error) = sample {
                tracing::warn!(%error, "the scrub rests: an object could not be read");
            }
        }
    }

    async fn account(&self, shutdown: &CancellationToken) {
        while rest(shutdown, DUE).await {
            tokio::select! {
                outcome = self.account_if_due() => if let Err(error) = outcome {
                    tracing::warn!(%error, "the daily reconciliation did not finish and is tried again");
                },
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Of several replicas one does it.
    async fn account_if_due(&self) -> Result<(), Error> {
        let now = self.clock.wall();
        let (reconciler, follower) = (self.reconciler()?, self.follower()?);
        let Ok(_turn) = self.reconciling.try_lock() else { return Ok(()) };
        let before = self.store.number(Fact::ReconcileBegun).await?;
        if !self.store.claim(Fact::ReconcileBegun, moment(now - DAILY), moment(now)).await? {
            return Ok(());
        }
        let outcome = async {
            follower.catch_up().await?;
            reconciler.run(false, &Reporter::nobody()).await
        };
        match outcome.await {
            Ok(counts) => {
                tracing::info!(?counts, "everything was accounted for");
                Ok(())
            }
            Err(error) => {
                self.store.set_number(Fact::ReconcileBegun, before).await?;
                Err(error)
            }
        }
    }
}

/// Waits; `false` where the process has to end.
async fn rest(shutdown: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
