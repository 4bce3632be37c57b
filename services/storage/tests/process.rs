//! The whole service behind mTLS: only a recorder may put an object, and only a real pack gets indexed.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use std::{fs, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use obscura_clock::{SystemClock, Timestamp};
use obscura_daemon::{Daemon, Trust};
use obscura_identity::{BoxBody, Ca, Endpoint, HttpClient, Identity, channel};
use obscura_ids::{CameraId, PackId};
use obscura_proto::{
    registry::v1::{Coordinates, Placement},
    storage::v1::{
        CommitPackRequest, CreateUploadRequest, ListRecordingsRequest,
        storage_service_client::StorageServiceClient,
    },
};
use obscura_snapshot::Authority;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

const SIZE: usize = 5_000_000;

struct Process {
    folder: TempDir,
    authority: Authority,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Process {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let clock = SystemClock::shared();
        let ca = Ca::create(&root.join("ca"), &"shop.example".parse().unwrap(), &*clock).unwrap();
        for service in ["storage", "ingest", "cli", "keys"] {
            ca.issue(service, &root.join(service), Duration::from_hours(1), &*clock).unwrap();
        }
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        let trust = Trust { zone_authority: authority.public_key(), grant_issuer: [2; 32], audit: [3; 32] };
        trust.save(&root.join("trust.toml")).unwrap();
        let at = |name: &str| root.join(name).display().to_string();
        let config = format!(
            "service = \"storage\"\nzone = \"eea\"\ndata_dir = {:?}\nidentity_dir = {:?}\ntrust_file = {:?}\naddress_file = {:?}\n",
            at("data"),
            at("storage"),
            at("trust.toml"),
            at("storage.addr"),
        );
        fs::write(root.join("storage.toml"), config).unwrap();
        let daemon = Daemon::open("storage", &root.join("storage.toml")).await.unwrap();
        let limits = obscura_outbox::Limits::default();
        let outbox = obscura_outbox::Outbox::open(&root.join("outbox"), limits, clock).await.unwrap();
        let router = obscura_storage::router(&daemon, &outbox).await.unwrap();
        let shutdown = daemon.shutdown.clone();
        let mut task = tokio::spawn(daemon.serve(router, obscura_storage::ROUTES));
        let address = root.join("storage.addr");
        let listens = async {
            while !address.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            listens = tokio::time::timeout(Duration::from_secs(60), listens) => listens.unwrap(),
            ended = &mut task => panic!("it ended before it listened: {ended:?}"),
        }
        Self { folder, authority, shutdown, task }
    }

    fn identity(&self, service: &str) -> Identity {
        Identity::load(&self.folder.path().join(service)).unwrap()
    }

    fn grpc(&self, service: &str) -> StorageServiceClient<Channel> {
        let endpoint = Endpoint::File(self.folder.path().join("storage.addr"));
        StorageServiceClient::new(channel(&self.identity(service), "storage", endpoint))
    }

    async fn put(&self, service: &str, url: &str, bytes: usize) -> Response<Incoming> {
        let pieces =
            stream::iter(0..bytes / 20_000).map(|_| Ok(Frame::data(Bytes::from_static(&[7; 20_000]))));
        let body: BoxBody = BodyExt::boxed(StreamBody::new(pieces));
        let request = Request::put(url).header(header::CONTENT_LENGTH, bytes).body(body).unwrap();
        HttpClient::new(&self.identity(service), "storage").send(request).await.unwrap()
    }

    fn upload(&self, now: Timestamp) -> CreateUploadRequest {
        let placement = Placement {
            camera_id: CameraId::from_bytes([1; 16]).to_string(),
            coordinates: Some(Coordinates { latitude: 52.5, longitude: 13.4 }),
            country: "DE".into(),
            zone: "eea".into(),
            bucket: "footage-eea".into(),
            retention_hours: 72,
            version: 1,
        };
        CreateUploadRequest {
            placement: Some(self.authority.sign_placement(&placement)),
            pack_id: PackId::generate().to_string(),
            layer: 1,
            start_unix_ns: now.unix_nanos(),
            size_bytes: SIZE as u64,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_uploads_over_mtls_and_nobody_else_does() {
    let process = Process::start().await;
    let request = process.upload(SystemClock::shared().wall());
    let upload = process.grpc("ingest").create_upload(request.clone()).await.unwrap().into_inner();
    assert_eq!(process.put("keys", &upload.url, 0).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(process.put("ingest", &upload.url, SIZE).await.status(), StatusCode::CREATED);
    assert_eq!(process.put("ingest", &upload.url, SIZE).await.status(), StatusCode::OK, "a repetition");
    let object = process.folder.path().join("data/objects").join(&upload.object_key);
    assert_eq!(fs::metadata(object).unwrap().len(), SIZE as u64);

    let commit = CommitPackRequest {
        placement: request.placement.clone(),
        object_key: upload.object_key,
        directory_sha256: vec![0; 32].into(),
    };
    let refused = process.grpc("ingest").commit_pack(commit).await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss, "sevens are no pack: {}", refused.message());
    let listed = process.grpc("cli").list_recordings(ListRecordingsRequest::default()).await.unwrap();
    assert!(listed.into_inner().runs.is_empty());
    let foreign = process.grpc("cli").create_upload(request).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);

    process.shutdown.cancel();
    process.task.await.unwrap().unwrap();
}
