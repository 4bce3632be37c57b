//! The zone's intake key, to which layer keys are wrapped.
//!
//! Asked for once and kept on disk, so that recording starts with `keys` away.

use std::{path::PathBuf, time::Duration};

use obscura_ids::ZoneId;
use obscura_proto::keys::v1::{GetIntakeKeyRequest, keys_service_client::KeysServiceClient};
use obscura_seal::RecipientPublicKey;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const RETRY: Duration = Duration::from_millis(500);

/// The key from disk, or from `keys` as soon as it answers. `None` where told to stop before.
pub async fn key(
    path: PathBuf,
    zone: ZoneId,
    keys: Channel,
    shutdown: CancellationToken,
) -> Option<RecipientPublicKey> {
    if let Some(key) = read(&path) {
        return Some(key);
    }
    let mut told = false;
    while !shutdown.is_cancelled() {
        match ask(keys.clone(), &zone).await {
            Ok(bytes) => {
                if let Err(error) = obscura_daemon::write_atomically(&path, &bytes, 0o600) {
                    tracing::warn!(%error, "the intake key could not be kept; the next start needs keys again");
                }
                return Some(RecipientPublicKey(bytes));
            }
            Err(error) if !told => {
                tracing::error!(
                    error,
                    "no camera can be recorded before keys has answered once with the intake key"
                );
                told = true;
            }
            Err(_) => {}
        }
        let _ = tokio::time::timeout(RETRY, shutdown.cancelled()).await;
    }
    None
}

fn read(path: &PathBuf) -> Option<RecipientPublicKey> {
    let bytes: [u8; 32] = std::fs::read(path).ok()?.try_into().ok()?;
    Some(RecipientPublicKey(bytes))
}

async fn ask(keys: Channel, zone: &ZoneId) -> Result<[u8; 32], String> {
    let call = KeysServiceClient::new(keys);
    let answer = tokio::time::timeout(Duration::from_secs(5), async move {
        let mut call = call;
        call.get_intake_key(GetIntakeKeyRequest {}).await
    });
    let answer =
        answer.await.map_err(|_| "no answer")?.map_err(|status| status.message().to_owned())?.into_inner();
    if answer.zone != zone.as_str() {
        return Err(format!("keys serves zone `{}`, this recorder `{zone}`", answer.zone));
    }
    answer.public_key.as_ref().try_into().map_err(|_| "the intake key is not 32 bytes".to_owned())
}
