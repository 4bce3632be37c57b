//! Nothing about a person in clear.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use obscura_proto::audit::v1::{Change, NamedField, Outcome, Person, ServiceAct, Test, service_act};
use proptest::prelude::*;

use super::*;
use crate::{Error, Persons, person_ids, read, validate};

/// Seals so that a test can open it: every byte inverted.
struct Inverting;

impl Persons for Inverting {
    fn pseudonym(&mut self, _: &str) -> Result<String, String> {
        Ok("p:0".into())
    }

    fn seal(&mut self, _: &str, _: &str, clear: &str) -> Result<String, String> {
        Ok(STANDARD.encode(clear.bytes().map(|byte| !byte).collect::<Vec<_>>()))
    }
}

fn open(sealed: &str) -> String {
    String::from_utf8(STANDARD.decode(sealed).unwrap().into_iter().map(|byte| !byte).collect()).unwrap()
}

/// Words that occur nowhere by chance, with what JSON escapes.
fn planted() -> impl Strategy<Value = String> {
    "[a-zäöüß\"\\\\]{2}[A-Z][a-zäöüß \"\\\\]{9,30}[0-9]{6}"
}

/// Puts words into every field of the event that is about a person, and into every field of words
/// that a careless service might put them into.
fn plant(event: &mut Event, words: &[String]) {
    let [id, name, address, personal, more] = words else { panic!("five words") };
    if event.actor.is_some() {
        event.actor = Some(Person { id: id.clone(), name: name.clone(), address: address.clone() });
    }
    let careless = || format!("asked by {name} ({id}) from {address}");
    match event.body.as_mut().unwrap() {
        Body::Session(body) => body.session_id = careless(),
        Body::Grant(body) => {
            (body.purpose, body.reason, body.refusal) = (personal.clone(), more.clone(), careless());
        }
        Body::Search(body) => body.query = personal.clone(),
        Body::Hold(body) => body.basis = personal.clone(),
        Body::Change(body) if event.actor.is_some() => {
            (body.before_json, body.after_json, body.object_id) =
                (personal.clone(), more.clone(), careless());
            body.named =
                vec![NamedField { field: "owner".into(), before: name.clone(), after: more.clone() }];
        }
        Body::Key(body) if event.actor.is_some() => body.detail = careless(),
        Body::Service(body) if event.actor.is_some() => body.detail = careless(),
        Body::Test(body) => body.text = careless(),
        _ => {}
    }
}

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            found.push(name.clone());
            strings(value, found);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_clear_word_about_a_person_is_ever_in_a_leaf(words in prop::collection::vec(planted(), 5)) {
        for mut event in examples() {
            plant(&mut event, &words);
            let leaf = encode(&event, &example_source(), &mut Inverting).unwrap();
            let raw = String::from_utf8(leaf.bytes.clone()).unwrap();
            let mut texts = Vec::new();
            strings(&serde_json::from_slice(&leaf.bytes).unwrap(), &mut texts);
            for word in &words {
                prop_assert!(!raw.contains(word.as_str()), "in {raw}");
                prop_assert!(!texts.iter().any(|text| text.contains(word.as_str())), "in {raw}");
            }
            if event.actor.is_some() {
                let sealed = read(&leaf.bytes).unwrap().sealed;
                prop_assert_eq!(open(&sealed["/actor/user/uid_alt"]), words[0].as_str());
            }
        }
    }
}

#[test]
fn the_planted_words_would_be_found() {
    let mut event = example("test");
    event.actor = None;
    event.body = Some(Body::Test(Test { text: "Alice Example".into() }));
    assert!(String::from_utf8(leaf_of(&event).bytes).unwrap().contains("Alice Example"));
}

#[test]
fn words_of_a_service_that_name_who_acted_are_sealed_too() {
    for said in ["alice did it", "by ALICE EXAMPLE", "from 192.0.2.17", "user:alice", "Ms Example"] {
        let event = Event {
            actor: Some(Person {
                id: "user:alice".into(),
                name: "Alice Example".into(),
                address: "192.0.2.17".into(),
            }),
            ..with_body(
                example("service"),
                Body::Service(ServiceAct {
                    act: service_act::Act::Started.into(),
                    detail: said.into(),
                    ..ServiceAct::default()
                }),
            )
        };
        let leaf = encode(&event, &example_source(), &mut Inverting).unwrap();
        let entry = read(&leaf.bytes).unwrap();
        assert_eq!(open(&entry.sealed["/status_detail"]), said);
        assert!(!String::from_utf8(leaf.bytes).unwrap().contains(said));
    }
}

#[test]
fn what_is_sealed_goes_back_to_where_its_pointer_says() {
    let mut event = example("grant");
    event.actor.as_mut().unwrap().address = "192.0.2.17".into();
    let leaf = encode(&event, &example_source(), &mut Inverting).unwrap();
    let sealed = read(&leaf.bytes).unwrap().sealed;
    assert_eq!(open(&sealed["/src_endpoint/ip"]), "192.0.2.17");
    assert_eq!(open(&sealed["/unmapped/purpose"]), "theft at the till");
    assert_eq!(open(&sealed["/unmapped/reason"]), "case 44");
}

/// Remembers under whose key what was sealed.
#[derive(Default)]
struct Remembering(Vec<(String, String, String)>);

impl Persons for Remembering {
    fn pseudonym(&mut self, id: &str) -> Result<String, String> {
        Ok(format!("p-{}", id.len()))
    }

    fn seal(&mut self, id: &str, pointer: &str, clear: &str) -> Result<String, String> {
        self.0.push((id.into(), pointer.into(), clear.into()));
        Inverting.seal(id, pointer, clear)
    }
}

#[test]
fn whom_a_change_names_is_sealed_under_their_own_key_and_not_that_of_who_acted() {
    let named = |field: &str, before: &str, after: &str| NamedField {
        field: field.into(),
        before: before.into(),
        after: after.into(),
    };
    let body = Change {
        object_kind: "camera".into(),
        object_id: "door".into(),
        named: vec![named("owner", "Bob", "Carol"), named("attested_by", "", "Bob")],
        ..Change::default()
    };
    let event = with_body(example("change"), Body::Change(body));
    assert_eq!(person_ids(&event), ["user:alice", "name:Bob", "name:Carol", "name:Bob"]);
    for event in [event.clone(), Event { actor: None, ..event }] {
        let mut persons = Remembering::default();
        let leaf = encode(&event, &example_source(), &mut persons).unwrap();
        let about_others =
            persons.0.iter().filter(|(id, ..)| id != "user:alice").cloned().collect::<Vec<_>>();
        let expected = [
            ("name:Bob", "/unmapped/named/owner/before", "Bob"),
            ("name:Carol", "/unmapped/named/owner/after", "Carol"),
            ("name:Bob", "/unmapped/named/attested_by/after", "Bob"),
        ];
        assert_eq!(about_others, expected.map(|(id, at, name)| (id.into(), at.into(), name.into())));
        let others = read(&leaf.bytes).unwrap().others;
        let opened: Vec<_> =
            others.iter().map(|other| (other.pointer.as_str(), open(&other.sealed))).collect();
        assert_eq!(opened, expected.map(|(_, at, name)| (at, name.to_owned())));
        assert_eq!(others[1].person, format!("p-{}", "name:Carol".len()));
    }
}

#[test]
fn nothing_about_a_person_is_taken_where_nobody_acted() {
    for kind in ["session", "grant", "view", "export", "search", "hold", "change"] {
        let event = Event { actor: None, ..example(kind) };
        let invalid = validate(&event).unwrap_err();
        assert!(invalid.field == "actor" || invalid.field.ends_with("_json"), "{invalid}");
    }
}

struct Careless;

impl Persons for Careless {
    fn pseudonym(&mut self, _: &str) -> Result<String, String> {
        Ok("p:0".into())
    }

    fn seal(&mut self, _: &str, _: &str, clear: &str) -> Result<String, String> {
        Ok(clear.into())
    }
}

struct Gone;

impl Persons for Gone {
    fn pseudonym(&mut self, id: &str) -> Result<String, String> {
        if id.is_empty() { Ok(String::new()) } else { Err("the key store is locked".into()) }
    }

    fn seal(&mut self, _: &str, _: &str, _: &str) -> Result<String, String> {
        Err("the key store is locked".into())
    }
}

#[test]
fn without_keys_there_is_no_leaf_and_the_event_is_not_to_blame() {
    let event = Event { outcome: Outcome::Success.into(), ..example("view") };
    for persons in [&mut Careless as &mut dyn Persons, &mut Gone] {
        let error = encode(&event, &example_source(), persons).unwrap_err();
        assert!(matches!(error, Error::Persons(_)), "{error}");
        assert!(!error.to_string().contains("alice"), "{error}");
    }
}
