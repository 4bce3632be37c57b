//! A store that knows no conditions: whoever writes last wins.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BlobKey, BlobStore, ByteStream, Error, Found};

/// A store that replaces an object instead of refusing a second one, as some S3 stores do that ignore
/// `If-None-Match`.
#[derive(Clone, Debug)]
pub struct Overwriting(Arc<dyn BlobStore>);

impl Overwriting {
    /// Writes into `inner`, whatever is there.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>) -> Self {
        Self(inner)
    }
}

#[async_trait]
impl BlobStore for Overwriting {
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error> {
        self.0.delete(key).await?;
        self.0.put(key, body, size).await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        self.0.replace(key, bytes).await
    }

    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error> {
        self.0.get(key, range).await
    }

    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        self.0.read_whole(key, limit).await
    }

    async fn size(&self, key: &BlobKey) -> Result<u64, Error> {
        self.0.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        self.0.delete(key).await
    }

    async fn walk(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Found>, Error> {
        self.0.walk(prefix, after, limit).await
    }
}
