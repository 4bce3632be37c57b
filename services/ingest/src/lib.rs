//! Records cameras: RTSP, rings, segments, sealing, spool, upload.
//!
//! ```text
//! camera ── session ── Frame<Clear> ── release ── ring ── track ── segment writer ── spool ── upload ── storage, keys
//! ```
//!
//! The recorder makes layer keys itself, wraps them to the zone's intake key and seals before the
//! first byte touches a disk; it cannot read back what it recorded. Everything behind it may be
//! away: recording goes on into the spool.

mod alarms;
mod cameras;
mod config;
mod epoch;
mod error;
mod failure;
#[cfg(test)]
mod fault_table;
mod frame;
mod gap;
mod gauge;
mod grpc;
mod intake;
mod layer_key;
mod lost;
mod metrics;
mod outbox;
mod pressure;
mod probe;
mod recorder;
mod recovered;
mod reorder;
mod reports;
mod ring;
#[cfg(test)]
mod rtsp_camera;
mod segment;
mod session;
mod source;
mod spool;
mod synchronised;
mod threads;
mod timeline;
mod upload;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::Router;
use obscura_clock::SharedClock;
use obscura_daemon::Daemon;
use obscura_identity::HttpClient;
use obscura_outbox::Reporting;
use obscura_proto::ingest::v1::ingest_service_server::IngestServiceServer;
use obscura_seal::RecipientPublicKey;
use obscura_snapshot::{AuthorityKey, Cache};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cameras::{Cameras, Shared},
    config::Settings,
    grpc::{Ingest, PARALLEL_TESTS},
    intake::{ASK_SLOWLY, Intake},
    outbox::{Outbox, PackPolicy},
    pressure::{Pressure, Reading},
    reports::Reports,
    source::SourceKey,
    spool::{Limits, Position, Spool},
    upload::{Objects, Patience, Uploader},
};

/// How often the spool's level is looked at.
const PRESSURE_EVERY: Duration = Duration::from_secs(1);

/// A recorder that runs.
#[derive(Debug)]
pub struct Recording {
    /// Its RPCs.
    pub router: Router,
    cameras: JoinHandle<()>,
    uploader: JoinHandle<()>,
    spool: Arc<Spool>,
}

impl Recording {
    /// Waits until every segment is closed and committed. The shutdown must have been told before.
    ///
    /// # Errors
    /// Where a part panicked.
    pub async fn finish(self) -> Result<()> {
        self.cameras.await.context("recorders")?;
        self.uploader.await.context("uploader")?;
        let spool = self.spool;
        tokio::task::spawn_blocking(move || spool.close()).await.context("spool")
    }
}

/// Starts recording.
///
/// # Errors
/// Where the configuration, the spool or a key file cannot be used.
pub async fn start(daemon: &Daemon, reporting: &Arc<Reporting>) -> Result<Recording> {
    let settings: Settings = daemon.settings()?;
    let data = &daemon.config.data_dir;
    let clock = Arc::clone(&daemon.clock);
    let started = clock.wall();
    let start = epoch::next(&data.join("writer-epoch")).context("writer-epoch")?;
    let writer_epoch = start.epoch;
    if let Some(aside) = &start.damaged {
        let words = format!(
            "the writer epoch was damaged and a new writer id was drawn; the old file is kept as {} where there was room",
            aside.display()
        );
        tracing::error!("{words}");
        reporting.alarm("writer_epoch_damaged", Some(&words)).await;
    }
    let source_key = Arc::new(SourceKey::load_or_create(&data.join("source.key"))?);
    let authority = AuthorityKey::from_bytes(daemon.trust.zone_authority);
    let snapshots = Arc::new(Cache::open(&data.join("snapshot"), authority, Arc::clone(&clock))?);

    let spool_dir = settings.spool_dir.clone().unwrap_or_else(|| data.join("spool"));
    let limits = Limits::new(settings.spool_limit_bytes, settings.spool_reserve_bytes);
    let (spool, recovered) = Spool::open(spool_dir, limits, Arc::clone(&clock))?;
    let outbox = Arc::new(Outbox::default());
    let recorded_through = recovered::enqueue(&spool, &outbox, &recovered, clock.monotonic())?;

    let footage = settings.pack_duration();
    let packs = PackPolicy { footage, age: footage + footage / 2 };
    let pressure = Arc::new(Pressure::new(packs.age));
    let uploader = Uploader::new(
        Arc::clone(&spool),
        Arc::clone(&outbox),
        daemon.peer("storage")?,
        daemon.peer("keys")?,
        objects(daemon, &settings)?,
        Arc::clone(&clock),
        packs,
        Patience::default(),
        settings.upload_limit_bytes_per_second,
    );
    let cameras = Cameras::new(Shared {
        spool: Arc::clone(&spool),
        outbox: Arc::clone(&outbox),
        source_key: Arc::clone(&source_key),
        authority,
        zone: daemon.config.zone.clone(),
        writer_epoch,
        clock: Arc::clone(&clock),
        pressure: Arc::clone(&pressure),
        reports: Reports::to(reporting.outbox().clone()),
        last_alive: recovered.last_alive,
        recorded_through,
    })?;
    daemon.metrics.register(|registry| {
        registry.register_collector(Box::new(metrics::Recording {
            cameras: Arc::clone(&cameras),
            outbox: Arc::clone(&outbox),
            spool: Arc::clone(&spool),
            pressure: Arc::clone(&pressure),
        }));
    });
    tokio::spawn(obscura_snapshot::follow(
        Arc::clone(&snapshots),
        daemon.peer("registry")?,
        daemon.shutdown.clone(),
    ));
    let watched = (Arc::clone(&spool), Arc::clone(&outbox), Arc::clone(&clock));
    tokio::spawn(watch_pressure(
        Arc::clone(&pressure),
        watched,
        settings.spool_duration(),
        daemon.shutdown.clone(),
    ));
    tokio::spawn(alarms::report(
        Arc::clone(&pressure),
        Arc::clone(&outbox),
        Arc::clone(reporting),
        daemon.shutdown.clone(),
    ));
    tokio::spawn(report_damage(Arc::clone(&spool), Arc::clone(reporting), daemon.shutdown.clone()));
    tokio::spawn(end_with_spool(spool.committed(), daemon.shutdown.clone()));
    let recorders = tokio::spawn(record(daemon, Arc::clone(reporting), Arc::clone(&cameras), &snapshots)?);
    let sending = tokio::spawn(Arc::clone(&uploader).run(daemon.shutdown.clone()));
    let service = Ingest {
        source_key,
        cameras,
        uploader,
        outbox,
        spool: Arc::clone(&spool),
        pressure,
        snapshots,
        clock,
        writer_epoch,
        started,
        tests: Semaphore::new(PARALLEL_TESTS),
    };
    let router = tonic::service::Routes::new(IngestServiceServer::new(service)).into_axum_router();
    Ok(Recording { router, cameras: recorders, uploader: sending, spool })
}

/// Where packs go.
fn objects(daemon: &Daemon, settings: &Settings) -> Result<Objects> {
    let storage = HttpClient::new(&daemon.identity, "storage");
    let socket = daemon.config.hand_over_socket.clone();
    Objects::new(storage, &settings.object_store.trust()?, socket).context("[settings.object_store]")
}

/// Looks at the spool again and again, until told to stop.
async fn watch_pressure(
    pressure: Arc<Pressure>,
    (spool, outbox, clock): (Arc<Spool>, Arc<Outbox>, SharedClock),
    limit_time: Duration,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let now = clock.monotonic();
        pressure.observe(Reading::of(&spool, outbox.oldest(now), limit_time, now));
        let _ = tokio::time::timeout(PRESSURE_EVERY, shutdown.cancelled()).await;
    }
}

/// Tells the audit log what the disk of the spool lost. The alarm lasts until the next start: a person has to
/// see to the disk.
async fn report_damage(spool: Arc<Spool>, reporting: Arc<Reporting>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        reporting.alarm("spool_damaged", spool.damage().words().as_deref()).await;
        let _ = tokio::time::timeout(PRESSURE_EVERY, shutdown.cancelled()).await;
    }
}

/// A spool that cannot be written does not heal while the process lives: end, and be started anew.
async fn end_with_spool(mut committed: watch::Receiver<Position>, shutdown: CancellationToken) {
    while committed.changed().await.is_ok() {}
    if !shutdown.is_cancelled() {
        tracing::error!("the spool stopped; ending, to be started again");
        shutdown.cancel();
    }
}

/// Recording begins as soon as the intake key is known, and goes on with another one where `keys` has it.
fn record(
    daemon: &Daemon,
    reporting: Arc<Reporting>,
    cameras: Arc<Cameras>,
    snapshots: &Cache,
) -> Result<impl Future<Output = ()> + use<>> {
    let shutdown = daemon.shutdown.clone();
    let asking = Intake {
        path: daemon.config.data_dir.join("intake.key"),
        zone: daemon.config.zone.clone(),
        keys: daemon.peer("keys")?,
        shutdown: shutdown.clone(),
    };
    let snapshot = snapshots.watch();
    Ok(async move {
        let Some(key) = asking.key().await else { return };
        let (newest, intake) = watch::channel(key);
        tokio::spawn(follow_intake_key(asking, newest, reporting));
        cameras.follow(snapshot, intake, shutdown).await;
    })
}

/// The alarm lasts until the next start: a person has to find out why the key is another one.
async fn follow_intake_key(
    asking: Intake,
    newest: watch::Sender<RecipientPublicKey>,
    reporting: Arc<Reporting>,
) {
    let mut used = *newest.borrow();
    while let Some(key) = asking.replaced(&used, ASK_SLOWLY).await {
        used = key;
        newest.send_replace(key);
        let other = "keys has another intake key than the one that the recorder had kept";
        reporting.alarm("intake_key", Some(other)).await;
    }
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;

    use super::*;
    use crate::{
        fault_table::{Plug, dead_spool},
        spool::Serial,
    };

    #[tokio::test]
    async fn the_process_ends_when_the_spool_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dead_spool(dir.path()).await;
        let shutdown = CancellationToken::new();
        let ending = end_with_spool(spool.committed(), shutdown.clone());
        tokio::time::timeout(Duration::from_secs(60), ending).await.unwrap();
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn the_process_goes_on_while_the_spool_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Plug::default());
        let limits = Limits::of_bytes(1 << 30);
        let clock = SystemClock::shared();
        let (spool, _) = Spool::open_on(disk, dir.path().to_owned(), limits, clock).unwrap();
        let shutdown = CancellationToken::new();
        let ending = tokio::spawn(end_with_spool(spool.committed(), shutdown.clone()));
        let gap = segment::record(spool::record::Kind::Gap, Serial(1), b"x");
        let (_, end) = spool.append(&[gap]).unwrap();
        spool.wait_committed(end).await.unwrap();
        assert!(!ending.is_finished() && !shutdown.is_cancelled());
    }
}
