//! The real process under `kill -9`: no acknowledged entry is lost, and no two checkpoints disagree.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic here is a failed test with a line number")]

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use obscura_access::verify_receipt;
use obscura_clock::SystemClock;
use obscura_daemon::Trust;
use obscura_identity::{Ca, Endpoint, Identity, channel};
use obscura_proto::{
    access::v1::SignedReceipt,
    audit::v1::{
        AppendRequest, Event, ExportLogRequest, GetCheckpointRequest, Outcome, ReadEntriesRequest, Test,
        audit_service_client::AuditServiceClient, event::Body,
    },
};
use obscura_tlog::{
    DirectoryCopy, Expectations, LogKey, LogVerifier, Policy, Pruned, SignedCheckpoint, verify_copy,
};
use tonic::transport::Channel;

const ORIGIN: &str = "example.org/obscura/audit/eea";
/// Rounds of start, append, kill.
const KILLS: usize = 8;
/// Producers at the same time.
const PRODUCERS: usize = 6;

/// One machine with the audit service and what it needs.
struct Machine {
    folder: tempfile::TempDir,
    audit: [u8; 32],
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, clock) = (folder.path(), SystemClock::shared());
        let ca = Ca::create(&path.join("ca"), &"example.org".parse().unwrap(), &*clock).unwrap();
        for service in ["audit", "cli", "keys"] {
            ca.issue(service, &path.join(service), Duration::from_hours(1), &*clock).unwrap();
        }
        fs::create_dir(path.join("data")).unwrap();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let key_file = path.join("data/audit-log.pkcs8");
        fs::write(&key_file, pkcs8.as_ref()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let audit = LogKey::from_pkcs8(ORIGIN, pkcs8.as_ref()).unwrap().public_key();
        Trust { zone_authority: [1; 32], grant_issuer: [2; 32], audit }
            .save(&path.join("trust.toml"))
            .unwrap();
        let shown = |name: &str| path.join(name).display().to_string();
        let text = format!(
            "service = \"audit\"\nzone = \"eea\"\ndata_dir = {:?}\nidentity_dir = {:?}\ntrust_file = {:?}\n\
             address_file = {:?}\n[settings]\npublish_interval_ms = 50\nheartbeat_seconds = 1\n",
            shown("data"),
            shown("audit"),
            shown("trust.toml"),
            shown("address"),
        );
        fs::write(path.join("audit.toml"), text).unwrap();
        Self { folder, audit }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verifier(&self) -> LogVerifier {
        LogVerifier::new(ORIGIN, &self.audit).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obscura-audit"));
        command.arg("--config").arg(self.path("audit.toml"));
        command
    }

    async fn start(&self) -> Process {
        let _ = fs::remove_file(self.path("address"));
        let process = Process(self.command().stderr(Stdio::null()).spawn().unwrap());
        for _ in 0..1_000 {
            if self.path("address").exists() {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the service did not start within 20 s");
    }

    fn client(&self, service: &str) -> AuditServiceClient<Channel> {
        let identity = Identity::load(&self.path(service)).unwrap();
        AuditServiceClient::new(channel(&identity, "audit", Endpoint::File(self.path("address"))))
    }
}

/// The running service; killed without mercy when dropped.
struct Process(Child);

impl Process {
    fn terminate(mut self) -> bool {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.0.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn event() -> Event {
    Event {
        event_id: uuid::Uuid::now_v7().to_string(),
        time_unix_ns: SystemClock::shared().wall().unix_nanos(),
        outcome: Outcome::Success.into(),
        actor: None,
        body: Some(Body::Test(Test { text: "storm".to_owned() })),
    }
}

type Receipts = Arc<Mutex<HashMap<String, SignedReceipt>>>;

/// Appends until the service is gone. An event without an answer is asked for again the next time.
async fn produce(
    mut client: AuditServiceClient<Channel>,
    receipts: Receipts,
    mut open: Vec<Event>,
) -> Vec<Event> {
    loop {
        let event = open.pop().unwrap_or_else(event);
        let asked = client.append(AppendRequest { event: Some(event.clone()) });
        match tokio::time::timeout(Duration::from_secs(5), asked).await {
            Ok(Ok(answer)) => {
                let receipt = answer.into_inner().receipt.unwrap();
                let before = receipts.lock().unwrap().insert(event.event_id, receipt.clone());
                assert!(before.is_none_or(|before| before == receipt));
            }
            _ => {
                open.push(event);
                return open;
            }
        }
    }
}

async fn read_all(machine: &Machine) -> HashMap<String, (u64, Vec<u8>)> {
    let request = ReadEntriesRequest::default();
    let mut entries = machine.client("cli").read_entries(request).await.unwrap().into_inner();
    let mut found = HashMap::new();
    while let Some(entry) = entries.message().await.unwrap() {
        let id = obscura_ocsf::read(&entry.leaf).unwrap().event_id;
        assert!(found.insert(id, (entry.index, entry.leaf.to_vec())).is_none(), "an event twice");
    }
    found
}

async fn export(machine: &Machine, to: &Path) {
    let mut pieces = machine.client("cli").export_log(ExportLogRequest {}).await.unwrap().into_inner();
    while let Some(piece) = pieces.message().await.unwrap() {
        let path = to.join(piece.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = fs::read(&path).unwrap_or_default();
        bytes.extend_from_slice(&piece.data);
        fs::write(path, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_kills_loses_no_acknowledged_entry_and_forks_nothing() {
    let machine = Machine::new();
    let receipts = Receipts::default();
    let mut open = vec![Vec::new(); PRODUCERS];
    let mut seen: Vec<SignedCheckpoint> = Vec::new();
    for round in 0..KILLS {
        let mut process = machine.start().await;
        let producers: Vec<_> = open
            .drain(..)
            .map(|open| tokio::spawn(produce(machine.client("keys"), receipts.clone(), open)))
            .collect();
        let offset = u64::try_from(round * 37).unwrap();
        tokio::time::sleep(Duration::from_millis(250 + offset)).await;
        let checkpoint = machine.client("cli").get_checkpoint(GetCheckpointRequest {}).await.unwrap();
        seen.push(machine.verifier().verify(&checkpoint.into_inner().checkpoint).unwrap());
        process.0.kill().unwrap();
        process.0.wait().unwrap();
        // What is on the object store right now is a checkpoint that somebody may have fetched.
        if let Ok(note) = fs::read_to_string(machine.path("data/log/checkpoint")) {
            seen.push(machine.verifier().verify(&note).unwrap());
        }
        for producer in producers {
            open.push(producer.await.unwrap());
        }
    }
    let process = machine.start().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let entries = read_all(&machine).await;
    let receipts = receipts.lock().unwrap().clone();
    assert!(receipts.len() > 50, "only {} events were acknowledged", receipts.len());
    for (event_id, receipt) in &receipts {
        let receipt = verify_receipt(&machine.audit, receipt).unwrap();
        let (index, leaf) = &entries[event_id];
        assert_eq!(*index, receipt.leaf_index);
        assert_eq!(obscura_tlog::leaf_hash(leaf).as_bytes()[..], receipt.leaf_hash[..]);
    }
    let copy = machine.path("copy");
    export(&machine, &copy).await;
    let expected = Expectations {
        pruned: Pruned::Nothing,
        policy: Policy::none(),
        earlier: seen.iter().map(|note| note.checkpoint().clone()).collect(),
        more_files: Vec::new(),
    };
    let copy = DirectoryCopy::open(&copy).unwrap();
    let report = verify_copy(&copy, &machine.verifier(), &expected, &mut |_| {}).unwrap();
    assert!(report.is_good(), "{:?}", report.problems);
    assert!(process.terminate(), "SIGTERM ends the service in order");
    let _last = machine.start().await;
    let kinds: Vec<String> = read_all(&machine)
        .await
        .into_values()
        .map(|(_, leaf)| obscura_ocsf::read(&leaf).unwrap().kind)
        .collect();
    assert!(
        kinds.iter().filter(|kind| *kind == "service").count() > KILLS,
        "starts and the stop are entries"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_stops_the_start_instead_of_forking_the_log() {
    let machine = Machine::new();
    assert!(machine.start().await.terminate());
    for file in ["audit.sqlite", "audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = fs::remove_file(machine.path("data").join(file));
    }
    let output = machine.command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("an older database was restored") && said.contains("would fork the log"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_trusts_or_a_missing_one_stops_the_start() {
    let machine = Machine::new();
    let complaint = || String::from_utf8_lossy(&machine.command().output().unwrap().stderr).into_owned();
    Trust { zone_authority: [1; 32], grant_issuer: [2; 32], audit: [3; 32] }
        .save(&machine.path("trust.toml"))
        .unwrap();
    assert!(complaint().contains("nobody would believe its receipts"), "{}", complaint());
    fs::remove_file(machine.path("data/audit-log.pkcs8")).unwrap();
    assert!(complaint().contains("restore it from its backup"), "{}", complaint());
}
