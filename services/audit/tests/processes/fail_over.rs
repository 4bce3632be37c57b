//! Several audit services on one PostgreSQL server: one leads, and no plug that is pulled forks the log.

use std::{fs, time::Duration};

use obscura_proto::audit::v1::AppendRequest;
use obscura_test_servers::postgres;
use tonic::Code;

use crate::machine::{Machine, Process, Receipts, append, event, eventually, produce};

const NAMES: [&str; 2] = ["one", "two"];
/// How often the leader is killed.
const KILLS: usize = 4;
/// Time enough to show itself for a leader on a machine that is busy: one that is late is replaced.
const LEASE_SECONDS: u32 = 8;

/// A machine whose services share a database; one each on these data directories.
fn machine(data: [&str; 2]) -> Machine {
    let machine = Machine::new("");
    machine.private("url", postgres::shared().new_database().as_bytes());
    let key = fs::read(machine.path("data/audit-log.pkcs8")).unwrap();
    for (name, data) in NAMES.into_iter().zip(data) {
        fs::create_dir_all(machine.path(data)).unwrap();
        machine.private(&format!("{data}/audit-log.pkcs8"), &key);
        let url = machine.path("url");
        let settings = format!("lease_seconds = {LEASE_SECONDS}\ndatabase_url_file = {url:?}\n");
        machine.configure(name, data, &settings);
    }
    machine
}

fn said(machine: &Machine, name: &str) -> String {
    fs::read_to_string(machine.path(&format!("{name}.log"))).unwrap_or_default()
}

/// Starts a service while another one leads.
async fn stand_by(machine: &Machine, name: &str) -> Process {
    let process = machine.spawn(name);
    eventually("it stands by", async || said(machine, name).contains("this one stands by")).await;
    assert!(!machine.address(name).exists(), "a standby does not listen");
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_killed_the_standby_takes_over_with_every_acknowledged_entry() {
    let machine = machine(["data", "data"]);
    let receipts = Receipts::default();
    let (mut leader, mut standby) = (NAMES[0], NAMES[1]);
    let (mut open, mut seen) = (vec![Vec::new(); 4], Vec::new());
    let mut leading = machine.start(leader).await;
    for _ in 0..KILLS {
        let waiting = stand_by(&machine, standby).await;
        let before = receipts.lock().unwrap().len();
        let producers: Vec<_> = open
            .drain(..)
            .map(|open| tokio::spawn(produce(machine.client("keys", leader), receipts.clone(), open)))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        eventually("something is acknowledged", async || receipts.lock().unwrap().len() > before).await;
        seen.push(machine.checkpoint(leader).await);
        leading.kill();
        machine.listens(standby).await;
        for producer in producers {
            open.push(producer.await.unwrap());
        }
        leading = waiting;
        (leader, standby) = (standby, leader);
        machine.holds(leader, &receipts, &seen).await;
    }
    // Whoever got no answer from the one asks the other, and each event is there once.
    for event in open.into_iter().flatten() {
        assert!(append(&mut machine.client("keys", leader), &receipts, &event).await);
    }
    machine.holds(leader, &receipts, &seen).await;
    assert!(leading.terminate());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_and_wakes_up_commits_nothing_and_ends() {
    let machine = machine(["data", "elsewhere"]);
    let receipts = Receipts::default();
    let [old, new] = NAMES;
    let mut paused = machine.start(old).await;
    let mut client = machine.client("keys", old);
    for _ in 0..20 {
        assert!(append(&mut client, &receipts, &event()).await);
    }
    let mut seen = vec![machine.checkpoint(old).await];
    // Persons' keys are shared like the key of the log; the sleeping one keeps the lock of its own file.
    machine.private("elsewhere/person-keys.json", &fs::read(machine.path("data/person-keys.json")).unwrap());
    let waiting = stand_by(&machine, new).await;
    paused.signal("-STOP");
    // It lies in the socket of the one that sleeps, which believes to lead when it wakes up.
    let late = event();
    let asked = tokio::spawn({
        let (mut client, event) = (client.clone(), Some(late.clone()));
        async move { client.append(AppendRequest { event }).await }
    });
    machine.listens(new).await;
    for _ in 0..20 {
        assert!(append(&mut machine.client("keys", new), &receipts, &event()).await);
    }
    seen.push(machine.checkpoint(new).await);
    paused.signal("-CONT");
    assert!(!paused.ended().await, "whoever restarts it must see that it did not end by itself");
    assert!(said(&machine, old).contains("another audit service"), "{}", said(&machine, old));
    let answer = asked.await.unwrap();
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable, "callers ask again, there or elsewhere");
    assert!(append(&mut machine.client("keys", new), &receipts, &late).await);
    machine.holds(new, &receipts, &seen).await;
    // Started again it stands by, and leads once it is alone.
    let again = stand_by(&machine, old).await;
    assert!(waiting.terminate());
    machine.listens(old).await;
    machine.holds(old, &receipts, &seen).await;
    assert!(again.terminate());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_costs_the_leader_nothing_but_time() {
    let server = postgres::Postgres::own();
    let machine = Machine::new("");
    machine.private("url", server.new_database().as_bytes());
    let settings =
        format!("lease_seconds = {LEASE_SECONDS}\ndatabase_url_file = {:?}\n", machine.path("url"));
    machine.configure(NAMES[0], "data", &settings);
    let receipts = Receipts::default();
    let leading = machine.start(NAMES[0]).await;
    let mut client = machine.client("keys", NAMES[0]);
    assert!(append(&mut client, &receipts, &event()).await);
    let seen = [machine.checkpoint(NAMES[0]).await];
    server.restart();
    let event = event();
    eventually("it appends again", async || append(&mut client, &receipts, &event).await).await;
    machine.holds(NAMES[0], &receipts, &seen).await;
    assert!(leading.terminate());
}
