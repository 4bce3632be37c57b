//! Whoever listens to the audit log hears every event once, however long they were away.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

use std::{collections::BTreeMap, fs, time::Duration};

use async_nats::{
    ConnectOptions,
    jetstream::{self, consumer},
};
use futures::StreamExt as _;
use obscura_journeys::{Installation, LONG_PATIENCE, wait_for, wait_within};
use obscura_test_servers::{
    certificates::Certificate,
    nats::{Nats, Options},
    syslog::Syslog,
    webhook::Webhook,
};
use serde_json::Value;

const STREAM: &str = "OBSCURA_AUDIT";
/// How often the consumer asks, for two seconds each time.
const FETCHES: usize = 60;
const NAMES: [&str; 3] = ["bus", "hook", "siem"];

struct Receivers {
    nats: Nats,
    hook: Webhook,
    syslog: Syslog,
}

impl Receivers {
    fn start() -> Self {
        let hook = Webhook::own().unwrap();
        hook.fail_half(true);
        Self { nats: Nats::start_with(Options::default()).unwrap(), hook, syslog: Syslog::own().unwrap() }
    }

    fn settings(&self) -> String {
        let files = |Certificate { ca, certificate, key }: &Certificate| {
            format!("ca_file = {ca:?}\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n")
        };
        let (url, ca, secret) = (self.hook.url(), self.hook.ca_file(), self.hook.secret_file());
        format!(
            "[settings.feeds.bus]\nkind = \"nats\"\nservers = [{:?}]\n{}\
             [settings.feeds.hook]\nkind = \"webhook\"\nurl = {url:?}\nca_file = {ca:?}\nsecret_file = {secret:?}\n\
             [settings.feeds.siem]\nkind = \"syslog\"\naddress = {:?}\nsettle_seconds = 2\n{}",
            self.nats.url(),
            files(&self.nats.audit),
            self.syslog.address(),
            files(&self.syslog.client),
        )
    }

    /// Every event that the webhook took, as often as it came.
    fn of_hook(&self) -> Vec<Value> {
        let bodies = self.hook.received();
        let events = bodies.iter().map(|body| serde_json::from_str(body).unwrap());
        events.flat_map(|value: Value| value.as_array().cloned().unwrap_or_else(|| vec![value])).collect()
    }

    fn of_syslog(&self) -> Vec<Value> {
        let lines = self.syslog.received();
        lines.iter().map(|(_, message)| serde_json::from_str(message).unwrap()).collect()
    }
}

/// What a durable consumer of the stream gets until it has enough, and not more than so many messages.
async fn consume(nats: &Nats, most: usize, is_enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let Certificate { ca, certificate, key } = nats.consumer.clone();
    let options = ConnectOptions::new().require_tls(true).add_root_certificates(ca);
    let client = options.add_client_certificate(certificate, key).connect(nats.url()).await.unwrap();
    let stream = jetstream::new(client).get_stream(STREAM).await.unwrap();
    let durable = "siem".to_owned();
    let config = consumer::pull::Config { durable_name: Some(durable.clone()), ..Default::default() };
    let consumer = stream.get_or_create_consumer(&durable, config).await.unwrap();
    let mut received = Vec::new();
    for _ in 0..FETCHES {
        if received.len() >= most || is_enough(&received) {
            return received;
        }
        let batch = consumer.fetch().max_messages((most - received.len()).min(200));
        let mut messages = batch.expires(Duration::from_secs(2)).messages().await.unwrap();
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            received.push(serde_json::from_slice(&message.payload).unwrap());
            message.double_ack().await.unwrap();
        }
    }
    panic!("{} messages, and what should come did not", received.len());
}

/// Whether this event has come.
fn has(events: &[Value], event: &Value) -> bool {
    events.iter().any(|other| id(other) == id(event))
}

fn id(event: &Value) -> String {
    event["id"].as_str().unwrap().to_owned()
}

/// Sends a test event through the feeds and gives its index.
fn send(installation: &Installation, text: &str) -> u64 {
    installation.must(&["audit", "test-event", text, "--json"]).json()["index"].as_u64().unwrap()
}

/// Waits until every feed has sent everything up to this entry.
fn wait_until_sent(installation: &Installation, index: u64) {
    wait_within(LONG_PATIENCE, "every feed to send everything", || {
        let status = installation.must(&["audit", "status", "--json"]).json();
        let feeds = status["feeds"].as_array()?;
        let sent = feeds.iter().all(|feed| feed["next_index"].as_u64() > Some(index));
        (sent && feeds.len() == NAMES.len()).then_some(())
    });
}

/// The log up to an entry, as a reader of the log itself sees it.
fn log(installation: &Installation, last: u64) -> Vec<Value> {
    let out = installation.must(&["audit", "query", "--limit", "100000", "--json"]).out;
    let entries = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let entries: Vec<_> = entries.filter(|entry| entry["index"].as_u64() <= Some(last)).collect();
    assert_eq!(entries.len() as u64, last + 1, "from the first entry on, without a hole");
    entries.into_iter().map(|entry| entry["event"].clone()).collect()
}

/// Everything of the log came, and by its id exactly once.
fn assert_each_once_by_id(feed: &str, log: &[Value], received: &[Value]) {
    let mut by_id: BTreeMap<String, &Value> = BTreeMap::new();
    for event in received {
        let before = by_id.insert(id(event), event);
        assert!(before.is_none_or(|before| before == event), "{feed}: two events with one id: {event}");
    }
    for event in log {
        assert_eq!(by_id.get(&id(event)), Some(&event), "{feed}: an event is not as it stands in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_a_webhook_and_a_syslog_receiver_have_each_event_once_after_all_that_happened_to_them() {
    let mut receivers = Receivers::start();
    let mut installation = Installation::start_with(&[("audit", receivers.settings())]);
    // As many as the consumer wants: what the services themselves tell may come later.
    let first: Vec<u64> = (0..5).map(|number| send(&installation, &format!("before, {number}"))).collect();
    wait_until_sent(&installation, first[4]);
    // The consumer is there, and goes away.
    let mut of_bus = consume(&receivers.nats, 5, |_| false).await;

    for number in 0..30 {
        send(&installation, &format!("while the consumer is away, {number}"));
        match number {
            10 => receivers.syslog.kill(),
            15 => receivers.nats.kill(),
            20 => installation.kill("audit"),
            _ => {}
        }
        if number == 20 {
            wait_for("the log to be back", || {
                (installation.run(&["audit", "status"]).code == Some(0)).then_some(())
            });
        }
    }
    let trouble = wait_for("the feeds to say what is wrong", || {
        let status = installation.must(&["audit", "status", "--json"]).json();
        let feeds = status["feeds"].as_array()?.clone();
        let in_trouble =
            |name: &str| feeds.iter().any(|feed| feed["feed"] == name && feed["trouble"].as_str() > Some(""));
        (in_trouble("bus") && in_trouble("siem")).then_some(feeds)
    });
    assert_eq!(trouble.len(), NAMES.len());
    receivers.syslog.start().unwrap();
    receivers.nats.start().unwrap();
    let last = send(&installation, "after");
    wait_until_sent(&installation, last);

    let log = log(&installation, last);
    let newest = log.last().unwrap();
    of_bus.extend(consume(&receivers.nats, usize::MAX, |events| has(events, newest)).await);
    assert_each_once_by_id("bus", &log, &of_bus);
    let until = of_bus.iter().position(|event| id(event) == id(newest)).unwrap();
    assert_eq!(until + 1, log.len(), "on the bus not even a repetition, and in order");
    assert_each_once_by_id("hook", &log, &receivers.of_hook());
    // Nobody acknowledges there: what was sent may still be on its way into the file.
    let of_syslog = wait_for("the newest event to be written down", || {
        Some(receivers.of_syslog()).filter(|events| has(events, newest))
    });
    assert_each_once_by_id("siem", &log, &of_syslog);
    let taken = receivers.hook.received().len();
    assert!(usize::try_from(receivers.hook.requests()).unwrap() > taken, "some failed before it took them");
    assert!(receivers.of_hook().len() > log.len(), "some failed after it took them");

    // Again from a place of somebody's choice: the same events under the same ids.
    receivers.hook.fail_half(false);
    let before = receivers.of_hook().len();
    installation.must(&["audit", "replay", "hook", "--from", "3"]);
    let again = wait_within(LONG_PATIENCE, "the events to come again", || {
        let received = receivers.of_hook();
        let again = received.get(before..).unwrap_or_default();
        has(again, newest).then_some(received)
    });
    assert_each_once_by_id("hook", &log, &again);
    let replayed: Vec<_> = again[before..].iter().map(id).collect();
    for event in &log[3..] {
        assert!(replayed.contains(&id(event)), "{event} did not come again");
    }
    installation.must(&["audit", "replay", "bus", "--from", "0"]);
    let marker = send(&installation, "last");
    wait_until_sent(&installation, marker);
    // NATS drops repetitions for two minutes; on a slow machine they are over, and the same events come again.
    let log = self::log(&installation, marker);
    let newest = log.last().unwrap();
    of_bus.extend(consume(&receivers.nats, usize::MAX, |events| has(events, newest)).await);
    assert_each_once_by_id("bus", &log, &of_bus);
    installation.down();
    let told = fs::read_to_string(installation.state().join("logs/audit.log")).unwrap();
    assert!(!told.contains("panicked"), "{told}");
}
