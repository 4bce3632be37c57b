//! Storage: the index of packs, and signed URLs to them.
//!
//! It knows where every segment is and never holds anything but ciphertext. A recorder asks for an
//! upload URL with a signed placement, puts the pack there and commits it; the head of the object
//! becomes a row of the index. Readers find segments in the index, which never opens an object, and
//! get download URLs for a grant.
//!
//! What is trusted: the zone authority's signature on placements, the issuer's and the audit log's on
//! grants. What is not: object names, heads and sizes, which are held against each other. Whoever can
//! change the index or the objects can withhold footage, and cannot read or forge any.

pub mod config;
mod error;
mod gap;
mod grpc;
mod http;
mod index;
mod inspection;
mod metrics;
mod page;
mod placement;
mod run;
mod store;
#[cfg(test)]
mod test_support;
mod url_signer;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use obscura_access::AccessTrust;
use obscura_blob::{BlobStore, LocalDirectory};
use obscura_daemon::Daemon;
use obscura_identity::Route;
use obscura_proto::storage::v1::storage_service_server::StorageServiceServer;
use obscura_snapshot::AuthorityKey;
use tonic::service::Routes;

pub use error::Error;

use crate::{
    config::Settings, grpc::Grpc, http::Objects, metrics::Metrics, placement::PlacementCheck, store::Store,
    url_signer::UrlSigner,
};

/// Largest object, in bytes: ten times a pack of a minute at 3 Mbit/s.
pub const MAX_OBJECT_BYTES: u64 = 256 * 1024 * 1024;

/// Who may move objects. What they may move, the URL says.
pub const ROUTES: &[Route] = &[Route { prefix: "/objects/", callers: &["ingest", "cli"] }];

/// Everything that this service answers.
///
/// # Errors
/// Says which part could not be opened, or which setting is missing.
pub async fn router(daemon: &Daemon) -> anyhow::Result<Router> {
    let settings: Settings = daemon.settings()?;
    let data = &daemon.config.data_dir;
    let objects = settings.objects(data);
    let opened = tokio::task::spawn_blocking(move || LocalDirectory::open(&objects)).await?;
    let blobs: Arc<dyn BlobStore> = Arc::new(opened.context("cannot use the object directory")?);
    let signer = Arc::new(UrlSigner::open(&data.join("url.key")).context("cannot use the key for URLs")?);
    let metrics = Metrics::register(&daemon.metrics);
    let grpc = Grpc {
        placement: PlacementCheck {
            authority: AuthorityKey::from_bytes(daemon.trust.zone_authority),
            zone: daemon.config.zone.clone(),
            buckets: settings.buckets(&daemon.config),
        },
        access: AccessTrust { grant_issuer: daemon.trust.grant_issuer, audit: daemon.trust.audit },
        store: Store::open(&data.join("index.sqlite")).await.context("cannot use the index")?,
        blobs: Arc::clone(&blobs),
        signer: Arc::clone(&signer),
        address: settings.public_address(&daemon.config)?,
        clock: Arc::clone(&daemon.clock),
        metrics: metrics.clone(),
    };
    let objects = Objects::new(blobs, signer, Arc::clone(&daemon.clock), metrics).router();
    Ok(Routes::new(StorageServiceServer::new(grpc)).into_axum_router().merge(objects))
}
