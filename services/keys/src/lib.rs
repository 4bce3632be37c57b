//! Custody of layer keys: import, release under a grant, rotation.
//!
//! Three layers of keys, each sealed by the one above:
//!
//! ```text
//! key-encryption key   behind a `KeyEncryption` back end, versioned
//!   epoch key          one per zone and expiry day, random, wrapped
//!     layer-key row    one per camera, layer, hour and recorder run, sealed with AEAD
//! ```
//!
//! Recorders wrap layer keys to the zone's intake key and never get one back; readers get the nodes
//! of the key tree that cover their grant, and nothing more. The service needs no other service.

mod aead;
mod config;
mod custody;
mod epoch;
mod error;
mod grpc;
mod intake;
pub mod key_encryption;
mod metrics;
mod release;
mod rotation;
mod store;
#[cfg(test)]
mod test_support;

use std::sync::Arc;

use obscura_access::AccessTrust;
use obscura_daemon::Daemon;
use obscura_proto::keys::v1::keys_service_server::KeysServiceServer;
use obscura_snapshot::AuthorityKey;

use crate::{
    config::Settings,
    custody::{Custody, Parts},
    grpc::KeysGrpc,
    key_encryption::{KeyEncryption, LocalKeyFile},
    metrics::KeyMetrics,
    rotation::Rotation,
    store::Store,
};

const DATABASE: &str = "keys.sqlite";
const KEY_FILE: &str = "kek.json";

/// Opens custody in the data directory, which makes its keys at the first start, and returns its
/// gRPC service.
///
/// # Errors
/// A database or key file that cannot be opened, or a database whose key file is gone.
pub async fn router(daemon: &Daemon) -> anyhow::Result<axum::Router> {
    let settings: Settings = daemon.settings()?;
    settings.check()?;
    let custody = Arc::new(open_custody(daemon).await?);
    finish_interrupted_rotation(&custody, settings.rewrap_batch_rows).await;
    let metrics = KeyMetrics::new();
    daemon.metrics.register(|registry| metrics.register(registry));
    let service = KeysServiceServer::new(KeysGrpc::new(custody, metrics, settings.rewrap_batch_rows));
    Ok(tonic::service::Routes::new(service).into_axum_router())
}

async fn open_custody(daemon: &Daemon) -> anyhow::Result<Custody> {
    let directory = &daemon.config.data_dir;
    let store = Store::open(&directory.join(DATABASE)).await?;
    let may_create = store.is_empty().await?;
    let encryption = LocalKeyFile::open_or_create(&directory.join(KEY_FILE), may_create)?;
    let parts = Parts {
        store,
        encryption: Arc::new(encryption) as Arc<dyn KeyEncryption>,
        zone: daemon.config.zone.clone(),
        authority: AuthorityKey::from_bytes(daemon.trust.zone_authority),
        access: AccessTrust { grant_issuer: daemon.trust.grant_issuer, audit: daemon.trust.audit },
        clock: daemon.clock.clone(),
    };
    Ok(Custody::open(parts).await?)
}

/// A rotation that a crash cut short goes on where it stopped. Custody works without: every row
/// opens under the version it names.
async fn finish_interrupted_rotation(custody: &Custody, batch: u32) {
    let finished = match Rotation::resume(custody, batch).await {
        Ok(Some(mut rotation)) => rotation.run(|_| {}).await.map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    match finished {
        Ok(Some(progress)) => {
            tracing::info!(version = progress.version.0, "finished an interrupted rotation");
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!(%error, "could not finish an interrupted rotation; old key versions stay");
        }
    }
}
