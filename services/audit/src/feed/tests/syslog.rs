use obscura_test_servers::{certificates::Certificate, syslog::Syslog};

use super::*;

/// Where a test wants everything to settle soon.
pub const SOON: u32 = 2;
/// Where nothing settles before a test ends, however slow the machine is.
const LATE: u32 = 30;
/// Where everything that came before has to be in the file, on a machine that is busy, when the receiver is killed.
const SURE: u32 = 5;

pub fn settings(syslog: &Syslog, who: &Certificate, settle_seconds: u32) -> Settings {
    let Certificate { ca, certificate, key } = who;
    let address = syslog.address();
    let text = format!(
        "kind = \"syslog\"\naddress = {address:?}\nca_file = {ca:?}\ncertificate_file = {certificate:?}\nkey_file = {key:?}\nsettle_seconds = {settle_seconds}"
    );
    toml::from_str(&text).unwrap()
}

fn received(syslog: &Syslog) -> Vec<(u64, Vec<u8>)> {
    let index =
        |data: &str| data.split("index=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
    syslog.received().into_iter().map(|(data, message)| (index(&data), message.into_bytes())).collect()
}

/// Waits until the receiver has written so many events: it may be behind what its kernel has.
pub async fn written(syslog: &Syslog, events: usize) {
    until(&format!("{events} events are written"), || {
        let count = syslog.received().len();
        if count >= events { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
}

/// Waits until the receiver has written the last event of the log, and with it all before.
async fn written_to_the_end(syslog: &Syslog, log: &MemoryLog) {
    let last = log.len() - 1;
    until(&format!("event {last} is written"), || {
        let written = received(syslog).last().map(|(index, _)| *index);
        if written == Some(last) { Ok(()) } else { Err(format!("{written:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_receiver_writes_down_every_event_byte_for_byte() {
    let (syslog, log) = (Syslog::own().unwrap(), MemoryLog::with(200));
    let running = Running::start(&log, "siem", settings(&syslog, &syslog.client, SOON));
    running.delivered(&log).await;
    running.stop().await;
    written(&syslog, 200).await;
    let received = received(&syslog);
    assert_each_once_by_id(&log, &received);
    assert_eq!(received.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_killed_twice_in_the_middle_has_every_event_in_the_end() {
    let (mut syslog, log) = (Syslog::own().unwrap(), MemoryLog::with(100));
    let running = Running::start(&log, "siem", settings(&syslog, &syslog.client, SURE));
    until("it writes", || if syslog.received().is_empty() { Err("nothing".into()) } else { Ok(()) }).await;
    for _ in 0..2 {
        let writing = log.clone();
        let writer = tokio::task::spawn_blocking(move || {
            for _ in 0..300 {
                writing.append(5);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        tokio::time::sleep(Duration::from_millis(150)).await;
        syslog.kill();
        writer.await.unwrap();
        running.troubled("syslog receiver").await;
        syslog.start().unwrap();
        running.delivered(&log).await;
    }
    running.stop().await;
    written_to_the_end(&syslog, &log).await;
    assert_each_once_by_id(&log, &received(&syslog));
}

/// Its kernel acknowledged them, and nobody ever read them: the worst that syslog has to offer.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_died_in_the_receivers_kernel_are_sent_again() {
    let (mut syslog, log) = (Syslog::own().unwrap(), MemoryLog::with(10));
    // Long against what the test does between the kernel's word and the kill, also on a slow machine.
    let running = Running::start(&log, "siem", settings(&syslog, &syslog.client, 10));
    running.delivered(&log).await;
    for _ in 0..2 {
        let arrived = running.status().next_index;
        syslog.pause().unwrap();
        log.append(20);
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        syslog.kill();
        assert_eq!(running.status().next_index, arrived);
        syslog.start().unwrap();
        running.delivered(&log).await;
    }
    running.stop().await;
    written_to_the_end(&syslog, &log).await;
    assert_each_once_by_id(&log, &received(&syslog));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_know_us_gets_nothing_and_we_notice() {
    let (syslog, log) = (Syslog::own().unwrap(), MemoryLog::with(10));
    let running = Running::start(&log, "siem", settings(&syslog, &syslog.stranger, LATE));
    running.troubled("the syslog receiver ended the connection").await;
    // Every later attempt ends in the same way, and nothing ever counts as arrived.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(running.status().next_index, 0);
    assert!(!running.status().trouble.is_empty());
    running.stop().await;
    assert_eq!(syslog.received(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_younger_than_the_settling_time_is_sent_again_after_a_restart() {
    let (syslog, log) = (Syslog::own().unwrap(), MemoryLog::with(50));
    let running = Running::start(&log, "siem", settings(&syslog, &syslog.client, LATE));
    written(&syslog, 50).await;
    running.stop().await;
    assert_eq!(log.position("siem").unwrap().next_index, 0);
    let running = Running::start(&log, "siem", settings(&syslog, &syslog.client, SOON));
    running.delivered(&log).await;
    running.stop().await;
    written(&syslog, 100).await;
    let received = received(&syslog);
    assert_eq!(received.len(), 100);
    assert_each_once_by_id(&log, &received);
}
