//! What a restart publishes, and what it refuses to.

use obscura_clock::SimulatedClock;
use obscura_database::Location;
use obscura_proto::registry::v1::Placement;
use tempfile::TempDir;

use super::*;
use crate::{words::Name, zone::Zone};

struct Bench {
    dir: TempDir,
    pkcs8: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), pkcs8: Authority::generate_pkcs8() }
    }

    fn authority(&self) -> Authority {
        Authority::from_pkcs8(&self.pkcs8).unwrap()
    }

    async fn open_with(&self, authority: Authority, bucket: &str) -> Result<Publisher, Error> {
        let store =
            Arc::new(Store::open(&Location::Sqlite(self.dir.path().join("registry.sqlite"))).await.unwrap());
        let countries = ["DE", "FR"].into_iter().map(|code| code.parse().unwrap()).collect();
        let zone = Zone { id: "eea".parse().unwrap(), countries, bucket: bucket.into() };
        let zones = Arc::new(Zones::try_new(vec![zone]).unwrap());
        let clock = SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap());
        Publisher::open(store, authority, zones, clock, Metrics::default()).await
    }

    async fn open(&self, bucket: &str) -> Result<Publisher, Error> {
        self.open_with(self.authority(), bucket).await
    }

    /// Adds a camera in `eea`, bucket `one`, past the checks of the service.
    async fn camera(&self, publisher: &Publisher) {
        let placement = self.authority().sign_placement(&Placement {
            camera_id: CameraId::generate().to_string(),
            country: "DE".into(),
            zone: "eea".into(),
            bucket: "one".into(),
            retention_hours: 1,
            version: 2,
            ..Placement::default()
        });
        let camera = Camera { name: "Door".into(), placement: Some(placement), ..Camera::default() };
        let change = publisher.store.begin().await.unwrap();
        change.add_camera(&Name::read("name", "Door").unwrap(), &camera).await.unwrap();
        publisher.publish(change).await.unwrap();
    }
}

fn newest(publisher: &Publisher) -> Published {
    publisher.watch().borrow().clone()
}

#[tokio::test]
async fn the_first_start_publishes_version_one_with_the_zones() {
    let bench = Bench::new();
    let publisher = bench.open("one").await.unwrap();
    let snapshot = publisher.key().verify_snapshot(&newest(&publisher).signed).unwrap();
    assert_eq!((snapshot.version, snapshot.zones.len(), snapshot.cameras.len()), (1, 1, 0));
}

#[tokio::test]
async fn a_restart_publishes_the_identical_bytes() {
    let bench = Bench::new();
    let publisher = bench.open("one").await.unwrap();
    bench.camera(&publisher).await;
    let before = newest(&publisher);
    drop(publisher);
    assert_eq!(newest(&bench.open("one").await.unwrap()), before);
    assert_eq!(before.version, 2);
}

#[tokio::test]
async fn other_zones_are_a_new_version_while_no_camera_is_displaced() {
    let bench = Bench::new();
    drop(bench.open("one").await.unwrap());
    let publisher = bench.open("two").await.unwrap();
    assert_eq!(newest(&publisher).version, 2);
    let snapshot = publisher.key().verify_snapshot(&newest(&publisher).signed).unwrap();
    assert_eq!(snapshot.zones[0].bucket, "two");
}

#[tokio::test]
async fn a_zone_in_use_cannot_be_configured_away() {
    let bench = Bench::new();
    bench.camera(&bench.open("one").await.unwrap()).await;
    let verdict = bench.open("two").await;
    assert!(matches!(&verdict, Err(Error::Displaced { bucket, .. }) if bucket == "one"), "{verdict:?}");
}

#[tokio::test]
async fn a_database_of_another_zone_authority_is_refused() {
    let bench = Bench::new();
    drop(bench.open("one").await.unwrap());
    let verdict = bench.open_with(Bench::new().authority(), "one").await;
    assert!(matches!(verdict, Err(Error::Snapshot(_))), "{verdict:?}");
}

#[tokio::test]
async fn a_change_builds_on_a_snapshot_that_somebody_else_has_made() {
    let bench = Bench::new();
    let (first, second) = (bench.open("one").await.unwrap(), bench.open("one").await.unwrap());
    bench.camera(&first).await;
    let taken = second.begin().await.unwrap();
    assert_eq!(newest(&second), newest(&first));
    second.publish(taken).await.unwrap();
    let snapshot = second.key().verify_snapshot(&newest(&second).signed).unwrap();
    assert_eq!((snapshot.version, snapshot.cameras.len()), (3, 1));
    drop(first.begin().await.unwrap());
    assert_eq!(newest(&first).version, 3);
}
