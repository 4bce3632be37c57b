use std::{collections::BTreeSet, fs, path::Path};

use obscura_proto::{audit::v1::Outcome, footage::v1::Layer};

use super::*;
use crate::{KINDS, catalogue_markdown, read};

#[test]
fn the_documented_catalogue_is_the_one_in_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit-events.md");
    let page = fs::read_to_string(path).unwrap();
    assert!(page == catalogue_markdown(), "run `cargo run -p obscura-ocsf --example catalogue`");
}

#[test]
fn every_kind_and_every_act_has_an_example() {
    let codes: BTreeSet<_> = examples()
        .iter()
        .map(|event| json_of(event)["data"]["metadata"]["event_code"].as_str().unwrap().to_owned())
        .collect();
    for code in [
        "session.log_on",
        "session.log_off",
        "grant.allowed",
        "grant.refused",
        "view.open",
        "view.ongoing",
        "view.close",
        "export.written",
        "search.searched",
        "change.created",
        "change.updated",
        "change.deleted",
        "key.rotated",
        "key.released",
        "key.shares_made",
        "key.shares_rehearsed",
        "key.recovered",
        "key.destruction_stopped",
        "key.destruction_resumed",
        "camera.stopped",
        "camera.recording",
        "hold.placed",
        "hold.released",
        "destruction.expired",
        "destruction.early",
        "manifest.stored",
        "service.started",
        "service.stopped",
        "service.alarm",
        "service.alarm_ended",
        "overflow.dropped",
        "erasure.expired",
        "erasure.early",
        "service.pruned",
        "test.sent",
        "heartbeat.alive",
    ] {
        assert!(codes.contains(code), "{code} has no example");
    }
    let kinds: BTreeSet<_> = examples().iter().filter_map(kind).collect();
    assert_eq!(kinds, BTreeSet::from(KINDS));
}

/// What marks the source of whoever produces such an event.
fn producer(event: &Event) -> String {
    match event.body.as_ref().unwrap() {
        Body::Session(body) => format!("session::Act::{:?}", body.act()),
        Body::Grant(body) if body.lift => "lift: true".to_owned(),
        Body::View(body) => format!("Phase::{:?}", body.phase()),
        Body::Key(body) => format!("Act::{:?}", body.act()),
        Body::Hold(body) => format!("Act::{:?}", body.act()),
        Body::Service(body) => format!("Act::{:?}", body.act()),
        body => format!("{body:?}").split('(').next().map(|name| format!("Body::{name}(")).unwrap(),
    }
}

/// Everything that runs, without its tests.
fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap();
        if entry.is_dir() && !["tests", "ocsf", "proto"].contains(&name) {
            sources(&entry, found);
        } else if name.ends_with(".rs") && !["tests.rs", "test_support.rs"].contains(&name) {
            let text = fs::read_to_string(&entry).unwrap();
            found.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
        }
    }
}

#[test]
fn the_catalogue_marks_what_nothing_produces_and_nothing_else() {
    let mut running = String::new();
    for folder in ["../../services", "../../crates"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut running);
    }
    for event in examples() {
        let producer = producer(&event);
        assert_eq!(crate::catalogue::is_awaited(&event), !running.contains(&producer), "{producer}");
    }
    let page = catalogue_markdown();
    assert!(page.contains("| `session.log_on`\\* |") && page.contains("| `key.recovered` |"));
}

/// The protos must not gain a kind or an act that nobody thought of here.
#[test]
fn the_examples_know_every_kind_and_act_of_the_protos() {
    let proto = include_str!("../../../../proto/obscura/audit/v1/event.proto");
    let body = proto.split("oneof body {").nth(1).unwrap().split('}').next().unwrap();
    let fields = body.lines().filter(|line| line.trim().ends_with(';')).count();
    assert_eq!(fields, KINDS.len());
    let acts = |line: &&str| {
        (line.trim().starts_with("ACT_") || line.trim().starts_with("PHASE_")) && !line.contains(" = 0;")
    };
    // Session 2, view 3, key 7, hold 2, service 5.
    assert_eq!(proto.lines().filter(acts).count(), 19);
}

#[test]
fn the_same_event_is_the_same_bytes_with_its_names_in_order() {
    for event in examples() {
        let leaf = leaf_of(&event);
        assert_eq!(leaf, leaf_of(&event));
        let text = String::from_utf8(leaf.bytes).unwrap();
        assert!(text.starts_with(r#"{"data":{"activity_id":"#), "{text}");
        assert!(!text.contains('\n') && !text.contains(": "), "{text}");
        assert_eq!(text, canonical(&text));
    }
}

#[test]
fn a_leaf_says_in_clear_what_it_is_indexed_by() {
    for event in examples() {
        let leaf = leaf_of(&event);
        let entry = read(&leaf.bytes).unwrap();
        assert_eq!((entry.kind.as_str(), &entry.event_id), (leaf.kind, &leaf.event_id));
        assert_eq!((entry.pseudonym, entry.camera_ids), (leaf.pseudonym, leaf.camera_ids));
        assert_eq!(entry.producer, example_source().producer);
        assert!(entry.time.starts_with("2026-11-23T"), "{}", entry.time);
        assert!((1..=4).contains(&entry.severity));
    }
    assert!(read(b"{}").is_err());
    let other =
        String::from_utf8(leaf_of(&example("view")).bytes).unwrap().replace("eu.obscura.view", "com.example");
    assert!(read(other.as_bytes()).unwrap_err().to_string().contains("its type"));
}

#[test]
fn moments_keep_every_nanosecond() {
    let mut event = example("view");
    event.time_unix_ns += 1;
    let json = json_of(&event);
    let digits = format!(".{:09}Z", event.time_unix_ns % 1_000_000_000);
    assert!(json["time"].as_str().unwrap().ends_with(&digits), "{}", json["time"]);
    assert_eq!(json["data"]["time"].as_i64().unwrap(), event.time_unix_ns / 1_000_000);
}

#[test]
fn what_was_refused_says_so_and_is_never_merely_informational() {
    for mut event in examples() {
        event.outcome = Outcome::Failure.into();
        let data = &json_of(&event)["data"];
        assert!(data["severity_id"].as_u64().unwrap() >= 2);
        if data["class_uid"] != 2004 {
            assert_eq!(data["status_id"], 2);
        }
    }
}

#[test]
fn an_alarm_and_its_end_have_the_same_finding() {
    let alarms: Vec<_> = examples()
        .iter()
        .map(|event| json_of(event)["data"].clone())
        .filter(|data| data["metadata"]["event_code"].as_str().unwrap().starts_with("service.alarm"))
        .collect();
    assert_eq!(alarms.len(), 2);
    assert_eq!(alarms[0]["finding_info"]["uid"], alarms[1]["finding_info"]["uid"]);
    assert_ne!(alarms[0]["status_id"], alarms[1]["status_id"]);
}

#[test]
fn a_view_names_its_camera_layer_grant_and_spans() {
    let view = examples().into_iter().find(|event| {
        matches!(&event.body, Some(Body::View(view)) if !view.released.is_empty() && view.layer() == Layer::Masked)
    });
    let data = &json_of(&view.unwrap())["data"];
    assert_eq!(data["unmapped"]["layers"][0], "masked");
    assert_eq!(data["unmapped"]["released"][0]["start"], "2026-11-23T09:30:00Z");
    assert_eq!(data["databucket"]["uid"], data["unmapped"]["cameras"][0]);
    assert!(data["metadata"]["correlation_uid"].is_string());
}
