//! Whether this custody is an old copy of itself.
//!
//! A data directory that is put back whole (database, secrets and mark all of the same age) opens everything that
//! was destroyed since, and nothing in it says so. Two others have seen more, and until both have spoken after a
//! start no key is released:
//!
//! 1. The audit log knows how many events this data directory has reported. Where that is more than the
//!    directory knows, it was put back, which is written down in a file before anything else happens. Until then
//!    nothing is destroyed either.
//! 2. `storage` asks for the receipts behind the last one it has. Where that is not here, it was put back. The log
//!    may not know: its outbox can be lost, or the log was away. So no receipt is numbered before `storage` has
//!    spoken too: a number that is given twice would forbid to replay the receipts.
//!
//! A copy that the log found out reads the receipts of destruction from the log, which names them all, and
//! replays them; then it goes on. What a crash in between leaves: the file, with which it begins anew.
//!
//! Layer keys are taken all the time: recording never waits.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::{Stream, StreamExt as _, stream};
use obscura_daemon::write_atomically;
use obscura_proto::{
    audit::v1::{ReadEntriesRequest, audit_service_client::AuditServiceClient},
    keys::v1::{ShredReceipt, SignedShredReceipt},
};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{custody::Custody, error::Error, secrets, store::shred_receipt};

/// File that says that the data directory was put back from a backup.
const RESTORED: &str = "restored";
/// How long a caller waits for what a start still has to learn: longer than `storage` takes to ask again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether that has come.
const GLANCE: Duration = Duration::from_millis(50);
/// Between attempts to replay.
const AGAIN: Duration = Duration::from_secs(5);
/// How long the log may think about the next entry.
const ENTRY: Duration = Duration::from_secs(30);
/// Entries of the log that are of interest.
const KIND: &str = "destruction";
/// End of the name of whoever reported them.
const SOURCE: &str = "/obscura/keys";

/// What others have said since this process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The audit log has said how far it is.
    pub log: bool,
    /// `storage` has compared receipts.
    pub storage: bool,
    /// What had waited for both is finished.
    pub settled: bool,
    /// The log knows more of this data directory than it does itself.
    pub restored: bool,
}

/// The file that says that a data directory was put back.
pub fn restored_file(data: &Path) -> PathBuf {
    data.join(RESTORED)
}

/// Whether it says so. A disk that cannot be read says nothing, which is no reason to go on.
pub fn is_restored(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}

/// Writes down that the data directory was put back; durable on return.
///
/// # Errors
/// What the file system says.
pub fn note_restored(data: &Path) -> std::io::Result<()> {
    tracing::error!(
        "the audit log knows more of this data directory than it does: it was put back from a backup"
    );
    write_atomically(&restored_file(data), b"the receipts of destruction have to be replayed\n", 0o600)
}

impl Custody {
    /// Refuses to release while this may be an old copy.
    pub(crate) fn check_current(&self) -> Result<(), Error> {
        self.check_may_number()?;
        let settled = self.watch().heard.settled;
        if settled { Ok(()) } else { Err(Error::Unconfirmed("what a crash left to be finished")) }
    }

    /// Refuses to number receipts while somebody may have others under the next numbers.
    pub(crate) fn check_may_number(&self) -> Result<(), Error> {
        self.check_may_destroy()?;
        let compared = self.watch().heard.storage;
        if compared { Ok(()) } else { Err(Error::Unconfirmed("storage to compare receipts")) }
    }

    /// Refuses to destroy while this may be an old copy.
    pub(crate) fn check_may_destroy(&self) -> Result<(), Error> {
        self.check_not_behind()?;
        if self.watch().heard.log { Ok(()) } else { Err(Error::Unconfirmed("the audit log")) }
    }

    /// Waits for audit log and `storage`, which take seconds after a start. Whoever then asks is refused or not.
    pub(crate) async fn wait_until_confirmed(&self) {
        let mut waited = Duration::ZERO;
        while waited < PATIENCE && matches!(self.check_current(), Err(Error::Unconfirmed(_))) {
            sleep(GLANCE).await;
            waited += GLANCE;
        }
    }

    /// The audit log has said how far it is with this data directory, and where that is further the file says so.
    pub(crate) async fn log_compared(&self) {
        let restored = is_restored(&self.parts.restored_file);
        {
            let mut watch = self.watch();
            (watch.heard.log, watch.heard.restored) = (true, restored);
        }
        self.settle().await;
    }

    /// `storage` has compared its receipts with ours and lacks none of them.
    pub(crate) async fn storage_compared(&self) {
        self.watch().heard.storage = true;
        self.settle().await;
    }

    /// Finishes what waited for both, once.
    async fn settle(&self) {
        if self.watch().heard.settled || self.check_may_number().is_err() {
            return;
        }
        let _turn = self.changing.lock().await;
        self.finish_interrupted().await;
        self.watch().heard.settled = true;
    }

    /// Every receipt of the log is here again.
    async fn replayed_log(&self) -> Result<(), Error> {
        let path = self.parts.restored_file.clone();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(secrets::Error::Io { path, source: error }.into());
            }
            _ => {}
        }
        self.watch().heard.restored = false;
        tracing::warn!("a data directory that was put back has all receipts of destruction again");
        self.settle().await;
        Ok(())
    }

    /// Replays a receipt of the log, unless it is here. One that custody has not seen and that does not follow the
    /// newest one is refused: then a file or `storage` has those between.
    async fn replay_logged(&self, signed: SignedShredReceipt) -> Result<(), Error> {
        let receipt = ShredReceipt::decode(signed.receipt.clone()).unwrap_or_default();
        if !self.has_signed(&signed)? {
            // The log outlived another custody, or somebody else wrote into it.
            tracing::warn!(
                number = receipt.number,
                "the log has a receipt that this custody did not sign; left out"
            );
            return Ok(());
        }
        if receipt.number > 0 && receipt.number <= shred_receipt::newest(self.parts.store.reader()).await? {
            return Ok(());
        }
        self.replay(&[signed]).await.map(drop)
    }

    /// What a data directory that was put back has to be told again, in the order of the log.
    pub(crate) async fn replay_log(
        &self,
        mut receipts: impl Stream<Item = Result<SignedShredReceipt, Status>> + Unpin + Send,
    ) -> Result<(), Error> {
        while let Some(receipt) = receipts.next().await {
            let receipt = receipt.map_err(|status| Error::LogAway(Box::new(status)))?;
            self.replay_logged(receipt).await?;
        }
        self.replayed_log().await
    }
}

/// Waits for the audit log and, where it says that the data directory was put back, replays from it; until
/// `shutdown`.
pub async fn watch(
    custody: &Custody,
    mut compared: watch::Receiver<bool>,
    audit: Channel,
    shutdown: &CancellationToken,
) {
    let answer = async { compared.wait_for(|compared| *compared).await.is_ok() };
    if shutdown.run_until_cancelled(answer).await != Some(true) {
        return;
    }
    custody.log_compared().await;
    while custody.watch().heard.restored {
        let outcome = shutdown.run_until_cancelled(replay_from(custody, audit.clone())).await;
        if let Some(Err(error)) = &outcome {
            tracing::error!(%error, "the receipts of destruction could not be replayed from the audit log");
            shutdown.run_until_cancelled(sleep(AGAIN)).await;
        }
        if shutdown.is_cancelled() {
            return;
        }
    }
}

async fn replay_from(custody: &Custody, audit: Channel) -> Result<(), Error> {
    let away = |status| Error::LogAway(Box::new(status));
    let request = ReadEntriesRequest { kinds: vec![KIND.to_owned()], ..ReadEntriesRequest::default() };
    let asked = timeout(ENTRY, AuditServiceClient::new(audit).read_entries(request)).await;
    let entries = asked.map_err(|_| away(late()))?.map_err(away)?.into_inner();
    let receipts = stream::try_unfold(entries, |mut entries| async move {
        loop {
            let Some(entry) = timeout(ENTRY, entries.message()).await.map_err(|_| late())?? else {
                return Ok(None);
            };
            if let Some(receipt) = receipt_of(&entry.leaf) {
                return Ok(Some((receipt, entries)));
            }
        }
    });
    custody.replay_log(Box::pin(receipts)).await
}

fn late() -> Status {
    Status::deadline_exceeded("no answer in time")
}

/// The receipt that an entry of custody about a destruction carries; `storage` tells of the same ones later.
fn receipt_of(leaf: &[u8]) -> Option<SignedShredReceipt> {
    let entry: serde_json::Value = serde_json::from_slice(leaf).ok()?;
    let source = entry.get("source")?.as_str()?;
    if !source.ends_with(SOURCE) {
        return None;
    }
    let text = entry.pointer("/data/unmapped/receipt")?.as_str()?;
    let bytes = BASE64.decode(text).ok()?;
    SignedShredReceipt::decode(&*bytes).ok()
}

#[cfg(test)]
mod tests;
