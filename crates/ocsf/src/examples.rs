//! At least one event of every kind and act: for the catalogue and for the check against the
//! published schemas. Every optional field is set in at least one of them and missing in another.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use obscura_proto::{
    audit::v1::{
        CameraAct, Change, Destruction, Erasure, ErasureGround, Event, Export, GrantDecision, Heartbeat,
        HoldAct, KeyAct, NamedField, Outcome, Overflow, Person, Search, ServiceAct, Session, StorageManifest,
        Test, View, event::Body, hold_act, key_act, service_act, session, view,
    },
    footage::v1::{GapReason, Layer, Span},
};

use crate::{Persons, Source};

const GRANT: &str = "01930000-0000-7000-8000-00000000000a";
const CAMERA: &str = "01930000-0000-7000-8000-00000000000b";
const OTHER_CAMERA: &str = "01930000-0000-7000-8000-00000000000c";
const HOLD: &str = "01930000-0000-7000-8000-00000000000d";
const KEY: &str = "01930000-0000-7000-8000-00000000000e";
const PACK: &str = "01930000-0000-7000-8000-00000000000f";
/// 2026-11-23T10:00:00Z.
const START_UNIX_NS: i64 = 1_795_428_000_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;
const READER: &str = "spiffe://shop.example/obscura/cli";

/// A source for the examples.
#[must_use]
pub fn example_source() -> Source {
    Source {
        producer: "spiffe://shop.example/obscura/keys".into(),
        zone: "eea".into(),
        log: "shop.example/obscura/audit/eea".into(),
    }
}

/// Keys for the examples: the same pseudonym for everyone, and a ciphertext that says nothing.
#[derive(Clone, Copy, Debug)]
pub struct ExamplePersons;

impl Persons for ExamplePersons {
    fn pseudonym(&mut self, _: &str) -> Result<String, String> {
        Ok("p:4f1c2a9b7d3e5f60".into())
    }

    fn seal(&mut self, _: &str, pointer: &str, clear: &str) -> Result<String, String> {
        // As long as a real one: nonce and tag take 28 bytes.
        let length = clear.len().saturating_add(28);
        Ok(STANDARD.encode(pointer.bytes().cycle().take(length).map(|byte| byte ^ 0xa5).collect::<Vec<_>>()))
    }
}

/// The catalogue's events, in the order of [`crate::KINDS`].
#[must_use]
pub fn examples() -> Vec<Event> {
    let bodies = [access(), administration(), keys(), operation()].concat();
    let mut events: Vec<_> =
        bodies.into_iter().enumerate().map(|(number, example)| event(number, example)).collect();
    let place = |event: &Event| crate::KINDS.iter().position(|kind| crate::kind(event) == Some(*kind));
    events.sort_by_key(place);
    events
}

/// A body, whether it was done, and whether a person did it.
type Example = (Body, Outcome, bool);

const DONE: Outcome = Outcome::Success;
const REFUSED: Outcome = Outcome::Failure;

fn event(number: usize, (body, outcome, acted): Example) -> Event {
    let number = i64::try_from(number).unwrap_or_default();
    // Every second one acts by name, the others by address alone.
    let person = || Person {
        id: "user:alice".into(),
        name: if number % 2 == 0 { "Alice Example".into() } else { String::new() },
        address: if number % 3 == 0 { "terminal-7".into() } else { "192.0.2.17".into() },
    };
    Event {
        event_id: format!("01930000-0000-7000-9000-{number:012x}"),
        time_unix_ns: START_UNIX_NS + number * 1_234_567_891,
        outcome: outcome.into(),
        actor: acted.then(person),
        body: Some(body),
    }
}

fn span() -> Option<Span> {
    Some(Span { start_unix_ns: START_UNIX_NS - 30 * MINUTE_NS, end_unix_ns: START_UNIX_NS - 20 * MINUTE_NS })
}

fn released() -> Vec<Span> {
    vec![Span { start_unix_ns: START_UNIX_NS - 30 * MINUTE_NS, end_unix_ns: START_UNIX_NS - 25 * MINUTE_NS }]
}

fn both_cameras() -> Vec<String> {
    vec![CAMERA.into(), OTHER_CAMERA.into()]
}

fn access() -> Vec<Example> {
    let session = |act: session::Act| Session { act: act.into(), session_id: "s-7b1d".into() };
    let view = |phase: view::Phase, released| View {
        grant_id: GRANT.into(),
        camera_id: CAMERA.into(),
        layer: Layer::Masked.into(),
        phase: phase.into(),
        released,
        released_by: "spiffe://shop.example/obscura/keys".into(),
    };
    let search = Search {
        subject: "recordings".into(),
        camera_ids: both_cameras(),
        span: span(),
        query: "red car at the gate".into(),
        results: 12,
        ..Search::default()
    };
    let read = Search {
        subject: "audit".into(),
        query: "entries with names".into(),
        first_index: 1_200,
        end_index: 1_264,
        ..Search::default()
    };
    let export = Export {
        grant_id: GRANT.into(),
        camera_ids: both_cameras(),
        span: span(),
        file_sha256: vec![0x5a; 32].into(),
        bytes: 48_000_000,
    };
    vec![
        (Body::Session(session(session::Act::LogOn)), DONE, true),
        (Body::Session(session(session::Act::LogOn)), REFUSED, true),
        (Body::Session(session(session::Act::LogOff)), DONE, true),
        (Body::Grant(allowed(false)), DONE, true),
        (Body::Grant(allowed(true)), DONE, true),
        (Body::Grant(refused()), REFUSED, true),
        (Body::View(view(view::Phase::Open, Vec::new())), DONE, true),
        (Body::View(view(view::Phase::Ongoing, released())), DONE, true),
        (Body::View(view(view::Phase::Close, released())), DONE, true),
        (Body::Export(export.clone()), DONE, true),
        (Body::Export(Export { file_sha256: Bytes::new(), bytes: 0, ..export }), REFUSED, true),
        (Body::Search(search), DONE, true),
        (Body::Search(read.clone()), DONE, true),
        (Body::Search(read), REFUSED, true),
    ]
}

fn allowed(lift: bool) -> GrantDecision {
    GrantDecision {
        claims_hash: vec![0xc1; 32].into(),
        grant_id: GRANT.into(),
        camera_ids: both_cameras(),
        layers: vec![if lift { Layer::Original.into() } else { Layer::Masked.into() }],
        span: span(),
        purpose: "theft at the till".into(),
        reason: "case 44".into(),
        holder: READER.into(),
        expires_unix_ns: START_UNIX_NS + 5 * MINUTE_NS,
        lift,
        refusal: String::new(),
    }
}

fn refused() -> GrantDecision {
    GrantDecision {
        camera_ids: vec![CAMERA.into()],
        layers: vec![Layer::Original.into()],
        reason: "curious".into(),
        refusal: "no role permits the original layer".into(),
        ..GrantDecision::default()
    }
}

fn administration() -> Vec<Example> {
    let change = |before: &str, after: &str| Change {
        object_kind: "camera".into(),
        object_id: CAMERA.into(),
        before_json: before.into(),
        after_json: after.into(),
        changed_fields: vec!["owner".into(), "retention_hours".into()],
        named: vec![NamedField {
            field: "owner".into(),
            before: if before.is_empty() { String::new() } else { "Bob Example".into() },
            after: if after.is_empty() { String::new() } else { "Carol Example".into() },
        }],
    };
    let hold = |act: hold_act::Act| HoldAct {
        act: act.into(),
        hold_id: HOLD.into(),
        camera_id: CAMERA.into(),
        span: span(),
        basis: "request of the police, case 44".into(),
        review_on: "2027-01-31".into(),
    };
    let destruction = |early| Destruction {
        receipt: Bytes::from_static(b"a serialised receipt"),
        camera_ids: vec![CAMERA.into()],
        span: span(),
        early,
        receipt_number: 44,
        effective_unix_ns: START_UNIX_NS + MINUTE_NS,
        ..Destruction::default()
    };
    let deleted = Destruction {
        receipt: Bytes::new(),
        pack_ids: vec![PACK.into()],
        root: vec![0xee; 32].into(),
        ..destruction(false)
    };
    let erasure = |early| Erasure {
        pseudonyms: vec!["p:0123456789abcdef".into()],
        early,
        ground: if early { ErasureGround::Objection } else { ErasureGround::RetentionEnded }.into(),
        case_number: if early { "117/26".into() } else { String::new() },
    };
    let (before, after) = (r#"{"retention_hours":72}"#, r#"{"retention_hours":48}"#);
    vec![
        (Body::Change(change("", after)), DONE, true),
        (Body::Change(change(before, after)), DONE, true),
        (Body::Change(change(before, "")), DONE, true),
        (Body::Change(change("", "")), REFUSED, false),
        (Body::Hold(hold(hold_act::Act::Placed)), DONE, true),
        (Body::Hold(hold(hold_act::Act::Released)), DONE, true),
        (Body::Destruction(destruction(false)), DONE, false),
        (Body::Destruction(deleted), DONE, false),
        (Body::Destruction(destruction(true)), DONE, true),
        (Body::Erasure(erasure(false)), DONE, false),
        (Body::Erasure(erasure(true)), DONE, true),
    ]
}

fn keys() -> Vec<Example> {
    let act = |act: key_act::Act| KeyAct { act: act.into(), ..KeyAct::default() };
    let said = |kind: key_act::Act, detail: &str| KeyAct { detail: detail.into(), ..act(kind) };
    let release = KeyAct {
        grant_id: GRANT.into(),
        key_ids: vec![KEY.into()],
        released: released(),
        ..act(key_act::Act::Released)
    };
    vec![
        (Body::Key(KeyAct { version: 7, ..act(key_act::Act::Rotated) }), DONE, false),
        (Body::Key(release), DONE, true),
        (Body::Key(act(key_act::Act::SharesMade)), DONE, true),
        (Body::Key(act(key_act::Act::SharesRehearsed)), REFUSED, true),
        (Body::Key(act(key_act::Act::Recovered)), DONE, true),
        (Body::Key(said(key_act::Act::DestructionStopped, "the clock disagrees by 11 min")), DONE, false),
        (
            Body::Key(said(key_act::Act::DestructionResumed, "an operator confirms clock and volume")),
            DONE,
            true,
        ),
    ]
}

fn operation() -> Vec<Example> {
    let camera = |recording, reason: GapReason| CameraAct {
        camera_id: CAMERA.into(),
        recording,
        reason: reason.into(),
        since_unix_ns: START_UNIX_NS,
    };
    let service = |act: service_act::Act, alarm: &str, detail: &str| ServiceAct {
        act: act.into(),
        version: if alarm.is_empty() { "0.1.0".into() } else { String::new() },
        alarm: alarm.into(),
        detail: detail.into(),
    };
    let manifest =
        StorageManifest { root: vec![0xee; 32].into(), pack_ids: vec![PACK.into()], bytes: 22_500_000 };
    vec![
        (Body::Camera(camera(false, GapReason::ConnectionLost)), DONE, false),
        (Body::Camera(camera(true, GapReason::Unspecified)), DONE, false),
        (Body::Manifest(manifest), DONE, false),
        (Body::Service(service(service_act::Act::Started, "", "")), DONE, false),
        (Body::Service(service(service_act::Act::Stopped, "", "asked to stop")), DONE, true),
        (Body::Service(service(service_act::Act::Alarm, "spool_floor", "40 hours left")), DONE, false),
        (Body::Service(service(service_act::Act::AlarmEnded, "spool_floor", "")), DONE, true),
        (
            Body::Service(service(
                service_act::Act::Pruned,
                "",
                "entries 0 to 511 pruned, retention 365 days",
            )),
            DONE,
            false,
        ),
        (Body::Overflow(Overflow { first_counter: 1_001, last_counter: 1_044 }), DONE, false),
        (Body::Test(Test { text: "does this arrive?".into() }), DONE, true),
        (Body::Heartbeat(Heartbeat { size: 4_711 }), DONE, false),
    ]
}
