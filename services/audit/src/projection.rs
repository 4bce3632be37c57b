//! The log on the object store: tiles, bundles of entries and the checkpoint, in C2SP tlog-tiles.
//!
//! Everything here is made from the database and can be made again. The order is what counts: first every tile
//! and bundle of a size, durably, then the checkpoint of that size, so that whoever reads a checkpoint finds
//! what it points at. Partial tiles and bundles go once the full one is there and a checkpoint points at it.
//!
//! The other direction is the guard at the start: a published or cosigned checkpoint that is ahead of the
//! database, or of another tree, says that the database is not the newest one, and then nothing starts.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use obscura_blob::{BlobKey, BlobStore, body, read};
use obscura_daemon::write_atomically;
use obscura_tlog::{
    BundleId, CHECKPOINT_PATH, Checkpoint, LogKey, RightEdge, Root, SignedCheckpoint, TileId, encode_bundle,
};
use tokio::sync::watch;

use crate::{
    fault::{Faults, Step},
    store::{self, Filter, Head, Store},
    witness::{Cosigning, Lacking, Witnesses},
};

/// Objects that are stored at the same time.
const PARALLEL: usize = 8;
/// Longest checkpoint: the signatures of many witnesses.
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;
/// Objects that one listing takes.
const LISTING: usize = 256;

/// Why the log was not published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tables failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The object store failed.
    #[error("the object store of the log: {0}")]
    Blob(#[from] obscura_blob::Error),
    /// The file of the newest cosigned checkpoint cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A checkpoint is not ours.
    #[error(
        "{whence} is not a checkpoint of this log: {why}; move it away only if you know how it came there"
    )]
    Foreign {
        /// Where it was.
        whence: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Something newer than the database exists.
    #[error(
        "{whence} is of size {known}, and the database holds {size} entries only: an older database was restored. \
         Going on would fork the log. Restore the newest database; where it is lost for good, the log ends here: \
         keep its copy and start another one under a new key"
    )]
    Ahead {
        /// What is newer.
        whence: &'static str,
        /// Its size.
        known: u64,
        /// Size of the database.
        size: u64,
    },
    /// Something of another tree exists.
    #[error(
        "{whence} of size {size} has another root than the database at that size: they are two different logs. \
         Restore the database that belongs to it"
    )]
    Forked {
        /// What differs.
        whence: &'static str,
        /// Size of both.
        size: u64,
    },
    /// Entries cannot be bundled or tiles do not fit together.
    #[error("the log in the database does not hold together: {0}")]
    Broken(String),
}

/// What was published last.
pub type Published = Option<Arc<SignedCheckpoint>>;

/// Puts the log on the object store.
pub struct Projection {
    parts: Parts,
    witnesses: Witnesses,
    /// Everything below this size is on the object store.
    size: u64,
    published: watch::Sender<Published>,
    witnessed: watch::Sender<u64>,
}

/// What a projection is made of.
pub struct Parts {
    /// Tables.
    pub store: Arc<Store>,
    /// Where to.
    pub blobs: Arc<dyn BlobStore>,
    /// Signs checkpoints.
    pub key: Arc<LogKey>,
    /// Holds the newest cosigned checkpoint, beside the database and not in it.
    pub cosigned_file: PathBuf,
    /// What fails in tests.
    pub faults: Arc<dyn Faults>,
}

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projection").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Projection {
    /// Compares the database with everything that was published or cosigned.
    ///
    /// # Errors
    /// [`Error::Ahead`], [`Error::Forked`] and [`Error::Foreign`] forbid the start.
    pub async fn open(parts: Parts, mut witnesses: Witnesses) -> Result<Self, Error> {
        let head = parts.store.head().await?;
        let published = parts.published(&head).await?;
        let cosigned = parts.cosigned(&head).await?;
        witnesses.refuse_newer(&parts.store, &parts.key, &head).await?;
        let size = published.as_ref().map_or(0, |note| note.checkpoint().size);
        let witnessed = cosigned.map_or(0, |note| note.checkpoint().size);
        Ok(Self {
            parts,
            witnesses,
            size,
            published: watch::Sender::new(published.map(Arc::new)),
            witnessed: watch::Sender::new(witnessed),
        })
    }

    /// The newest published checkpoint.
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Size of the newest cosigned checkpoint; 0 where there is none.
    pub fn witnessed(&self) -> watch::Receiver<u64> {
        self.witnessed.subscribe()
    }

    /// Brings the object store up to the database. Returns what the witnesses lacked.
    ///
    /// # Errors
    /// The object store, the database, or a witness that shows a newer log ([`Error::Ahead`]).
    pub async fn publish(&mut self) -> Result<Option<Lacking>, Error> {
        let head = self.parts.store.head().await?;
        let is_new = self.published.borrow().is_none() || self.size < head.size;
        let is_cosigned = self.witnesses.is_empty() || *self.witnessed.borrow() == head.size;
        if !is_new && is_cosigned {
            return Ok(None);
        }
        self.parts.put_tiles(self.size, head.size).await?;
        self.parts.put_bundles(self.size, head.size, head.first_kept).await?;
        let checkpoint = self.parts.checkpoint(&head)?;
        self.parts.faults.at(Step::Cosign)?;
        let Cosigning { note, cosignatures, lacking } =
            self.witnesses.cosign(checkpoint, &self.parts.key, &self.parts.store, &head).await?;
        if cosignatures > 0 {
            self.parts.keep_cosigned(&note)?;
        }
        self.parts.faults.at(Step::ReplaceCheckpoint)?;
        self.parts.blobs.replace(&key(CHECKPOINT_PATH)?, Bytes::from(note.to_string())).await?;
        let before = std::mem::replace(&mut self.size, head.size);
        self.published.send_replace(Some(Arc::new(note)));
        if cosignatures > 0 {
            self.witnessed.send_replace(head.size);
        }
        self.parts.remove_partials(before, head.size).await?;
        Ok(lacking)
    }

    /// Forgets what was published, so that the next publishing stores everything that is not there.
    pub const fn rebuild(&mut self) {
        self.size = 0;
    }
}

impl Parts {
    /// The published checkpoint, where it fits the database.
    async fn published(&self, head: &Head) -> Result<Option<SignedCheckpoint>, Error> {
        let (whence, key) = ("the published checkpoint", key(CHECKPOINT_PATH)?);
        let size = match self.blobs.size(&key).await {
            Ok(size) => size,
            Err(obscura_blob::Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if size > MAX_CHECKPOINT_BYTES {
            return Err(Error::Foreign { whence, why: format!("it has {size} bytes") });
        }
        let note = read(&*self.blobs, &key, 0..size).await?;
        Ok(Some(self.check(whence, &note, head).await?))
    }

    /// The newest cosigned checkpoint, where it fits the database.
    async fn cosigned(&self, head: &Head) -> Result<Option<SignedCheckpoint>, Error> {
        match std::fs::read(&self.cosigned_file) {
            Ok(bytes) => Ok(Some(self.check("the newest cosigned checkpoint", &bytes, head).await?)),
            Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file_error(&self.cosigned_file, source)),
        }
    }

    async fn check(&self, whence: &'static str, note: &[u8], head: &Head) -> Result<SignedCheckpoint, Error> {
        let foreign = |why: String| Error::Foreign { whence, why };
        let text = std::str::from_utf8(note).map_err(|error| foreign(error.to_string()))?;
        let note = self.key.verifier().verify(text).map_err(|error| foreign(error.to_string()))?;
        let known = note.checkpoint().size;
        if known > head.size {
            return Err(Error::Ahead { whence, known, size: head.size });
        }
        if root_at(&self.store, known).await? != note.checkpoint().root {
            return Err(Error::Forked { whence, size: known });
        }
        Ok(note)
    }

    fn checkpoint(&self, head: &Head) -> Result<SignedCheckpoint, Error> {
        sign(&self.key, head)
    }

    async fn put_tiles(&self, from: u64, to: u64) -> Result<(), Error> {
        stream::iter(TileId::all(from, to))
            .map(|id| async move {
                self.faults.at(Step::PutTile)?;
                let tile = self.store.tile(id).await?;
                self.put(&id.to_string(), tile.to_bytes()).await
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    }

    async fn put_bundles(&self, from: u64, to: u64, first_kept: u64) -> Result<(), Error> {
        let kept = BundleId::all(from.max(first_kept), to).filter(|id| id.first_entry() >= first_kept);
        stream::iter(kept)
            .map(|id| async move {
                self.faults.at(Step::PutBundle)?;
                let bytes = bundle(&self.store, id).await?;
                self.put(&id.to_string(), bytes).await
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    }

    /// What is there already has the same bytes: the name of a tile says how much of the log it is about.
    async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match self.blobs.put(&key(path)?, body(bytes), size).await {
            Ok(()) | Err(obscura_blob::Error::AlreadyExists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn keep_cosigned(&self, note: &SignedCheckpoint) -> Result<(), Error> {
        self.faults.at(Step::KeepCosigned)?;
        let written = write_atomically(&self.cosigned_file, note.to_string().as_bytes(), 0o644);
        written.map_err(|source| file_error(&self.cosigned_file, source))
    }

    /// At most one tile a level and one bundle stopped being partial.
    async fn remove_partials(&self, from: u64, to: u64) -> Result<(), Error> {
        let full: BTreeSet<TileId> = TileId::all(from, to).filter(|id| id.is_full()).collect();
        let tiles = RightEdge::tile_ids(from).into_iter().map(TileId::full);
        for id in tiles.filter(|id| full.contains(id)) {
            self.remove_below(&id.to_string()).await?;
        }
        let bundle = BundleId::all(from, to).find(|id| id.is_full() && id.first_entry() < from);
        match bundle {
            Some(id) => self.remove_below(&id.to_string()).await,
            None => Ok(()),
        }
    }

    async fn remove_below(&self, path: &str) -> Result<(), Error> {
        self.faults.at(Step::RemovePartials)?;
        remove_partials_of(&*self.blobs, path).await
    }
}

/// The bundle of entries with this id.
pub async fn bundle(store: &Store, id: BundleId) -> Result<Vec<u8>, Error> {
    let (first, width) = (id.first_entry(), u64::from(id.width()));
    let to = first.saturating_add(width);
    let rows = store.entries(first, to, width, &Filter::default()).await?;
    let leaves: Vec<Bytes> = rows.into_iter().map(|row| row.leaf).collect();
    if u64::try_from(leaves.len()).unwrap_or_default() != width {
        return Err(Error::Broken(format!("entries {first} to {to} are not all there")));
    }
    encode_bundle(&leaves).map_err(|error| Error::Broken(error.to_string()))
}

/// Root of the log when it had this size.
pub async fn root_at(store: &Store, size: u64) -> Result<obscura_tlog::Hash, Error> {
    let broken = |error: obscura_tlog::ProofError| Error::Broken(error.to_string());
    let root = Root::new(size).map_err(broken)?;
    root.compute(&store.tiles(&root.plan()).await?).map_err(broken)
}

/// The checkpoint of this head, signed.
pub fn sign(key: &LogKey, head: &Head) -> Result<SignedCheckpoint, Error> {
    let origin = key.origin().to_owned();
    let checkpoint = Checkpoint { origin, size: head.size, root: head.root, extension: String::new() };
    SignedCheckpoint::sign(checkpoint, key).map_err(|error| Error::Broken(error.to_string()))
}

/// Removes every partial object beside the full one at `path`.
pub async fn remove_partials_of(blobs: &dyn BlobStore, path: &str) -> Result<(), Error> {
    let prefix = format!("{path}.p/");
    loop {
        let found = blobs.list(&prefix, None, LISTING).await?;
        for key in &found {
            blobs.delete(key).await?;
        }
        if found.len() < LISTING {
            return Ok(());
        }
    }
}

/// The object with this path.
pub fn key(path: &str) -> Result<BlobKey, Error> {
    path.parse().map_err(|error: obscura_blob::InvalidKey| Error::Broken(error.to_string()))
}

fn file_error(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}
