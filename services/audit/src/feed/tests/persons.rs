//! What receivers learn of persons: pseudonyms, of which nothing leads to anybody after an erasure.

use std::collections::BTreeMap;

use obscura_clock::Clock as _;
use obscura_proto::audit::v1::{
    Change, ErasePersonRequest, ErasureGround, Event, GrantDecision, NamedField, Person, event::Body,
};
use obscura_test_servers::{
    nats::{Nats, Options},
    syslog::Syslog,
};

use super::*;
use crate::{
    erasing::Erasing,
    roles::{Reader, Roles},
    source::{LossAlarms, Source},
    test_support::{AUDITOR, Bench, CLI, event, person, search_by, test_event},
};

const ID: &str = "user:erika.mustermann@example.org";
const NAME: &str = "Erika Mustermann-Gabler";
const ADDRESS: &str = "203.0.113.77";
const QUERY: &str = "the woman with the yellow umbrella";
const PURPOSE: &str = "theft of a saxophone";
const REASON: &str = "she asked where her saxophone went";
/// Parts of the above, each telling enough.
const WORDS: [&str; 8] = [ID, NAME, ADDRESS, QUERY, PURPOSE, REASON, "ustermann", "saxophone"];

struct Receivers {
    nats: Nats,
    hook: webhook::Receiver,
    syslog: Syslog,
}

impl Receivers {
    async fn start() -> Self {
        let hook = webhook::Receiver::start().await;
        Self { nats: nats::server(Options::default()), hook, syslog: Syslog::own().unwrap() }
    }

    fn settings(&self) -> BTreeMap<String, Settings> {
        let settings = [
            ("bus", nats::settings(&self.nats, "")),
            ("hook", self.hook.settings("")),
            ("siem", syslog::settings(&self.syslog, &self.syslog.client, syslog::SOON)),
        ];
        settings.map(|(name, settings)| (name.to_owned(), settings)).into()
    }

    /// All that each has received, down to subjects and headers, once these events are written down.
    async fn received(&self, events: u64) -> BTreeMap<&'static str, Vec<String>> {
        syslog::written(&self.syslog, usize::try_from(events).unwrap()).await;
        let lines = self.syslog.received().into_iter().map(|(data, message)| format!("{data} {message}"));
        [
            ("bus", nats::everything(&self.nats).await),
            ("hook", self.hook.everything()),
            ("siem", lines.collect()),
        ]
        .into()
    }
}

/// Feeds of a log in a database.
fn start_feeds(bench: &Bench, receivers: &Receivers) -> Running {
    let parts = &bench.log.parts;
    let source = Arc::new(Source::new(parts.store.clone(), parts.sequencer.size()));
    Running::start_on(
        &Surroundings {
            source: source.clone(),
            cursors: source,
            alarms: Arc::new(LossAlarms::new(bench.log.clone())),
            metrics: FeedMetrics::new(),
            clock: SystemClock::shared(),
            shutdown: CancellationToken::new(),
        },
        receivers.settings(),
    )
}

async fn all_arrived(running: &Running, size: u64) {
    until(&format!("{size} entries have arrived everywhere"), || {
        let status = running.feeds.status();
        let arrived = status.iter().all(|feed| feed.next_index == size && feed.trouble.is_empty());
        arrived.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
}

/// Everything that somebody may have to do with: as who acts, as whom another names, and in their own words.
fn about_the_person() -> Vec<Event> {
    let actor = Person { address: ADDRESS.to_owned(), ..person(ID, NAME) };
    let grant = GrantDecision {
        claims_hash: vec![7; 32].into(),
        grant_id: "01930000-0000-7000-8000-00000000000a".to_owned(),
        camera_ids: vec!["01930000-0000-7000-8000-00000000000c".to_owned()],
        purpose: PURPOSE.to_owned(),
        reason: REASON.to_owned(),
        holder: "spiffe://example.org/obscura/masking".to_owned(),
        ..GrantDecision::default()
    };
    let attested =
        NamedField { field: "attested_by".to_owned(), after: NAME.to_owned(), ..NamedField::default() };
    let change = Change {
        object_kind: "site".to_owned(),
        object_id: "01930000-0000-7000-8000-00000000000b".to_owned(),
        changed_fields: vec!["attested_by".to_owned()],
        named: vec![attested],
        ..Change::default()
    };
    vec![
        search_by(ID, NAME, QUERY),
        event(Some(actor), Body::Grant(grant)),
        event(Some(person("user:bob", "Bob Other")), Body::Change(change)),
    ]
}

fn erasing(person_id: String) -> Erasing {
    let request = ErasePersonRequest {
        person_id,
        dpo: Some(person("user:dpo", "Dora Officer")),
        auditor: Some(person(AUDITOR, "Otto Auditor")),
        ground: ErasureGround::Objection.into(),
        case_number: "117/26".to_owned(),
    };
    let asking = Reader::new(CLI.to_owned(), Some(person(AUDITOR, "Otto Auditor")));
    Erasing::try_new(request, &Roles::new([AUDITOR.to_owned()], ["user:dpo".to_owned()]), asking).unwrap()
}

/// The bytes as they are, in hexadecimal and in base64.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    vec![bytes.to_vec(), hex::encode(bytes).into_bytes(), STANDARD.encode(bytes).into_bytes()]
}

fn assert_nobody_received(received: &BTreeMap<&str, Vec<String>>, secret: &[u8], what: &str) {
    for (feed, messages) in received {
        for message in messages {
            let found =
                forms(secret).iter().any(|form| memchr::memmem::find(message.as_bytes(), form).is_some());
            assert!(!found, "{feed} received {what}: {message}");
        }
    }
}

/// Keys from which pseudonyms and texts of the person could be had.
async fn openers(bench: &Bench, pseudonyms: &[String]) -> Vec<Vec<u8>> {
    let mut openers = Vec::new();
    for pseudonym in pseudonyms {
        openers.push(bench.log.parts.persons.key_of(pseudonym).await.unwrap().unwrap().expose().to_vec());
    }
    openers
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receiver_ever_hears_who_somebody_is_and_after_an_erasure_nothing_leads_there() {
    let (bench, receivers) = (Bench::sqlite().await, Receivers::start().await);
    // A new stream is filled with what is a week old at most.
    bench.place.clock.step_wall(SystemClock::shared().wall());
    let running = start_feeds(&bench, &receivers);
    let persons = &bench.log.parts.persons;
    for event in about_the_person() {
        bench.append(&event).await;
    }
    all_arrived(&running, bench.size().await).await;
    let ids = [ID.to_owned(), format!("name:{NAME}")];
    let mut pseudonyms = Vec::new();
    for id in &ids {
        pseudonyms.extend(persons.pseudonyms(id).await.unwrap());
    }
    assert_eq!(pseudonyms.len(), 2, "who acted, and who was named by another");
    // That nothing is found means something: the events are there, and say of whom they are without saying who that is.
    let received = receivers.received(bench.size().await).await;
    for (feed, messages) in &received {
        assert_eq!(messages.len(), 3, "{feed}");
        for pseudonym in &pseudonyms {
            assert!(messages.iter().any(|message| message.contains(pseudonym)), "{feed}: {pseudonym}");
        }
    }

    let openers = openers(&bench, &pseudonyms).await;
    for id in ids {
        assert_eq!(erasing(id).run(&bench.log, &*bench.any_guard().await).await.unwrap().0, 1);
    }
    let erased = usize::try_from(bench.size().await).unwrap();
    // Life goes on, also with events of the same person: those that waited somewhere lead to nobody, and in what
    // happens from now on they are somebody else.
    bench.append(&test_event("after the erasure")).await;
    for event in about_the_person() {
        bench.append(&event).await;
    }
    assert_eq!(persons.pseudonyms(ID).await.unwrap(), [""; 0]);
    let later = bench.place.clock.wall().unix_nanos() + 1;
    for event in about_the_person() {
        bench.append(&Event { time_unix_ns: later, ..event }).await;
    }
    all_arrived(&running, bench.size().await).await;
    running.stop().await;

    for pseudonym in &pseudonyms {
        assert!(persons.key_of(pseudonym).await.unwrap().is_none(), "nobody can say whose it was");
    }
    assert!(!pseudonyms.contains(&persons.pseudonyms(ID).await.unwrap()[0]));
    let received = receivers.received(bench.size().await).await;
    for (feed, messages) in &received {
        assert!(messages.len() > erased, "{feed}");
        for message in messages.iter().skip(erased) {
            assert!(!pseudonyms.iter().any(|pseudonym| message.contains(pseudonym)), "{feed}: {message}");
        }
    }
    for word in WORDS {
        assert_nobody_received(&received, word.as_bytes(), word);
    }
    for opener in &openers {
        assert_nobody_received(&received, opener, "a key that opens");
    }
}
