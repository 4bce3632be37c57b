//! A copy of the log as files, for auditors, consistent in itself: everything is of one checkpoint.

use std::sync::Arc;

use bytes::Bytes;
use obscura_proto::audit::v1::ExportLogResponse;
use obscura_tlog::{BundleId, CHECKPOINT_PATH, SignedCheckpoint, TileId};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    disclosure::Disclosure,
    error::Error,
    grpc::status,
    log::Log,
    projection::{self, Published},
    roles::{AuditorView, Reader},
};

/// Longest piece of a file.
const PIECE_BYTES: usize = 1024 * 1024;

/// Pieces on their way to a caller.
pub type Pieces = mpsc::Sender<Result<ExportLogResponse, Status>>;

/// A copy that is permitted.
#[derive(Debug)]
pub struct Copying {
    checkpoint: SignedCheckpoint,
    first_kept: u64,
    /// Nobody else takes one.
    view: AuditorView,
}

impl Copying {
    /// Permits a copy of the log, or refuses it; the log hears of a refusal.
    ///
    /// # Errors
    /// [`Error::NotAuditor`]; those of the log.
    pub async fn permit(log: &Log, reader: &Reader) -> Result<AuditorView, Error> {
        let refusal = match log.parts.roles.auditor(reader) {
            Ok(view) => return Ok(view),
            Err(refusal) => refusal,
        };
        let head = log.parts.store.head().await?;
        disclosure(reader.clone()).refused(log, head.first_kept..head.size).await?;
        Err(refusal)
    }

    /// A copy of the published log, or where nothing is `published` that will do of the log of this moment, without
    /// cosignatures. The log hears of it.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn begin(
        log: &Log,
        published: Published,
        view: AuditorView,
        reader: Reader,
    ) -> Result<Self, Error> {
        let head = log.parts.store.head().await?;
        let checkpoint = match published {
            Some(note) => (*note).clone(),
            None => projection::sign(&log.parts.key, &head)?,
        };
        let (first_kept, size) = (head.first_kept, checkpoint.checkpoint().size);
        disclosure(reader).read(log, first_kept..size, size.saturating_sub(first_kept)).await?;
        Ok(Self { checkpoint, first_kept, view })
    }

    /// Sends every file, the checkpoint first.
    pub async fn send(self, log: Arc<Log>, to: Pieces) {
        if let Err(error) = send_all(&log, &self, &to).await {
            // Whoever went away needs no answer.
            let _ = to.send(Err(status(error))).await;
        }
    }
}

fn disclosure(reader: Reader) -> Disclosure {
    Disclosure::new(reader, None, "a copy of the log".to_owned())
}

async fn send_all(log: &Log, copy: &Copying, to: &Pieces) -> Result<(), Error> {
    let Copying { checkpoint, first_kept, view: AuditorView { .. } } = copy;
    let (store, first_kept) = (&log.parts.store, *first_kept);
    let size = checkpoint.checkpoint().size;
    if !send_file(to, CHECKPOINT_PATH, checkpoint.to_string().into()).await {
        return Ok(());
    }
    for id in TileId::all(0, size) {
        let tile = store.tile(id).await?.to_bytes();
        if !send_file(to, &id.to_string(), tile.into()).await {
            return Ok(());
        }
    }
    for id in BundleId::all(first_kept, size).filter(|id| id.first_entry() >= first_kept) {
        let bundle = match projection::bundle(store, id).await {
            // Pruned since we began: the copy begins later than its first file said.
            Err(projection::Error::Broken(_)) if store.head().await?.first_kept > id.first_entry() => {
                continue;
            }
            other => other?,
        };
        if !send_file(to, &id.to_string(), bundle.into()).await {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether anybody still listens.
async fn send_file(to: &Pieces, path: &str, mut bytes: Bytes) -> bool {
    loop {
        let data = bytes.split_to(bytes.len().min(PIECE_BYTES));
        let piece = ExportLogResponse { path: path.to_owned(), data };
        if to.send(Ok(piece)).await.is_err() {
            return false;
        }
        if bytes.is_empty() {
            return true;
        }
    }
}
