//! Storage: the index of packs, and signed URLs to them.
//!
//! It knows where every segment is and never holds anything but ciphertext. A recorder asks for an
//! upload URL with a signed placement, puts the pack there (here, or straight into a bucket) and commits it; the head of the object
//! becomes a row of the index. Readers find segments in the index, which never opens an object, and
//! get download URLs for a grant.
//!
//! What is trusted: the zone authority's signature on placements, the issuer's and the audit log's on
//! grants. What is not: object names, heads and sizes, which are held against each other. Whoever can
//! change the index or the objects can withhold footage, and cannot read or forge any.

mod access_log;
pub mod config;
mod custody;
mod error;
mod expiry;
#[cfg(test)]
mod fake_custody;
mod finding;
mod gap;
mod gap_journal;
mod grpc;
mod handed;
mod http;
mod in_order;
mod index;
mod inspection;
mod links;
mod manifest;
mod marks;
mod metrics;
mod objects;
mod orphan;
mod page;
mod placement;
mod reconcile;
mod reindex;
mod report;
mod run;
mod scrub;
mod shrinking;
mod state;
mod store;
#[cfg(test)]
mod test_support;
mod upkeep;
mod url_signer;
#[cfg(test)]
mod zone_bench;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use obscura_access::AccessTrust;
use obscura_daemon::Daemon;
use obscura_database::Location;
use obscura_identity::Route;
use obscura_outbox::Outbox;
use obscura_proto::storage::v1::storage_service_server::StorageServiceServer;
use obscura_snapshot::AuthorityKey;
use tonic::service::Routes;

pub use error::Error;
// For the bench of the index.
pub use index::PackRow;
pub use run::Run;
pub use store::{SCHEMA, Slice, Store};

use crate::{
    access_log::AccessLog, config::Settings, custody::Custody, grpc::Grpc, metrics::Metrics, objects::Opened,
    placement::PlacementCheck, upkeep::Upkeep,
};

/// Largest object, in bytes: ten times a pack of a minute at 3 Mbit/s.
pub const MAX_OBJECT_BYTES: u64 = 256 * 1024 * 1024;

/// Who may move objects. What they may move, the URL says.
pub const ROUTES: &[Route] = &[Route { prefix: "/objects/", callers: &["ingest", "cli"] }];

/// Everything that this service answers. What it does by itself goes on until the shutdown of the daemon;
/// events for the audit log go into the outbox.
///
/// # Errors
/// Says which part could not be opened, or which setting is missing.
pub async fn router(daemon: &Daemon, outbox: &Outbox) -> anyhow::Result<Router> {
    let settings: Settings = daemon.settings()?;
    let data = &daemon.config.data_dir;
    let url_file = settings.database_url_file.as_deref();
    let index = Location::of(url_file, SCHEMA, data.join("index.sqlite"))?;
    let metrics = Metrics::register(&daemon.metrics);
    let access_log = Arc::new(AccessLog::new(Some(outbox.clone()), Arc::clone(&daemon.clock)));
    let shutdown = &daemon.shutdown;
    let opened = objects::open(&settings, &daemon.config, &daemon.clock, metrics.clone(), shutdown).await?;
    let Opened { blobs, links, routes, kind, limitations } = opened;
    let store = Store::open(&index).await.context("cannot use the index")?;
    let upkeep = Arc::new(Upkeep {
        store: store.clone(),
        blobs: Arc::clone(&blobs),
        // Without custody footage is stored and found; nothing expires.
        custody: daemon.peer("keys").ok().map(Custody::new),
        zone: daemon.config.zone.clone(),
        clock: Arc::clone(&daemon.clock),
        metrics: metrics.clone(),
        outbox: Some(outbox.clone()),
        access_log: Arc::clone(&access_log),
        scrub_bytes_per_second: settings.scrub_bytes_per_second(),
        reconciling: Arc::default(),
        scrubbing: Arc::default(),
    });
    upkeep.spawn(&daemon.shutdown);
    let grpc = Grpc {
        placement: PlacementCheck {
            authority: AuthorityKey::from_bytes(daemon.trust.zone_authority),
            zone: daemon.config.zone.clone(),
            buckets: settings.buckets(&daemon.config),
        },
        access: AccessTrust { grant_issuer: daemon.trust.grant_issuer, audit: daemon.trust.audit },
        store,
        blobs,
        links,
        kind,
        limitations,
        clock: Arc::clone(&daemon.clock),
        metrics,
        access_log,
        upkeep,
    };
    Ok(Routes::new(StorageServiceServer::new(grpc)).into_axum_router().merge(routes))
}
