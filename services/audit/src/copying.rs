//! A copy of the log as files, consistent in itself: everything is of one checkpoint.

use std::sync::Arc;

use bytes::Bytes;
use obscura_proto::audit::v1::ExportLogResponse;
use obscura_tlog::{BundleId, CHECKPOINT_PATH, TileId};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    error::Error,
    grpc::status,
    log::Log,
    projection::{self, Published},
};

/// Longest piece of a file.
const PIECE_BYTES: usize = 1024 * 1024;

/// Pieces on their way to a caller.
pub type Pieces = mpsc::Sender<Result<ExportLogResponse, Status>>;

/// Sends every file of the published log, the checkpoint first; where nothing was published yet, of the log of
/// this moment.
pub async fn send(log: Arc<Log>, published: Published, to: Pieces) {
    if let Err(error) = send_all(&log, published, &to).await {
        // Whoever went away needs no answer.
        let _ = to.send(Err(status(error))).await;
    }
}

async fn send_all(log: &Log, published: Published, to: &Pieces) -> Result<(), Error> {
    let store = &log.parts.store;
    let head = store.head().await?;
    let checkpoint = match published {
        Some(note) => (*note).clone(),
        None => projection::sign(&log.parts.key, &head)?,
    };
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
    for id in BundleId::all(head.first_kept, size).filter(|id| id.first_entry() >= head.first_kept) {
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
