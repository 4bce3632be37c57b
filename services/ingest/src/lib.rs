//! Records cameras: RTSP, rings, segments, sealing, spool, upload.
//!
//! ```text
//! camera ── session ── Frame<Clear> ── release ── ring ── track ── segment writer ── spool ── upload ── storage, keys
//! ```
//!
//! The recorder makes layer keys itself, wraps them to the zone's intake key and seals before the
//! first byte touches a disk; it cannot read back what it recorded. Everything behind it may be
//! away: recording goes on into the spool.

mod cameras;
mod config;
mod epoch;
mod error;
mod failure;
mod frame;
mod gap;
mod gauge;
mod grpc;
mod intake;
mod layer_key;
mod metrics;
mod outbox;
mod probe;
mod recorder;
mod recovered;
mod reorder;
mod ring;
mod segment;
mod session;
mod source;
mod spool;
mod synchronised;
mod threads;
mod timeline;
mod upload;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use obscura_daemon::Daemon;
use obscura_identity::HttpClient;
use obscura_proto::ingest::v1::ingest_service_server::IngestServiceServer;
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
    outbox::{Outbox, PackPolicy},
    source::SourceKey,
    spool::{Limits, Position, Spool},
    upload::Uploader,
};

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
pub async fn start(daemon: &Daemon) -> Result<Recording> {
    let settings: Settings = daemon.settings()?;
    let data = &daemon.config.data_dir;
    let clock = Arc::clone(&daemon.clock);
    let started = clock.wall();
    let writer_epoch = epoch::next(&data.join("writer-epoch"))?;
    let source_key = Arc::new(SourceKey::load_or_create(&data.join("source.key"))?);
    let authority = AuthorityKey::from_bytes(daemon.trust.zone_authority);
    let snapshots = Arc::new(Cache::open(&data.join("snapshot"), authority, Arc::clone(&clock))?);

    let spool_dir = settings.spool_dir.clone().unwrap_or_else(|| data.join("spool"));
    let limits = Limits { bytes: settings.spool_limit_bytes };
    let (spool, recovered) = Spool::open(spool_dir, limits, Arc::clone(&clock))?;
    let outbox = Arc::new(Outbox::default());
    recovered::enqueue(&spool, &outbox, &recovered, clock.monotonic())?;

    let footage = settings.pack_duration();
    let uploader = Uploader::new(
        Arc::clone(&spool),
        Arc::clone(&outbox),
        daemon.peer("storage")?,
        daemon.peer("keys")?,
        HttpClient::new(&daemon.identity, "storage"),
        Arc::clone(&clock),
        PackPolicy { footage, age: footage + footage / 2 },
    );
    let cameras = Cameras::new(Shared {
        spool: Arc::clone(&spool),
        outbox: Arc::clone(&outbox),
        source_key: Arc::clone(&source_key),
        authority,
        zone: daemon.config.zone.clone(),
        writer_epoch,
        clock: Arc::clone(&clock),
        last_alive: recovered.last_alive,
    })?;
    daemon.metrics.register(|registry| {
        registry.register_collector(Box::new(metrics::Recording {
            cameras: Arc::clone(&cameras),
            outbox: Arc::clone(&outbox),
            spool: Arc::clone(&spool),
        }));
    });
    tokio::spawn(obscura_snapshot::follow(
        Arc::clone(&snapshots),
        daemon.peer("registry")?,
        daemon.shutdown.clone(),
    ));
    tokio::spawn(end_with_spool(spool.committed(), daemon.shutdown.clone()));
    let recorders = tokio::spawn(record(daemon, Arc::clone(&cameras), &snapshots)?);
    let sending = tokio::spawn(Arc::clone(&uploader).run(daemon.shutdown.clone()));
    let service = Ingest {
        source_key,
        cameras,
        uploader,
        outbox,
        spool: Arc::clone(&spool),
        snapshots,
        clock,
        writer_epoch,
        started,
        tests: Semaphore::new(PARALLEL_TESTS),
    };
    let router = tonic::service::Routes::new(IngestServiceServer::new(service)).into_axum_router();
    Ok(Recording { router, cameras: recorders, uploader: sending, spool })
}

/// A spool that cannot be written does not heal while the process lives: end, and be started anew.
async fn end_with_spool(mut committed: watch::Receiver<Position>, shutdown: CancellationToken) {
    while committed.changed().await.is_ok() {}
    if !shutdown.is_cancelled() {
        tracing::error!("the spool stopped; ending, to be started again");
        shutdown.cancel();
    }
}

/// Recording begins as soon as the intake key is known.
fn record(
    daemon: &Daemon,
    cameras: Arc<Cameras>,
    snapshots: &Cache,
) -> Result<impl Future<Output = ()> + use<>> {
    let path = daemon.config.data_dir.join("intake.key");
    let (zone, keys, shutdown) = (daemon.config.zone.clone(), daemon.peer("keys")?, daemon.shutdown.clone());
    let snapshot = snapshots.watch();
    Ok(async move {
        if let Some(intake) = intake::key(path, zone, keys, shutdown.clone()).await {
            cameras.follow(snapshot, intake, shutdown).await;
        }
    })
}
