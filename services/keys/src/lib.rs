//! Custody of layer keys: import, release under a grant, retention, holds, destruction, rotation.
//!
//! Three layers of keys, each sealed by the one above:
//!
//! ```text
//! key-encryption key   behind a `KeyEncryption` back end, versioned
//!   epoch key          one per zone and expiry hour: a wrapped half in the database and a tree outside
//!     layer-key row    one per camera, layer, hour and recorder run, sealed with AEAD under a leaf of the tree
//!   hold key           one per hold, in the same way
//!     held-key row     the cover of the held slots of one layer key
//! ```
//!
//! To destroy is to erase a secret outside the database ([`secrets`] says what that reaches); the order
//! of the steps and what a crash leaves of each is in [`destruction`].
//!
//! Recorders wrap layer keys to the zone's intake key and never get one back; readers get the nodes
//! of the key tree that cover their grant, and nothing more. The service needs no other service to take keys; it
//! releases none before audit log and `storage` have said that it is not an old copy ([`rollback`]), and where it
//! can reach the registry it follows changes of retention.

mod config;
mod custody;
mod daily;
mod damage;
mod describe;
mod destruction;
mod epoch_key;
mod error;
mod expiry;
mod expiry_hour;
mod grpc;
mod guard;
mod hold;
mod holds;
mod import;
mod intake;
mod journal;
pub mod key_encryption;
mod keyring;
mod late;
mod ledger;
mod lost_epoch;
#[cfg(feature = "measure")]
pub mod measured;
mod metrics;
mod receipts;
mod recovered;
mod recovery;
mod release;
mod reports;
mod restored;
mod retention;
mod retentions;
mod returned;
mod rollback;
mod rotation;
mod row_key;
mod secrets;
mod shred;
mod store;
#[cfg(test)]
mod test_support;

use std::{sync::Arc, time::Duration};

use obscura_access::AccessTrust;
use obscura_clock::{Linux, Timestamp};
use obscura_daemon::Daemon;
use obscura_database::Location;
use obscura_outbox::{OnOld, Outbox, Reporting};
use obscura_proto::keys::v1::keys_service_server::KeysServiceServer;
use obscura_shares::RECOVERED_FILE;
use obscura_snapshot::{AuthorityKey, Cache};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    custody::{Custody, Parts},
    grpc::KeysGrpc,
    key_encryption::{KeyEncryption, LocalKeyFile},
    metrics::KeyMetrics,
    rotation::Rotation,
    secrets::Secrets,
    store::Store,
};

const DATABASE: &str = "keys.sqlite";
const KEY_FILE: &str = "kek.json";
const CLOCK_FILE: &str = "clock.json";
/// How often it is looked whether the audit log has answered at the start.
const GLANCE: Duration = Duration::from_millis(100);
/// How often expired keys are looked for at least.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// What the audit outbox does where the log knows more than the data directory.
pub fn on_old(daemon: &Daemon) -> OnOld {
    let directory = daemon.config.data_dir.clone();
    Box::new(move || rollback::note_restored(&directory))
}

/// Opens custody in the data directory, which makes its keys at the first start, and returns its
/// gRPC service.
///
/// # Errors
/// A database or key file that cannot be opened, or a database whose key file is gone.
pub async fn router(daemon: &Daemon, reporting: &Arc<Reporting>) -> anyhow::Result<axum::Router> {
    let settings: Settings = daemon.settings()?;
    settings.check()?;
    let custody = Arc::new(open_custody(daemon, &settings).await?);
    finish_interrupted_rotation(&custody, settings.rewrap_batch_rows).await;
    let metrics = KeyMetrics::new();
    daemon.metrics.register(|registry| metrics.register(registry));
    tokio::spawn(expire_for_ever(
        Arc::clone(&custody),
        metrics.clone(),
        Arc::clone(reporting),
        daemon.shutdown.clone(),
    ));
    follow_registry(daemon, &custody)?;
    watch_for_rollback(daemon, &custody, reporting)?;
    tokio::spawn(pump(Arc::clone(&custody), reporting.outbox().clone(), daemon.shutdown.clone()));
    let grpc = KeysGrpc::new(custody, metrics, settings.rewrap_batch_rows);
    let service = KeysServiceServer::new(grpc);
    Ok(tonic::service::Routes::new(service).into_axum_router())
}

async fn open_custody(daemon: &Daemon, settings: &Settings) -> anyhow::Result<Custody> {
    let directory = &daemon.config.data_dir;
    let url_file = settings.database_url_file.as_deref();
    let location = Location::of(url_file, store::SCHEMA, directory.join(DATABASE))?;
    let store = Store::open(&location).await?;
    let may_create = store.is_empty().await?;
    let encryption = LocalKeyFile::open_or_create(&directory.join(KEY_FILE), may_create)?;
    let parts = Parts {
        store,
        encryption: Arc::new(encryption) as Arc<dyn KeyEncryption>,
        secrets: Secrets::open(&directory.join(secrets::FOLDER), settings.secrets_mirror_dir.as_deref())?,
        zone: daemon.config.zone.clone(),
        authority: AuthorityKey::from_bytes(daemon.trust.zone_authority),
        access: AccessTrust { grant_issuer: daemon.trust.grant_issuer, audit: daemon.trust.audit },
        clock: daemon.clock.clone(),
        machine: Arc::new(Linux),
        clock_file: directory.join(CLOCK_FILE),
        restored_file: rollback::restored_file(directory),
        limits: settings.limits(),
    };
    let custody = Custody::open(parts).await?;
    recovered::tell(&custody, &directory.join(RECOVERED_FILE)).await?;
    Ok(custody)
}

/// Destroys what has expired, at once and every minute, until `shutdown`. What stands in the way is in the
/// log, the metrics and the status, and is tried again.
async fn expire_for_ever(
    custody: Arc<Custody>,
    metrics: KeyMetrics,
    reporting: Arc<Reporting>,
    shutdown: CancellationToken,
) {
    wait_for_log(&custody).await;
    loop {
        metrics.expired(custody.expire().await.ok());
        custody.tell_refusals().await;
        reporting.alarm("destruction_stopped", custody.stopped().as_deref()).await;
        report_loss(&custody, &metrics, &reporting).await;
        if let Ok(passed) = custody.reviews_passed().await {
            let review = "a hold is past its review date: decide whether it stands";
            reporting.alarm("hold_review", (passed > 0).then_some(review)).await;
        }
        if let Ok(counts) = custody.parts.store.counts().await {
            metrics.counted(counts.shred_receipts, counts.holds);
        }
        let rest = until_next_round(custody.parts.clock.wall());
        if shutdown.run_until_cancelled(sleep(rest)).await.is_none() {
            return;
        }
    }
}

/// Tells what of custody itself is damaged or gone.
async fn report_loss(custody: &Custody, metrics: &KeyMetrics, reporting: &Reporting) {
    metrics.damaged(custody.damage.rows());
    reporting.alarm("keys_damaged_rows", custody.damage.told().as_deref()).await;
    metrics.keyless(custody.watch().keyless_holds.len());
    reporting.alarm("hold_keys_lost", custody.keyless_holds().as_deref()).await;
    if let Ok(lost) = custody.lost_epochs().await {
        metrics.renewed(custody.watch().renewed_epochs.len());
        reporting.alarm("epoch_secrets_lost", lost.as_deref()).await;
    }
}

/// The log usually answers within a second, and nothing is destroyed before: that is no alarm.
async fn wait_for_log(custody: &Custody) {
    let mut waited = Duration::ZERO;
    while waited < EXPIRY_INTERVAL && !custody.watch().heard.log {
        sleep(GLANCE).await;
        waited += GLANCE;
    }
}

/// Epochs end with an hour, which may be almost an hour after the promise: destruction begins with the next
/// one and not within some minute of it.
fn until_next_round(now: Timestamp) -> Duration {
    let hour = Duration::from_hours(1).as_nanos();
    let into = u128::from(now.unix_nanos().unsigned_abs()) % hour;
    let left = u64::try_from(hour - into).map_or(EXPIRY_INTERVAL, Duration::from_nanos);
    // A clock that is slewed may not quite have got there: not a storm of rounds, but one a second later.
    left.clamp(Duration::from_secs(1), EXPIRY_INTERVAL)
}

/// Hands what was staged for the audit log over to the outbox.
async fn pump(custody: Arc<Custody>, outbox: Outbox, shutdown: CancellationToken) {
    custody.parts.store.pump(outbox, shutdown).await;
}

/// Follows changes of retention where the configuration names a registry.
fn follow_registry(daemon: &Daemon, custody: &Arc<Custody>) -> anyhow::Result<()> {
    if !daemon.config.peers.contains_key("registry") {
        return Ok(());
    }
    let authority = AuthorityKey::from_bytes(daemon.trust.zone_authority);
    let cache = Cache::open(&daemon.config.data_dir.join("snapshot"), authority, daemon.clock.clone())?;
    let (cache, shutdown) = (Arc::new(cache), daemon.shutdown.clone());
    let registry = daemon.peer("registry")?;
    tokio::spawn(obscura_snapshot::follow(Arc::clone(&cache), registry, shutdown.clone()));
    tokio::spawn(retentions::follow(Arc::clone(custody), cache, shutdown));
    Ok(())
}

/// Finds out whether the data directory was put back from a backup, and replays what it lacks then.
fn watch_for_rollback(daemon: &Daemon, custody: &Arc<Custody>, reporting: &Reporting) -> anyhow::Result<()> {
    let (audit, compared) = (daemon.peer("audit")?, reporting.outbox().compared());
    let (custody, shutdown) = (Arc::clone(custody), daemon.shutdown.clone());
    tokio::spawn(async move { rollback::watch(&custody, compared, audit, &shutdown).await });
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destruction_is_looked_at_every_minute_and_as_an_hour_begins() {
        let rest = |time: &str| until_next_round(format!("2026-11-23T{time}Z").parse().unwrap());
        assert_eq!(rest("10:00:00"), EXPIRY_INTERVAL);
        assert_eq!(rest("10:59:00"), EXPIRY_INTERVAL);
        assert_eq!(rest("10:59:35"), Duration::from_secs(25));
        assert_eq!(rest("10:59:59.999"), Duration::from_secs(1), "no storm of rounds");
    }
}
