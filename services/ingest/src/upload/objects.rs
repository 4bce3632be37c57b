//! Where packs go: to the storage service, or straight into a bucket.
//!
//! The URL says which. Nothing is trusted there with more than keeping bytes: what leaves is sealed, and
//! `storage` looks at the object before it indexes it. Redirects are refused like any other answer that
//! is no success.

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use obscura_blob::{WebClient, WebError, WebTrust, is_presigned};
use obscura_identity::{BoxBody, HttpClient};

/// Sends packs.
#[derive(Clone, Debug)]
pub struct Objects {
    storage: HttpClient,
    buckets: WebClient,
}

impl Objects {
    /// Sends to the storage service over mutual TLS, and to buckets as `trust` says.
    ///
    /// # Errors
    /// Where the certificates in `trust` cannot be used.
    pub fn new(storage: HttpClient, trust: &WebTrust) -> Result<Self, WebError> {
        Ok(Self { storage, buckets: WebClient::new(trust)? })
    }

    /// Sends an upload and waits for its answer, of which only the status counts.
    ///
    /// # Errors
    /// A sentence for the log, without the URL.
    pub async fn send(&self, request: Request<BoxBody>) -> Result<StatusCode, String> {
        if is_presigned(request.uri()) {
            let answer = self.buckets.send(request.map(BodyExt::boxed_unsync)).await;
            answer.map(|answer| answer.status()).map_err(|error| error.to_string())
        } else {
            let answer = self.storage.send(request).await;
            answer.map(|answer| answer.status()).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use bytes::Bytes;
    use futures::{StreamExt as _, stream};
    use http::header::CONTENT_LENGTH;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use obscura_blob::{BlobKey, BlobStore as _, Presigned, S3Bucket, S3Settings};
    use obscura_clock::SystemClock;
    use obscura_identity::{Ca, Identity};
    use obscura_test_servers::seaweedfs;

    use super::*;

    fn bucket() -> S3Bucket {
        let server = seaweedfs::shared();
        let (access_key, secret_key) = server.credentials();
        let settings = S3Settings {
            endpoint: server.endpoint().parse().unwrap(),
            region: server.region().into(),
            bucket: server.new_bucket(),
            virtual_host: false,
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            trust: WebTrust { ca: None, allow_http: true },
        };
        S3Bucket::open(&settings, SystemClock::shared()).unwrap()
    }

    fn objects(allow_http: bool) -> Objects {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let ca = Ca::create(&folder.path().join("ca"), &"shop.example".parse().unwrap(), &*clock).unwrap();
        ca.issue("ingest", &folder.path().join("ingest"), Duration::from_hours(1), &*clock).unwrap();
        let identity = Identity::load(&folder.path().join("ingest")).unwrap();
        Objects::new(HttpClient::new(&identity, "storage"), &WebTrust { ca: None, allow_http }).unwrap()
    }

    /// An upload of `pieces` tenths of a megabyte that announces `length` bytes.
    fn upload(to: &Presigned, pieces: u8, length: usize) -> Request<BoxBody> {
        let body = stream::iter(0..pieces)
            .map(|number| io::Result::Ok(Frame::data(Bytes::from(vec![number; 100_000]))));
        let mut request = Request::put(&to.url).header(CONTENT_LENGTH, length);
        for (name, value) in &to.headers {
            request = request.header(name, value);
        }
        request.body(BodyExt::boxed(StreamBody::new(body))).unwrap()
    }

    #[tokio::test]
    async fn a_pack_streams_into_a_bucket_once_and_half_of_it_leaves_nothing() {
        let (bucket, objects) = (bucket(), objects(true));
        let key: BlobKey = "eea/pack".parse().unwrap();
        let presigned = bucket.presign_put(&key, 3_000_000, Duration::from_secs(60));
        assert!(objects.send(upload(&presigned, 15, 3_000_000)).await.is_err(), "the spool ended too early");
        assert!(bucket.list("", None, 10).await.unwrap().is_empty());
        assert_eq!(objects.send(upload(&presigned, 30, 3_000_000)).await, Ok(StatusCode::OK));
        assert_eq!(
            objects.send(upload(&presigned, 30, 3_000_000)).await,
            Ok(StatusCode::PRECONDITION_FAILED)
        );
        let stored = bucket.read_whole(&key, 3_000_000).await.unwrap();
        assert!(stored.iter().zip(0_u32..).all(|(byte, at)| u32::from(*byte) == at / 100_000));
    }

    #[tokio::test]
    async fn plain_http_is_refused_unless_it_is_allowed() {
        let presigned = bucket().presign_put(&"eea/pack".parse().unwrap(), 100_000, Duration::from_secs(60));
        let refused = objects(false).send(upload(&presigned, 1, 100_000)).await.unwrap_err();
        assert!(refused.contains("http is not allowed") && !refused.contains("X-Amz"), "{refused}");
    }
}
