//! A directory as object store.
//!
//! An object is written to `.partial/`, synced, linked under its key and made durable there by
//! syncing the directory: a crash leaves either the whole object or a file in `.partial/`, which
//! the next start removes. Linking, unlike renaming, never replaces an object; the few objects that are
//! meant to be replaced are renamed.
//!
//! This path carries all footage, so bytes are handed to the blocking pool about a megabyte at a
//! time, without copying, and each object costs one sync of its data.

mod directories;
mod listing;
mod partial;
mod reading;
mod replacing;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use self::{directories::Directories, partial::Partial, reading::Reading};
use crate::{BlobKey, BlobStore, ByteStream, Error, Found, check_replaceable};

/// Bytes that travel to or from the blocking pool at once.
const BATCH_BYTES: usize = 1 << 20;
/// Pieces that travel at once, which bounds the memory that tiny pieces take.
const BATCH_PIECES: usize = 512;

/// A directory of this machine as object store. Owned by one process at a time.
#[derive(Clone, Debug)]
pub struct LocalDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    directories: Directories,
    /// The open root, locked: whoever else came to clean up `.partial/` would remove our uploads.
    _lock: File,
}

impl LocalDirectory {
    /// Opens the directory, creates it where needed (readable by its owner only), and removes what
    /// a crash left behind. Blocks: call it at start-up.
    ///
    /// # Errors
    /// [`Error::Io`] where the directory cannot be created, locked or cleaned; another process that
    /// has it open shows as [`io::ErrorKind::WouldBlock`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        directories::create_private(root).map_err(Error::io("creating the object directory"))?;
        let lock = File::open(root).map_err(Error::io("opening the object directory"))?;
        lock.try_lock().map_err(io::Error::from).map_err(Error::io("locking the object directory"))?;
        let removed = partial::prepare(root).map_err(Error::io("cleaning up unfinished uploads"))?;
        if removed > 0 {
            tracing::info!(removed, "removed uploads that a crash left unfinished");
        }
        let inner = Inner { root: root.to_owned(), directories: Directories::default(), _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs blocking work on the pool that is meant for it.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|stopped| Error::Io { doing, source: io::Error::other(stopped) })?
    }

    /// Moves the body to a new file in `.partial/`.
    async fn receive(&self, mut body: ByteStream, size: u64) -> Result<Partial, Error> {
        let mut partial =
            self.blocking("creating an object", move |inner| Partial::create(&inner.root, size)).await?;
        let mut received = 0;
        loop {
            let batch = next_batch(&mut body, &mut received, size).await?;
            if batch.is_empty() {
                break;
            }
            partial = self.blocking("writing an object", move |_| partial.append(&batch)).await?;
        }
        if received != size {
            return Err(Error::WrongSize { announced: size, received });
        }
        Ok(partial)
    }
}

#[async_trait]
impl BlobStore for LocalDirectory {
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error> {
        let wanted = key.clone();
        self.blocking("looking for an object", move |inner| inner.refuse_existing(&wanted)).await?;
        let mut partial = self.receive(body, size).await?;
        let key = key.clone();
        self.blocking("publishing an object", move |inner| inner.publish(&mut partial, &key)).await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        check_replaceable(&bytes)?;
        let key = key.clone();
        self.blocking("replacing an object", move |inner| inner.replace(&key, &bytes)).await
    }

    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error> {
        let key = key.clone();
        let opened =
            self.blocking("opening an object", move |inner| Reading::open(inner, &key, range)).await?;
        Ok(Box::pin(stream::try_unfold(opened, |reading| async move { reading.next().await })))
    }

    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        let key = key.clone();
        self.blocking("reading an object", move |inner| inner.read_whole(&key, limit)).await
    }

    async fn size(&self, key: &BlobKey) -> Result<u64, Error> {
        let key = key.clone();
        self.blocking("sizing an object", move |inner| Ok(inner.open(&key)?.1)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        let key = key.clone();
        self.blocking("deleting an object", move |inner| inner.delete(&key)).await
    }

    async fn walk(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Found>, Error> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking("listing objects", move |inner| {
            listing::walk(&inner.root, &prefix, after.as_ref(), limit).map_err(Error::io("listing objects"))
        })
        .await
    }
}

impl Inner {
    fn path(&self, key: &BlobKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Refuses a key that is taken, once the object there is durable: its writer may have linked it
    /// a moment ago, and whoever repeats an upload takes this answer for success.
    fn refuse_existing(&self, key: &BlobKey) -> Result<(), Error> {
        let path = self.path(key);
        match fs::symlink_metadata(&path) {
            Ok(_) => {
                directories::sync_parent(&path).map_err(Error::io("syncing a directory"))?;
                Err(Error::AlreadyExists(key.clone()))
            }
            Err(absent) if is_absent(&absent) => Ok(()),
            Err(source) => Err(Error::Io { doing: "looking for an object", source }),
        }
    }

    fn publish(&self, partial: &mut Partial, key: &BlobKey) -> Result<(), Error> {
        partial.finish().map_err(Error::io("syncing an object"))?;
        let path = self.path(key);
        self.directories.ensure_parent(&self.root, &path).map_err(Error::io("creating a directory"))?;
        match partial.link_to(&path) {
            Ok(()) => {}
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => return self.refuse_existing(key),
            Err(source) => return Err(Error::Io { doing: "publishing an object", source }),
        }
        directories::sync_parent(&path).map_err(|source| {
            // An object that may not survive a power cut must not be visible either.
            let _ = fs::remove_file(&path);
            Error::Io { doing: "syncing a directory", source }
        })
    }

    fn open(&self, key: &BlobKey) -> Result<(File, u64), Error> {
        let file = File::open(self.path(key)).map_err(|source| match source {
            absent if is_absent(&absent) => Error::NotFound(key.clone()),
            source => Error::Io { doing: "opening an object", source },
        })?;
        let metadata = file.metadata().map_err(Error::io("sizing an object"))?;
        if !metadata.is_file() {
            return Err(Error::NotFound(key.clone()));
        }
        Ok((file, metadata.len()))
    }

    fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => directories::sync_parent(&path).map_err(Error::io("syncing a directory")),
            Err(absent) if is_absent(&absent) => Ok(()),
            Err(source) => Err(Error::Io { doing: "deleting an object", source }),
        }
    }
}

/// Whether the path leads to nothing; a key below another object leads to nothing too.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// About [`BATCH_BYTES`] of the body; empty at its end. Counts what came into `received` and stops
/// at the first byte too many.
async fn next_batch(body: &mut ByteStream, received: &mut u64, size: u64) -> Result<Vec<Bytes>, Error> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES && batch.len() < BATCH_PIECES {
        let Some(piece) = body.next().await else { break };
        let piece = piece.map_err(Error::Body)?;
        *received = received.saturating_add(piece.len() as u64);
        if *received > size {
            return Err(Error::WrongSize { announced: size, received: *received });
        }
        if !piece.is_empty() {
            bytes += piece.len();
            batch.push(piece);
        }
    }
    Ok(batch)
}
