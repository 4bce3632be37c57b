//! A bucket of an S3 store.
//!
//! An object is written with one conditional PUT (`If-None-Match: *`), so that the store itself keeps
//! the promise that nothing is written twice. What is larger than any pack goes in parts whose
//! completion has that condition; there not every store keeps it when two uploads of one key end at
//! the same moment (SeaweedFS 4.48 lets both win), which is why packs do not go that way. Every request is signed (AWS Signature Version 4) in its URL, exactly as the
//! URLs that others get. The access key stays in this process.
//!
//! What a crash leaves: of a PUT nothing; of an upload in parts, parts that nobody sees. Stores
//! remove those by a rule of the bucket (`AbortIncompleteMultipartUpload`).

mod answer;
mod exact;
mod listing;
mod parts;
mod reading;
mod signing;
#[cfg(test)]
mod tests;
mod writing;

use std::{fmt, ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, StatusCode, request};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use obscura_clock::SharedClock;
use rusty_s3::{Bucket, BucketError, Credentials, UrlStyle};
use url::Url;

use crate::{
    BlobKey, BlobStore, ByteStream, Error, Found, WebBody, WebClient, WebError, WebTrust, web::is_loopback,
};

/// How long the signature of an own request holds.
const OWN: Duration = Duration::from_secs(300);

/// Which bucket, and how to get at it.
#[derive(Clone)]
pub struct S3Settings {
    /// `https://host` or `https://host:port` of the store.
    pub endpoint: Url,
    /// Its region.
    pub region: String,
    /// The bucket, which exists.
    pub bucket: String,
    /// Whether the bucket is part of the host name, as AWS wants it, and not of the path.
    pub virtual_host: bool,
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Whom to believe.
    pub trust: WebTrust,
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint.as_str())
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not the URL of a store.
    #[error("the endpoint {0}")]
    Endpoint(&'static str),
    /// Not the name of a bucket.
    #[error("`{0}` is not the name of a bucket: 3 to 63 of a-z, 0-9, `-` and `.`")]
    Bucket(String),
    /// An empty or impossible access key, secret or region.
    #[error("{0} is empty, or has spaces or control characters in it")]
    Text(&'static str),
    /// The certificates of authorities.
    #[error(transparent)]
    Web(#[from] WebError),
}

/// When bodies are cut.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Larger ones go in parts. More than a pack ever has.
    single: u64,
    /// Bytes of a part, which is held in memory. S3 takes 5 MiB and more.
    part: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { single: 512 * 1024 * 1024, part: 16 * 1024 * 1024 }
    }
}

/// A bucket.
#[derive(Clone)]
pub struct S3Bucket {
    bucket: Bucket,
    credentials: Credentials,
    web: WebClient,
    clock: SharedClock,
    sizes: Sizes,
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Bucket").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl S3Bucket {
    /// A bucket with these settings. Asks nobody: [`crate::probe`] does.
    ///
    /// # Errors
    /// Says which setting cannot work.
    pub fn open(settings: &S3Settings, clock: SharedClock) -> Result<Self, SetupError> {
        check_endpoint(&settings.endpoint, settings.trust.allow_http)?;
        check_bucket(&settings.bucket)?;
        check_text("the region", &settings.region)?;
        check_text("the access key", &settings.access_key)?;
        check_text("the secret key", &settings.secret_key)?;
        let style = if settings.virtual_host { UrlStyle::VirtualHost } else { UrlStyle::Path };
        let bucket =
            Bucket::new(settings.endpoint.clone(), style, settings.bucket.clone(), settings.region.clone())
                .map_err(unusable)?;
        Ok(Self {
            bucket,
            credentials: Credentials::new(&settings.access_key, &settings.secret_key),
            web: WebClient::new(&settings.trust)?,
            clock,
            sizes: Sizes::default(),
        })
    }

    /// Sends a request without a body.
    async fn ask(
        &self,
        doing: &'static str,
        request: request::Builder,
    ) -> Result<http::Response<Incoming>, Error> {
        self.send(doing, request, Empty::new().map_err(|never| match never {}).boxed_unsync()).await
    }

    async fn send(
        &self,
        doing: &'static str,
        request: request::Builder,
        body: WebBody,
    ) -> Result<http::Response<Incoming>, Error> {
        let request = request.body(body).map_err(|error| Error::Refused { doing, why: error.to_string() })?;
        self.web.send(request).await.map_err(|error| match error {
            WebError::Connect(_) => Error::Unavailable { doing, why: error.to_string() },
            WebError::Broken(_) => Error::Unanswered { doing, why: error.to_string() },
            WebError::Roots(_) | WebError::Url(_) => Error::Refused { doing, why: error.to_string() },
        })
    }

    /// What the store says of an object, without its bytes.
    async fn head(&self, key: &BlobKey) -> Result<u64, Error> {
        const DOING: &str = "sizing an object";
        let url = self.bucket.head_object(Some(&self.credentials), key.as_str());
        let response = self.ask(DOING, Request::head(self.sign(&url).as_str())).await?;
        match response.status() {
            StatusCode::OK => answer::content_length(&response).ok_or_else(|| answer::nonsense(DOING)),
            StatusCode::NOT_FOUND => Err(Error::NotFound(key.clone())),
            _ => Err(answer::refusal(DOING, response).await),
        }
    }
}

#[async_trait]
impl BlobStore for S3Bucket {
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error> {
        if size > self.sizes.single {
            self.put_in_parts(key, body, size).await
        } else {
            self.put_at_once(key, body, size).await
        }
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        self.overwrite(key, bytes).await
    }

    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error> {
        self.get_range(key, range).await
    }

    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        self.get_whole(key, limit).await
    }

    async fn size(&self, key: &BlobKey) -> Result<u64, Error> {
        self.head(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        const DOING: &str = "deleting an object";
        let action = self.bucket.delete_object(Some(&self.credentials), key.as_str());
        let request = Request::builder().method(Method::DELETE).uri(self.sign(&action).as_str());
        let response = self.ask(DOING, request).await?;
        match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => match answer::refusal_of(key, DOING, response).await {
                Error::NotFound(_) => Ok(()),
                error => Err(error),
            },
        }
    }

    async fn walk(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Found>, Error> {
        self.walk_keys(prefix, after, limit).await
    }
}

fn check_endpoint(endpoint: &Url, allow_http: bool) -> Result<(), SetupError> {
    let host = endpoint.host_str().unwrap_or_default();
    let fault = match endpoint.scheme() {
        "http" if !allow_http => {
            Some("must start with https://; set `allow_http` for a store on this machine")
        }
        "http" if !is_loopback(host) => {
            Some("must start with https://: `allow_http` is for 127.0.0.1, ::1 and localhost")
        }
        "http" | "https" => None,
        _ => Some("must start with https://"),
    };
    if let Some(fault) = fault {
        return Err(SetupError::Endpoint(fault));
    }
    if host.is_empty() || !endpoint.username().is_empty() || endpoint.password().is_some() {
        return Err(SetupError::Endpoint("is of the form https://host:port, without a user"));
    }
    if endpoint.query().is_some() || endpoint.fragment().is_some() {
        return Err(SetupError::Endpoint("is of the form https://host:port, without `?` and `#`"));
    }
    Ok(())
}

fn check_bucket(name: &str) -> Result<(), SetupError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if (3..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.contains("..")
        && !name.starts_with('.')
    {
        return Ok(());
    }
    Err(SetupError::Bucket(name.chars().take(64).collect()))
}

fn check_text(what: &'static str, text: &str) -> Result<(), SetupError> {
    let allowed = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if allowed { Ok(()) } else { Err(SetupError::Text(what)) }
}

fn unusable(error: BucketError) -> SetupError {
    SetupError::Endpoint(match error {
        BucketError::UnsupportedScheme => "must start with https://",
        BucketError::MissingHost => "names no host",
        BucketError::ParseError(_) => {
            "and the bucket make no URL: a bucket in the host name needs a host name"
        }
    })
}
