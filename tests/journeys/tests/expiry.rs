//! Footage is there until the promised moment and gone at most an hour later; a clock that is wrong
//! destroys nothing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use obscura_journeys::{
    Auth, Installation, LONG_PATIENCE, MovedTime, Outcome, TestCamera, back_ends, unaccounted, wait_for,
    wait_within,
};
use obscura_proto::keys::v1::{ShredCause, ShredReceipt};
use obscura_test_servers::{postgres, seaweedfs};
use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// Two slots: what is so far from a held span has no slot in common with it.
const APART: Duration = Duration::from_secs(4);

/// One hand-over of the recorder: objects of their own, and the span of what is in them.
struct Part {
    packs: BTreeSet<PathBuf>,
    start: Timestamp,
    end: Timestamp,
}

fn start_recording(installation: &Installation, camera: &TestCamera, retention: &str) {
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &["--retention", retention]);
    installation.camera("door", "a segment", |camera| {
        camera["recording"] == true && camera["segments"].as_u64() >= Some(1)
    });
}

/// Records so many segments, of about two seconds each, and has the recorder hand over.
fn record_part(installation: &Installation, count: u64) -> Part {
    let before = packs(installation);
    let segments = installation.camera("door", "a state", |_| true)["segments"].as_u64();
    let start = footage(installation).last().map(|(_, end)| *end);
    installation.camera("door", "more segments", |camera| {
        camera["segments"].as_u64() >= segments.map(|before| before + count)
    });
    installation.must(&["recording", "verify"]);
    let footage = footage(installation);
    let (first, end) = (footage[0].0, footage.last().unwrap().1);
    Part { packs: &packs(installation) - &before, start: start.unwrap_or(first), end }
}

/// Runs of footage in the index, in order.
fn footage(installation: &Installation) -> Vec<(Timestamp, Timestamp)> {
    let listed = installation.must(&["recording", "list", "door", "--json"]).json();
    let runs = listed.as_array().unwrap().iter().filter(|line| line["kind"] == "footage").cloned();
    let time = |value: &Value| value.as_str().unwrap().parse().unwrap();
    let mut runs: Vec<_> = runs.map(|run| (time(&run["start"]), time(&run["end"]))).collect();
    runs.sort_unstable();
    runs
}

fn packs(installation: &Installation) -> BTreeSet<PathBuf> {
    fn collect(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "pack") {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&installation.state().join("storage"), &mut found);
    found
}

fn get(installation: &Installation, from: Timestamp, to: Timestamp) -> Outcome {
    let clip = installation.folder().join("clip.mp4");
    let (from, to, clip) = (from.to_string(), to.to_string(), clip.to_str().unwrap());
    let get = ["recording", "get", "door", "--from", &from, "--to", &to, "-o", clip, "--force"];
    installation.run(&[&get[..], &["--reason", "Case 17"]].concat())
}

fn hold(installation: &Installation, from: Timestamp, to: Timestamp) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    let hold = ["hold", "add", "door", "--from", &from, "--to", &to, "--owner", "Legal", "--json"];
    let hold = [&hold[..], &["--basis", "Case 17, Art. 6(1)(c) GDPR", "--review-on", "2099-06-30"]].concat();
    let held = installation.must(&hold).json();
    assert_eq!(held["lost_slots"], 0, "{held}");
    held["hold"]["id"].as_str().unwrap().to_owned()
}

fn receipts(installation: &Installation) -> Vec<ShredReceipt> {
    let file = installation.folder().join("receipts");
    installation.must(&["key", "receipts", "-o", file.to_str().unwrap()]);
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let bytes = lines.map(|line| hex::decode(line["receipt"].as_str().unwrap()).unwrap());
    bytes.map(|bytes| ShredReceipt::decode(bytes.as_slice()).unwrap()).collect()
}

fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap()
}

/// Whether the receipt says that this moment of the camera is destroyed.
fn names(receipt: &ShredReceipt, camera_id: &str, moment: Timestamp) -> bool {
    let slot = nanos(moment) / 2_000_000_000;
    receipt.keys.iter().any(|key| {
        let slots = i64::from(key.hour) * 1_800 + i64::from(key.first_slot)
            ..=i64::from(key.hour) * 1_800 + i64::from(key.last_slot);
        key.camera_id == camera_id && slots.contains(&slot)
    })
}

fn accounted(installation: &Installation) -> Value {
    let account = wait_for("reconciliation to account for everything", || {
        let account = installation.run(&["storage", "reconcile", "--json"]);
        (account.code == Some(0)).then(|| account.json())
    });
    assert_eq!(
        (&account["segments"]["unaccounted"], &account["findings"]),
        (&0.into(), &Value::Array(vec![]))
    );
    account["segments"].clone()
}

fn destruction_stopped(installation: &Installation) -> String {
    wait_within(LONG_PATIENCE, "destruction to stop", || {
        let status = installation.run(&["key", "status", "--json"]);
        let stopped = (status.code == Some(0)).then(|| status.json()["destruction_stopped"].clone())?;
        stopped.as_str().filter(|why| !why.is_empty()).map(str::to_owned)
    })
}

#[test]
fn footage_opens_until_its_time_is_over_and_is_gone_an_hour_later_but_for_what_is_held() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = Installation::start();
    start_recording(&installation, &camera, "72h");
    let parts = [4, 12, 4].map(|segments| record_part(&installation, segments));
    let [before, held, after] = &parts;
    let (held_from, held_to) = (held.start + APART, held.end - APART);
    let id = hold(&installation, held_from, held_to);
    installation.down();

    installation.set_time(MovedTime::passed(71 * HOUR));
    installation.up();
    for part in &parts {
        let opened = get(&installation, part.start, part.end);
        assert_eq!(opened.code, Some(0), "an hour before its time: {opened:?}");
    }
    assert!(receipts(&installation).is_empty());
    let kept = wait_for("footage of three days later", || {
        // The recorder hands over for it.
        installation.must(&["recording", "verify"]);
        footage(&installation).into_iter().find(|(start, _)| *start > after.end)
    });
    installation.down();

    // The promise is 72 h, and an hour for its execution: an hour of recording is due with the end of the 73rd behind
    // it, so everything from before is, on whichever side of the top of an hour it was recorded.
    installation.set_time(MovedTime::passed(73 * HOUR));
    installation.up();
    let camera_id = installation.camera("door", "an id", |_| true)["id"].as_str().unwrap().to_owned();
    // One for each hour of recording.
    let receipts = wait_within(LONG_PATIENCE, "receipts of all that is due", || {
        let receipts = receipts(&installation);
        let is_named = |moment| receipts.iter().any(|receipt| names(receipt, &camera_id, moment));
        let all = [before, after].iter().all(|part| is_named(part.start) && is_named(part.end - SECOND));
        all.then_some(receipts)
    });
    for part in [before, after] {
        let refused = get(&installation, part.start, part.end - APART);
        assert!(refused.code != Some(0) && !refused.err.is_empty(), "{refused:?}");
    }
    let promised = nanos(before.start + 72 * HOUR)..=nanos(after.end + 74 * HOUR);
    for receipt in &receipts {
        assert_eq!(receipt.cause(), ShredCause::Expiry);
        assert!(promised.contains(&receipt.effective_unix_ns), "{receipt:?}");
        assert!(!names(receipt, &camera_id, held_from + APART), "{receipt:?}");
    }
    let opened = get(&installation, held_from + APART, held_to - APART);
    assert_eq!(opened.code, Some(0), "what is held opens: {opened:?}");
    assert_eq!(get(&installation, kept.0, kept.1).code, Some(0), "what is younger opens");

    wait_within(LONG_PATIENCE, "the objects of what is destroyed to go", || {
        let left = packs(&installation);
        (left.is_disjoint(&before.packs) && left.is_disjoint(&after.packs)).then_some(())
    });
    assert!(!packs(&installation).is_disjoint(&held.packs), "the held object stays");
    let account = accounted(&installation);
    assert!(account["held"].as_u64() >= Some(1) && account["deleted"].as_u64() >= Some(2), "{account}");
    let logged = wait_for("the destruction in the log", || {
        let out = installation.must(&["audit", "query", "--kind", "destruction", "--json"]).out;
        (!out.is_empty()).then_some(out)
    });
    assert!(logged.contains(&camera_id), "{logged}");

    installation.must(&["hold", "release", &id]);
    let refused = get(&installation, held_from + APART, held_to - APART);
    assert_ne!(refused.code, Some(0), "nothing holds it any more: {refused:?}");
    wait_within(LONG_PATIENCE, "the object that was held to go", || {
        packs(&installation).is_disjoint(&held.packs).then_some(())
    });
    accounted(&installation);
    installation.must(&["recording", "verify"]);
    let listed = installation.must(&["recording", "list", "--from", &kept.0.to_string(), "--json"]).json();
    assert_eq!(unaccounted(&listed), Vec::<String>::new());
}

#[test]
fn a_key_service_whose_clock_was_set_destroys_nothing_and_says_so() {
    let camera = TestCamera::start(Auth::None);
    let right = MovedTime::wrong_clock("keys", Duration::ZERO);
    let mut installation = Installation::start_at(right);
    start_recording(&installation, &camera, "1h");
    let part = record_part(&installation, 3);

    // A year while it runs: even its certificates are over then, so that nobody new can ask it.
    installation.set_time(MovedTime::wrong_clock("keys", 365 * 24 * HOUR));
    wait_within(LONG_PATIENCE, "destruction to stop", || {
        let told = installation.log("keys");
        let told = told.lines().find(|line| line.contains("destruction of expired keys stands still"))?;
        assert!(told.contains("set while the key service ran and is 365 days ahead"), "{told}");
        Some(())
    });
    installation.set_time(right);
    wait_within(LONG_PATIENCE, "the doubt to end with its cause", || {
        installation.log("keys").contains("destruction of expired keys goes on").then_some(())
    });
    assert!(receipts(&installation).is_empty());
    assert_eq!(get(&installation, part.start, part.end).code, Some(0), "nothing was destroyed");
    installation.down();

    // Hours while it does not run: far enough for the retention, and not for the certificates.
    installation.set_time(MovedTime::wrong_clock("keys", 5 * HOUR));
    installation.up();
    let why = destruction_stopped(&installation);
    assert!(why.contains("set while the key service was not running and is 5 h ahead"), "{why}");
    assert!(why.contains("resume-destruction"), "{why}");
    let alarms = installation.status()["alarms"].to_string();
    assert!(alarms.contains("Nothing is destroyed"), "{alarms}");
    assert!(receipts(&installation).is_empty());
    wait_for("the alarm in the log", || {
        let out = installation.must(&["audit", "query", "--kind", "service", "--json"]).out;
        out.contains("destruction_stopped").then_some(())
    });
    installation.camera("door", "recording to go on", |camera| camera["recording"] == true);
    installation.down();

    installation.set_time(MovedTime::default());
    installation.up();
    assert_eq!(get(&installation, part.start, part.end).code, Some(0), "nothing was destroyed");
    assert!(receipts(&installation).is_empty());
    installation.must(&["recording", "verify"]);
    accounted(&installation);
}

#[test]
fn a_machine_whose_clocks_all_agree_is_contradicted_by_the_database_server() {
    let secrets = TempDir::new().unwrap();
    let camera = TestCamera::start(Auth::None);
    let settings = back_ends(postgres::shared(), seaweedfs::shared(), secrets.path());
    let mut installation = Installation::start_with(&settings);
    start_recording(&installation, &camera, "1h");
    let part = record_part(&installation, 3);
    installation.down();
    installation.set_time(MovedTime::wrong_machine("keys", 5 * HOUR));
    installation.up();
    let why = destruction_stopped(&installation);
    assert!(why.contains("the clock of the database server"), "{why}");
    assert!(receipts(&installation).is_empty());
    installation.down();
    installation.set_time(MovedTime::default());
    installation.up();
    assert_eq!(get(&installation, part.start, part.end).code, Some(0), "nothing was destroyed");
    installation.must(&["recording", "verify"]);
    accounted(&installation);
}
