//! Where objects are moved to and from: here, or straight to the bucket.
//!
//! A link is permission for one object and a few minutes. One to this service is of use to services of
//! this installation only; one to a bucket to whoever has it, which is why neither is ever logged. The
//! bytes are sealed either way.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use obscura_blob::{BlobKey, Presigned, S3Bucket};
use obscura_clock::{SharedClock, Timestamp};

use crate::{
    Error,
    config::PublicAddress,
    url_signer::{Method, Refused, Ticket, UrlSigner},
};

/// Permission to move one object.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// The URL.
    pub url: String,
    /// Headers by lower-case name that must be sent exactly as they are.
    pub headers: BTreeMap<String, String>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// Makes links.
#[async_trait]
pub trait Links: Send + Sync + fmt::Debug {
    /// One PUT of exactly `size` bytes as a new object, until `expires`.
    ///
    /// # Errors
    /// Where the address is not known yet, or it is too late.
    async fn upload(&self, key: &BlobKey, size: u64, expires: Timestamp) -> Result<Link, Error>;

    /// GETs of the object of `size` bytes and of parts of it, until `expires`.
    ///
    /// # Errors
    /// As [`Links::upload`].
    async fn download(&self, key: &BlobKey, size: u64, expires: Timestamp) -> Result<Link, Error>;
}

/// Links to the routes of this service: see [`crate::http`].
#[derive(Debug)]
pub struct OwnLinks {
    /// Signs them.
    pub signer: Arc<UrlSigner>,
    /// Where they lead.
    pub address: PublicAddress,
}

impl OwnLinks {
    async fn link(&self, ticket: Ticket) -> Result<Link, Error> {
        let base_url = self.address.base_url().await.map_err(Error::Address)?;
        Ok(Link { url: base_url + &self.signer.sign(&ticket), headers: BTreeMap::new() })
    }
}

#[async_trait]
impl Links for OwnLinks {
    async fn upload(&self, key: &BlobKey, size: u64, expires: Timestamp) -> Result<Link, Error> {
        self.link(Ticket { method: Method::Put, key: key.clone(), size, expires }).await
    }

    async fn download(&self, key: &BlobKey, size: u64, expires: Timestamp) -> Result<Link, Error> {
        self.link(Ticket { method: Method::Get, key: key.clone(), size, expires }).await
    }
}

/// Links to a bucket, signed with its access key.
#[derive(Debug)]
pub struct BucketLinks {
    /// The bucket.
    pub bucket: S3Bucket,
    /// What time it is.
    pub clock: SharedClock,
}

impl BucketLinks {
    /// Whole seconds until then: S3 knows no shorter times, and a link never outlives its grant.
    fn valid_for(&self, expires: Timestamp) -> Result<Duration, Error> {
        let seconds = expires.since(self.clock.wall()).as_secs();
        if seconds == 0 { Err(Refused::Expired(expires).into()) } else { Ok(Duration::from_secs(seconds)) }
    }
}

#[async_trait]
impl Links for BucketLinks {
    async fn upload(&self, key: &BlobKey, size: u64, expires: Timestamp) -> Result<Link, Error> {
        Ok(self.bucket.presign_put(key, size, self.valid_for(expires)?).into())
    }

    async fn download(&self, key: &BlobKey, _size: u64, expires: Timestamp) -> Result<Link, Error> {
        Ok(self.bucket.presign_get(key, self.valid_for(expires)?).into())
    }
}

impl From<Presigned> for Link {
    fn from(Presigned { url, headers }: Presigned) -> Self {
        Self { url, headers }
    }
}

#[cfg(test)]
mod tests;
