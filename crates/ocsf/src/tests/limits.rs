//! What is refused, and that everything else fits.

use obscura_proto::{
    audit::v1::{
        Change, Destruction, Erasure, ErasureGround, Export, GrantDecision, HoldAct, KeyAct, NamedField,
        Outcome, Overflow, Person, Search, ServiceAct, Session, StorageManifest, Test, View,
    },
    footage::v1::Span,
    keys::v1::{ShredReceipt, SignedShredReceipt},
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{MAX_LEAF_BYTES, validate};

const ID: &str = "01930000-0000-7000-8000-00000000000b";

fn ids(count: usize) -> Vec<String> {
    vec![ID.to_owned(); count]
}

fn spans(count: usize) -> Vec<Span> {
    vec![Span { start_unix_ns: 1_795_428_000_000_000_001, end_unix_ns: 1_795_428_001_000_000_001 }; count]
}

/// Every event filled up to its limits. Quotes and backslashes take two bytes each in JSON.
fn largest() -> Vec<Event> {
    let (span, free, reason) = (spans(1).first().copied(), "\"\\".repeat(256), "\"".repeat(4_096));
    let spiffe = format!("spiffe://{}", "x".repeat(503));
    let token = "x".repeat(64);
    let hash = vec![0xff; 32];
    let bodies = vec![
        Body::Session(Session { act: 1, session_id: free.clone() }),
        Body::Grant(GrantDecision {
            claims_hash: hash.clone().into(),
            grant_id: ID.into(),
            camera_ids: ids(1_000),
            layers: vec![1, 2, 3],
            span,
            purpose: "p".repeat(1_024),
            reason: reason.clone(),
            holder: spiffe.clone(),
            expires_unix_ns: i64::MAX,
            lift: true,
            refusal: free.clone(),
        }),
        Body::View(View {
            grant_id: ID.into(),
            camera_id: ID.into(),
            layer: 1,
            phase: 2,
            released: spans(400),
            released_by: spiffe,
        }),
        Body::Export(Export {
            grant_id: ID.into(),
            camera_ids: ids(1_000),
            span,
            file_sha256: hash.clone().into(),
            bytes: (1 << 53) - 1,
        }),
        Body::Search(Search {
            subject: token.clone(),
            camera_ids: ids(1_000),
            span,
            query: reason.clone(),
            results: 1,
            first_index: 1 << 52,
            end_index: 1 << 52,
        }),
        Body::Change(Change {
            object_kind: token.clone(),
            object_id: free.clone(),
            before_json: "b".repeat(19_000),
            after_json: "a".repeat(19_000),
            changed_fields: vec![token.clone(); 64],
            named: vec![
                NamedField { field: token.clone(), before: "b".repeat(512), after: "a".repeat(512) };
                4
            ],
        }),
        Body::Key(KeyAct {
            act: 2,
            grant_id: ID.into(),
            key_ids: ids(256),
            released: spans(400),
            version: u32::MAX,
            detail: free.clone(),
        }),
        Body::Hold(HoldAct {
            act: 1,
            hold_id: ID.into(),
            camera_id: ID.into(),
            span,
            basis: reason,
            review_on: "2027-01-31".into(),
        }),
        Body::Destruction(Destruction {
            receipt: vec![0; 16_384].into(),
            camera_ids: ids(500),
            span,
            early: true,
            pack_ids: ids(400),
            root: hash.clone().into(),
            receipt_number: (1 << 53) - 1,
            effective_unix_ns: i64::MAX,
        }),
        Body::Manifest(StorageManifest { root: hash.into(), pack_ids: ids(1_400), bytes: (1 << 53) - 1 }),
        Body::Service(ServiceAct { act: 3, version: free.clone(), alarm: token, detail: free.clone() }),
        Body::Erasure(Erasure {
            pseudonyms: vec!["p".repeat(128); 256],
            early: true,
            ground: ErasureGround::NoLongerNecessary.into(),
            case_number: "9".repeat(32),
        }),
        Body::Test(Test { text: free }),
    ];
    bodies.into_iter().map(|body| with_body(somebody(), body)).collect()
}

fn somebody() -> Event {
    let most = |letter: &str| letter.repeat(256);
    let actor = Person { id: most("i"), name: most("n"), address: most("d") };
    Event {
        event_id: ID.into(),
        time_unix_ns: i64::MAX,
        outcome: Outcome::Failure.into(),
        actor: Some(actor),
        body: None,
    }
}

/// A serialised receipt of destruction with this reason.
fn receipt(reason: &str) -> Vec<u8> {
    let receipt = ShredReceipt { reason: reason.into(), ..ShredReceipt::default() }.encode_to_vec();
    SignedShredReceipt { receipt: receipt.into(), ..SignedShredReceipt::default() }.encode_to_vec()
}

#[test]
fn a_receipt_gives_a_ground_and_the_number_of_a_case_and_no_words() {
    for (reason, good) in [("", true), ("objection 117/26", true), ("Erika Mustermann objects", false)] {
        let Some(Body::Destruction(told)) = example("destruction").body else { panic!("another kind") };
        let body = Body::Destruction(Destruction { receipt: receipt(reason).into(), ..told });
        assert_eq!(validate(&with_body(example("destruction"), body)).is_ok(), good, "{reason}");
    }
}

#[test]
fn the_largest_valid_event_of_every_kind_fits_a_leaf() {
    for event in largest() {
        let bytes = leaf_of(&event).bytes.len();
        assert!(bytes <= MAX_LEAF_BYTES, "{:?}: {bytes}", kind(&event));
    }
}

/// Changes a body of one kind.
macro_rules! grow {
    ($kind:ident, $it:ident => $change:expr) => {
        |body| {
            if let Body::$kind($it) = body {
                $change;
            }
        }
    };
}

/// One more than the limit of each list and text is refused, with the name of the field.
#[test]
fn one_more_is_too_much_and_the_complaint_names_the_field_but_not_its_value() {
    type Grow = (&'static str, fn(&mut Body));
    let grown: Vec<Grow> = vec![
        ("session.session_id", grow!(Session, it => it.session_id.push('x'))),
        ("grant.camera_ids", grow!(Grant, it => it.camera_ids.push(ID.into()))),
        ("grant.layers", grow!(Grant, it => it.layers.push(1))),
        ("grant.purpose", grow!(Grant, it => it.purpose.push('x'))),
        ("grant.reason", grow!(Grant, it => it.reason.push('x'))),
        ("grant.refusal", grow!(Grant, it => it.refusal.push('x'))),
        ("grant.holder", grow!(Grant, it => it.holder.push('x'))),
        ("view.released", grow!(View, it => it.released.extend(spans(1)))),
        ("view.released_by", grow!(View, it => it.released_by.push('x'))),
        ("export.camera_ids", grow!(Export, it => it.camera_ids.push(ID.into()))),
        ("export.bytes", grow!(Export, it => it.bytes += 1)),
        ("search.query", grow!(Search, it => it.query.push('x'))),
        ("search.subject", grow!(Search, it => it.subject.push('x'))),
        ("change.before_json", grow!(Change, it => it.before_json.push('x'))),
        ("change.after_json", grow!(Change, it => it.after_json.push('x'))),
        ("change.named", grow!(Change, it => it.named.push(NamedField::default()))),
        ("change.named", grow!(Change, it => it.named[3].after.push('x'))),
        ("change.changed_fields", grow!(Change, it => it.changed_fields.push("x".into()))),
        ("key.key_ids", grow!(Key, it => it.key_ids.push(ID.into()))),
        ("key.released", grow!(Key, it => it.released.extend(spans(1)))),
        ("key.detail", grow!(Key, it => it.detail.push('x'))),
        ("hold.basis", grow!(Hold, it => it.basis.push('x'))),
        ("hold.review_on", grow!(Hold, it => it.review_on = "next year".into())),
        ("destruction.receipt", grow!(Destruction, it => it.receipt = vec![0; 16_385].into())),
        ("destruction.camera_ids", grow!(Destruction, it => it.camera_ids.push(ID.into()))),
        ("destruction.pack_ids", grow!(Destruction, it => it.pack_ids.push(ID.into()))),
        ("destruction.root", grow!(Destruction, it => it.root = vec![0; 31].into())),
        ("destruction.root", grow!(Destruction, it => it.root.clear())),
        ("destruction.root", grow!(Destruction, it => it.pack_ids.clear())),
        ("destruction.receipt_number", grow!(Destruction, it => it.receipt_number += 1)),
        ("destruction.effective_unix_ns", grow!(Destruction, it => it.effective_unix_ns = -1)),
        ("manifest.pack_ids", grow!(Manifest, it => it.pack_ids.push(ID.into()))),
        ("manifest.root", grow!(Manifest, it => it.root = vec![0; 31].into())),
        ("service.alarm", grow!(Service, it => it.alarm = "two words".into())),
        ("service.detail", grow!(Service, it => it.detail = "\u{1b}[31m".into())),
        ("erasure.pseudonyms", grow!(Erasure, it => it.pseudonyms[0] = "Alice Example".into())),
        ("erasure.ground", grow!(Erasure, it => it.ground = 0)),
        ("erasure.case_number", grow!(Erasure, it => it.case_number = "Alice".into())),
        ("destruction.receipt", grow!(Destruction, it => it.receipt = receipt("Alice asks for it").into())),
        ("test.text", grow!(Test, it => it.text.clear())),
    ];
    for (field, grow) in grown {
        let name = field.split('.').next();
        let mut event = largest().into_iter().find(|event| kind(event) == name).unwrap();
        assert_eq!(validate(&event), Ok(()));
        grow(event.body.as_mut().unwrap());
        let invalid = validate(&event).unwrap_err();
        assert_eq!(invalid.field, field);
        assert!(!invalid.to_string().contains("xxxx") && !invalid.to_string().contains("Alice"), "{invalid}");
    }
}

#[test]
fn what_every_event_needs_is_asked_for_by_name() {
    type Spoil = (&'static str, fn(&mut Event));
    let spoilt: Vec<Spoil> = vec![
        ("event_id", |event| event.event_id = "7".into()),
        ("event_id", |event| event.event_id = event.event_id.replace("0193", "{0193")),
        ("time_unix_ns", |event| event.time_unix_ns = 0),
        ("outcome", |event| event.outcome = 0),
        ("outcome", |event| event.outcome = 9),
        ("actor.id", |event| event.actor.as_mut().unwrap().id.clear()),
        ("actor.name", |event| event.actor.as_mut().unwrap().name.push_str(&"x".repeat(300))),
        ("body", |event| event.body = None),
    ];
    for (field, spoil) in spoilt {
        let mut event = example("view");
        spoil(&mut event);
        assert_eq!(validate(&event).unwrap_err().field, field);
    }
    let overflow = |first_counter, last_counter| Body::Overflow(Overflow { first_counter, last_counter });
    assert!(validate(&with_body(example("overflow"), overflow(0, 1))).is_err());
    assert!(validate(&with_body(example("overflow"), overflow(3, 2))).is_err());
    assert!(validate(&with_body(example("overflow"), overflow(3, 3))).is_ok());
}

proptest! {
    /// Bytes of a stranger never panic, and what passes validation becomes a leaf that reads back.
    #[test]
    fn any_message_is_refused_or_becomes_a_leaf(which in 0..50_usize, at: prop::sample::Index, byte: u8) {
        let examples = examples();
        let mut bytes = examples[which % examples.len()].encode_to_vec();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(event) = Event::decode(bytes.as_slice()) && validate(&event).is_ok() {
            let leaf = encode(&event, &example_source(), &mut ExamplePersons).unwrap();
            prop_assert!(leaf.bytes.len() <= MAX_LEAF_BYTES);
            prop_assert_eq!(crate::read(&leaf.bytes).unwrap().event_id, event.event_id);
            let text = String::from_utf8(leaf.bytes).unwrap();
            prop_assert_eq!(canonical(&text), text);
        }
    }
}
