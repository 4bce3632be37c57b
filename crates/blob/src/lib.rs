//! Where packs rest: one contract, one conformance suite, a local directory and S3.
//!
//! A [`BlobStore`] keeps sealed objects under a [`BlobKey`]. What it promises is small on purpose,
//! so that a directory and a bucket can both keep it: an object appears whole or not at all, is
//! durable before `put` returns, and is never written twice. [`conformance`] proves that for every
//! back end and every decorator, and [`probe`] tries it on the store that an operator configured.
//!
//! [`LocalDirectory`] and [`S3Bucket`] are stores; [`WithTimeout`] and [`WithRetry`] go around one.
//! Nothing here trusts a store with more than keeping bytes: what it keeps is sealed and verified by
//! its readers, so whoever controls it can withhold or destroy footage, and neither see nor forge any.

pub mod conformance;
mod error;
#[cfg(any(test, feature = "faults"))]
mod faults;
mod key;
mod local;
#[cfg(any(test, feature = "faults"))]
mod overwriting;
mod presigned;
mod probe;
mod retry;
pub mod s3;
mod timeout;
mod web;

use std::{fmt, io, ops::Range, pin::Pin};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};

pub use error::Error;
#[cfg(any(test, feature = "faults"))]
pub use faults::{Fault, WithFaults};
pub use key::{BlobKey, InvalidKey};
pub use local::LocalDirectory;
#[cfg(any(test, feature = "faults"))]
pub use overwriting::Overwriting;
pub use presigned::{Presigned, is_presigned};
pub use probe::{Limitation, probe};
pub use retry::{RetryPolicy, WithRetry};
pub use s3::{S3Bucket, S3Settings};
pub use timeout::{Timeouts, WithTimeout};
pub use web::{WebBody, WebClient, WebError, WebTrust};

/// Largest object that can be replaced, in bytes: a checkpoint or a partial tile is far smaller.
pub const MAX_REPLACEABLE_BYTES: usize = 1024 * 1024;

/// The bytes of an object, piece by piece, in order.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A store of objects that are written once, but for the few small ones that are replaced.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores exactly `size` bytes as a new object.
    ///
    /// On `Ok` the object is durable. On an error nothing of it is visible, but for
    /// [`Error::Unanswered`]: then it is there whole, or not at all. Of several concurrent calls for
    /// one key exactly one wins.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] where there is an object, which then is durable and unchanged (the
    /// body may be left unread); [`Error::WrongSize`] where the body is shorter or longer than
    /// announced; [`Error::Body`] where it breaks off; otherwise those of the store, as everywhere:
    /// [`Error::Io`], [`Error::Unavailable`], [`Error::Unanswered`], [`Error::Refused`].
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error>;

    /// Stores a small object in place of the one that is there, if any. Whoever reads meanwhile gets
    /// the old bytes or the new ones, whole. Only for objects that are meant to change: the
    /// checkpoints and partial tiles of the audit log.
    ///
    /// On `Ok` the new bytes are durable. After an error either may be there.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_REPLACEABLE_BYTES`]; those of the store.
    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error>;

    /// The bytes of `range`, end exclusive, which must lie within the object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OutOfBounds`], those of the store; a fault met later ends the
    /// stream with an error.
    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error>;

    /// All bytes of an object of at most `limit`, as they were at one moment.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`], those of the store.
    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error>;

    /// Number of bytes of the object.
    ///
    /// # Errors
    /// [`Error::NotFound`], those of the store.
    async fn size(&self, key: &BlobKey) -> Result<u64, Error>;

    /// Removes the object durably. That there is none is fine.
    ///
    /// # Errors
    /// Those of the store.
    async fn delete(&self, key: &BlobKey) -> Result<(), Error>;

    /// At most `limit` objects whose keys start with `prefix` and come after `after`, in the order of the bytes
    /// of their keys.
    ///
    /// # Errors
    /// Those of the store.
    async fn walk(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Found>, Error>;

    /// The keys of [`Self::walk`].
    ///
    /// # Errors
    /// Those of the store.
    async fn list(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>, Error> {
        let found = self.walk(prefix, after, limit).await?;
        Ok(found.into_iter().map(|found| found.key).collect())
    }
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: BlobKey,
    /// Number of its bytes, where the store says so in a listing.
    pub size: Option<u64>,
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
        whole.extend_from_slice(&piece.map_err(Error::io("reading an object"))?);
    }
    Ok(whole.freeze())
}

/// Refuses what is too large to be replaced.
fn check_replaceable(bytes: &Bytes) -> Result<(), Error> {
    if bytes.len() > MAX_REPLACEABLE_BYTES {
        return Err(Error::TooLarge { bytes: bytes.len() as u64, limit: MAX_REPLACEABLE_BYTES as u64 });
    }
    Ok(())
}
