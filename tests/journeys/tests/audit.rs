//! The audit log: nothing is seen without it, nothing in it can be changed, and people can be forgotten.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use obscura_journeys::{Auth, Installation, OFFICER, SECOND_AUDITOR, TestCamera, me, program, wait_for};
use serde_json::Value;

const REASON: &str = "Broken window of Mrs Lindqvist";

fn installation_with(camera: &TestCamera) -> Installation {
    let installation = Installation::start();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "a segment", |camera| {
        camera["recording"] == true && camera["segments"].as_u64() >= Some(2)
    });
    installation
}

fn clip(installation: &Installation, name: &str) -> PathBuf {
    installation.folder().join(name)
}

fn get(installation: &Installation, name: &str) {
    let path = clip(installation, name);
    let path = path.to_str().unwrap();
    installation.must(&["recording", "get", "door", "--from", "-5m", "-o", path, "--reason", REASON]);
}

/// Entries of one kind, oldest first.
fn entries(installation: &Installation, kind: &str, more: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "query", "--kind", kind, "--json"], more].concat();
    let out = installation.must(&arguments).out;
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn export(installation: &Installation, name: &str) -> PathBuf {
    let folder = installation.folder().join(name);
    installation.must(&["audit", "export", folder.to_str().unwrap()]);
    folder
}

/// Every file below the folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_look_is_in_the_log_and_without_the_log_nothing_is_seen_while_recording_goes_on() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    get(&installation, "first.mp4");
    let grants = entries(&installation, "grant", &[]);
    assert!(!grants.is_empty());
    let text = serde_json::to_string(&grants).unwrap();
    assert!(!text.contains("Lindqvist"), "the reason is sealed");
    let opened = entries(&installation, "grant", &["--open-names"]);
    assert!(serde_json::to_string(&opened).unwrap().contains(REASON), "{opened:?}");
    let views = entries(&installation, "view", &[]);
    assert!(views.len() >= 2, "opened and closed");
    let last = &views.last().unwrap()["event"]["data"];
    assert_eq!(last["metadata"]["event_code"], "view.close");
    assert!(last["unmapped"]["released"].as_array().is_some_and(|spans| !spans.is_empty()), "{last}");
    assert_eq!(entries(&installation, "export", &[]).len(), 1);

    let log = installation.pid("audit");
    installation.freeze("audit");
    let path = clip(&installation, "second.mp4");
    let refused = installation.refused(&[
        "recording",
        "get",
        "door",
        "--from",
        "-5m",
        "-o",
        path.to_str().unwrap(),
        "--reason",
        REASON,
    ]);
    assert!(refused.contains("audit"), "{refused}");
    assert!(!path.exists());
    let before = installation.camera("door", "a state", |_| true)["acknowledged_through"].clone();
    installation.camera("door", "recording to go on without the log", |camera| {
        camera["recording"] == true && camera["acknowledged_through"].as_str() > before.as_str()
    });
    installation.thaw(log);
    wait_for("the log to answer again", || {
        (installation.run(&["audit", "status"]).code == Some(0)).then_some(())
    });
    get(&installation, "third.mp4");
}

#[test]
fn who_is_no_auditor_reads_their_own_entries_and_whoever_is_named_reads_all() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = Installation::start_as_made();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &[]);
    installation.camera("door", "a segment", |camera| camera["segments"].as_u64() >= Some(1));
    get(&installation, "clip.mp4");
    let copy = installation.folder().join("log");
    for everything in [
        &["audit", "tail"][..],
        &["audit", "query", "--kind", "service"],
        &["audit", "export", copy.to_str().unwrap()],
    ] {
        let refused = installation.refused(everything);
        assert!(refused.contains("for auditors") && refused.contains("audit tail --own"), "{refused}");
        assert!(refused.contains("auditors = ["), "{refused}");
    }
    let own = |more: &[&str]| -> Vec<Value> {
        let out =
            installation.must(&[&["audit", "query", "--own", "--open-names", "--json"], more].concat()).out;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(serde_json::to_string(&own(&["--kind", "grant"])).unwrap().contains(REASON));
    assert!(own(&["--kind", "service"]).is_empty(), "nobody acted in those");
    let refusals: Vec<_> = own(&["--kind", "search"])
        .into_iter()
        .filter(|entry| entry["event"]["data"]["status_id"] == 2)
        .collect();
    assert!(refusals.len() >= 3, "each refusal is an entry: {refusals:?}");
    // Footage is verified against the log by everybody.
    installation.must(&["recording", "verify"]);

    installation.down();
    let config = installation.state().join("audit/config.toml");
    let auditors = format!("[settings]\nauditors = [\"{}\"]\n", me());
    let text = fs::read_to_string(&config).unwrap().replace("[settings]\n", &auditors);
    fs::write(&config, text).unwrap();
    installation.up();
    assert!(!entries(&installation, "service", &[]).is_empty());
    let named = serde_json::to_string(&entries(&installation, "change", &["--open-names"])).unwrap();
    assert!(named.contains(&me()) && named.contains("auditor"), "the log says who became auditor: {named}");
    let readings = entries(&installation, "search", &[]);
    let last = &readings.last().unwrap()["event"]["data"];
    assert!(last["unmapped"]["entries"]["end"].as_u64() > Some(0), "each reading says what was read: {last}");
}

#[test]
fn what_is_configured_and_what_services_do_is_in_the_log() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    installation.must(&["key", "rotate"]);
    wait_for("the changes", || {
        let changes = entries(&installation, "change", &["--open-names"]);
        let text = serde_json::to_string(&changes).unwrap();
        ["site", "\"camera\"", "Clearing up burglaries"].iter().all(|word| text.contains(word)).then_some(())
    });
    wait_for("every service to report its start", || {
        let starts = entries(&installation, "service", &[]);
        let text = serde_json::to_string(&starts).unwrap();
        ["keys", "registry", "storage", "ingest", "audit"]
            .iter()
            .all(|service| text.contains(&format!("/obscura/{service}")))
            .then_some(())
    });
    wait_for("the rotation", || (!entries(&installation, "key", &[]).is_empty()).then_some(()));
    wait_for("a manifest of new packs", || {
        (!entries(&installation, "manifest", &[]).is_empty()).then_some(())
    });
}

#[test]
fn a_copy_of_the_log_is_verified_offline_and_any_change_of_it_is_found() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    get(&installation, "clip.mp4");
    let copy = export(&installation, "log");
    let shown = copy.to_str().unwrap();
    let key = installation.must(&["audit", "status", "--json"]).json()["key"].as_str().unwrap().to_owned();
    let verify = ["audit", "verify", shown, "--key", &key];
    let report = installation.must(&[&verify[..], &["--json"]].concat()).json();
    assert_eq!(report["good"], true);
    let size = report["size"].as_u64().unwrap();
    assert!(size > 5, "{report}");

    for path in files(&copy) {
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for broken in [changed, whole[..whole.len() - 1].to_vec()] {
            fs::write(&path, broken).unwrap();
            let said = installation.run(&verify);
            assert_eq!(said.code, Some(1), "{}: {said:?}", path.display());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(installation.run(&verify).code, Some(1), "{} is missing", path.display());
        fs::write(&path, whole).unwrap();
    }
    installation.must(&verify);

    let name = installation.folder().join("entry-3");
    installation.must(&["audit", "prove", "3", "-o", name.to_str().unwrap()]);
    let proof = name.with_added_extension("tlog-proof");
    let check = ["audit", "verify", proof.to_str().unwrap(), "--key", &key];
    installation.must(&check);
    let leaf = name.with_added_extension("json");
    let mut bytes = fs::read(&leaf).unwrap();
    bytes[10] ^= 1;
    fs::write(&leaf, bytes).unwrap();
    assert_eq!(installation.run(&check).code, Some(1));

    // A later log still contains the earlier one.
    installation.must(&["audit", "test-event", "later"]);
    let later = export(&installation, "later");
    let earlier = copy.join("checkpoint");
    let grown = ["audit", "verify", later.to_str().unwrap(), "--earlier", earlier.to_str().unwrap()];
    installation.must(&grown);
}

#[test]
fn a_person_is_forgotten_and_every_proof_stays_valid() {
    let camera = TestCamera::start(Auth::None);
    let mut installation = installation_with(&camera);
    get(&installation, "clip.mp4");
    let person = entries(&installation, "grant", &["--open-names"])[0]["opened"].to_string();
    assert!(person.contains("unix:"), "{person}");
    // Who attests where the shop is, is named in a change that somebody else made.
    let id = "name:Ada Ventura";
    let named = |installation: &Installation| {
        serde_json::to_string(&entries(installation, "change", &["--open-names"])).unwrap()
    };
    wait_for("the change that names her", || named(&installation).contains("Ada Ventura").then_some(()));
    let me = me();
    let erase = |dpo: &str, auditor: &str| {
        [
            "audit",
            "erase",
            id,
            "--ground",
            "objection",
            "--case",
            "117/26",
            "--dpo",
            dpo,
            "--auditor",
            auditor,
        ]
        .map(ToOwned::to_owned)
    };
    let refused = |dpo: &str, auditor: &str| {
        let arguments = erase(dpo, auditor);
        installation.refused(&arguments.each_ref().map(String::as_str))
    };
    assert!(refused(&me, &me).contains("two different"), "one person is not two");
    assert!(refused(OFFICER, "x:1").contains("auditors"), "who agrees as auditor is one");
    assert!(refused("x:1", &me).contains("data_protection_officers"), "who agrees as officer is one");
    assert!(refused(OFFICER, SECOND_AUDITOR).contains("neither"), "who asks is one of the two");
    installation.must(&erase(OFFICER, &me).each_ref().map(String::as_str));
    assert!(!named(&installation).contains("Ada Ventura"));
    let copy = export(&installation, "log");
    installation.must(&["audit", "verify", copy.to_str().unwrap()]);
    // Of every service: tables, write-ahead logs, outboxes, logs.
    installation.down();
    for path in files(&installation.state()) {
        let bytes = fs::read(&path).unwrap();
        let name = b"Lindqvist";
        assert!(!bytes.windows(name.len()).any(|window| window == name), "{}", path.display());
    }
}

/// Leaves of an exported copy, in no particular order.
fn leaves(copy: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for path in files(&copy.join("tile/entries")) {
        let bytes = fs::read(path).unwrap();
        let mut rest = &bytes[..];
        // C2SP tlog-tiles: each entry behind its length in two bytes.
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let (leaf, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
            found.push(leaf.to_vec());
            rest = behind;
        }
    }
    found
}

/// What services really write, and not only the catalogue, against the published schemas.
#[test]
fn every_entry_of_an_exported_log_is_valid_ocsf() {
    let camera = TestCamera::start(Auth::None);
    let installation = installation_with(&camera);
    get(&installation, "clip.mp4");
    let hold = ["hold", "add", "door", "--from", "-1h", "--to", "now", "--owner", "Legal", "--json"];
    let hold = [&hold[..], &["--basis", "Case 17", "--review-on", "2099-06-30"]].concat();
    let held = installation.must(&hold).json();
    installation.must(&["hold", "release", held.pointer("/hold/id").unwrap().as_str().unwrap()]);
    let shred = ["key", "shred", "door", "--from", "-1h", "--to", "now", "--ground", "objection"];
    let two = ["--requested-by", "unix:1", "--approved-by", "unix:2", "--yes"];
    installation.must(&[&shred[..], &two].concat());
    installation.must(&[
        "audit",
        "erase",
        "unix:1",
        "--ground",
        "order",
        "--dpo",
        OFFICER,
        "--auditor",
        &me(),
    ]);
    for kind in ["grant", "view", "export", "change", "hold", "destruction", "erasure", "service", "key"] {
        wait_for("an entry of every kind", || (!entries(&installation, kind, &[]).is_empty()).then_some(()));
    }
    let all = installation.must(&["audit", "query", "--json"]).out.lines().count();
    let leaves = leaves(&export(&installation, "log"));
    assert!(leaves.len() >= all, "{} of {all}", leaves.len());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut check = Command::new(root.join(".tools/python/bin/python"))
        .arg(root.join("tests/ocsf/check.py"))
        .arg("--trusted")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = check.stdin.take().unwrap();
    // The check reads all before it writes.
    to.write_all(&leaves.join(&b"\n"[..])).unwrap();
    drop(to);
    let said = check.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn kill_storms_lose_no_acknowledged_entry_and_make_no_fork() {
    let installation = Installation::start();
    let mut acknowledged = Vec::new();
    let mut earlier: Vec<PathBuf> = Vec::new();
    for round in 0..4 {
        for number in 0..3 {
            let text = format!("round-{round}-{number}");
            let sent = wait_for("the log to take an event", || {
                let sent = installation.run(&["audit", "test-event", &text, "--json"]);
                (sent.code == Some(0)).then(|| sent.json()["index"].as_u64().unwrap())
            });
            acknowledged.push((sent, text));
        }
        let copy = export(&installation, &format!("copy-{round}"));
        earlier.push(copy.join("checkpoint"));
        let killed = installation.pid("audit");
        installation.kill("audit");
        wait_for("the log to be back", || (installation.pid("audit") != killed).then_some(()));
    }
    wait_for("the log to answer", || (installation.run(&["audit", "status"]).code == Some(0)).then_some(()));
    let tests = entries(&installation, "test", &["--open-names"]);
    for (index, text) in acknowledged {
        let entry = tests.iter().find(|entry| entry["index"] == index).unwrap();
        assert!(entry.to_string().contains(&text), "entry {index} is not `{text}`: {entry}");
    }
    let copy = export(&installation, "last");
    let mut arguments = vec!["audit".to_owned(), "verify".to_owned(), copy.display().to_string()];
    for path in earlier {
        arguments.extend(["--earlier".to_owned(), path.display().to_string()]);
    }
    installation.must(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

/// `obscura witness` of somebody else.
struct Witness {
    child: Child,
    key: String,
    url: String,
}

impl Witness {
    fn start(folder: &Path, log: &str) -> Self {
        let folder = folder.join("witness");
        let mut child = Command::new(program("obscura"))
            .args(["witness", "--name", "witness.example.org/w1", "--listen", "127.0.0.1:0", "--log", log])
            .arg("--folder")
            .arg(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let key = lines.next().unwrap().strip_prefix("witness ").unwrap().to_owned();
        let url = lines.next().unwrap().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, key, url }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends where the log refuses to start, with its reason.
fn refused_start(config: &Path) -> String {
    let mut command = Command::new(program("obscura-audit"));
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_for("the log to refuse its start", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

fn copy_folder(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn a_witness_of_somebody_else_cosigns_the_log_and_its_word_stops_an_older_database() {
    let mut installation = Installation::start();
    let key = installation.must(&["audit", "status", "--json"]).json()["key"].as_str().unwrap().to_owned();
    let witness = Witness::start(installation.folder(), &key);
    installation.down();
    let (data, backup) = (installation.state().join("audit/data"), installation.folder().join("backup"));
    copy_folder(&data, &backup);
    let config = installation.state().join("audit/config.toml");
    let settings = format!("[[settings.witnesses]]\nurl = \"{}\"\nkey = \"{}\"\n", witness.url, witness.key);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n{settings}")).unwrap();
    installation.up();
    let sent = installation.must(&["audit", "test-event", "--json"]).json()["index"].as_u64().unwrap();
    wait_for("a cosignature of what the backup does not have", || {
        let status = installation.must(&["audit", "status", "--json"]).json();
        (status["witnessed_size"].as_u64() > Some(sent)).then_some(())
    });
    let copy = export(&installation, "log");
    installation.must(&["audit", "verify", copy.to_str().unwrap(), "--witness", &witness.key]);

    installation.down();
    fs::remove_dir_all(&data).unwrap();
    copy_folder(&backup, &data);
    let refused = refused_start(&config);
    assert!(refused.contains("the checkpoint that a witness knows is of size"), "{refused}");
    assert!(refused.contains("an older database was restored"), "{refused}");
}
