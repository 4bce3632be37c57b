use async_nats::{
    ConnectOptions,
    jetstream::{self, consumer, stream::Config},
};
use futures::StreamExt as _;
use obscura_test_servers::{
    certificates::Certificate,
    nats::{Nats, Options},
};

use super::*;

const STREAM: &str = "OBSCURA_AUDIT";

pub fn server(options: Options) -> Nats {
    Nats::start_with(options).unwrap()
}

pub fn settings(nats: &Nats, more: &str) -> Settings {
    let Certificate { ca, certificate, key } = &nats.audit;
    let url = nats.url();
    let text = format!(
        "kind = \"nats\"\nservers = [{url:?}]\nca_file = {ca:?}\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n{more}"
    );
    toml::from_str(&text).unwrap()
}

async fn connect(nats: &Nats, who: &Certificate) -> jetstream::Context {
    let options = ConnectOptions::new()
        .require_tls(true)
        .add_root_certificates(who.ca.clone())
        .add_client_certificate(who.certificate.clone(), who.key.clone())
        .connection_timeout(PATIENCE);
    let mut context = jetstream::new(options.connect(nats.url()).await.unwrap());
    context.set_timeout(PATIENCE);
    context
}

/// What a durable consumer gets, up to a number of messages or until nothing more comes.
async fn consume(nats: &Nats, durable: &str, most: usize) -> Vec<(u64, Vec<u8>)> {
    let stream = connect(nats, &nats.consumer).await.get_stream(STREAM).await.unwrap();
    let config =
        consumer::pull::Config { durable_name: Some(durable.into()), ..consumer::pull::Config::default() };
    let consumer = stream.get_or_create_consumer(durable, config).await.unwrap();
    let mut received = Vec::new();
    while received.len() < most {
        let fetch =
            consumer.fetch().max_messages((most - received.len()).min(200)).expires(Duration::from_secs(2));
        let mut messages = fetch.messages().await.unwrap();
        let before = received.len();
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            let headers = message.headers.as_ref().unwrap();
            let index = headers.get("obscura-log-index").unwrap().as_str().parse().unwrap();
            received.push((index, message.payload.to_vec()));
            message.double_ack().await.unwrap();
        }
        // A server that is busy may give nothing although there is more.
        if received.len() == before && consumer.get_info().await.unwrap().num_pending == 0 {
            break;
        }
    }
    received
}

/// All that anybody can read in the stream: subjects, headers and what they carry.
pub async fn everything(nats: &Nats) -> Vec<String> {
    let mut stream = connect(nats, &nats.operator).await.get_stream(STREAM).await.unwrap();
    let last = stream.info().await.unwrap().state.last_sequence;
    let mut found = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let payload = std::str::from_utf8(&message.payload).unwrap();
        found.push(format!("{} {:?} {payload}", message.subject, message.headers));
    }
    found
}

/// All messages, in the order of the stream, each exactly once even without looking at ids.
fn assert_exactly_the_log(log: &MemoryLog, received: &[(u64, Vec<u8>)]) {
    let expected: Vec<_> = log.all().into_iter().map(|entry| (entry.index, entry.leaf.to_vec())).collect();
    let indexes: Vec<_> = received.iter().map(|(index, _)| *index).collect();
    assert!(received == expected, "came: {indexes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_away_gets_every_event_once_and_in_order() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(40));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    let mut received = consume(&nats, "siem", 15).await;
    assert_eq!(received.len(), 15);
    log.append(700);
    running.delivered(&log).await;
    running.stop().await;
    received.extend(consume(&nats, "siem", usize::MAX).await);
    assert_exactly_the_log(&log, &received);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_twice_in_the_middle_loses_and_repeats_nothing() {
    let (mut nats, log) = (server(Options::default()), MemoryLog::with(100));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    for _ in 0..2 {
        let writing = log.clone();
        let writer = tokio::task::spawn_blocking(move || {
            for _ in 0..300 {
                writing.append(3);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        tokio::time::sleep(Duration::from_millis(120)).await;
        nats.kill();
        writer.await.unwrap();
        running.troubled("NATS").await;
        nats.start().unwrap();
        running.delivered(&log).await;
    }
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_disk_is_filled_again() {
    let (mut nats, log) = (server(Options::default()), MemoryLog::with(300));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    nats.lose_everything().unwrap();
    nats.start().unwrap();
    log.append(50);
    running.delivered(&log).await;
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

/// As after a fail-over to a server that had not got the last messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_end_is_filled_from_there() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(20));
    for _ in 0..2 {
        let running = Running::start(&log, "bus", settings(&nats, ""));
        running.delivered(&log).await;
        running.stop().await;
        log.append(10);
        log.set_position("bus", log.len());
    }
    let running = Running::start(&log, "bus", settings(&nats, ""));
    wait_for_messages(&connect(&nats, &nats.operator).await, 40).await;
    running.delivered(&log).await;
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_is_made_and_filled_again() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(30));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    connect(&nats, &nats.operator).await.delete_stream(STREAM).await.unwrap();
    log.append(1);
    let operator = connect(&nats, &nats.operator).await;
    wait_for_messages(&operator, 31).await;
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

async fn wait_for_messages(context: &jetstream::Context, count: u64) {
    for _ in 0..1_000 {
        let messages = context.get_stream(STREAM).await.map(|stream| stream.cached_info().state.messages);
        if messages.is_ok_and(|messages| messages >= count) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    panic!("the stream never had {count} messages");
}

/// Of a stream that someone else made and that may be purged; and within the duplicate window, in
/// which the server still knows the ids of what is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_purged_while_events_go_on_is_filled_again() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(30));
    let operator = connect(&nats, &nats.operator).await;
    let config =
        Config { name: STREAM.into(), subjects: vec!["obscura.audit.>".into()], ..Config::default() };
    let stream = operator.create_stream(config).await.unwrap();
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.arrived(log.len()).await;
    for round in 1..=2 {
        stream.purge().await.unwrap();
        log.append(1);
        wait_for_messages(&operator, 30 + round).await;
    }
    running.arrived(log.len()).await;
    running.stop().await;
    assert_each_once_by_id(&log, &consume(&nats, "siem", usize::MAX).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_while_the_feed_was_stopped_is_seen_at_the_start() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(30));
    let operator = connect(&nats, &nats.operator).await;
    let config =
        Config { name: STREAM.into(), subjects: vec!["obscura.audit.>".into()], ..Config::default() };
    let stream = operator.create_stream(config).await.unwrap();
    for _ in 0..2 {
        let running = Running::start(&log, "bus", settings(&nats, ""));
        running.arrived(log.len()).await;
        wait_for_messages(&operator, 30).await;
        running.stop().await;
        stream.purge().await.unwrap();
    }
    let running = Running::start(&log, "bus", settings(&nats, ""));
    wait_for_messages(&operator, 30).await;
    running.arrived(log.len()).await;
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_position_repeats_nothing_because_the_stream_says_how_far_it_is() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(20));
    for _ in 0..2 {
        log.set_position("bus", 3);
        let running = Running::start(&log, "bus", settings(&nats, ""));
        running.delivered(&log).await;
        running.stop().await;
        log.append(10);
    }
    log.set_position("bus", 0);
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

/// What the server still knows it drops; what goes on afterwards must not stumble over that.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_where_the_log_ends_and_new_events_follow() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(20));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    running.feeds.replay("bus", 5).await.unwrap();
    log.append(20);
    running.delivered(&log).await;
    running.stop().await;
    assert_each_once_by_id(&log, &consume(&nats, "siem", usize::MAX).await);
}

/// The server has forgotten the ids by then, so that what is sent again is in the stream again: once by the id of
/// the event, whatever filled the gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_away_longer_than_the_duplicate_window_gets_every_event_once_by_id() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(40));
    let operator = connect(&nats, &nats.operator).await;
    let window = Duration::from_millis(100);
    let subjects = vec!["obscura.audit.>".into()];
    let config = Config { name: STREAM.into(), subjects, duplicate_window: window, ..Config::default() };
    let stream = operator.create_stream(config).await.unwrap();
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.arrived(log.len()).await;
    let mut received = consume(&nats, "siem", 15).await;
    for round in 1..=2 {
        tokio::time::sleep(4 * window).await;
        running.feeds.replay("bus", 5).await.unwrap();
        log.append(20);
        running.arrived(log.len()).await;
        replay_until_repeated(&running, &log, &operator).await;
        received.extend(consume(&nats, "siem", 10).await);
        tokio::time::sleep(4 * window).await;
        stream.purge().await.unwrap();
        log.append(1);
        wait_for_messages(&operator, 40 + round * 21).await;
        running.arrived(log.len()).await;
    }
    running.stop().await;
    received.extend(consume(&nats, "siem", usize::MAX).await);
    assert!(received.len() as u64 > log.len());
    assert_each_once_by_id(&log, &received);
}

/// With the window over, a replay is in the stream. The server forgets an id at some moment behind its window, later
/// where the machine is busy.
async fn replay_until_repeated(running: &Running, log: &MemoryLog, operator: &jetstream::Context) {
    let mut messages = 0;
    for _ in 0..100 {
        messages = operator.get_stream(STREAM).await.unwrap().cached_info().state.messages;
        if messages > log.len() {
            return;
        }
        tokio::time::sleep(10 * POLL).await;
        running.feeds.replay("bus", 5).await.unwrap();
        running.arrived(log.len()).await;
    }
    panic!("the replay is not in the stream: {messages}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_would_drop_events_gets_none_and_the_words_say_what_to_set() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(20));
    let operator = connect(&nats, &nats.operator).await;
    let subjects = vec!["obscura.audit.>".into()];
    let good = Config { name: STREAM.into(), subjects, ..Config::default() };
    let spoilt = [
        (Config { max_messages: 10, ..good.clone() }, "`max_msgs`"),
        (Config { max_bytes: 1 << 20, ..good.clone() }, "`max_bytes`"),
        (Config { max_age: Duration::from_hours(167), ..good.clone() }, "`max_age`"),
    ];
    operator.create_stream(good.clone()).await.unwrap();
    for (config, words) in spoilt {
        operator.update_stream(config).await.unwrap();
        let running = Running::start(&log, "bus", settings(&nats, ""));
        let status = running.troubled(words).await;
        assert_eq!(status.next_index, 0);
        running.stop().await;
    }
    let mut stream = operator.get_stream(STREAM).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 0);
    operator.update_stream(good).await.unwrap();
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.arrived(log.len()).await;
    let status = running.troubled("`deny_delete` and `deny_purge` are not set").await;
    assert_eq!(status.next_index, 20);
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

/// With the log's own stream nothing is to be said.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_set_while_the_feed_runs_is_seen() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(20));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    let operator = connect(&nats, &nats.operator).await;
    let ours = operator.get_stream(STREAM).await.unwrap().cached_info().config.clone();
    operator.update_stream(Config { max_messages: 5, ..ours }).await.unwrap();
    running.troubled("`max_msgs`").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_another_log_is_left_alone() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(20));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    running.stop().await;
    let other = MemoryLog::with(10);
    let running = Running::start(&other, "bus", settings(&nats, ""));
    running.troubled("is it the stream of another log").await;
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_user_can_neither_delete_nor_purge_nor_change_the_stream() {
    let (nats, log) = (server(Options::default()), MemoryLog::with(20));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.delivered(&log).await;
    let mut ours = connect(&nats, &nats.audit).await;
    let config = ours.get_stream(STREAM).await.unwrap().cached_info().config.clone();
    // What a user may not do the server does not answer.
    ours.set_timeout(Duration::from_secs(1));
    let stream = ours.get_stream_no_info(STREAM).await.unwrap();
    assert!(ours.delete_stream(STREAM).await.is_err());
    assert!(stream.purge().await.is_err());
    assert!(stream.delete_message(1).await.is_err());
    let smaller = Config { max_messages: 1, ..config };
    assert!(ours.update_stream(smaller).await.is_err());
    // An operator can delete it, but not purge it by mistake.
    let operator = connect(&nats, &nats.operator).await.get_stream(STREAM).await.unwrap();
    assert!(operator.purge().await.is_err());
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_acknowledges_before_it_syncs_gets_nothing() {
    let (nats, log) = (server(Options { sync_always: false, tells: true }), MemoryLog::with(5));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.troubled("sync_interval: always").await;
    running.stop().await;
    assert!(connect(&nats, &nats.operator).await.get_stream(STREAM).await.is_err());
    assert_eq!(log.position("bus").unwrap().next_index, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_say_whether_it_syncs_needs_the_word_of_an_operator() {
    let (nats, log) = (server(Options { sync_always: true, tells: false }), MemoryLog::with(5));
    let running = Running::start(&log, "bus", settings(&nats, ""));
    running.troubled("$SYS.REQ.SERVER.PING.JSZ").await;
    running.stop().await;
    let checked = settings(&nats, "sync_interval_always_was_checked = true");
    let running = Running::start(&log, "bus", checked);
    running.delivered(&log).await;
    running.stop().await;
    assert_exactly_the_log(&log, &consume(&nats, "siem", usize::MAX).await);
}
