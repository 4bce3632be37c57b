//! The registry: sites, cameras, purposes, zones and their signed snapshots.
//!
//! It validates what a controller says about places and cameras, decides each camera's residency
//! zone from attested coordinates, and publishes all of it as snapshots that consumers cache. What
//! is decided ([`site`], [`camera`], [`purpose`], [`zone`], [`border`]) is plain code without I/O.

pub mod border;
pub mod camera;
pub mod change;
pub mod config;
pub mod country;
pub mod error;
pub mod grpc;
pub mod metrics;
pub mod publisher;
pub mod purpose;
pub mod site;
pub mod store;
pub mod words;
pub mod zone;

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use obscura_daemon::Daemon;
use obscura_database::Location;
use obscura_outbox::Outbox;
use obscura_proto::registry::v1::registry_service_server::RegistryServiceServer;
use tonic::service::Routes;

use crate::{
    border::Borders, config::Settings, grpc::RegistryGrpc, metrics::Metrics, publisher::Publisher,
    store::Store,
};

/// Builds the service in dependency order: key, zones, border data, database, snapshot, gRPC.
///
/// # Errors
/// Each says which file or setting is wrong and what to do about it.
pub async fn router(daemon: &Daemon, outbox: &Outbox) -> anyhow::Result<axum::Router> {
    let settings: Settings = daemon.settings()?;
    let authority = config::authority(&daemon.config.data_dir)?;
    ensure!(
        authority.public_key() == daemon.trust.zone_authority,
        "the zone authority's key in {} is not the one in the trust file {}: restore the pair that belongs together",
        daemon.config.data_dir.display(),
        daemon.config.trust_file.display(),
    );
    let zones = Arc::new(config::zones(settings.zones_file.as_deref())?);
    let zone = &daemon.config.zone;
    ensure!(
        zones.get(zone).is_some(),
        "this installation serves zone `{zone}`, which is not configured: add it to the zones file"
    );
    let borders = Borders::load().context("the built-in border data cannot be read")?;
    let file = daemon.config.data_dir.join(store::FILE);
    let location = Location::of(settings.database_url_file.as_deref(), store::SCHEMA, file)?;
    let store = Arc::new(Store::open(&location).await?);
    let (pumped, outbox, shutdown) = (Arc::clone(&store), outbox.clone(), daemon.shutdown.clone());
    tokio::spawn(async move { pumped.pump(outbox, shutdown).await });
    let metrics = Metrics::default();
    daemon.metrics.register(|registry| metrics.register(registry));
    let publisher = Publisher::open(
        Arc::clone(&store),
        authority,
        Arc::clone(&zones),
        Arc::clone(&daemon.clock),
        metrics.clone(),
    )
    .await?;
    let service = RegistryGrpc {
        store,
        publisher: Arc::new(publisher),
        borders,
        zones,
        clock: Arc::clone(&daemon.clock),
        metrics,
        shutdown: daemon.shutdown.clone(),
    };
    Ok(Routes::new(RegistryServiceServer::new(service)).into_axum_router())
}

#[cfg(test)]
mod tests;
