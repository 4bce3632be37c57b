//! Footage is kept where a case needs it, and gone where nobody may have it any more.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use std::fs;

use obscura_journeys::{Auth, Installation, TestCamera, unaccounted, wait_for};

fn installation_with(camera: &TestCamera) -> Installation {
    let installation = Installation::start();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "some segments", |camera| {
        camera["recording"] == true && camera["segments"].as_u64() >= Some(3)
    });
    installation
}

fn get(installation: &Installation, name: &str) -> Option<i32> {
    let path = installation.folder().join(name);
    let path = path.to_str().unwrap();
    installation.run(&["recording", "get", "door", "--from", "-1h", "-o", path, "--reason", "Case 17"]).code
}

#[test]
fn a_hold_wins_against_shredding_and_after_its_release_nothing_opens_the_footage() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = installation_with(&camera);
    assert_eq!(get(&installation, "before.mp4"), Some(0));
    let backup = installation.folder().join("backup");

    let hold = ["hold", "add", "door", "--from", "-1h", "--to", "now", "--owner", "Legal", "--json"];
    let hold = [&hold[..], &["--basis", "Case 17, Art. 6(1)(c) GDPR", "--review-on", "2099-06-30"]].concat();
    let held = installation.must(&hold).json();
    let id = held.pointer("/hold/id").unwrap().as_str().unwrap().to_owned();
    let held_until = held.pointer("/hold/to").unwrap().as_str().unwrap().to_owned();
    let shred = |by: &str, approved: &str| {
        let first = ["key", "shred", "door", "--from", "-1h", "--to", "now", "--ground", "objection"];
        let second = ["--requested-by", by, "--approved-by", approved, "--yes"];
        installation.run(&[&first[..], &second].concat())
    };
    let refused = shred("unix:1", "unix:2");
    assert!(refused.code != Some(0) && refused.err.contains("hold"), "{refused:?}");
    installation.must(&["hold", "release", &id]);
    assert_ne!(shred("unix:1", "unix:1").code, Some(0), "nobody approves their own request");

    // Everything is on the disk once the recorder has handed over.
    installation.must(&["recording", "verify"]);
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(installation.state().join("keys/data"))
        .arg(&backup)
        .status()
        .unwrap();
    assert!(copied.success());
    let shredded = shred("unix:1", "unix:2");
    assert_eq!(shredded.code, Some(0), "{shredded:?}");
    wait_for("storage to follow the receipt", || {
        let path = installation.folder().join("after.mp4");
        let path = path.to_str().unwrap();
        let get = [
            "recording",
            "get",
            "door",
            "--from",
            "-1h",
            "--to",
            &held_until,
            "-o",
            path,
            "--force",
            "--reason",
            "x",
        ];
        (installation.run(&get).code != Some(0)).then_some(())
    });
    wait_for("reconciliation to account for everything", || {
        (installation.run(&["storage", "reconcile"]).code == Some(0)).then_some(())
    });
    let destroyed = wait_for("the destruction in the log", || {
        let out = installation.must(&["audit", "query", "--kind", "destruction", "--json"]).out;
        (!out.is_empty()).then_some(out)
    });
    assert!(destroyed.contains("receipt"));

    // Last week's database, put back: what was destroyed stays destroyed.
    installation.down();
    let data = installation.state().join("keys/data");
    for entry in fs::read_dir(&backup).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("keys.sqlite") {
            fs::copy(&path, data.join(&name)).unwrap();
        }
    }
    for left in ["keys.sqlite-wal", "keys.sqlite-shm"] {
        if !backup.join(left).exists() {
            let _ = fs::remove_file(data.join(left));
        }
    }
    installation.up();
    let path = installation.folder().join("restored.mp4");
    let path = path.to_str().unwrap();
    let clip = |from: &str, to: &str| {
        let span = ["recording", "get", "door", "--from", from, "--to", to];
        installation.run(&[&span[..], &["-o", path, "--force", "--reason", "Case 17"]].concat())
    };
    let refused = clip("-1h", &held_until);
    assert_ne!(refused.code, Some(0), "{refused:?}");

    // Storage has kept the receipts: told again, custody serves what is left, and nothing else.
    let told = wait_for("custody to take the receipts of storage", || {
        let told = installation.run(&["key", "replay", "--from-storage", "--json"]);
        (told.code == Some(0)).then_some(told)
    });
    assert!(told.json()["receipts"].as_u64() >= Some(1), "{told:?}");
    wait_for("footage from after the restore to open", || (clip("-8s", "now").code == Some(0)).then_some(()));
    let shredded = clip("-1h", &held_until);
    assert_ne!(shredded.code, Some(0), "{shredded:?}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn keys_and_storage_put_back_to_the_same_age_open_nothing_that_was_destroyed_since() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = installation_with(&camera);
    installation.must(&["recording", "verify"]);
    assert_eq!(get(&installation, "before.mp4"), Some(0));
    installation.down();
    let data = ["keys", "storage"].map(|service| installation.state().join(service).join("data"));
    let backups = ["keys", "storage"].map(|service| installation.folder().join(format!("backup-{service}")));
    for (data, backup) in data.iter().zip(&backups) {
        copy(data, backup);
    }
    installation.up();
    let shred = ["key", "shred", "door", "--from", "-1h", "--to", "now", "--ground", "objection"];
    let people = ["--requested-by", "unix:1", "--approved-by", "unix:2", "--yes", "--json"];
    let destroyed_until = jiff::Timestamp::now().to_string();
    installation.must(&[&shred[..], &people].concat());
    wait_for("the destruction in the log", || {
        let out = installation.must(&["audit", "query", "--kind", "destruction", "--json"]).out;
        (!out.is_empty()).then_some(())
    });
    installation.down();
    for (data, backup) in data.iter().zip(&backups) {
        fs::remove_dir_all(data).unwrap();
        copy(backup, data);
    }
    installation.up();
    wait_for("the receipts to be replayed from the log", || {
        installation.log("keys").contains("has all receipts of destruction again").then_some(())
    });
    wait_for("releases to go on", || {
        let status = installation.must(&["key", "status", "--json"]).json();
        (status["releases_stopped"] == "").then_some(())
    });
    let path = installation.folder().join("put-back.mp4");
    let path = path.to_str().unwrap();
    let clip = |from: &str, to: &str| {
        let span = ["recording", "get", "door", "--from", from, "--to", to];
        installation.run(&[&span[..], &["-o", path, "--force", "--reason", "Case 17"]].concat())
    };
    let refused = clip("-1h", &destroyed_until);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    wait_for("footage from after the restore to open", || (clip("-8s", "now").code == Some(0)).then_some(()));
    let receipts = installation.must(&["key", "status", "--json"]).json()["shred_receipts"].as_u64();
    assert!(receipts >= Some(1), "{receipts:?}");
}

#[test]
fn printed_shares_are_rehearsed_and_bring_a_lost_key_file_back() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = installation_with(&camera);
    assert_eq!(get(&installation, "before.mp4"), Some(0));
    let made = installation.must(&["key", "shares", "--shares", "3", "--threshold", "2", "--json"]).json();
    let shares: Vec<String> =
        made["shares"].as_array().unwrap().iter().map(|share| share.as_str().unwrap().to_owned()).collect();
    let file = installation.folder().join("shares.txt");
    let written = file.to_str().unwrap().to_owned();
    fs::write(&file, format!("{}\n", shares.first().unwrap())).unwrap();
    assert!(
        !installation.refused(&["key", "rehearse", "--file", &written]).is_empty(),
        "one share is not enough"
    );
    fs::write(&file, shares.iter().take(2).map(|share| format!("{share}\n")).collect::<String>()).unwrap();
    wait_for("the next rehearsal to be allowed", || {
        (installation.run(&["key", "rehearse", "--file", &written]).code == Some(0)).then_some(())
    });

    installation.down();
    fs::remove_file(installation.state().join("keys/data/kek.json")).unwrap();
    installation.must(&["key", "recover", "--file", &written]);
    installation.up();
    assert_eq!(get(&installation, "after.mp4"), Some(0));
    let told = wait_for("the recovery in the log", || {
        let out = installation.must(&["audit", "query", "--kind", "key", "--json"]).out;
        out.lines().find(|line| line.contains("key.recovered")).map(str::to_owned)
    });
    assert!(told.contains("from 2 shares"), "{told}");
    assert!(!installation.state().join("keys/data/recovered.event").exists());
}

#[test]
fn another_retention_reaches_the_recorder_without_a_hole_and_longer_ones_need_a_reason() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    assert!(installation.refused(&["retention", "set", "door", "30d"]).contains("reason"));
    installation.must(&["retention", "set", "door", "24h"]);
    let segments = installation.camera("door", "a state", |_| true)["segments"].as_u64();
    installation.camera("door", "recording to go on", |camera| {
        camera["recording"] == true && camera["segments"].as_u64() >= segments.map(|count| count + 2)
    });
    installation.must(&["recording", "verify"]);
    let listed = installation.must(&["recording", "list", "--json"]).json();
    assert_eq!(unaccounted(&listed), Vec::<String>::new());
}
