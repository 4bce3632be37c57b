//! What the audit log says of a viewing whose client goes away in the middle.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use std::{fs, path::Path, thread::sleep, time::Duration};

use obscura_journeys::{Auth, Installation, TestCamera, signal, wait_for};
use serde_json::Value;

/// Data of the events about viewings, oldest first.
fn views(installation: &Installation) -> Vec<Value> {
    let out = installation.must(&["audit", "query", "--kind", "view", "--json"]).out;
    let entries = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.map(|entry| entry.pointer("/event/data").unwrap().clone()).collect()
}

/// Bytes of the clip that is being written into the folder.
fn written(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// Reads footage into the folder a moment at a time, and sends the signal once some of it was written. Whether that
/// came before the end.
fn interrupted(installation: &Installation, folder: &Path, name: &str) -> bool {
    let clip = folder.join("clip.mp4");
    let get = ["recording", "get", "door", "--from", "-10m", "--reason", "Case 17", "-o"];
    let mut child = installation.begin(&[&get[..], &[clip.to_str().unwrap()]].concat());
    let pid = child.id();
    while child.try_wait().unwrap().is_none() {
        signal(pid, "STOP");
        let is_due = written(folder) > 0;
        if is_due {
            signal(pid, name);
        }
        signal(pid, "CONT");
        if is_due {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let was_whole = child.wait().unwrap().success();
    assert_eq!(clip.exists(), was_whole);
    was_whole.then(|| fs::remove_file(&clip).unwrap()).is_none()
}

#[test]
fn a_viewing_that_is_interrupted_is_closed_with_what_was_released() {
    let camera = TestCamera::start(Auth::None);
    let installation = Installation::start();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "some segments", |camera| camera["segments"].as_u64() >= Some(6));
    for name in ["INT", "TERM", "HUP"] {
        let folder = installation.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let mut before = 0;
        wait_for("an interruption in the middle", || {
            before = views(&installation).len();
            interrupted(&installation, &folder, name).then_some(())
        });
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{name}: nothing is left of the clip");
        let told = views(&installation).split_off(before);
        let count = |code: &str| told.iter().filter(|view| view["metadata"]["event_code"] == code).count();
        assert!(count("view.open") >= 1, "{name}: {told:?}");
        assert_eq!(count("view.open"), count("view.close"), "{name}: {told:?}");
        assert_eq!(told.last().unwrap()["metadata"]["event_code"], "view.close", "{name}");
        let released =
            |view: &Value| view["unmapped"]["released"].as_array().is_some_and(|all| !all.is_empty());
        assert!(told.iter().any(released), "{name}: what was written had been released: {told:?}");
    }
}
