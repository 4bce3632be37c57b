//! The service as its callers see it, called directly.

use std::{collections::BTreeSet, time::Duration};

use obscura_clock::SimulatedClock;
use obscura_database::Location;
use obscura_proto::registry::v1::{
    Attestation, Camera, Coordinates, Purpose, SignedSnapshot, Snapshot, ZoneDecision,
};
use obscura_snapshot::{Authority, AuthorityKey};
use tempfile::TempDir;
use tokio::time;
use tonic::{Code, service::Interceptor as _};

use super::*;
use crate::{camera::tests::request, config, store};

const BERLIN: (f64, f64) = (52.52, 13.405);
const KONSTANZ: (f64, f64) = (47.6603, 9.1751);
const NORTH_SEA: (f64, f64) = (56.0, 3.0);

struct Bench {
    service: RegistryGrpc,
    key: AuthorityKey,
    pkcs8: Vec<u8>,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Authority::generate_pkcs8()).await
    }

    async fn open(dir: TempDir, pkcs8: Vec<u8>) -> Self {
        let authority = Authority::from_pkcs8(&pkcs8).unwrap();
        let key = AuthorityKey::from_bytes(authority.public_key());
        let location = Location::Sqlite(dir.path().join(store::FILE));
        let store = Arc::new(Store::open(&location).await.unwrap());
        let zones = Arc::new(config::zones(None).unwrap());
        let clock: SharedClock = SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap());
        let metrics = Metrics::default();
        let publisher = Publisher::open(
            Arc::clone(&store),
            authority,
            Arc::clone(&zones),
            Arc::clone(&clock),
            metrics.clone(),
        )
        .await
        .unwrap();
        let service = RegistryGrpc {
            store,
            publisher: Arc::new(publisher),
            borders: Borders::load().unwrap(),
            zones,
            clock,
            metrics,
            shutdown: CancellationToken::new(),
        };
        Self { service, key, pkcs8, dir }
    }

    async fn restart(self) -> Self {
        let Self { service, pkcs8, dir, .. } = self;
        drop(service);
        Self::open(dir, pkcs8).await
    }

    async fn site(&self, name: &str, place: (f64, f64)) -> Result<AddSiteResponse, Status> {
        let request = AddSiteRequest { name: name.into(), attestation: Some(attestation(place)) };
        self.service.add_site(Request::new(request)).await.map(Response::into_inner)
    }

    async fn add(&self, request: AddCameraRequest) -> Result<Camera, Status> {
        let response = self.service.add_camera(Request::new(request)).await?;
        Ok(response.into_inner().camera.unwrap())
    }

    async fn remove(&self, camera_id: &str) -> Result<Camera, Status> {
        let request = RemoveCameraRequest { camera_id: camera_id.into() };
        Ok(self.service.remove_camera(Request::new(request)).await?.into_inner().camera.unwrap())
    }

    async fn cameras(&self, include_removed: bool) -> Vec<Camera> {
        let request = Request::new(ListCamerasRequest { include_removed });
        self.service.list_cameras(request).await.unwrap().into_inner().cameras
    }

    async fn watch(&self) -> BoxStream<'static, Result<WatchSnapshotResponse, Status>> {
        let request = Request::new(WatchSnapshotRequest { known_version: 0 });
        self.service.watch_snapshot(request).await.unwrap().into_inner()
    }

    async fn signed(&self) -> SignedSnapshot {
        next(&mut self.watch().await).await.unwrap()
    }

    async fn snapshot(&self) -> Snapshot {
        self.key.verify_snapshot(&self.signed().await).unwrap()
    }
}

fn attestation((latitude, longitude): (f64, f64)) -> Attestation {
    let coordinates = Some(Coordinates { latitude, longitude });
    Attestation { coordinates, attested_by: "Ada".into(), attested_unix_ns: 0 }
}

fn decision(country: &str) -> Option<ZoneDecision> {
    Some(ZoneDecision {
        zone: "eea".into(),
        country: country.into(),
        decided_by: "Ada".into(),
        reason: "Measured on the spot.".into(),
    })
}

async fn next(
    stream: &mut BoxStream<'static, Result<WatchSnapshotResponse, Status>>,
) -> Option<SignedSnapshot> {
    let response = time::timeout(Duration::from_secs(60), stream.next()).await.expect("in time")?;
    response.unwrap().snapshot
}

#[tokio::test]
async fn a_camera_gets_a_signed_placement_in_its_zone_and_the_snapshot_shows_it() {
    let bench = Bench::new().await;
    let site = bench.site("Shop", BERLIN).await.unwrap();
    assert_eq!((site.zone.as_str(), site.site.unwrap().country.as_str()), ("eea", "DE"));
    assert_eq!(bench.snapshot().await.version, 1);

    let camera = bench.add(request("Till", "shop")).await.unwrap();
    let snapshot = bench.snapshot().await;
    assert_eq!((snapshot.version, &snapshot.cameras), (2, &vec![camera.clone()]));
    let placement = bench.key.verify_placement(&camera.placement.unwrap()).unwrap();
    assert_eq!(placement.camera.to_string(), camera.camera_id);
    assert_eq!((placement.zone.as_str(), placement.country.as_str()), ("eea", "DE"));
    assert_eq!(
        (placement.bucket.as_str(), placement.retention_hours, placement.version),
        ("footage-eea", 48, 2)
    );
    assert_eq!((placement.latitude, placement.longitude), BERLIN);
    assert_eq!(camera.mask_set_hash.as_ref(), [0; 32]);
}

#[tokio::test]
async fn a_restart_publishes_the_identical_bytes_and_goes_on_counting() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    bench.add(request("Till", "Shop")).await.unwrap();
    let before = bench.signed().await;
    let bench = bench.restart().await;
    assert_eq!(bench.signed().await, before);
    bench.add(request("Door", "Shop")).await.unwrap();
    assert_eq!(bench.snapshot().await.version, 3);
}

#[tokio::test]
async fn a_camera_at_sea_is_refused_in_words_until_a_person_decides() {
    let bench = Bench::new().await;
    let site = bench.site("Platform", NORTH_SEA).await.unwrap();
    assert_eq!((site.zone.as_str(), site.site.unwrap().country.as_str()), ("", ""));
    let refused = bench.add(request("Deck", "Platform")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("open sea") && refused.message().contains("decision"), "{refused:?}");
    assert_eq!(bench.snapshot().await.version, 1);

    let decided = AddCameraRequest { zone_decision: decision("NL"), ..request("Deck", "Platform") };
    let camera = bench.add(decided).await.unwrap();
    assert_eq!(camera.zone_decision, decision("NL"));
    let placement = bench.key.verify_placement(&camera.placement.unwrap()).unwrap();
    assert_eq!((placement.country.as_str(), placement.zone.as_str()), ("NL", "eea"));
}

#[tokio::test]
async fn an_own_place_of_a_camera_counts_and_not_that_of_its_site() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    let elsewhere =
        |place| AddCameraRequest { attestation: Some(attestation(place)), ..request("Till", "Shop") };
    let refused = bench.add(elsewhere(KONSTANZ)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let camera = bench.add(elsewhere((48.5734, 7.7521))).await.unwrap();
    let placement = bench.key.verify_placement(&camera.placement.unwrap()).unwrap();
    assert_eq!(placement.country, "FR");
}

#[tokio::test]
async fn a_decision_never_overrules_a_clear_place() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    let overruled = AddCameraRequest { zone_decision: decision("FR"), ..request("Till", "Shop") };
    assert_eq!(bench.add(overruled).await.unwrap_err().code(), Code::FailedPrecondition);
    let agreed = AddCameraRequest { zone_decision: decision("DE"), ..request("Till", "Shop") };
    assert_eq!(bench.add(agreed).await.unwrap().zone_decision, None);
}

#[tokio::test]
async fn a_site_outside_every_zone_is_refused_at_once() {
    let bench = Bench::new().await;
    let refused = bench.site("Station", (78.2232, 15.6267)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("Svalbard"), "{refused:?}");
}

#[tokio::test]
async fn no_purpose_no_camera() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    for purpose in [None, Some(Purpose::default())] {
        let refused = bench.add(AddCameraRequest { purpose, ..request("Till", "Shop") }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("legal basis"), "{refused:?}");
    }
    assert!(bench.cameras(true).await.is_empty());
}

#[tokio::test]
async fn names_are_unique_and_unknown_things_are_named() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    assert_eq!(bench.site(" shop ", BERLIN).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(bench.site("  ", BERLIN).await.unwrap_err().code(), Code::InvalidArgument);
    bench.add(request("Till", "Shop")).await.unwrap();
    assert_eq!(bench.add(request("TILL", "Shop")).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(bench.snapshot().await.version, 2, "a refusal publishes nothing");
    let nowhere = bench.add(request("Door", "Bakery")).await.unwrap_err();
    assert_eq!((nowhere.code(), nowhere.message().contains("`Bakery`")), (Code::NotFound, true));
    let nobody = CameraId::generate().to_string();
    assert_eq!(bench.remove(&nobody).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(bench.remove("Till").await.unwrap_err().code(), Code::InvalidArgument);
    let sites = bench.service.list_sites(Request::new(ListSitesRequest {})).await.unwrap().into_inner().sites;
    assert_eq!(sites.len(), 1);
    assert_eq!(
        sites[0].attestation.as_ref().unwrap().attested_unix_ns,
        bench.service.clock.wall().unix_nanos()
    );
}

#[tokio::test]
async fn a_removed_camera_leaves_the_snapshot_forgets_its_source_and_frees_its_name() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    let camera = bench.add(request("Till", "Shop")).await.unwrap();
    let removed = bench.remove(&camera.camera_id).await.unwrap();
    assert!(removed.removed && removed.sealed_source.is_none());
    let snapshot = bench.snapshot().await;
    assert_eq!((snapshot.version, snapshot.cameras.len()), (3, 0));
    assert_eq!(bench.remove(&camera.camera_id).await.unwrap(), removed);
    assert_eq!(bench.snapshot().await.version, 3, "removing twice is removing once");
    bench.add(request("Till", "Shop")).await.unwrap();
    assert_eq!((bench.cameras(false).await.len(), bench.cameras(true).await.len()), (1, 2));
}

#[tokio::test]
async fn cameras_added_at_once_each_get_a_version_of_their_own() {
    const CAMERAS: u64 = 24;
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    let adds = (0..CAMERAS).map(|number| bench.add(request(&format!("Camera {number}"), "Shop")));
    let cameras: Vec<Camera> = futures::future::try_join_all(adds).await.unwrap();
    let versions: BTreeSet<u64> = cameras
        .into_iter()
        .map(|camera| bench.key.verify_placement(&camera.placement.unwrap()).unwrap().version)
        .collect();
    assert_eq!(versions, (2..2 + CAMERAS).collect());
    let snapshot = bench.snapshot().await;
    assert_eq!((snapshot.version, snapshot.cameras.len()), (1 + CAMERAS, 24));
}

#[tokio::test]
async fn of_several_adds_of_one_name_at_once_one_wins() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    let adds = (0..8).map(|_| bench.add(request("Till", "Shop")));
    let outcomes = futures::future::join_all(adds).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.into_iter().filter_map(Result::err);
    assert!(refused.map(|status| status.code()).all(|code| code == Code::AlreadyExists));
    assert_eq!(bench.snapshot().await.version, 2);
}

#[tokio::test]
async fn a_caller_who_hangs_up_cannot_leave_a_change_unpublished() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    for milliseconds in 0..8 {
        let name = format!("Camera {milliseconds}");
        // Lets the request get as far as the database at different steps, then hangs up.
        let _ = time::timeout(Duration::from_millis(milliseconds), bench.add(request(&name, "Shop"))).await;
    }
    // Changes are made in turn: once this one is through, so are those before it.
    bench.add(request("Last", "Shop")).await.unwrap();
    assert_eq!(bench.snapshot().await.cameras, bench.cameras(false).await);
}

#[tokio::test]
async fn a_stream_starts_with_the_newest_shows_each_change_and_ends_with_the_service() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    let mut stream = bench.watch().await;
    let version = |signed: SignedSnapshot| bench.key.verify_snapshot(&signed).unwrap().version;
    assert_eq!(next(&mut stream).await.map(version), Some(1));
    assert_eq!(bench.service.metrics.watchers.get(), 1);
    bench.add(request("Till", "Shop")).await.unwrap();
    assert_eq!(next(&mut stream).await.map(version), Some(2));
    bench.service.shutdown.cancel();
    assert_eq!(next(&mut stream).await, None);
    drop(stream);
    assert_eq!(bench.service.metrics.watchers.get(), 0);
}

#[tokio::test]
async fn another_retention_is_validated_signed_and_published_with_the_next_snapshot() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    let camera = bench.add(request("Till", "Shop")).await.unwrap();
    let set = async |hours, reason: &str| {
        let request = SetRetentionRequest {
            camera_id: camera.camera_id.clone(),
            retention_hours: hours,
            longer_retention_reason: reason.into(),
        };
        bench.service.set_retention(Request::new(request)).await.map(Response::into_inner)
    };
    for hours in [0, 73, 9_000] {
        assert_eq!(set(hours, "").await.unwrap_err().code(), Code::InvalidArgument, "{hours} hours");
    }
    assert_eq!(bench.snapshot().await.version, 2, "a refusal publishes nothing");
    set(24, "").await.unwrap();
    set(96, "the insurer has four days to ask for it").await.unwrap();
    let snapshot = bench.snapshot().await;
    let stored = &snapshot.cameras[0];
    let placement = bench.key.verify_placement(stored.placement.as_ref().unwrap()).unwrap();
    assert_eq!((placement.retention_hours, placement.version, snapshot.version), (96, 4, 4));
    assert_eq!((placement.zone.as_str(), placement.country.as_str()), ("eea", "DE"));
    assert_eq!(stored.purpose.as_ref().unwrap().retention_hours, 96);
}

#[tokio::test]
async fn every_change_is_staged_for_the_log_with_who_made_it_and_a_refused_one_is_not() {
    let bench = Bench::new().await;
    bench.site("Shop", BERLIN).await.unwrap();
    bench.site("Shop", BERLIN).await.unwrap_err();
    let mut adding = Request::new(request("Till", "Shop"));
    let person = Person { id: "unix:1000".into(), name: "Ada".into(), address: String::new() };
    let acting = obscura_outbox::ActingFor::new(&person).call(Request::new(())).unwrap();
    *adding.metadata_mut() = acting.metadata().clone();
    bench.service.add_camera(adding).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let limits = obscura_outbox::Limits::default();
    let outbox =
        obscura_outbox::Outbox::open(folder.path(), limits, bench.service.clock.clone()).await.unwrap();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    bench.service.store.pump(outbox.clone(), shutdown).await;
    assert_eq!(outbox.queued(), 2);
    let files =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let bytes = files.collect::<Vec<_>>().concat();
    assert!(String::from_utf8_lossy(&bytes).contains("unix:1000"));
    outbox.close().await;
}
