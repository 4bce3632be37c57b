//! Where packs rest: one contract, one conformance suite, a local directory.
//!
//! A [`BlobStore`] keeps sealed objects under a [`BlobKey`]. What it promises is small on purpose,
//! so that a directory and a bucket can both keep it: an object appears whole or not at all, is
//! durable before `put` returns, and is never written twice. [`conformance`] proves that for every
//! back end.

pub mod conformance;
mod error;
mod key;
mod local;

use std::{fmt, io, ops::Range, pin::Pin};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};

pub use error::Error;
pub use key::{BlobKey, InvalidKey};
pub use local::LocalDirectory;

/// The bytes of an object, piece by piece, in order.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A store of objects that are written once.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores exactly `size` bytes as a new object.
    ///
    /// On `Ok` the object is durable; on any error nothing of it is visible. Of several concurrent
    /// calls for one key exactly one wins.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] where there is an object, which then is durable and unchanged (the
    /// body may be left unread); [`Error::WrongSize`] where the body is shorter or longer than
    /// announced; [`Error::Body`] where it breaks off; [`Error::Io`] otherwise.
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error>;

    /// The bytes of `range`, end exclusive, which must lie within the object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OutOfBounds`], [`Error::Io`]; a fault met later ends the stream.
    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error>;

    /// Number of bytes of the object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    async fn size(&self, key: &BlobKey) -> Result<u64, Error>;

    /// Removes the object durably. That there is none is fine.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn delete(&self, key: &BlobKey) -> Result<(), Error>;

    /// At most `limit` keys that start with `prefix` and come after `after`, in the order of their bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn list(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>, Error>;
}

/// A body made of bytes that are in memory already.
#[must_use]
pub fn body(bytes: impl Into<Bytes>) -> ByteStream {
    let bytes = bytes.into();
    Box::pin(stream::once(async move { Ok(bytes) }))
}

/// Reads `range` of an object into memory. The caller bounds the range.
///
/// # Errors
/// As [`BlobStore::get`]; [`Error::Io`] where the stream breaks off.
pub async fn read(store: &dyn BlobStore, key: &BlobKey, range: Range<u64>) -> Result<Bytes, Error> {
    let mut pieces = store.get(key, range).await?;
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece.map_err(|source| Error::Io { doing: "reading an object", source })?);
    }
    Ok(whole.freeze())
}
