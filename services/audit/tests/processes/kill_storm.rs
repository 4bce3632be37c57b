//! The real process under `kill -9`: no acknowledged entry is lost, and no two checkpoints disagree.

use std::{fs, time::Duration};

use obscura_daemon::Trust;
use obscura_tlog::SignedCheckpoint;

use crate::machine::{Machine, ONLY, Receipts, eventually, produce};

/// Rounds of start, append, kill.
const KILLS: usize = 8;
/// Entries that are acknowledged at least before each kill.
const ENTRIES: usize = 8;
/// Producers at the same time.
const PRODUCERS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_kills_loses_no_acknowledged_entry_and_forks_nothing() {
    let machine = Machine::new("");
    let receipts = Receipts::default();
    let mut open = vec![Vec::new(); PRODUCERS];
    let mut seen: Vec<SignedCheckpoint> = Vec::new();
    for round in 0..KILLS {
        let process = machine.start(ONLY).await;
        let before = receipts.lock().unwrap().len();
        let producers: Vec<_> = open
            .drain(..)
            .map(|open| tokio::spawn(produce(machine.client("keys", ONLY), receipts.clone(), open)))
            .collect();
        let offset = u64::try_from(round * 37).unwrap();
        tokio::time::sleep(Duration::from_millis(250 + offset)).await;
        let is_busy = async || receipts.lock().unwrap().len() >= before + ENTRIES;
        eventually("events are acknowledged", is_busy).await;
        seen.push(machine.checkpoint(ONLY).await);
        process.kill();
        // What is on the object store right now is a checkpoint that somebody may have fetched.
        if let Ok(note) = fs::read_to_string(machine.path("data/log/checkpoint")) {
            seen.push(machine.verifier().verify(&note).unwrap());
        }
        for producer in producers {
            open.push(producer.await.unwrap());
        }
    }
    let process = machine.start(ONLY).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let acknowledged = receipts.lock().unwrap().len();
    assert!(acknowledged >= KILLS * ENTRIES, "only {acknowledged} events were acknowledged");
    machine.holds(ONLY, &receipts, &seen).await;
    assert!(process.terminate(), "SIGTERM ends the service in order");
    let _last = machine.start(ONLY).await;
    let leaves = machine.read_all(ONLY).await.into_values();
    let kinds = leaves.map(|(_, leaf)| obscura_ocsf::read(&leaf).unwrap().kind);
    assert!(kinds.filter(|kind| kind == "service").count() > KILLS, "starts and the stop are entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_stops_the_start_instead_of_forking_the_log() {
    let machine = Machine::new("");
    assert!(machine.start(ONLY).await.terminate());
    for file in ["audit.sqlite", "audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = fs::remove_file(machine.path("data").join(file));
    }
    let said = machine.complaint(ONLY);
    assert!(said.contains("an older database was restored") && said.contains("would fork the log"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_trusts_or_a_missing_one_stops_the_start() {
    let machine = Machine::new("");
    Trust { zone_authority: [1; 32], grant_issuer: [2; 32], audit: [3; 32] }
        .save(&machine.path("trust.toml"))
        .unwrap();
    let said = machine.complaint(ONLY);
    assert!(said.contains("nobody would believe its receipts"), "{said}");
    fs::remove_file(machine.path("data/audit-log.pkcs8")).unwrap();
    let said = machine.complaint(ONLY);
    assert!(said.contains("restore it from its backup"), "{said}");
}
