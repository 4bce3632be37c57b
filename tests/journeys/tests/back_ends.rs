//! The same programs over PostgreSQL and S3, alone and as replicas.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::fs;

use obscura_journeys::{Auth, Installation, LONG_PATIENCE, TestCamera, back_ends, wait_for, wait_within};
use obscura_test_servers::{postgres, seaweedfs};
use serde_json::Value;
use tempfile::TempDir;

/// Settings for servers that other tests use too.
fn settings(secrets: &TempDir) -> Vec<(&'static str, String)> {
    back_ends(postgres::shared(), seaweedfs::shared(), secrets.path())
}

fn recording(camera: &Value) -> bool {
    camera["recording"] == true && camera["segments"].as_u64() >= Some(2)
}

fn read_back(installation: &Installation, camera: &str) {
    let path = installation.folder().join(format!("{camera}.mp4"));
    let path = path.to_str().unwrap();
    installation.must(&["recording", "get", camera, "--from", "-5m", "-o", path, "--reason", "Case 17"]);
    let verified = installation.must(&["recording", "verify", "--json"]).json();
    assert!(verified[0]["segments"].as_u64() >= Some(2), "{verified}");
}

/// An upload under way looks like an object that the index does not know.
fn accounted(installation: &Installation) {
    wait_for("reconciliation to account for everything", || {
        (installation.run(&["storage", "reconcile"]).code == Some(0)).then_some(())
    });
}

#[test]
fn every_service_records_and_reads_through_postgresql_and_s3() {
    let secrets = TempDir::new().unwrap();
    // It is restarted, which no other test has to bear.
    let database = postgres::Postgres::own();
    let camera = TestCamera::start(Auth::None);
    let settings = back_ends(&database, seaweedfs::shared(), secrets.path());
    let installation = Installation::start_with(&settings);
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "a segment", recording);
    read_back(&installation, "door");
    let status = installation.must(&["storage", "status", "--json"]).json();
    assert_eq!(
        (status["database"].as_str(), status["object_store"].as_str()),
        (Some("PostgreSQL"), Some("S3"))
    );
    accounted(&installation);
    for folder in ["keys", "registry", "storage", "audit"] {
        let data = installation.state().join(folder).join("data");
        let local = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        let tables: Vec<_> =
            local.filter(|path| path.extension().is_some_and(|end| end == "sqlite")).collect();
        assert!(tables.is_empty(), "{tables:?}");
    }
    database.restart();
    wait_for("reading after the restart of the database", || {
        (installation.run(&["recording", "verify"]).code == Some(0)).then_some(())
    });
    let copy = installation.folder().join("log");
    installation.must(&["audit", "export", copy.to_str().unwrap()]);
    installation.must(&["audit", "verify", copy.to_str().unwrap()]);
}

#[test]
fn two_recorders_and_two_storages_share_one_index_without_losing_a_segment() {
    let secrets = TempDir::new().unwrap();
    let camera = TestCamera::start(Auth::None);
    let installation = Installation::start_with(&settings(&secrets));
    installation.add_site();
    for name in ["door", "yard"] {
        installation.add_camera(name, &camera.url("/scene"), &[]);
    }
    installation.camera("door", "a segment", recording);
    let storage = installation.replica("storage", &[]);
    let mut ingest = installation.replica("ingest", &[("storage", &storage.address_file())]);
    wait_within(LONG_PATIENCE, "segments of both recorders of each camera", || {
        // Flushes what the first recorder holds; the second hands over by itself.
        let found = installation.run(&["recording", "verify", "--json"]);
        let cameras = (found.code == Some(0)).then(|| found.json())?;
        let by_two = |camera: &Value| camera["recorder_runs"].as_u64() >= Some(2);
        (cameras.as_array()?.len() == 2 && cameras.as_array()?.iter().all(by_two)).then_some(())
    });
    // In good order: killed in the middle of an upload it would leave an object that nobody knows.
    ingest.end();
    read_back(&installation, "door");
    read_back(&installation, "yard");
    accounted(&installation);
}
