//! A storage service without a network, for the tests of this crate.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use obscura_access::{GrantRequest, SelfReceipting};
use obscura_blob::{
    BlobKey, BlobStore, ByteStream, Error as BlobError, Found, LocalDirectory, S3Bucket, S3Settings, WebTrust,
};
use obscura_clock::{ClockQuality, SharedClock, SimulatedClock, Span, SystemClock, Timestamp};
use obscura_database::Location;
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, PackId, Sequence, WriterEpoch, ZoneId};
use obscura_pack::{Directory, Entry, object_key};
use obscura_proto::{
    access::v1::SignedGrant,
    registry::v1::{Coordinates, Placement, SignedPlacement},
    storage::v1::{CommitPackRequest, storage_service_server::StorageService as _},
};
use obscura_seal::{Hour, SegmentHeader};
use obscura_snapshot::{Authority, AuthorityKey};
use obscura_test_servers::seaweedfs;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::{
    access_log::AccessLog, config::PublicAddress, grpc::Grpc, http::Objects, index::PackRow,
    inspection::sha256, links::OwnLinks, metrics::Metrics, placement::PlacementCheck, run::Run, store::Store,
    upkeep::Upkeep, url_signer::UrlSigner,
};

pub const ADDRESS: &str = "127.0.0.1:9000";

/// The moment this many milliseconds after the start of the recording.
pub fn at(ms: i64) -> Timestamp {
    let start: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    Timestamp::from_unix_nanos(start.unix_nanos() + ms * 1_000_000)
}

pub fn span(start_ms: i64, end_ms: i64) -> Span {
    Span::try_new(at(start_ms), at(end_ms)).unwrap()
}

pub fn camera(number: u8) -> CameraId {
    CameraId::from_bytes([number; 16])
}

pub fn zone(name: &str) -> ZoneId {
    name.parse().unwrap()
}

/// A pack of `camera(number)` in zone `eea` with segments at these milliseconds.
pub fn pack(number: u8, id: PackId, segments: &[(i64, i64)]) -> Directory {
    let entries =
        (0..).zip(segments).map(|(sequence, &(start, end))| entry(number, sequence, span(start, end)));
    Directory::lay_out(id, camera(number), zone("eea"), Layer::Original, entries.collect()).unwrap()
}

fn entry(number: u8, sequence: u64, span: Span) -> Entry {
    let (hour, slot) = Hour::of(span.start()).unwrap();
    let header = SegmentHeader {
        key_id: LayerKeyId::from_bytes([1; 16]),
        hour,
        slot,
        zone: zone("eea"),
        camera: camera(number),
        layer: Layer::Original,
        dependent: false,
        writer_epoch: WriterEpoch(1),
        sequence: Sequence(sequence),
        init_hash: Digest::ZERO,
        mask_set_hash: Digest::ZERO,
    };
    // The shortest sealed segment: a prefix and the tag of an empty chunk.
    let length = obscura_seal::prefix_length(&header) as u64 + 16;
    Entry {
        header,
        offset: 0,
        length,
        sha256: Digest::ZERO,
        span,
        media_duration: span.duration(),
        frames: 1,
        damaged: false,
        torn_after_chunks: None,
        clock_quality: ClockQuality::Synchronised,
    }
}

pub fn key_of(pack: &Directory) -> BlobKey {
    let start = pack.entries[0].span.start();
    object_key(&pack.zone, pack.camera, pack.layer, start, pack.pack_id).parse().unwrap()
}

/// The object of a pack; its body is not really sealed, and storage cannot tell.
pub fn object(pack: &Directory) -> Vec<u8> {
    let mut object = pack.encode_head();
    object.extend((0..pack.body_length()).map(|position| (position % 251) as u8));
    object
}

/// Row and runs of a pack as a commit makes them.
pub fn row(pack: &Directory) -> (PackRow, Vec<Run>) {
    let head = pack.encode_head();
    let bytes = head.len() as u64 + pack.body_length();
    PackRow::of(pack.clone(), key_of(pack), bytes)
}

/// A new bucket of a real server.
pub fn bucket() -> S3Bucket {
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

/// A store that counts how often objects are looked at.
#[derive(Debug)]
pub struct Counting {
    pub inner: Arc<dyn BlobStore>,
    pub looks: Arc<AtomicU64>,
}

#[async_trait]
impl BlobStore for Counting {
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), BlobError> {
        self.inner.put(key, body, size).await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), BlobError> {
        self.inner.replace(key, bytes).await
    }

    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, BlobError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.inner.read_whole(key, limit).await
    }

    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key, range).await
    }

    async fn size(&self, key: &BlobKey) -> Result<u64, BlobError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.inner.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        self.inner.delete(key).await
    }

    async fn walk(
        &self,
        prefix: &str,
        after: Option<&BlobKey>,
        limit: usize,
    ) -> Result<Vec<Found>, BlobError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.inner.walk(prefix, after, limit).await
    }
}

/// Storage of zone `eea` with everything that it trusts.
pub struct Installation {
    pub grpc: Grpc,
    pub signer: Arc<UrlSigner>,
    pub http: Router,
    pub clock: Arc<SimulatedClock>,
    pub authority: Authority,
    pub issuer: SelfReceipting,
    pub looks: Arc<AtomicU64>,
    pub directory: TempDir,
}

impl Installation {
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        std::fs::create_dir(directory.path().join("issuer")).unwrap();
        SelfReceipting::create(&directory.path().join("issuer")).unwrap();
        Self::start_in(directory, authority).await
    }

    /// The same installation after a restart of the service.
    pub async fn restart(self) -> Self {
        let Self { grpc, http, authority, directory, .. } = self;
        drop((grpc, http));
        Self::start_in(directory, authority).await
    }

    async fn start_in(directory: TempDir, authority: Authority) -> Self {
        let path = directory.path();
        let clock = SimulatedClock::at(at(3_600_000));
        let shared: SharedClock = Arc::clone(&clock) as _;
        let issuer = SelfReceipting::open(&path.join("issuer"), Arc::clone(&shared)).unwrap();
        let looks = Arc::new(AtomicU64::new(0));
        let blobs: Arc<dyn BlobStore> = Arc::new(open_objects(path, Arc::clone(&looks)).await);
        let signer = Arc::new(UrlSigner::open(&path.join("url.key")).unwrap());
        let store = Store::open(&Location::Sqlite(path.join("index.sqlite"))).await.unwrap();
        let access_log = Arc::new(AccessLog::new(None, Arc::clone(&shared)));
        let grpc = Grpc {
            placement: PlacementCheck {
                authority: AuthorityKey::from_bytes(authority.public_key()),
                zone: zone("eea"),
                buckets: vec!["eea".into()],
            },
            access: issuer.public_keys(),
            store: store.clone(),
            blobs: Arc::clone(&blobs),
            links: Arc::new(OwnLinks {
                signer: Arc::clone(&signer),
                address: PublicAddress::Fixed(ADDRESS.into()),
            }),
            kind: "local directory",
            limitations: Vec::new(),
            clock: Arc::clone(&shared),
            metrics: Metrics::default(),
            access_log: Arc::clone(&access_log),
            upkeep: Arc::new(Upkeep {
                store,
                blobs: Arc::clone(&blobs),
                custody: None,
                zone: zone("eea"),
                clock: Arc::clone(&shared),
                metrics: Metrics::default(),
                outbox: None,
                access_log,
                scrub_bytes_per_second: 0,
                reconciling: Arc::default(),
                scrubbing: Arc::default(),
            }),
        };
        let objects = Arc::new(Objects::new(blobs, Arc::clone(&signer), shared, Metrics::default()));
        let http = objects.router();
        Self { grpc, signer, http, clock, authority, issuer, looks, directory }
    }

    pub fn placement_in(&self, number: u8, zone: &str, bucket: &str) -> SignedPlacement {
        self.authority.sign_placement(&Placement {
            camera_id: camera(number).to_string(),
            coordinates: Some(Coordinates { latitude: 52.5, longitude: 13.4 }),
            country: "DE".into(),
            zone: zone.into(),
            bucket: bucket.into(),
            retention_hours: 72,
            version: 1,
        })
    }

    pub fn placement(&self, number: u8) -> SignedPlacement {
        self.placement_in(number, "eea", "eea")
    }

    /// The request that commits this pack.
    pub fn commit_of(&self, pack: &Directory) -> CommitPackRequest {
        CommitPackRequest {
            placement: Some(self.authority_placement(pack.camera)),
            object_key: key_of(pack).to_string(),
            directory_sha256: sha256(&pack.encode_head()).as_bytes().to_vec().into(),
        }
    }

    fn authority_placement(&self, camera: CameraId) -> SignedPlacement {
        self.placement(camera.as_bytes()[0])
    }

    /// Puts bytes where the object of a pack belongs, past the signed URL.
    pub async fn place(&self, key: &BlobKey, bytes: Vec<u8>) {
        let size = bytes.len() as u64;
        self.grpc.blobs.put(key, obscura_blob::body(bytes), size).await.unwrap();
    }

    pub async fn place_and_commit(&self, pack: &Directory) {
        self.place(&key_of(pack), object(pack)).await;
        self.grpc.commit_pack(tonic::Request::new(self.commit_of(pack))).await.unwrap();
    }

    /// A grant of ten minutes for `camera(number)`.
    pub fn grant(&self, number: u8, span: Span) -> SignedGrant {
        let request = GrantRequest {
            subject: "u-17".into(),
            cameras: BTreeSet::from([camera(number)]),
            layers: BTreeSet::from([Layer::Original]),
            span,
            purpose: "theft".into(),
            reason: "case 12".into(),
            holder: holder(),
            valid_for: Duration::from_secs(600),
        };
        self.issuer.issue(request).unwrap()
    }

    /// Sends one request to the object routes: status, headers, body.
    pub async fn send(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, Bytes) {
        let response = self.http.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }

    pub async fn put(&self, url: &str, bytes: &[u8]) -> StatusCode {
        let request = Request::put(path_of(url)).header(header::CONTENT_LENGTH, bytes.len());
        self.send(request.body(Body::from(bytes.to_vec())).unwrap()).await.0
    }

    pub async fn get(&self, url: &str, range: &str) -> (StatusCode, http::HeaderMap, Bytes) {
        let request = Request::get(path_of(url)).header(header::RANGE, range);
        self.send(request.body(Body::empty()).unwrap()).await
    }
}

/// The service whose grants these tests use.
pub fn holder() -> SpiffeId {
    "spiffe://example.org/obscura/cli".parse().unwrap()
}

/// What follows `https://host:port` in a signed URL.
pub fn path_of(url: &str) -> &str {
    url.strip_prefix(&format!("https://{ADDRESS}")).unwrap_or(url)
}

/// The lock of the directory is released once the last clone of a store before is gone.
async fn open_objects(path: &Path, looks: Arc<AtomicU64>) -> Counting {
    for _ in 0..3_000 {
        if let Ok(inner) = LocalDirectory::open(&path.join("objects")) {
            return Counting { inner: Arc::new(inner), looks };
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the object directory stays locked");
}
