//! Database, object store and replicas go away while cameras record: recording goes on, looking stops in
//! words, and afterwards every second is accounted for.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

use obscura_journeys::{
    Auth, Installation, LONG_PATIENCE, TestCamera, back_ends, unaccounted, wait_for, wait_within,
};
use obscura_test_servers::{postgres::Postgres, seaweedfs::SeaweedFs};
use tempfile::TempDir;

/// An installation over servers that this test may stop.
struct World {
    installation: Installation,
    database: Postgres,
    store: SeaweedFs,
    camera: TestCamera,
    _secrets: TempDir,
}

impl World {
    fn start() -> Self {
        let (database, store) = (Postgres::own(), SeaweedFs::own());
        let secrets = TempDir::new().unwrap();
        let camera = TestCamera::start(Auth::None);
        let installation = Installation::start_with(&back_ends(&database, &store, secrets.path()));
        installation.add_site();
        installation.add_camera("door", &camera.url("/scene"), &[]);
        let world = Self { installation, database, store, camera, _secrets: secrets };
        world.installation.camera("door", "some segments", |camera| {
            camera["recording"] == true && camera["segments"].as_u64() >= Some(3)
        });
        world.installation.must(&["recording", "verify"]);
        world
    }

    /// Until when the recorder has acknowledged. Nobody knows the camera's name without a database.
    fn acknowledged(&self) -> String {
        wait_for("the recorder to say what it acknowledged", || {
            let status = self.installation.status();
            status["cameras"][0]["acknowledged_through"].as_str().map(str::to_owned)
        })
    }

    /// Waits until the recorder acknowledged more than it had, twice: what was under way does not count.
    fn records_on(&self, during: &str) -> String {
        let mut through = self.acknowledged();
        for _ in 0..2 {
            let before = through;
            through = wait_for(&format!("recording to go on, {during}"), || {
                Some(self.acknowledged()).filter(|through| *through > before)
            });
        }
        through
    }

    fn look(&self) -> obscura_journeys::Outcome {
        let clip = self.installation.folder().join("clip.mp4");
        let clip = clip.to_str().unwrap();
        let get = ["recording", "get", "door", "--from", "-10m", "-o", clip, "--force"];
        self.installation.run(&[&get[..], &["--reason", "Case 17"]].concat())
    }

    /// Nothing is seen, and whoever looks is told who is in the way and what to do.
    fn is_refused(&self, by: &[&str], during: &str) {
        let refused = self.look();
        assert_ne!(refused.code, Some(0), "{during}: {refused:?}");
        let said = &refused.err;
        assert!(by.iter().any(|name| said.contains(name)), "{during}: {said}");
        assert!(!said.contains("panicked") && !said.contains(self.database.password()), "{during}: {said}");
    }

    /// Everything up to this moment is in the index, every hole has its reason, and all examiners agree.
    fn is_accounted_for(&self, acknowledged: &str, after: &str) {
        let listed = wait_within(LONG_PATIENCE, &format!("the index to catch up after {after}"), || {
            let verified = self.installation.run(&["recording", "verify"]);
            let listed = self.installation.run(&["recording", "list", "--json"]);
            let listed = (verified.code == Some(0) && listed.code == Some(0)).then(|| listed.json())?;
            let reached = listed
                .as_array()?
                .iter()
                .any(|line| line["kind"] == "footage" && line["end"].as_str() >= Some(acknowledged));
            reached.then_some(listed)
        });
        assert_eq!(unaccounted(&listed), Vec::<String>::new(), "after {after}");
        let lines = listed.as_array().unwrap();
        let gaps = lines.iter().filter(|line| line["kind"] == "gap");
        assert!(gaps.clone().all(|gap| gap["reason"].is_string()), "after {after}: {listed}");
        let account = wait_for(&format!("reconciliation after {after}"), || {
            let account = self.installation.run(&["storage", "reconcile", "--json"]);
            (account.code == Some(0)).then(|| account.json())
        });
        assert_eq!(account["segments"]["unaccounted"], 0, "after {after}");
        let copy = self.installation.folder().join(format!("log after {after}"));
        let copy = copy.to_str().unwrap();
        self.installation.must(&["audit", "export", copy]);
        self.installation.must(&["audit", "verify", copy]);
        let seen = self.look();
        assert_eq!(seen.code, Some(0), "after {after}: {seen:?}");
    }

    /// No footage was lost: the recorder never stopped.
    fn has_no_gap(&self, after: &str) {
        let listed = self.installation.must(&["recording", "list", "--json"]).json();
        let gaps: Vec<_> = listed.as_array().unwrap().iter().filter(|line| line["kind"] == "gap").collect();
        assert!(gaps.is_empty(), "after {after}: {gaps:?}");
    }
}

#[test]
fn while_the_database_is_away_recording_goes_on_and_looking_stops() {
    let world = World::start();
    let deciders = ["audit", "registry", "keys", "storage"];

    world.database.set_read_only(true);
    let acknowledged = world.records_on("with a database that only reads");
    world.is_refused(&deciders, "with a database that only reads");
    world.database.set_read_only(false);
    world.is_accounted_for(&acknowledged, "a database that only read");

    world.database.kill();
    let acknowledged = world.records_on("with a killed database");
    world.is_refused(&deciders, "with a killed database");
    world.database.start();
    world.is_accounted_for(&acknowledged, "a killed database");

    world.database.stop_politely();
    let acknowledged = world.records_on("with a stopped database");
    world.is_refused(&deciders, "with a stopped database");
    world.database.start();
    world.is_accounted_for(&acknowledged, "a stopped database");
    world.has_no_gap("three outages of the database");
}

#[test]
fn while_the_object_store_is_away_recording_goes_on_and_looking_stops() {
    let world = World::start();

    world.store.freeze();
    let acknowledged = world.records_on("with a frozen object store");
    world.is_refused(&["the object could not be fetched"], "with a frozen object store");
    world.store.thaw();
    world.is_accounted_for(&acknowledged, "a frozen object store");

    world.store.kill();
    let acknowledged = world.records_on("with a killed object store");
    world.is_refused(&["the object could not be fetched"], "with a killed object store");
    world.store.start();
    world.is_accounted_for(&acknowledged, "a killed object store");
    world.has_no_gap("two outages of the object store");
}

#[test]
fn one_replica_after_the_other_is_killed_and_every_second_is_accounted_for() {
    let world = World::start();
    let installation = &world.installation;
    installation.add_camera("yard", &world.camera.url("/scene"), &[]);
    let mut storage = installation.replica("storage", &[]);
    let mut ingest = installation.replica("ingest", &[("storage", &storage.address_file())]);
    world.records_on("with two of each");

    storage.kill();
    world.records_on("with one storage killed");
    ingest.kill();
    world.records_on("with the recorder beside it killed");
    storage.start_again();
    ingest.start_again();
    for service in ["storage", "ingest"] {
        let killed = installation.pid(service);
        installation.kill(service);
        wait_for("the service to be back", || (installation.pid(service) != killed).then_some(()));
        world.records_on("with two of each again");
    }
    let acknowledged = world.records_on("with two of each again");
    // What the second recorder still holds is in the index when it has ended in good order.
    ingest.end();
    world.is_accounted_for(&acknowledged, "kills of every replica");
}
