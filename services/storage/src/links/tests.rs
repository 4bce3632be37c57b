//! The whole way through a bucket of a real S3 server.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use obscura_blob::{
    BlobStore, Fault, RetryPolicy, Timeouts, WebClient, WebTrust, WithFaults, WithRetry, WithTimeout,
};
use obscura_clock::{Clock as _, SystemClock};
use obscura_identity::Peer;
use obscura_ids::PackId;
use obscura_pack::Directory;
use obscura_proto::{
    footage::v1::Layer as LayerMessage,
    storage::v1::{
        CommitPackResponse, CreateDownloadsRequest, CreateUploadRequest, CreateUploadResponse,
        ListRecordingsRequest, storage_service_server::StorageService as _,
    },
};
use obscura_test_servers::seaweedfs;
use tonic::{Code, Status};

use super::*;
use crate::test_support::{Installation, bucket, holder, key_of, object, pack, span};

fn one_pack() -> Directory {
    pack(1, PackId::from_bytes([1; 16]), &[(0, 4_000), (4_000, 8_000)])
}

/// Storage whose objects rest in a bucket, as the service puts it together, with faults between.
struct Remote {
    installation: Installation,
    bucket: S3Bucket,
    faults: Arc<WithFaults>,
    web: WebClient,
}

impl Remote {
    async fn start() -> Self {
        let (mut installation, bucket) = (Installation::start().await, bucket());
        installation.clock.step_wall(SystemClock::shared().wall());
        let faults = WithFaults::new(Arc::new(bucket.clone()));
        let timely = WithTimeout::new(Arc::clone(&faults) as _, Timeouts::default());
        let clock: SharedClock = Arc::clone(&installation.clock) as _;
        installation.grpc.blobs = Arc::new(WithRetry::new(Arc::new(timely), RetryPolicy::default()));
        installation.grpc.links = Arc::new(BucketLinks { bucket: bucket.clone(), clock });
        let web = WebClient::new(&WebTrust { ca: None, allow_http: true }).unwrap();
        Self { installation, bucket, faults, web }
    }

    async fn upload_url(&self, pack: &Directory) -> CreateUploadResponse {
        let request = CreateUploadRequest {
            placement: Some(self.installation.placement(1)),
            pack_id: pack.pack_id.to_string(),
            layer: LayerMessage::Original.into(),
            start_unix_ns: pack.span().start().unix_nanos(),
            size_bytes: object(pack).len() as u64,
        };
        let answer = self.installation.grpc.create_upload(tonic::Request::new(request)).await;
        answer.unwrap().into_inner()
    }

    async fn put(&self, upload: &CreateUploadResponse, bytes: Vec<u8>) -> StatusCode {
        let mut request = Request::put(&upload.url).header(header::CONTENT_LENGTH, bytes.len());
        for (name, value) in &upload.headers {
            request = request.header(name, value);
        }
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        self.web.send(request.body(body).unwrap()).await.unwrap().status()
    }

    async fn get(&self, url: &str, range: &str) -> Response<Incoming> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        self.web.send(Request::get(url).header(header::RANGE, range).body(body).unwrap()).await.unwrap()
    }

    async fn commit(&self, pack: &Directory) -> Result<CommitPackResponse, Status> {
        let request = tonic::Request::new(self.installation.commit_of(pack));
        self.installation.grpc.commit_pack(request).await.map(tonic::Response::into_inner)
    }

    async fn download_urls(&self, pack: &Directory) -> Vec<String> {
        let request = CreateDownloadsRequest {
            grant: Some(self.installation.grant(1, span(0, 8_000))),
            status_note: Some(self.installation.issuer.status_note()),
            object_keys: vec![key_of(pack).to_string()],
        };
        let mut request = tonic::Request::new(request);
        request.extensions_mut().insert(Peer(holder()));
        self.installation.grpc.create_downloads(request).await.unwrap().into_inner().urls
    }

    async fn indexed_runs(&self) -> usize {
        let request = tonic::Request::new(ListRecordingsRequest::default());
        self.installation.grpc.list_recordings(request).await.unwrap().into_inner().runs.len()
    }
}

#[tokio::test]
async fn a_pack_travels_through_a_bucket() {
    let (remote, pack) = (Remote::start().await, one_pack());
    let upload = remote.upload_url(&pack).await;
    assert!(upload.url.starts_with(&seaweedfs::shared().endpoint()), "straight to the bucket");
    assert_eq!(remote.put(&upload, object(&pack)).await, StatusCode::OK);
    assert_eq!(remote.commit(&pack).await.unwrap().segments, 2);

    let url = &remote.download_urls(&pack).await[0];
    let answer = remote.get(url, "bytes=100-199").await;
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), object(&pack)[100..200]);
    let elsewhere = url.replace(&pack.pack_id.to_string(), &PackId::from_bytes([2; 16]).to_string());
    assert_eq!(remote.get(&elsewhere, "bytes=0-1").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_comes_again_and_is_committed_once() {
    let (remote, pack) = (Remote::start().await, one_pack());
    let (first, second) = (remote.upload_url(&pack).await, remote.upload_url(&pack).await);
    assert_eq!(remote.put(&first, object(&pack)).await, StatusCode::OK);
    assert_eq!(remote.put(&second, object(&pack)).await, StatusCode::PRECONDITION_FAILED, "it is there");
    assert_eq!(remote.commit(&pack).await.unwrap().segments, 2);
    assert_eq!(remote.commit(&pack).await.unwrap().segments, 2);
    assert_eq!(remote.indexed_runs().await, 1);
}

#[tokio::test]
async fn an_upload_of_another_size_is_refused_by_the_bucket() {
    let (remote, pack) = (Remote::start().await, one_pack());
    let upload = remote.upload_url(&pack).await;
    let mut longer = object(&pack);
    longer.push(0);
    assert_eq!(remote.put(&upload, longer).await, StatusCode::FORBIDDEN);
    assert_eq!(remote.commit(&pack).await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(remote.bucket.list("", None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_object_that_is_not_the_pack_is_not_indexed() {
    let (remote, pack) = (Remote::start().await, one_pack());
    let upload = remote.upload_url(&pack).await;
    let mut other = object(&pack);
    other[40] ^= 1;
    assert_eq!(remote.put(&upload, other).await, StatusCode::OK, "the bucket cannot tell");
    assert_eq!(remote.commit(&pack).await.unwrap_err().code(), Code::DataLoss);
    assert_eq!(remote.indexed_runs().await, 0);
}

#[tokio::test]
async fn a_store_that_loses_what_it_confirmed_does_not_cost_the_recorders_copy() {
    let (remote, pack) = (Remote::start().await, one_pack());
    assert_eq!(remote.put(&remote.upload_url(&pack).await, object(&pack)).await, StatusCode::OK);
    remote.commit(&pack).await.unwrap();
    remote.bucket.delete(&key_of(&pack)).await.unwrap();
    let again = remote.commit(&pack).await.unwrap_err();
    assert_eq!(again.code(), Code::Unavailable, "{}", again.message());
    assert_eq!(remote.put(&remote.upload_url(&pack).await, object(&pack)).await, StatusCode::OK);
    assert_eq!(remote.commit(&pack).await.unwrap().segments, 2);
}

#[tokio::test]
async fn a_commit_waits_out_a_store_that_is_busy_and_tells_when_it_stays_so() {
    let (remote, pack) = (Remote::start().await, one_pack());
    assert_eq!(remote.put(&remote.upload_url(&pack).await, object(&pack)).await, StatusCode::OK);
    remote.faults.script([const { Fault::Unavailable }; 5]);
    let busy = remote.commit(&pack).await.unwrap_err();
    assert_eq!(busy.code(), Code::Unavailable);
    assert!(!busy.message().contains("503"), "the cause is for the log of storage");
    assert_eq!(remote.indexed_runs().await, 0);
    remote.faults.script([
        Fault::Unavailable,
        Fault::None,
        Fault::ResetBefore,
        Fault::None,
        Fault::ResetAfter,
    ]);
    assert_eq!(remote.commit(&pack).await.unwrap().segments, 2);
}

#[tokio::test]
async fn a_link_never_outlives_what_permits_it() {
    let remote = Remote::start().await;
    let links = &remote.installation.grpc.links;
    let now = remote.installation.clock.wall();
    let key = key_of(&one_pack());
    let late = links.download(&key, 1, now + Duration::from_millis(900)).await;
    assert!(matches!(late, Err(Error::Url(Refused::Expired(_)))), "{late:?}");
    let link = links.download(&key, 1, now + Duration::from_millis(2_900)).await.unwrap();
    assert!(link.url.contains("X-Amz-Expires=2&"), "whole seconds, rounded down");
    assert!(!format!("{link:?}").contains("X-Amz"), "it is a secret");
}
