//! Following a registry that comes, goes and misbehaves, over real gRPC.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use obscura_clock::SystemClock;
use obscura_proto::registry::v1::{
    AddCameraRequest, AddCameraResponse, AddSiteRequest, AddSiteResponse, ListCamerasRequest,
    ListCamerasResponse, ListSitesRequest, ListSitesResponse, RemoveCameraRequest, RemoveCameraResponse,
    SignedSnapshot, Snapshot, WatchSnapshotRequest, WatchSnapshotResponse,
    registry_service_server::{RegistryService, RegistryServiceServer},
};

use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinHandle,
    time,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use crate::{Authority, AuthorityKey, Cache, follow};

/// How long anything in these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry that publishes what the test tells it.
struct FakeRegistry(watch::Receiver<SignedSnapshot>);

#[async_trait::async_trait]
impl RegistryService for FakeRegistry {
    type WatchSnapshotStream = BoxStream<'static, Result<WatchSnapshotResponse, Status>>;

    async fn watch_snapshot(
        &self,
        _: Request<WatchSnapshotRequest>,
    ) -> Result<Response<Self::WatchSnapshotStream>, Status> {
        let mut snapshots = self.0.clone();
        snapshots.mark_changed();
        let stream = futures::stream::unfold(snapshots, async |mut snapshots| {
            snapshots.changed().await.ok()?;
            let snapshot = Some(snapshots.borrow_and_update().clone());
            Some((Ok(WatchSnapshotResponse { snapshot }), snapshots))
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn add_site(&self, _: Request<AddSiteRequest>) -> Result<Response<AddSiteResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_sites(&self, _: Request<ListSitesRequest>) -> Result<Response<ListSitesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn add_camera(&self, _: Request<AddCameraRequest>) -> Result<Response<AddCameraResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_cameras(
        &self,
        _: Request<ListCamerasRequest>,
    ) -> Result<Response<ListCamerasResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn remove_camera(
        &self,
        _: Request<RemoveCameraRequest>,
    ) -> Result<Response<RemoveCameraResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set_retention(
        &self,
        _: Request<obscura_proto::registry::v1::SetRetentionRequest>,
    ) -> Result<Response<obscura_proto::registry::v1::SetRetentionResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }
}

/// A consumer that follows `address`, and the authority whose word it takes.
struct Consumer {
    authority: Authority,
    cache: Arc<Cache>,
    address: SocketAddr,
    /// Keeps the address for the registry while it is away: bound, and never listening.
    _bound: TcpSocket,
    shutdown: CancellationToken,
    following: JoinHandle<()>,
    _dir: TempDir,
}

impl Consumer {
    /// Starts following an address where nobody listens yet.
    async fn start() -> Self {
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let key = AuthorityKey::from_bytes(authority.public_key());
        let cache = Arc::new(Cache::open(dir.path(), key, SystemClock::shared()).unwrap());
        let bound = TcpSocket::new_v4().unwrap();
        bound.set_reuseaddr(true).unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = bound.local_addr().unwrap();
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let shutdown = CancellationToken::new();
        let following = tokio::spawn(follow(Arc::clone(&cache), channel, shutdown.clone()));
        Self { authority, cache, address, _bound: bound, shutdown, following, _dir: dir }
    }

    fn signed(&self, version: u64) -> SignedSnapshot {
        self.authority.sign_snapshot(&Snapshot { version, ..Snapshot::default() })
    }

    /// A registry at the followed address.
    async fn registry(&self, first: SignedSnapshot) -> RunningRegistry {
        let (publish, snapshots) = watch::channel(first);
        let listener = TcpListener::bind(self.address).await.unwrap();
        let stop = CancellationToken::new();
        let server = Server::builder()
            .add_service(RegistryServiceServer::new(FakeRegistry(snapshots)))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
        RunningRegistry { publish, stop, serving: tokio::spawn(async { server.await.unwrap() }) }
    }

    async fn reaches(&self, version: u64) {
        let mut watch = self.cache.watch();
        let reached = watch.wait_for(|held| held.as_ref().is_some_and(|held| held.version == version));
        time::timeout(PATIENCE, reached).await.expect("in time").expect("the cache lives");
    }

    /// Waits until the cache is followed, or until it is not.
    async fn is_followed(&self, followed: bool) {
        let noticed = async {
            while self.cache.age().is_zero() != followed {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(PATIENCE, noticed).await.expect("in time");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        time::timeout(PATIENCE, self.following).await.expect("in time").unwrap();
    }
}

struct RunningRegistry {
    publish: watch::Sender<SignedSnapshot>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl RunningRegistry {
    /// Ends the streams, closes the connections and frees the address.
    async fn stop(self) {
        drop(self.publish);
        self.stop.cancel();
        time::timeout(PATIENCE, self.serving).await.expect("in time").unwrap();
    }
}

#[tokio::test]
async fn a_consumer_started_first_hears_the_registry_when_it_comes_and_each_change() {
    let consumer = Consumer::start().await;
    let registry = consumer.registry(consumer.signed(1)).await;
    consumer.reaches(1).await;
    registry.publish.send_replace(consumer.signed(2));
    consumer.reaches(2).await;
    registry.stop().await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_registry_that_restarts_is_followed_again_and_the_age_tells_the_difference() {
    let consumer = Consumer::start().await;
    let registry = consumer.registry(consumer.signed(1)).await;
    consumer.reaches(1).await;
    registry.stop().await;
    consumer.is_followed(false).await;
    assert_eq!(consumer.cache.version(), 1, "the cached snapshot stays");
    let registry = consumer.registry(consumer.signed(3)).await;
    consumer.reaches(3).await;
    consumer.is_followed(true).await;
    registry.stop().await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_registry_that_rolls_back_or_lies_never_replaces_what_is_held() {
    let consumer = Consumer::start().await;
    let registry = consumer.registry(consumer.signed(5)).await;
    let stranger = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
    let lie = stranger.sign_snapshot(&Snapshot { version: 6, ..Snapshot::default() });
    for wrong in [lie, consumer.signed(4)] {
        registry.publish.send_replace(consumer.signed(5));
        consumer.is_followed(true).await;
        registry.publish.send_replace(wrong);
        consumer.is_followed(false).await;
        assert_eq!(consumer.cache.version(), 5);
    }
    registry.publish.send_replace(consumer.signed(7));
    consumer.reaches(7).await;
    registry.stop().await;
    consumer.stop().await;
}
