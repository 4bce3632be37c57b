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
//! The service needs no other service.

mod alarm;
mod config;
mod copying;
mod erasing;
mod error;
mod event_id;
mod fault;
pub mod feed;
mod grpc;
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
mod sequencer;
mod source;
mod store;
#[cfg(test)]
mod test_support;
mod witness;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use obscura_daemon::Daemon;
use obscura_database::Location;
use obscura_proto::{
    access::v1::SignedReceipt,
    audit::v1::{Event, audit_service_server::AuditServiceServer, service_act::Act},
};
use obscura_tlog::LogKey;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use crate::{
    config::Settings,
    fault::{Faults, NoFaults},
    feed::{FeedMetrics, Feeds, Surroundings},
    grpc::AuditGrpc,
    log::{Log, Parts},
    metrics::AuditMetrics,
    persons::Persons,
    projection::Projection,
    pruning::Pruning,
    pulse::Publishing,
    sequencer::Sequencer,
    source::Source,
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
/// How long the end may take.
const FINISH: Duration = Duration::from_secs(10);

/// Opens the log in the data directory and returns its gRPC service, which goes on working by itself until
/// the daemon's shutdown.
///
/// # Errors
/// As [`Running::open`].
pub async fn router(daemon: &Daemon) -> anyhow::Result<axum::Router> {
    Ok(Running::open(daemon).await?.router())
}

/// The log at work.
#[derive(Debug)]
pub struct Running {
    log: Arc<Log>,
    feeds: Arc<Feeds>,
    published: tokio::sync::watch::Receiver<projection::Published>,
    witnessed: tokio::sync::watch::Receiver<u64>,
    work: TaskTracker,
    /// Ends what has to be done after the last request.
    finish: CancellationToken,
}

impl Running {
    /// Opens database, keys and object store, compares the log with what was published and cosigned, and starts.
    ///
    /// # Errors
    /// A database, key or object store that cannot be used; a key that is not the one that others trust; a
    /// published or cosigned checkpoint that is ahead of the database.
    pub async fn open(daemon: &Daemon) -> anyhow::Result<Self> {
        let settings: Settings = daemon.settings()?;
        settings.check()?;
        feed::check(&settings.feeds)?;
        let directory = &daemon.config.data_dir;
        let metrics = AuditMetrics::new();
        daemon.metrics.register(|registry| metrics.register(registry));
        let faults: Arc<dyn Faults> = Arc::new(NoFaults);
        let url_file = settings.database_url_file.as_deref();
        let location = Location::of(url_file, SCHEMA, directory.join(DATABASE))?;
        let store = Arc::new(Store::open(&location).await?);
        let blobs = object_store::open(settings.object_store.as_ref(), directory, &daemon.clock)?;
        let key = Arc::new(log_key(daemon)?);
        let persons = Persons::open(&directory.join(PERSON_KEYS), store.clone(), faults.clone()).await?;
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
        let (sequencer, writer) =
            Sequencer::start(store.clone(), daemon.clock.clone(), faults.clone(), metrics.clone()).await?;
        watch_writer(writer, daemon.shutdown.clone());
        let log = Arc::new(Log::new(Parts {
            store: store.clone(),
            sequencer,
            persons,
            key,
            zone: daemon.config.zone.to_string(),
            own_id: daemon.identity.id().to_string(),
            clock: daemon.clock.clone(),
            faults,
        }));
        log.settle_pending().await?;
        log.append_own(alarm::act(Act::Started, "", "")).await?;
        let feeds = Arc::new(start_feeds(daemon, &settings, &log)?);
        let running = Self {
            feeds,
            published: projection.published(),
            witnessed: projection.witnessed(),
            log: log.clone(),
            work: TaskTracker::new(),
            finish: CancellationToken::new(),
        };
        let pruning = Pruning::new(log, blobs, settings.retention());
        running.work(daemon, &settings, projection, pruning, &metrics);
        Ok(running)
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
        let heartbeat =
            pulse::heartbeat(self.log.clone(), every(settings.heartbeat_seconds), shutdown.clone());
        self.work.spawn(heartbeat);
        self.work.close();
    }

    /// Its gRPC service.
    pub fn router(&self) -> axum::Router {
        let grpc = AuditGrpc::new(
            self.log.clone(),
            self.feeds.clone(),
            self.published.clone(),
            self.witnessed.clone(),
        );
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
    pub async fn finish(self) {
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
    }
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
fn watch_writer(writer: JoinHandle<Result<(), store::Error>>, shutdown: CancellationToken) {
    tokio::spawn(async move {
        match writer.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the sequencer has stopped; this service ends"),
            Err(error) => tracing::error!(%error, "the sequencer failed; this service ends"),
        }
        shutdown.cancel();
    });
}

fn start_feeds(daemon: &Daemon, settings: &Settings, log: &Log) -> anyhow::Result<Feeds> {
    let metrics = FeedMetrics::new();
    daemon.metrics.register(|registry| metrics.register(registry));
    let source = Arc::new(Source::new(log.parts.store.clone(), log.parts.sequencer.size()));
    let surroundings = Surroundings {
        source: source.clone(),
        cursors: source,
        metrics,
        clock: daemon.clock.clone(),
        shutdown: daemon.shutdown.clone(),
    };
    Ok(feed::start(settings.feeds.clone(), &surroundings)?)
}
