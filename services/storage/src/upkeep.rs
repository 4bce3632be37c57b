//! What goes on in the background: custody is followed, the audit log is told, objects are read again,
//! the journal of gaps is tidied, packs of hours that are over are put in order, and once a day everything is
//! accounted for.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use obscura_blob::BlobStore;
use obscura_clock::SharedClock;
use obscura_ids::ZoneId;
use obscura_outbox::Outbox;
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    access_log::AccessLog,
    alarm,
    custody::Custody,
    expiry::{Follower, horizon},
    finding::Finding,
    manifest,
    metrics::Metrics,
    orphan::Orphans,
    reconcile::Reconciler,
    report::Reporter,
    scrub::{Pace, Scrubber, rate::Rate},
    store::{Fact, Store, moment},
};

/// How often custody is followed at least. Objects are gone within minutes of their keys.
const FOLLOW: Duration = Duration::from_secs(60);
/// How often receipts are compared in between, and how soon custody that was away is asked again: one that has
/// just started releases nothing before.
const COMPARE: Duration = Duration::from_secs(2);
/// How often the audit log hears of new packs.
const TELL: Duration = Duration::from_secs(10);
/// How often it is seen whether a reconciliation is due.
const DUE: Duration = Duration::from_secs(600);
/// How often everything is accounted for.
const DAILY: Duration = Duration::from_hours(24);
/// How often the journal of gaps is tidied: until then each report of a recorder is an object of its own.
const TIDY: Duration = Duration::from_hours(6);
/// How often packs of hours that are over are put in order. Those that came late meanwhile lie together.
const SETTLE: Duration = Duration::from_secs(300);
/// How long the scrub rests after a fault, or where there is nothing to read.
const REST: Duration = Duration::from_secs(60);
/// Shortest pause between two packs of the scrub.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause after the first failure.
const SOON: Duration = Duration::from_millis(100);
/// Failed rounds in a row after which custody counts as away: two minutes at least.
const AWAY: u32 = 60;
/// Alarm: objects of destroyed keys are not deleted.
const EXPIRY_STOPPED: &str = "storage_expiry_stopped";
/// Alarm: an object is not as it was recorded.
const DAMAGED: &str = "storage_object_damaged";
/// Alarm: the daily reconciliation found something.
const FINDINGS: &str = "storage_findings";

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
    /// Counts refusals, which are summed up here from time to time.
    pub access_log: Arc<AccessLog>,
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
        let [follow, tell, scrub, daily, journal, settle] = [(); 6].map(|()| Arc::clone(self));
        let [first, second, third, fourth, fifth, sixth] = [(); 6].map(|()| shutdown.clone());
        vec![
            tokio::spawn(async move { follow.follow(&first).await }),
            tokio::spawn(async move { tell.tell(&second).await }),
            tokio::spawn(async move { scrub.scrub(&third).await }),
            tokio::spawn(async move { daily.account(&fourth).await }),
            tokio::spawn(async move { journal.keep_journal(&fifth).await }),
            tokio::spawn(async move { settle.settle(&sixth).await }),
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
        Ok(Reconciler { orphans: self.orphans(), custody, outbox: self.outbox.clone() })
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
        let (mut failures, mut is_alarmed) = (0_u32, false);
        let mut pause = Duration::ZERO;
        while rest_comparing(&follower, shutdown, pause).await {
            let round = follower.round().await;
            pause = match &round {
                Ok(round) if round.is_cut => Duration::ZERO,
                Ok(_) => FOLLOW,
                Err(_) => soon(failures),
            };
            failures = if round.is_ok() { 0 } else { failures.saturating_add(1) };
            self.metrics.failed_rounds.inc_by(round.is_err().into());
            // Custody may start later than storage; a receipt that is not believed is never in order.
            let is_alarming = failures >= AWAY || matches!(round, Err(Error::Unbelievable(_)));
            match round {
                Err(error) if is_alarming && !is_alarmed => {
                    self.alarm(EXPIRY_STOPPED, &error.to_string());
                    is_alarmed = true;
                }
                Err(error) => tracing::debug!(%error, "custody could not be followed"),
                Ok(_) if is_alarmed => {
                    self.end_alarm(EXPIRY_STOPPED);
                    is_alarmed = false;
                }
                Ok(_) => {}
            }
        }
    }

    /// Tells a person, once, in the log and through the audit log.
    fn alarm(&self, alarm: &str, detail: &str) {
        alarm::raise(self.outbox.as_ref(), alarm, detail);
    }

    fn end_alarm(&self, alarm: &str) {
        alarm::end(self.outbox.as_ref(), alarm);
    }

    async fn tell(&self, shutdown: &CancellationToken) {
        let Some(outbox) = &self.outbox else { return };
        while rest(shutdown, TELL).await {
            if let Err(error) = manifest::tell(&self.store, outbox).await {
                tracing::warn!(%error, "the audit log could not be told of packs; it will be");
            }
            self.access_log.settle();
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
            pause = if matches!(sample, Ok(Some(_))) { PAUSE } else { REST };
            match sample {
                Ok(found) => found.into_iter().flatten().for_each(|finding| self.damage(&finding)),
                Err(error) => {
                    tracing::warn!(%error, "the scrub rests: the object store or the index could not be read");
                }
            }
        }
    }

    fn damage(&self, finding: &Finding) {
        let object = finding.key.as_ref().map_or_else(String::new, ToString::to_string);
        self.alarm(DAMAGED, &format!("{object}: {}", finding.words));
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

    async fn keep_journal(&self, shutdown: &CancellationToken) {
        while rest(shutdown, DUE).await {
            tokio::select! {
                outcome = self.tidy_if_due() => if let Err(error) = outcome {
                    tracing::warn!(%error, "the journal of gaps was not tidied to its end; this is tried again");
                },
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Of several replicas one does it. Where two do, they write the same pages.
    pub(crate) async fn tidy_if_due(&self) -> Result<(), Error> {
        let now = self.clock.wall();
        let before = self.store.number(Fact::GapsTidied).await?;
        if !self.store.claim(Fact::GapsTidied, moment(now - TIDY), moment(now)).await? {
            return Ok(());
        }
        let tidied = async {
            let forget_before = horizon(&self.store, &self.clock).await?;
            self.orphans().gap_journal().tidy(forget_before).await
        };
        let outcome = tidied.await;
        if outcome.is_err() {
            self.store.set_number(Fact::GapsTidied, before).await?;
        }
        outcome
    }

    async fn settle(&self, shutdown: &CancellationToken) {
        if !self.store.settles() {
            return;
        }
        while rest(shutdown, SETTLE).await {
            tokio::select! {
                outcome = self.settle_if_due() => if let Err(error) = outcome {
                    self.metrics.failed_settlings.inc();
                    tracing::warn!(%error, "packs of hours that are over were not all put in order; this is tried again");
                },
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Of several replicas one does it. Where two do, each moves other packs.
    async fn settle_if_due(&self) -> Result<(), Error> {
        let now = self.clock.wall();
        let before = self.store.number(Fact::PacksSettled).await?;
        if !self.store.claim(Fact::PacksSettled, moment(now - SETTLE), moment(now)).await? {
            return Ok(());
        }
        match self.store.settle(now).await {
            Ok(moved) => self.metrics.settled_packs.inc_by(moved),
            Err(error) => {
                self.store.set_number(Fact::PacksSettled, before).await?;
                return Err(error.into());
            }
        };
        Ok(())
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
                tracing::info!(?counts, "the daily reconciliation finished");
                self.tell_findings().await
            }
            Err(error) => {
                self.store.set_number(Fact::ReconcileBegun, before).await?;
                Err(error)
            }
        }
    }

    async fn tell_findings(&self) -> Result<(), Error> {
        match self.store.number(Fact::ReconcileFindings).await? {
            0 => Ok(()),
            findings => {
                let detail = format!("{findings} findings: `obscura storage reconcile` tells them");
                self.alarm(FINDINGS, &detail);
                Ok(())
            }
        }
    }
}

/// The first attempts follow fast: custody may be about to start.
fn soon(failures: u32) -> Duration {
    SOON.saturating_mul(1 << failures.min(8)).min(COMPARE)
}

/// Waits, and compares receipts from time to time; what is new or wrong ends the wait. `false` where the process
/// has to end.
async fn rest_comparing(follower: &Follower, shutdown: &CancellationToken, pause: Duration) -> bool {
    let mut left = pause;
    while left > COMPARE {
        if !rest(shutdown, COMPARE).await {
            return false;
        }
        left = left.saturating_sub(COMPARE);
        if !matches!(follower.has_all().await, Ok(true)) {
            return true;
        }
    }
    rest(shutdown, left).await
}

/// Waits; `false` where the process has to end.
async fn rest(shutdown: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
