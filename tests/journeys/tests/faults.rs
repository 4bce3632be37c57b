//! What goes wrong ends in a clear message and a correct index.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::{fs, path::PathBuf, process::Command};

use jiff::Timestamp;
use obscura_journeys::{Auth, Installation, TestCamera, unaccounted, wait_for};
use serde_json::Value;

fn recording(camera: &Value) -> bool {
    camera["recording"] == true && camera["segments"].as_u64() >= Some(1)
}

fn installation_with(camera: &TestCamera) -> Installation {
    let installation = Installation::start();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "a segment", recording);
    installation
}

/// Gaps of the camera, as `obscura recording list` shows them.
fn gaps(installation: &Installation) -> Vec<Value> {
    let listed = installation.must(&["recording", "list", "door", "--json"]).json();
    of_kind(&listed, "gap")
}

fn of_kind(listed: &Value, kind: &str) -> Vec<Value> {
    listed.as_array().unwrap().iter().filter(|line| line["kind"] == kind).cloned().collect()
}

fn acknowledged_through(installation: &Installation) -> String {
    installation.camera("door", "acknowledged footage", |camera| camera["acknowledged_through"].is_string())
        ["acknowledged_through"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn packs(installation: &Installation) -> Vec<PathBuf> {
    fn collect(folder: &std::path::Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "pack") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&installation.state(), &mut found);
    found.sort();
    found
}

#[test]
fn sources_that_cannot_be_recorded_are_refused_in_words_that_name_the_next_step() {
    let installation = Installation::start();
    installation.add_site();
    let camera = TestCamera::start(Auth::Digest);
    let password = installation.folder().join("password");
    fs::write(&password, "wrong").unwrap();
    let add = |source: &str, more: &[&str]| {
        let first = [
            "camera",
            "add",
            "door",
            source,
            "--purpose",
            "Clearing up burglaries",
            "--legal-basis",
            "consent",
        ];
        installation.refused(&[&first[..], more].concat())
    };
    let wrong = ["--username", "viewer", "--password-file", password.to_str().unwrap()];
    assert!(add(&camera.url("/scene"), &wrong).contains("password"));
    assert!(add("rtsp://127.0.0.1:9/main", &[]).contains("nothing listens"));
    let open = TestCamera::start(Auth::None);
    assert!(add(&open.url("/nowhere"), &[]).contains("no stream"));
    assert!(add("rtsps://127.0.0.1/main", &[]).contains("rtsps"));
    assert!(add("/no/such/file.mp4", &[]).contains("/no/such/file.mp4"));
    let listed = installation.must(&["camera", "list", "--json"]).json();
    assert_eq!(listed.as_array().or_else(|| listed["cameras"].as_array()).unwrap().len(), 0);
}

#[test]
fn a_camera_in_the_sea_or_without_a_purpose_is_refused() {
    let installation = Installation::start();
    installation.add_site();
    let camera = TestCamera::start(Auth::None);
    let url = camera.url("/scene");
    let place = ["--lat", "56.5", "--lon", "3.0", "--attested-by", "Ada Ventura"];
    let first =
        ["camera", "add", "buoy", &url, "--purpose", "Watching the waves", "--legal-basis", "consent"];
    let refused = installation.refused(&[&first[..], &place].concat());
    assert!(refused.contains("sea") && refused.contains("zone decision"), "{refused}");
    let refused =
        installation.refused(&["camera", "add", "door", &url, "--purpose", "", "--legal-basis", "consent"]);
    assert!(refused.contains("purpose"), "{refused}");
}

#[test]
fn a_camera_that_loses_its_power_leaves_a_gap_with_its_reason_and_comes_back_by_itself() {
    let mut camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    camera.power_off();
    installation.camera("door", "the loss to show", |camera| camera["recording"] == false);
    let standing = wait_for("the gap", || gaps(&installation).pop());
    assert!(standing["reason"].is_string());
    camera.power_on();
    installation.camera("door", "the camera to record again", |camera| camera["recording"] == true);
    let ended =
        wait_for("the gap to end", || gaps(&installation).into_iter().find(|gap| !gap["end"].is_null()));
    assert!(time(&ended["start"]) < time(&ended["end"]), "{ended}");
    installation.must(&["recording", "verify"]);
}

#[test]
fn killing_any_service_loses_nothing_that_was_acknowledged() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    for service in ["ingest", "storage", "keys", "audit", "registry", "ingest"] {
        let acknowledged = acknowledged_through(&installation);
        let killed = installation.pid(service);
        installation.kill(service);
        wait_for("the service to be back", || (installation.pid(service) != killed).then_some(()));
        installation.camera("door", "recording to go on", |camera| {
            camera["recording"] == true
                && camera["acknowledged_through"].as_str() > Some(acknowledged.as_str())
        });
        assert_covered(&installation, &acknowledged);
    }
    installation.must(&["recording", "verify"]);
}

/// What was acknowledged is footage, and every moment around it is footage or a gap with its reason.
fn assert_covered(installation: &Installation, acknowledged: &str) {
    let listed = wait_for("the index to reach what was acknowledged", || {
        let _ = installation.run(&["recording", "verify", "--json"]);
        let listed = installation.must(&["recording", "list", "door", "--json"]).json();
        let reached = of_kind(&listed, "footage").iter().any(|run| time(&run["end"]) > moment(acknowledged));
        reached.then_some(listed)
    });
    let runs = of_kind(&listed, "footage");
    let inside =
        |run: &Value| time(&run["start"]) < moment(acknowledged) && moment(acknowledged) <= time(&run["end"]);
    assert!(runs.iter().any(inside), "{acknowledged} was acknowledged and is not in {runs:?}");
    assert_eq!(unaccounted(&listed), Vec::<String>::new(), "{listed}");
    assert!(of_kind(&listed, "gap").iter().all(|gap| gap["reason"].is_string()), "{listed}");
}

fn time(value: &Value) -> Timestamp {
    moment(value.as_str().unwrap())
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn told_to_end_everything_ends_with_exit_code_zero_and_no_child_is_left() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = installation_with(&camera);
    let names = ["keys", "audit", "registry", "storage", "ingest"];
    let children: Vec<u32> = names.into_iter().map(|service| installation.pid(service)).collect();
    let ended = installation.down();
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    let left: Vec<u32> = children.into_iter().filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Whether there is such a process.
fn lives(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn after_an_unattended_reboot_recording_starts_without_a_word() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = installation_with(&camera);
    let acknowledged = acknowledged_through(&installation);
    installation.kill_everything();
    installation.up();
    installation.camera("door", "recording to go on", |camera| {
        camera["recording"] == true && camera["acknowledged_through"].as_str() > Some(acknowledged.as_str())
    });
    assert_covered(&installation, &acknowledged);
    installation.must(&["recording", "verify"]);
    let stopped = gaps(&installation);
    assert!(stopped.iter().any(|gap| gap["reason"].as_str().unwrap().contains("not running")), "{stopped:?}");
}

#[test]
fn the_recorder_records_with_every_other_service_away_and_catches_up() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = installation_with(&camera);
    let acknowledged = acknowledged_through(&installation);
    installation.down();
    let config = installation.state().join("ingest/config.toml");
    let mut alone = Command::new(obscura_journeys::program("obscura-ingest"))
        .arg("--config")
        .arg(config)
        .spawn()
        .unwrap();
    // Nobody knows the camera's name while the registry is away.
    let lonely = wait_for("the lonely recorder to record", || {
        let camera = installation.status()["cameras"][0].clone();
        let through = camera["acknowledged_through"].as_str().map(str::to_owned);
        through.filter(|through| recording(&camera) && *through > acknowledged)
    });
    alone.kill().unwrap();
    alone.wait().unwrap();
    installation.up();
    assert_covered(&installation, &lonely);
    installation.must(&["recording", "verify"]);
}

#[test]
fn keys_and_registry_start_with_nobody_else_there() {
    let mut installation = Installation::start();
    installation.down();
    for service in ["keys", "registry", "storage"] {
        let config = installation.state().join(service).join("config.toml");
        let program = obscura_journeys::program(&format!("obscura-{service}"));
        let mut alone = Command::new(program).arg("--config").arg(config).spawn().unwrap();
        wait_for("the lonely service to be well", || {
            let status = installation.status();
            let services = status["services"].as_array()?.clone();
            services.iter().any(|found| found["name"] == service && found["healthy"] == true).then_some(())
        });
        alone.kill().unwrap();
        alone.wait().unwrap();
    }
}

#[test]
fn a_swapped_object_and_a_flipped_bit_are_found_and_named() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    installation.must(&["recording", "verify"]);
    installation.camera("door", "more segments", |camera| camera["segments"].as_u64() >= Some(4));
    installation.must(&["recording", "verify"]);
    let packs = packs(&installation);
    assert!(packs.len() >= 2, "{packs:?}");
    let (first, second) = (fs::read(&packs[0]).unwrap(), fs::read(&packs[1]).unwrap());

    fs::write(&packs[0], &second).unwrap();
    let swapped = installation.run(&["recording", "verify"]);
    assert_eq!(swapped.code, Some(1), "{swapped:?}");
    let name = packs[0].file_stem().unwrap().to_str().unwrap().to_owned();
    assert!(format!("{}{}", swapped.out, swapped.err).contains(&name), "{swapped:?}");

    let mut flipped = first.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&packs[0], &flipped).unwrap();
    let found = installation.run(&["recording", "verify"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(format!("{}{}", found.out, found.err).contains(&name), "{found:?}");

    fs::write(&packs[0], &first).unwrap();
    installation.must(&["recording", "verify"]);
}

#[test]
fn rotating_the_key_encryption_key_leaves_everything_readable() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    installation.must(&["recording", "verify"]);
    let before = installation.must(&["key", "status", "--json"]).json();
    installation.must(&["key", "rotate"]);
    let after = installation.must(&["key", "status", "--json"]).json();
    let version = |status: &Value| status["key_encryption_key_version"].as_u64().unwrap();
    assert!(version(&after) > version(&before), "{before} {after}");
    installation.must(&["recording", "verify"]);
}

#[test]
fn with_keys_away_nothing_is_read_and_recording_goes_on() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    installation.must(&["recording", "verify"]);
    let keys = installation.pid("keys").to_string();
    assert!(Command::new("kill").args(["-STOP", &keys]).status().unwrap().success());
    let clip = installation.folder().join("clip.mp4");
    let get = ["recording", "get", "door", "--from", "-1m", "--to", "-1s", "--reason", "A journey", "-o"];
    let refused = installation.refused(&[&get[..], &[clip.to_str().unwrap()]].concat());
    assert!(refused.contains("keys"), "{refused}");
    assert!(!clip.exists());
    let acknowledged = acknowledged_through(&installation);
    installation.camera("door", "recording to go on", |camera| {
        camera["acknowledged_through"].as_str() > Some(acknowledged.as_str())
    });
    assert!(Command::new("kill").args(["-CONT", &keys]).status().unwrap().success());
}
