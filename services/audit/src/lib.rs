//! The log that nobody can edit.
//!
//! Producers hand over events; the answer, a signed receipt, comes once the event is durable as a leaf of a
//! Merkle tree. Tiles and checkpoints on an object store let anyone check that nothing was changed or taken
//! away; witnesses cosign them. What is about a person is sealed under a key of that person, so that it can
//! be erased without touching a leaf.
//!
//! ```text
//! Append, Report ─► encode, seal, hash ─► queue ─► one transaction ─► receipt
//!                                                        │
//!                                      tiles, bundles ◄──┴──► feeds
//!                                      checkpoint ◄─► witnesses
//! ```
//!
//! What each store is trusted with, and what whoever can change it gains:
//!
//! - The **database** is the log. It is trusted to keep what it committed, and with nothing else: whoever changes
//!   a row is found by the next offline verification, whoever restores an older one is stopped at the start by
//!   what was published or cosigned.
//! - The **object store** is not trusted. Whoever changes it makes a copy that does not verify; whoever removes the
//!   checkpoint takes away one of the two guards of the start.
//! - **`audit-log.pkcs8`** is the log's voice: whoever has it can sign another log, which witnesses do not cosign and
//!   everyone who kept a checkpoint recognises.
//! - **`person-keys.json`** with the database opens names. Whoever keeps a copy of both keeps the names of those
//!   who are erased later, so it belongs in no backup that outlives an erasure.
//!
//! Several of these services may share a PostgreSQL database: one leads and writes, feeds and publishes, the others
//! wait without listening until it is gone ([`lease`]). They share the data directory, or at least the keys in it.
//!
//! The service needs no other service.

mod alarm;
mod config;
mod copying;
mod disclosure;
mod erasing;
mod error;
mod event_id;
mod fault;
pub mod feed;
mod grpc;
mod guard;
mod lease;
mod log;
mod metrics;
mod object_store;
mod persons;
mod projection;
mod proving;
mod pruning;
mod pulse;
mod reading;
mod reports;
mod roles;
mod sequencer;
mod source;
mod store;
#[cfg(test)]
mod test_support;
mod told;
mod witness;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use obscura_clock::Linux;
use obscura_daemon::Daemon;
use obscura_database::Location;
use obscura_proto::{
    access::v1::SignedReceipt,
    audit::v1::{Event, audit_service_server::AuditServiceServer, service_act::Act},
};
use obscura_tlog::LogKey;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use crate::{
    config::Settings,
    fault::{Faults, NoFaults},
    feed::{FeedMetrics, Feeds, Surroundings},
    grpc::{AuditGrpc, Publication},
    guard::Guard,
    lease::Lease,
    log::{Log, Parts},
    metrics::AuditMetrics,
    persons::Persons,
    projection::Projection,
    pruning::Pruning,
    pulse::Publishing,
    roles::Roles,
    sequencer::Sequencer,
    source::{LossAlarms, Source},
    store::Store,
    witness::Witnesses,
};

/// Database in the data directory.
const DATABASE: &str = "audit.sqlite";
/// Schema on a server.
const SCHEMA: &str = "audit";
/// Key of the log in the data directory, PKCS #8, mode 0600.
const KEY_FILE: &str = "audit-log.pkcs8";
/// Secrets of persons' keys in the data directory.
const PERSON_KEYS: &str = "person-keys.json";
/// Newest cosigned checkpoint in the data directory.
const COSIGNED: &str = "cosigned.checkpoint";
/// Largest request: a report has at most 2 MiB of events.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// How often a new leader tries to write: each waits for 30 s, and a transaction is silent for at most 60 s.
const TAKE_OVER_TRIES: u32 = 3;
/// How long the end may take.
const FINISH: Duration = Duration::from_secs(10);

/// Opens the log in the data directory and returns its gRPC service, which goes on working by itself until
/// the daemon's shutdown.
///
/// # Errors
/// As [`Running::open`].
pub async fn router(daemon: &Daemon) -> anyhow::Result<axum::Router> {
    let running = Running::open(daemon).await?.context("the shutdown came before the start was complete")?;
    Ok(running.router())
}

/// The log at work.
#[derive(Debug)]
pub struct Running {
    log: Arc<Log>,
    feeds: Arc<Feeds>,
    published: tokio::sync::watch::Receiver<projection::Published>,
    witnessed: tokio::sync::watch::Receiver<u64>,
    guard: Arc<Guard>,
    /// Somebody waits for what is in the log to be published.
    wanted: Arc<Notify>,
    work: TaskTracker,
    /// Ends what has to be done after the last request.
    finish: CancellationToken,
    /// Somebody else writes the log now.
    replaced: CancellationToken,
}

impl Running {
    /// Waits while another audit service leads the log; then opens database, keys and object store, compares the log
    /// with what was published and cosigned, and starts. `None` where the shutdown came while it waited.
    ///
    /// # Errors
    /// A database, key or object store that cannot be used; a key that is not the one that others trust; a
    /// published or cosigned checkpoint that is ahead of the database.
    pub async fn open(daemon: &Daemon) -> anyhow::Result<Option<Self>> {
        let settings: Settings = daemon.settings()?;
        settings.check()?;
        feed::check(&settings.feeds)?;
        let directory = &daemon.config.data_dir;
        let metrics = AuditMetrics::new();
        daemon.metrics.register(|registry| metrics.register(registry));
        let faults: Arc<dyn Faults> = Arc::new(NoFaults);
        let url_file = settings.database_url_file.as_deref();
        let location = Location::of(url_file, SCHEMA, directory.join(DATABASE))?;
        let Some(lease) = Lease::wait(&location, settings.lease_seconds, &daemon.shutdown).await? else {
            return Ok(None);
        };
        let person_keys = directory.join(PERSON_KEYS);
        let Some(lock) = lease.lock(&person_keys, &daemon.shutdown).await? else {
            return Ok(None);
        };
        let store = Arc::new(open_store(&location).await?);
        let blobs = object_store::open(settings.object_store.as_ref(), directory, &daemon.clock)?;
        let key = Arc::new(log_key(daemon)?);
        let persons = Persons::open(&person_keys, lock, store.clone(), faults.clone()).await?;
        let parts = projection::Parts {
            store: store.clone(),
            blobs: blobs.clone(),
            key: key.clone(),
            cosigned_file: directory.join(COSIGNED),
            faults: faults.clone(),
        };
        let witnesses =
            Witnesses::new(&settings.witnesses, settings.witness_quorum).context("[settings.witnesses]")?;
        let mut projection = Projection::open(parts, witnesses).await?;
        if settings.republish {
            projection.rebuild();
        }
        let guard = Arc::new(guard(daemon, &settings, &store).await?);
        let (sequencer, writer) =
            Sequencer::start(store.clone(), daemon.clock.clone(), faults.clone(), metrics.clone()).await?;
        let replaced = CancellationToken::new();
        watch_writer(writer, replaced.clone(), daemon.shutdown.clone());
        watch_lease(lease, store.clone(), replaced.clone(), daemon.shutdown.clone());
        let log = Arc::new(Log::new(Parts {
            store: store.clone(),
            sequencer,
            persons,
            roles: Roles::new(settings.auditors.clone(), settings.data_protection_officers.clone()),
            key,
            zone: daemon.config.zone.to_string(),
            own_id: daemon.identity.id().to_string(),
            clock: daemon.clock.clone(),
            faults,
        }));
        log.settle_pending().await?;
        log.append_own(alarm::act(Act::Started, "", "")).await?;
        for body in log.parts.roles.told() {
            log.append_own(body).await?;
        }
        told::tell(&log, &settings).await?;
        let feeds = Arc::new(start_feeds(daemon, &settings, &log)?);
        let running = Self {
            feeds,
            published: projection.published(),
            witnessed: projection.witnessed(),
            guard: guard.clone(),
            wanted: Arc::new(Notify::new()),
            log: log.clone(),
            work: TaskTracker::new(),
            finish: CancellationToken::new(),
            replaced,
        };
        let pruning = Pruning::new(log, blobs, guard, settings.retention());
        running.work(daemon, &settings, projection, pruning, &metrics);
        Ok(Some(running))
    }

    fn work(
        &self,
        daemon: &Daemon,
        settings: &Settings,
        projection: Projection,
        pruning: Pruning,
        metrics: &AuditMetrics,
    ) {
        let shutdown = &daemon.shutdown;
        let every = |seconds: u32| Duration::from_secs(seconds.into());
        let publishing = Publishing {
            log: self.log.clone(),
            projection,
            interval: Duration::from_millis(settings.publish_interval_ms.into()),
            witness_patience: every(settings.witness_alarm_seconds),
            metrics: metrics.clone(),
            wanted: self.wanted.clone(),
            finish: self.finish.clone(),
            shutdown: shutdown.clone(),
        };
        self.work.spawn(publishing.run());
        let prune = pulse::prune(
            pruning,
            self.log.clone(),
            self.published.clone(),
            every(settings.prune_interval_seconds),
            metrics.clone(),
            shutdown.clone(),
        );
        self.work.spawn(prune);
        let beat = every(settings.heartbeat_seconds);
        let heartbeat = pulse::heartbeat(self.log.clone(), self.guard.clone(), beat, shutdown.clone());
        self.work.spawn(heartbeat);
        self.work.close();
    }

    /// Its gRPC service.
    pub fn router(&self) -> axum::Router {
        let publication = Publication {
            published: self.published.clone(),
            witnessed: self.witnessed.clone(),
            wanted: self.wanted.clone(),
        };
        let grpc = AuditGrpc::new(self.log.clone(), self.feeds.clone(), self.guard.clone(), publication);
        let service = AuditServiceServer::new(grpc).max_decoding_message_size(MAX_REQUEST_BYTES);
        tonic::service::Routes::new(service).into_axum_router()
    }

    /// Appends an event within this process, as this service's own, and returns when it is durable.
    ///
    /// # Errors
    /// As the rpc `Append`.
    pub async fn append(&self, event: &Event) -> Result<SignedReceipt, Status> {
        let appended = self.log.append(&self.log.parts.own_id, event).await;
        appended.map(|appended| appended.receipt).map_err(grpc::status)
    }

    /// After the last request: writes down that the service ended in good order, and publishes that.
    ///
    /// # Errors
    /// Where another audit service has taken the log over: there is nothing to write down then. Whoever started
    /// this one starts it again, and it stands by.
    pub async fn finish(self) -> anyhow::Result<()> {
        ensure!(
            !self.replaced.is_cancelled(),
            "another audit service writes to this log now, so this one ends; started again it stands by"
        );
        if let Err(error) = self.log.append_own(alarm::act(Act::Stopped, "", "")).await {
            tracing::warn!(%error, "could not append that the service ended");
        }
        self.finish.cancel();
        let ended = async {
            self.work.wait().await;
            self.feeds.stopped().await;
        };
        if tokio::time::timeout(FINISH, ended).await.is_err() {
            tracing::warn!("could not publish or pass on the last entries in time; the next start does it");
        }
        if let Err(error) = self.log.parts.store.close().await {
            tracing::warn!(%error, "could not close the database in order");
        }
        Ok(())
    }
}

/// What the clock is compared with from now on.
async fn guard(daemon: &Daemon, settings: &Settings, store: &Arc<Store>) -> anyhow::Result<Guard> {
    let confirmed = settings.clock_confirmed()?;
    let witnesses = guard::Witnesses { machine: Arc::new(Linux), server: true, confirmed };
    Ok(Guard::begin(store.clone(), daemon.clock.clone(), settings.retention(), witnesses).await?)
}

/// Opens the tables. A leader that was paused in the middle of a transaction keeps others from writing until the
/// server ends it.
async fn open_store(location: &Location) -> anyhow::Result<Store> {
    for _ in 1..TAKE_OVER_TRIES {
        match Store::open(location).await {
            Err(error) if matches!(location, Location::Postgres { .. }) => {
                tracing::warn!(error = format!("{error:#}"), "cannot write to the log yet; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            opened => return opened,
        }
    }
    Store::open(location).await
}

/// The log's key, which is the one that every other service trusts.
fn log_key(daemon: &Daemon) -> anyhow::Result<LogKey> {
    let path = daemon.config.data_dir.join(KEY_FILE);
    let shown = path.display();
    let pkcs8 = read_private(&path).with_context(|| {
        format!(
            "the key of the log {shown} cannot be used: `obscura up` makes it once; if it was lost, restore it from \
             its backup, because nobody trusts another"
        )
    })?;
    let trust_domain = daemon.identity.id().trust_domain();
    let origin = format!("{}/obscura/audit/{}", trust_domain.as_str(), daemon.config.zone);
    let key = LogKey::from_pkcs8(&origin, &pkcs8).with_context(|| format!("{shown} is no key"))?;
    ensure!(
        key.public_key() == daemon.trust.audit,
        "the key of the log {shown} is not the one under `audit` in `trust_file`: nobody would believe its receipts"
    );
    Ok(key)
}

fn read_private(file: &Path) -> anyhow::Result<zeroize::Zeroizing<Vec<u8>>> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = std::fs::metadata(file)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others can read it (mode {:o}): run `chmod 600` on it", mode & 0o777);
    Ok(std::fs::read(file)?.into())
}

/// A sequencer that has lost the log ends the service.
fn watch_writer(
    writer: JoinHandle<Result<(), store::Error>>,
    replaced: CancellationToken,
    shutdown: CancellationToken,
) {
    tokio::spawn(async move {
        match writer.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the sequencer has stopped; this service ends");
                replaced.cancel();
            }
            Err(error) => tracing::error!(%error, "the sequencer failed; this service ends"),
        }
        shutdown.cancel();
    });
}

/// So does a lease that somebody else has.
fn watch_lease(lease: Lease, store: Arc<Store>, replaced: CancellationToken, shutdown: CancellationToken) {
    tokio::spawn(async move {
        if lease.keep(&store, &shutdown).await {
            tracing::error!("another audit service has taken the log over; this service ends");
            replaced.cancel();
            shutdown.cancel();
        }
    });
}

fn start_feeds(daemon: &Daemon, settings: &Settings, log: &Arc<Log>) -> anyhow::Result<Feeds> {
    let metrics = FeedMetrics::new();
    daemon.metrics.register(|registry| metrics.register(registry));
    let source = Arc::new(Source::new(log.parts.store.clone(), log.parts.sequencer.size()));
    let surroundings = Surroundings {
        source: source.clone(),
        cursors: source,
        alarms: Arc::new(LossAlarms::new(Arc::clone(log))),
        metrics,
        clock: daemon.clock.clone(),
        shutdown: daemon.shutdown.clone(),
    };
    Ok(feed::start(settings.feeds.clone(), &surroundings)?)
}
