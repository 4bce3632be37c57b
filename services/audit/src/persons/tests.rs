//! Erasure is real: no byte of any file leads back to the person, and every proof still verifies.

mod late;

use std::{path::PathBuf, time::Duration};

use memchr::memmem;
use obscura_proto::audit::v1::{
    Change, ErasePersonRequest, ErasureGround, NamedField, ReadEntriesRequest, event::Body,
};
use obscura_test_servers::postgres::Postgres;
use obscura_tlog::{LogProof, Policy};
use tokio::sync::mpsc;

use super::*;
use crate::{
    erasing::Erasing,
    fault::NoFaults,
    guard::{Guard, Witnesses},
    reading::Reading,
    roles::{Reader, Roles},
    test_support::{
        AUDITOR, Backend, Bench, CLI, Injector, Place, TestMachine, event, leaf_of, person, reader, search_by,
    },
};

const RETENTION: Duration = Duration::from_hours(30 * 24);
const ID: &str = "user:erika.mustermann";
const NAME: &str = "Erika Mustermann-Gabler";
const QUERY: &str = "the woman with the yellow umbrella";

fn erasing() -> Erasing {
    Erasing::try_new(request(), &roles(), asked_by("user:dpo")).unwrap()
}

fn roles() -> Roles {
    Roles::new([AUDITOR.to_owned()], ["user:dpo".to_owned()])
}

fn asked_by(id: &str) -> Reader {
    Reader::new(CLI.to_owned(), Some(person(id, "Dora Officer")))
}

fn request() -> ErasePersonRequest {
    ErasePersonRequest {
        person_id: ID.to_owned(),
        dpo: Some(person("user:dpo", "Dora Officer")),
        auditor: Some(person("user:auditor", "Otto Auditor")),
        ground: ErasureGround::Objection.into(),
        case_number: "117/26".to_owned(),
    }
}

/// Every file below the folder, with its bytes. A server or a database at work may remove one of its own meanwhile.
fn files(folder: PathBuf) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path));
            continue;
        }
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            content => found.push((path, content.unwrap())),
        }
    }
    found
}

/// Files of the place in which the bytes are, as they are, in hexadecimal or in base64.
fn traces(place: &Place, bytes: &[u8]) -> Vec<PathBuf> {
    traces_in(&files(place.folder.path().to_owned()), bytes)
}

fn traces_in(files: &[(PathBuf, Vec<u8>)], bytes: &[u8]) -> Vec<PathBuf> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let forms = [bytes.to_vec(), hex::encode(bytes).into_bytes(), STANDARD.encode(bytes).into_bytes()];
    let holds = |content: &[u8]| forms.iter().any(|form| memmem::find(content, form).is_some());
    files.iter().filter(|(_, content)| holds(content)).map(|(path, _)| path.clone()).collect()
}

/// All secrets from which the person's keys could be had.
async fn openers(bench: &Bench) -> Vec<Vec<u8>> {
    let pseudonyms = bench.log.parts.persons.pseudonyms(ID).await.unwrap();
    let mut found = Vec::new();
    for pseudonym in &pseudonyms {
        found.push(bench.log.parts.persons.key_of(pseudonym).await.unwrap().unwrap().expose().to_vec());
    }
    let file = std::fs::read_to_string(bench.place.path("person-keys.json")).unwrap();
    let content: serde_json::Value = serde_json::from_str(&file).unwrap();
    let secrets = content["generations"].as_object().unwrap().values();
    found.extend(secrets.map(|secret| hex::decode(secret.as_str().unwrap()).unwrap()));
    found
}

async fn names(bench: &Bench, person_id: &str) -> Vec<String> {
    let request = ReadEntriesRequest {
        person_id: person_id.to_owned(),
        open_names: true,
        ..ReadEntriesRequest::default()
    };
    let (to, mut answers) = mpsc::channel(100);
    Reading::admit(&bench.log, request, reader(AUDITOR)).await.unwrap().run(bench.log.clone(), to).await;
    let mut found = Vec::new();
    while let Some(answer) = answers.recv().await {
        found.extend(answer.unwrap().opened.into_values());
    }
    found
}

#[tokio::test]
async fn after_an_erasure_no_file_leads_to_the_person_and_every_proof_verifies() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let bench = Place::new(backend).start(Arc::new(NoFaults)).await;
        for month in 0..3 {
            bench.append(&search_by(ID, NAME, &format!("{QUERY} {month}"))).await;
            bench.append(&search_by("user:bob", "Bob Other", "a dog")).await;
            bench.place.clock.advance(Duration::from_hours(24 * 31));
        }
        bench.publish().await;
        let before = bench.verify(&[]);
        let proof = bench.log.prove_entry(0, None).await.unwrap();
        assert!(names(&bench, ID).await.iter().any(|name| name == NAME));
        let openers = openers(&bench).await;
        assert_eq!(openers.len(), 4, "three months and the secret that wraps them");

        let (keys, appended) = erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap();
        assert_eq!(keys, 3);
        let leaf = bench.leaf(appended.index).await;
        assert!(
            leaf.contains(r#""objection""#) && leaf.contains("117/26") && leaf.contains("Art. 17"),
            "{leaf}"
        );
        assert!(names(&bench, ID).await.is_empty());
        assert!(names(&bench, "user:bob").await.iter().any(|name| name == "Bob Other"));
        bench.publish().await;
        bench.verify(&[before]);
        let parsed: LogProof = proof.text.parse().unwrap();
        parsed.verify(&Place::key().verifier(), &Policy::none(), &leaf_of(&proof)).unwrap();
        // While it runs, and after it has stopped.
        for _ in 0..2 {
            for word in [ID, NAME, QUERY, "Mustermann", "umbrella"] {
                assert_eq!(traces(&bench.place, word.as_bytes()), Vec::<PathBuf>::new(), "{word}");
            }
            for opener in &openers {
                assert_eq!(traces(&bench.place, opener), Vec::<PathBuf>::new(), "a key that opens");
            }
        }
        let place = bench.stop().await;
        for opener in openers.iter().map(Vec::as_slice).chain([ID.as_bytes(), NAME.as_bytes()]) {
            assert_eq!(traces(&place, opener), Vec::<PathBuf>::new());
        }
        let bench = place.start(Arc::new(NoFaults)).await;
        assert!(names(&bench, ID).await.is_empty());
        assert!(names(&bench, "user:bob").await.iter().any(|name| name == "Bob Other"));
    }
}

/// What stays in pages and in the write-ahead log of the server are dead rows: keys under a secret that was never
/// there and exists nowhere any more. The pseudonym stays in the leaves, which never change, and leads nowhere.
#[tokio::test]
async fn after_an_erasure_no_file_of_the_server_leads_to_the_person() {
    let server = Postgres::own();
    let bench = Place::on(&server).start(Arc::new(NoFaults)).await;
    for month in 0..3 {
        bench.append(&search_by(ID, NAME, &format!("{QUERY} {month}"))).await;
        bench.append(&search_by("user:bob", "Bob Other", "a dog")).await;
        bench.place.clock.advance(Duration::from_hours(24 * 31));
    }
    bench.publish().await;
    let (openers, store) = (openers(&bench).await, &bench.log.parts.store);
    let mut erased = Vec::new();
    for pseudonym in bench.log.parts.persons.pseudonyms(ID).await.unwrap() {
        erased.push(store.key_of(&pseudonym).await.unwrap().unwrap());
    }
    erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap();
    bench.publish().await;

    assert!(bench.log.parts.persons.pseudonyms(ID).await.unwrap().is_empty());
    for row in &erased {
        assert!(bench.log.parts.persons.key_of(&row.pseudonym).await.unwrap().is_none());
        assert!(unwrap(&bench.log.parts.persons.secrets().await.unwrap(), row).is_err());
    }
    // While it runs, and after a crash.
    let stops: [fn(&Postgres); 2] = [|server| drop(server.sql("CHECKPOINT")), Postgres::stop_immediately];
    for stop in stops {
        stop(&server);
        let mut found = files(server.data_dir());
        found.extend(files(bench.place.folder.path().to_owned()));
        for word in ["user:erika", "Mustermann", "umbrella"] {
            assert_eq!(traces_in(&found, word.as_bytes()), Vec::<PathBuf>::new(), "{word}");
        }
        for opener in &openers {
            assert_eq!(traces_in(&found, opener), Vec::<PathBuf>::new(), "a key that opens");
        }
        // That nothing is found means something: what is there is found.
        let is_in = |part: &str, bytes: &[u8]| {
            let folder = server.data_dir().join(part);
            found
                .iter()
                .any(|(path, content)| path.starts_with(&folder) && memmem::find(content, bytes).is_some())
        };
        for row in &erased {
            assert!(is_in("base", row.pseudonym.as_bytes()) && is_in("pg_wal", &row.sealed));
        }
    }
}

#[tokio::test]
async fn a_backup_of_the_database_from_before_opens_nothing_of_the_erased() {
    let bench = Bench::sqlite().await;
    bench.append(&search_by(ID, NAME, QUERY)).await;
    let place = bench.stop().await;
    let backup = std::fs::read(place.path("audit.sqlite")).unwrap();
    let bench = place.start(Arc::new(NoFaults)).await;
    erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap();
    let place = bench.stop().await;
    std::fs::write(place.path("audit.sqlite"), backup).unwrap();
    for side in ["audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = std::fs::remove_file(place.path(side));
    }
    let refused = place.open(Arc::new(NoFaults)).await.unwrap_err().to_string();
    assert!(refused.contains("restore both from the same backup"), "{refused}");
}

#[tokio::test]
async fn a_person_has_one_pseudonym_a_month_and_a_new_one_after_an_erasure() {
    let bench = Bench::sqlite().await;
    let persons = &bench.log.parts.persons;
    let now = || bench.log.parts.clock.wall();
    let first = persons.current(ID, now(), now()).await.unwrap();
    assert_eq!(persons.current(ID, now(), now()).await.unwrap().pseudonym(), first.pseudonym());
    assert_ne!(persons.current("user:bob", now(), now()).await.unwrap().pseudonym(), first.pseudonym());
    bench.place.clock.advance(Duration::from_hours(24 * 31));
    assert_ne!(persons.current(ID, now(), now()).await.unwrap().pseudonym(), first.pseudonym());
    erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap();
    assert!(persons.pseudonyms(ID).await.unwrap().is_empty());
    assert_ne!(persons.current(ID, now(), now()).await.unwrap().pseudonym(), first.pseudonym());
}

/// Who attests a place or answers for a purpose is named in what somebody else did.
#[tokio::test]
async fn whom_a_change_names_is_erased_by_their_own_name_and_who_made_it_stays() {
    let bench = Bench::sqlite().await;
    let named = |field: &str, after: &str| NamedField {
        field: field.into(),
        after: after.into(),
        ..NamedField::default()
    };
    let change = Change {
        object_kind: "site".to_owned(),
        object_id: "01930000-0000-7000-8000-00000000000b".to_owned(),
        after_json: r#"{"name":"harbour"}"#.to_owned(),
        changed_fields: vec!["attested_by".to_owned()],
        named: vec![named("attested_by", NAME), named("owner", "Otto Owner")],
        ..Change::default()
    };
    bench.append(&event(Some(person("user:bob", "Bob Other")), Body::Change(change))).await;
    bench.publish().await;
    let before = names(&bench, "user:bob").await;
    for name in [NAME, "Otto Owner", "Bob Other", r#"{"name":"harbour"}"#] {
        assert!(before.iter().any(|found| found == name), "{name}: {before:?}");
    }
    let person_id = format!("name:{NAME}");
    let erasing =
        Erasing::try_new(ErasePersonRequest { person_id, ..request() }, &roles(), asked_by(AUDITOR)).unwrap();
    assert_eq!(erasing.run(&bench.log, &*bench.any_guard().await).await.unwrap().0, 1);
    bench.publish().await;
    let after = names(&bench, "user:bob").await;
    assert!(!after.iter().any(|found| found.contains("Mustermann")), "{after:?}");
    for name in ["Otto Owner", "Bob Other", r#"{"name":"harbour"}"#] {
        assert!(after.iter().any(|found| found == name), "{name}: {after:?}");
    }
    assert_eq!(traces(&bench.place, b"Mustermann"), Vec::<PathBuf>::new());
    bench.verify(&[]);
}

#[tokio::test]
async fn a_repeated_erasure_finds_nothing_and_is_logged_all_the_same() {
    let bench = Bench::sqlite().await;
    bench.append(&search_by(ID, NAME, QUERY)).await;
    assert_eq!(erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap().0, 1);
    assert_eq!(erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap().0, 0);
    assert_eq!(bench.kinds().await, ["search", "change", "change", "erasure", "change", "change", "erasure"]);
}

#[test]
fn one_person_cannot_erase_alone_and_nobody_erases_themselves() {
    let ask_by = |by: Reader, dpo: Option<&str>, auditor: Option<&str>| {
        let named = |id: &str| person(id, "");
        let (dpo, auditor) = (dpo.map(named), auditor.map(named));
        Erasing::try_new(ErasePersonRequest { dpo, auditor, ..request() }, &roles(), by).is_ok()
    };
    let ask = |dpo, auditor| ask_by(asked_by("user:auditor"), dpo, auditor);
    assert!(ask(Some("user:dpo"), Some("user:auditor")));
    assert!(!ask(Some("user:dpo"), None) && !ask(None, Some("user:auditor")));
    assert!(!ask(Some("user:dpo"), Some("user:dpo")));
    assert!(!ask(Some("user:dpo"), Some("user:other")), "who agrees as auditor is one");
    assert!(!ask(Some("user:other"), Some("user:auditor")), "who agrees as officer is one");
    assert!(!ask(Some(ID), Some("user:auditor")) && !ask(Some("user:dpo"), Some("")));
    let both = (Some("user:dpo"), Some("user:auditor"));
    assert!(ask_by(asked_by("user:dpo"), both.0, both.1));
    assert!(!ask_by(asked_by("user:other"), both.0, both.1), "who asks is one of the two");
    assert!(!ask_by(Reader::new(CLI.to_owned(), None), both.0, both.1), "a program alone is nobody");
}

/// Words for it would be in clear in the one entry that stays.
#[test]
fn a_ground_is_a_code_and_the_number_of_a_case_and_has_no_room_for_a_name() {
    let is_taken = |spoil: fn(&mut ErasePersonRequest)| {
        let mut request = request();
        spoil(&mut request);
        Erasing::try_new(request, &roles(), asked_by(AUDITOR)).is_ok()
    };
    assert!(is_taken(|_| ()) && is_taken(|request| request.case_number.clear()));
    assert!(!is_taken(|request| request.case_number = NAME.to_owned()));
    assert!(!is_taken(|request| request.case_number = "117/26 Mustermann".to_owned()));
    assert!(!is_taken(|request| request.ground = 0) && !is_taken(|request| request.ground = 99));
    assert!(!is_taken(|request| request.set_ground(ErasureGround::RetentionEnded)), "nobody asks for that");
}

/// Whether each erasure has the approvals of both, by its id and under their pseudonyms.
async fn is_approved(bench: &Bench) -> bool {
    let (mut erasures, mut approvals) = (Vec::new(), Vec::new());
    for index in 0..bench.size().await {
        let leaf: serde_json::Value = serde_json::from_str(&bench.leaf(index).await).unwrap();
        match leaf["data"]["metadata"]["event_code"].as_str().unwrap() {
            "erasure.early" => erasures.push(leaf["id"].clone()),
            "change.updated" => {
                let pseudonym = leaf["data"]["actor"]["user"]["uid"].as_str().unwrap().to_owned();
                approvals.push((leaf["data"]["entity"]["uid"].clone(), pseudonym));
            }
            _ => {}
        }
    }
    let persons = &bench.log.parts.persons;
    let mut approvers = persons.pseudonyms("user:dpo").await.unwrap();
    approvers.extend(persons.pseudonyms(AUDITOR).await.unwrap());
    let has_both = |id: &serde_json::Value| {
        approvers.len() == 2
            && approvers.iter().all(|person| approvals.contains(&(id.clone(), person.clone())))
    };
    !erasures.is_empty() && erasures.iter().all(has_both)
}

#[tokio::test]
async fn an_erasure_that_is_cut_short_anywhere_is_either_whole_or_not_at_all() {
    for step in [Step::Approved, Step::MakeSecret, Step::Rewrap, Step::DropSecret, Step::TellErasure] {
        for is_crash in [false, true] {
            let bench = Bench::sqlite().await;
            bench.append(&search_by(ID, NAME, QUERY)).await;
            bench.append(&search_by("user:bob", "Bob Other", "a dog")).await;
            let (openers, place) = (openers(&bench).await, bench.stop().await);
            let faults = Injector::new(step, 2, is_crash);
            for _ in 0..2 {
                // What is owed is told at the start, which may fail as well.
                if let Ok((log, _)) = place.open(faults.clone()).await {
                    let (store, clock) = (log.parts.store.clone(), log.parts.clock.clone());
                    let witnesses = Witnesses {
                        machine: Arc::new(TestMachine::default()),
                        server: false,
                        confirmed: None,
                    };
                    let guard = Guard::begin(store, clock, RETENTION, witnesses).await.unwrap();
                    let _ = erasing().run(&log, &guard).await;
                }
                faults.revive();
            }
            assert!(faults.was_met(), "{step:?} was never reached twice");
            let bench = place.start(Arc::new(NoFaults)).await;
            let gone = names(&bench, ID).await.is_empty();
            let told = bench.kinds().await.iter().any(|kind| kind == "erasure");
            assert_eq!(gone, told, "{step:?}: it is erased, and the log says so, or neither");
            assert!(
                !gone || is_approved(&bench).await,
                "{step:?}: who agreed is in the log once keys are gone"
            );
            if gone {
                bench.append(&search_by(ID, NAME, QUERY)).await;
                assert!(names(&bench, ID).await.is_empty(), "{step:?}: it came late and brings nothing back");
            }
            erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap();
            assert!(names(&bench, "user:bob").await.iter().any(|name| name == "Bob Other"), "{step:?}");
            for opener in &openers {
                assert_eq!(traces(&bench.place, opener), Vec::<PathBuf>::new(), "{step:?}");
            }
        }
    }
}

#[tokio::test]
async fn rows_and_secrets_of_different_backups_do_not_start_together() {
    let bench = Bench::sqlite().await;
    bench.append(&search_by(ID, NAME, QUERY)).await;
    let place = bench.stop().await;
    std::fs::remove_file(place.path("person-keys.json")).unwrap();
    let refused = place.open(Arc::new(NoFaults)).await.unwrap_err().to_string();
    assert!(refused.contains("restore it from its backup"), "{refused}");
}
