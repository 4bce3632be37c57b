//! Who sees what, against a real log.

use std::sync::Arc;

use obscura_proto::audit::v1::{ReadEntriesRequest, ReadEntriesResponse};
use tokio::sync::mpsc;

use super::*;
use crate::{
    copying::Copying,
    reading::Reading,
    test_support::{AUDITOR, Bench, CLI, event, person, reader, search_by, test_event},
};

const ALICE: &str = "user:alice";
const BOB: &str = "user:bob";
const KEYS: &str = "spiffe://example.org/obscura/keys";

/// Alice searches, nobody does something, Bob searches, and Alice makes Bob an auditor.
async fn bench() -> Bench {
    let bench = Bench::sqlite().await;
    bench.append(&search_by(ALICE, "Alice Example", "a red car")).await;
    bench.append(&test_event("x")).await;
    bench.append(&search_by(BOB, "Bob Other", "a dog")).await;
    let named = Roles::new([BOB.to_owned()], []).told().remove(0);
    bench.append(&event(Some(person(ALICE, "Alice Example")), named)).await;
    bench
}

async fn read(
    bench: &Bench,
    who: Reader,
    request: ReadEntriesRequest,
) -> Result<Vec<ReadEntriesResponse>, Error> {
    let reading = Reading::admit(&bench.log, request, who).await?;
    let (to, mut answers) = mpsc::channel(100);
    reading.run(bench.log.clone(), to).await;
    let mut found = Vec::new();
    while let Some(answer) = answers.recv().await {
        found.push(answer.unwrap());
    }
    Ok(found)
}

fn indexes(entries: &[ReadEntriesResponse]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index).collect()
}

fn own() -> ReadEntriesRequest {
    ReadEntriesRequest { own: true, ..ReadEntriesRequest::default() }
}

/// Outcome and indexes of the entry about a reading.
async fn told(bench: &Bench, index: u64) -> (String, u64, u64) {
    let leaf: serde_json::Value = serde_json::from_str(&bench.leaf(index).await).unwrap();
    assert_eq!(leaf["data"]["database"]["name"], "audit", "{leaf}");
    let entries = &leaf["data"]["unmapped"]["entries"];
    let number = |name: &str| entries[name].as_u64().unwrap();
    let outcome = if leaf["data"]["status_id"] == 1 { "Success" } else { "Failure" };
    (outcome.to_owned(), number("first"), number("end"))
}

#[tokio::test]
async fn an_auditor_reads_everything_and_everybody_else_what_is_about_themselves() {
    let bench = bench().await;
    let all = read(&bench, reader(AUDITOR), ReadEntriesRequest::default()).await.unwrap();
    assert_eq!(indexes(&all), [0, 1, 2, 3]);
    let of_alice = read(&bench, reader(ALICE), own()).await.unwrap();
    assert_eq!(indexes(&of_alice), [0, 3]);
    let of_bob = read(&bench, reader(BOB), own()).await.unwrap();
    assert_eq!(indexes(&of_bob), [2, 3], "also where somebody else names him");
    let of_carol = read(&bench, reader("user:carol"), own()).await.unwrap();
    assert_eq!(indexes(&of_carol), [] as [u64; 0], "not even the entry about this reading, which came later");
}

#[tokio::test]
async fn whoever_is_no_auditor_gets_nothing_of_others_however_they_ask() {
    let bench = bench().await;
    let everything = ReadEntriesRequest::default();
    let of_bob = ReadEntriesRequest { person_id: BOB.into(), ..everything.clone() };
    let asks = [
        everything.clone(),
        ReadEntriesRequest { open_names: true, ..everything.clone() },
        ReadEntriesRequest { kinds: vec!["search".into()], ..everything.clone() },
        ReadEntriesRequest { kinds: vec!["manifest".into(), "view".into()], ..everything.clone() },
        ReadEntriesRequest { kinds: vec!["manifest".into()], open_names: true, ..everything },
        of_bob.clone(),
    ];
    for ask in asks {
        let size = bench.size().await;
        let refused = read(&bench, reader(ALICE), ask.clone()).await.unwrap_err();
        assert!(matches!(refused, Error::NotAuditor), "{ask:?}: {refused}");
        assert_eq!(told(&bench, size).await, ("Failure".to_owned(), 0, size), "{ask:?}");
    }
    let of_bob_as_own = ReadEntriesRequest { own: true, ..of_bob };
    let refused = read(&bench, reader(ALICE), of_bob_as_own).await.unwrap_err();
    assert!(matches!(refused, Error::Malformed { .. }), "{refused}");
    let nobody = Reader::new(CLI.to_owned(), None);
    let size = bench.size().await;
    let refused = read(&bench, nobody, own()).await.unwrap_err();
    assert!(matches!(refused, Error::NobodyAsks), "{refused}");
    assert_eq!(told(&bench, size).await.0, "Failure");
}

#[tokio::test]
async fn names_are_opened_for_an_auditor_and_to_oneself_one_s_own() {
    let bench = bench().await;
    let with_names = |request| ReadEntriesRequest { open_names: true, ..request };
    let opened = async |who: &str, request| -> Vec<String> {
        let entries = read(&bench, reader(who), with_names(request)).await.unwrap();
        entries.into_iter().flat_map(|entry| entry.opened.into_values()).collect()
    };
    let to_auditor = opened(AUDITOR, ReadEntriesRequest::default()).await;
    for name in ["Alice Example", "Bob Other", "a red car", BOB] {
        assert!(to_auditor.iter().any(|text| text == name), "{name}: {to_auditor:?}");
    }
    let to_bob = opened(BOB, own()).await;
    assert!(to_bob.iter().any(|text| text == "Bob Other") && to_bob.iter().any(|text| text == BOB));
    assert!(!to_bob.iter().any(|text| text.contains("Alice")), "who named him stays a pseudonym: {to_bob:?}");
}

#[tokio::test]
async fn every_reading_is_an_entry_with_exactly_the_indexes_that_were_read() {
    let bench = bench().await;
    read(&bench, reader(ALICE), own()).await.unwrap();
    assert_eq!(told(&bench, 4).await, ("Success".to_owned(), 0, 4));
    assert_eq!(bench.size().await, 5, "and one entry is enough where everything was read");
    let two = ReadEntriesRequest { from_index: 1, limit: 2, ..ReadEntriesRequest::default() };
    read(&bench, reader(AUDITOR), two).await.unwrap();
    assert_eq!(told(&bench, 5).await, ("Success".to_owned(), 1, 5));
    assert_eq!(told(&bench, 6).await, ("Success".to_owned(), 1, 3), "the limit was reached");
    let newest = ReadEntriesRequest { newest: 2, ..ReadEntriesRequest::default() };
    assert_eq!(indexes(&read(&bench, reader(AUDITOR), newest).await.unwrap()), [5, 6]);
    assert_eq!(told(&bench, 7).await, ("Success".to_owned(), 5, 7));
    let my_newest = ReadEntriesRequest { newest: 2, ..own() };
    assert_eq!(indexes(&read(&bench, reader(BOB), my_newest).await.unwrap()), [2, 3]);
}

#[tokio::test]
async fn who_reads_on_and_goes_away_is_told_with_how_far_they_came() {
    let bench = bench().await;
    let follow = ReadEntriesRequest { follow: true, from_index: 2, ..ReadEntriesRequest::default() };
    let reading = Reading::admit(&bench.log, follow, reader(AUDITOR)).await.unwrap();
    let (to, mut answers) = mpsc::channel(100);
    let running = tokio::spawn(reading.run(bench.log.clone(), to));
    // Two that were there, and the entry about this reading.
    for index in [2, 3, 4] {
        assert_eq!(answers.recv().await.unwrap().unwrap().index, index);
    }
    drop(answers);
    running.await.unwrap();
    assert_eq!(told(&bench, 4).await, ("Success".to_owned(), 2, 4));
    assert_eq!(told(&bench, 5).await, ("Success".to_owned(), 2, 5));
}

#[tokio::test]
async fn what_is_about_footage_and_nobody_is_for_everybody_and_custody_reads_destructions() {
    let bench = bench().await;
    let destruction = |actor| {
        let destruction = obscura_ocsf::examples().into_iter().find_map(|event| match event.body {
            Some(body @ Body::Destruction(_)) => Some(body),
            _ => None,
        });
        event(actor, destruction.unwrap())
    };
    let by_nobody = bench.append(&destruction(None)).await;
    let by_bob = bench.append(&destruction(Some(person(BOB, "")))).await;
    let kinds = vec!["destruction".to_owned()];
    let ask = || ReadEntriesRequest { kinds: kinds.clone(), ..ReadEntriesRequest::default() };
    assert_eq!(indexes(&read(&bench, reader(ALICE), ask()).await.unwrap()), [by_nobody]);
    let custody = || Reader::new(KEYS.to_owned(), None);
    assert_eq!(indexes(&read(&bench, custody(), ask()).await.unwrap()), [by_nobody, by_bob]);
    let size = bench.size().await;
    assert!(bench.leaf(size - 1).await.contains(KEYS), "that custody reads is an entry too");
    let refused = read(&bench, custody(), ReadEntriesRequest::default()).await.unwrap_err();
    assert!(matches!(refused, Error::NotYours), "{refused}");
    assert_eq!(told(&bench, size).await.0, "Failure");
}

#[tokio::test]
async fn everybody_gets_a_proof_and_the_leaf_is_for_whom_it_is_about() {
    let bench = bench().await;
    let leaf = async |who: Reader, index: u64| -> bool {
        let proof = bench.log.prove_entry(index, None).await.unwrap();
        assert!(!proof.text.is_empty());
        !proof.leaf_for(&bench.log, who).await.unwrap().is_empty()
    };
    let before = bench.size().await;
    assert!(leaf(reader(BOB), 1).await, "about nobody");
    assert_eq!(bench.size().await, before, "and then nobody's entry was read");
    for (who, index, is_shown) in [
        (reader(BOB), 2, true),
        (reader(BOB), 3, true),
        (reader(BOB), 0, false),
        (reader(AUDITOR), 0, true),
        (Reader::new(CLI.to_owned(), None), 0, false),
    ] {
        let size = bench.size().await;
        assert_eq!(leaf(who.clone(), index).await, is_shown, "{who:?} {index}");
        let outcome = if is_shown { "Success" } else { "Failure" };
        assert_eq!(told(&bench, size).await, (outcome.to_owned(), index, index + 1));
    }
}

#[tokio::test]
async fn a_copy_is_for_auditors_and_that_they_take_one_is_an_entry() {
    let bench = bench().await;
    let refused = Copying::permit(&bench.log, &reader(ALICE)).await.unwrap_err();
    assert!(matches!(refused, Error::NotAuditor), "{refused}");
    assert_eq!(told(&bench, 4).await, ("Failure".to_owned(), 0, 4));
    let view = Copying::permit(&bench.log, &reader(AUDITOR)).await.unwrap();
    Copying::begin(&bench.log, None, view, reader(AUDITOR)).await.unwrap();
    assert_eq!(told(&bench, 5).await, ("Success".to_owned(), 0, 5));
}

#[tokio::test]
async fn nothing_is_read_where_the_log_cannot_hear_of_it() {
    let bench = bench().await;
    let store = bench.log.parts.store.clone();
    store.close().await.unwrap();
    assert!(Reading::admit(&bench.log, ReadEntriesRequest::default(), reader(ALICE)).await.is_err());
    let Ok(reading) = Reading::admit(&bench.log, own(), reader(ALICE)).await else { return };
    let (to, mut answers) = mpsc::channel(100);
    reading.run(Arc::clone(&bench.log), to).await;
    assert!(answers.recv().await.unwrap().is_err());
}

#[test]
fn the_log_hears_who_the_auditors_are_and_that_there_is_none() {
    let many = Roles::new((0..9).map(|number| format!("user:{number}")), []);
    let named: Vec<usize> = many
        .told()
        .into_iter()
        .map(|body| match body {
            Body::Change(change) => change.named.len(),
            _ => panic!("not a change"),
        })
        .collect();
    assert_eq!(named, [4, 4, 1, 0]);
    assert_eq!(Roles::default().told().len(), 2, "one for each role");
}
