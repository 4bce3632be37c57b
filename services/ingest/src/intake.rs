//! The zone's intake key, to which layer keys are wrapped.
//!
//! Asked for once and kept on disk, so that recording starts with `keys` away. Once `keys` answers, its
//! word counts: footage under a key that custody cannot open would be lost without anybody noticing.

use std::{path::PathBuf, time::Duration};

use obscura_ids::ZoneId;
use obscura_proto::keys::v1::{GetIntakeKeyRequest, keys_service_client::KeysServiceClient};
use obscura_seal::RecipientPublicKey;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const RETRY: Duration = Duration::from_millis(500);
/// How often `keys` is asked whether the key is still the same, as long as it does not answer.
pub const ASK_SLOWLY: Duration = Duration::from_secs(30);
/// How often it is asked again where it did.
const ASK_AGAIN: Duration = Duration::from_hours(1);

/// Whom to ask for the intake key, and where it is kept.
pub struct Intake {
    /// The file that keeps it.
    pub path: PathBuf,
    /// The zone whose key it must be.
    pub zone: ZoneId,
    /// Custody.
    pub keys: Channel,
    /// Ends the asking.
    pub shutdown: CancellationToken,
}

impl Intake {
    /// The key from disk, or from `keys` as soon as it answers. `None` where told to stop before.
    pub async fn key(&self) -> Option<RecipientPublicKey> {
        if let Some(key) = read(&self.path) {
            return Some(key);
        }
        let mut told = false;
        while !self.shutdown.is_cancelled() {
            match ask(self.keys.clone(), &self.zone).await {
                Ok(key) => {
                    self.keep(&key);
                    return Some(key);
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
            self.wait(RETRY).await;
        }
        None
    }

    /// Another key than the one that is used, as soon as `keys` has one; it is kept from then on. Asks
    /// every `slowly` until there is an answer. `None` where told to stop before.
    pub async fn replaced(&self, used: &RecipientPublicKey, slowly: Duration) -> Option<RecipientPublicKey> {
        while !self.shutdown.is_cancelled() {
            match ask(self.keys.clone(), &self.zone).await {
                Ok(key) if key.0 != used.0 => {
                    tracing::error!(
                        "keys has another intake key than the one that was kept here; layer keys are wrapped to the new one from now on, those before may be refused: find out who changed it"
                    );
                    self.keep(&key);
                    return Some(key);
                }
                Ok(_) => self.wait(ASK_AGAIN).await,
                Err(error) => {
                    tracing::debug!(error, "whether the intake key is still the same is not known");
                    self.wait(slowly).await;
                }
            }
        }
        None
    }

    fn keep(&self, key: &RecipientPublicKey) {
        if let Err(error) = obscura_daemon::write_atomically(&self.path, &key.0, 0o600) {
            tracing::warn!(%error, "the intake key could not be kept; the next start needs keys again");
        }
    }

    async fn wait(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.shutdown.cancelled()).await;
    }
}

fn read(path: &PathBuf) -> Option<RecipientPublicKey> {
    let bytes: [u8; 32] = std::fs::read(path).ok()?.try_into().ok()?;
    Some(RecipientPublicKey(bytes))
}

async fn ask(keys: Channel, zone: &ZoneId) -> Result<RecipientPublicKey, String> {
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
    let key =
        answer.public_key.as_ref().try_into().map_err(|_| "the intake key is not 32 bytes".to_owned())?;
    Ok(RecipientPublicKey(key))
}
