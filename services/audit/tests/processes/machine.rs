//! A machine with audit services as real processes, and producers that never forget an event.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use obscura_access::verify_receipt;
use obscura_clock::SystemClock;
use obscura_daemon::Trust;
use obscura_identity::{Ca, Endpoint, Identity, channel};
use obscura_outbox::ActingFor;
use obscura_proto::{
    access::v1::SignedReceipt,
    audit::v1::{
        AppendRequest, Event, ExportLogRequest, GetCheckpointRequest, Outcome, Person, ReadEntriesRequest,
        Test, audit_service_client::AuditServiceClient, event::Body,
    },
};
use obscura_tlog::{
    DirectoryCopy, Expectations, LogKey, LogVerifier, Policy, Pruned, SignedCheckpoint, verify_copy,
};
use tonic::{service::interceptor::InterceptedService, transport::Channel};

const ORIGIN: &str = "example.org/obscura/audit/eea";
/// The service where there is one only.
pub const ONLY: &str = "one";
/// What may take long on a machine that is busy: also a take-over from a leader that was paused in the middle of a
/// transaction, which the server ends after a minute.
const POLLS: usize = 9_000;
const POLL: Duration = Duration::from_millis(20);

/// Identities, trust and keys, and the data of the audit services.
pub struct Machine {
    folder: tempfile::TempDir,
    pub audit: [u8; 32],
}

impl Machine {
    /// A machine with one audit service of these settings, not started.
    pub fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, clock) = (folder.path(), SystemClock::shared());
        let ca = Ca::create(&path.join("ca"), &"example.org".parse().unwrap(), &*clock).unwrap();
        for service in ["audit", "cli", "keys"] {
            ca.issue(service, &path.join(service), Duration::from_hours(1), &*clock).unwrap();
        }
        fs::create_dir(path.join("data")).unwrap();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let audit = LogKey::from_pkcs8(ORIGIN, pkcs8.as_ref()).unwrap().public_key();
        let machine = Self { folder, audit };
        machine.private("data/audit-log.pkcs8", pkcs8.as_ref());
        Trust { zone_authority: [1; 32], grant_issuer: [2; 32], audit }
            .save(&machine.path("trust.toml"))
            .unwrap();
        machine.configure(ONLY, "data", settings);
        machine
    }

    /// Writes a file that only its owner reads.
    pub fn private(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// An audit service by this name on a data directory.
    pub fn configure(&self, name: &str, data: &str, settings: &str) {
        let shown = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "service = \"audit\"\nzone = \"eea\"\ndata_dir = {:?}\nidentity_dir = {:?}\ntrust_file = {:?}\n\
             address_file = {:?}\n[settings]\nauditors = [\"user:auditor\"]\npublish_interval_ms = 50\nheartbeat_seconds = 1\n{settings}",
            shown(data),
            shown("audit"),
            shown("trust.toml"),
            shown(&format!("{name}.address")),
        );
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn verifier(&self) -> LogVerifier {
        LogVerifier::new(ORIGIN, &self.audit).unwrap()
    }

    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obscura-audit"));
        command.arg("--config").arg(self.path(&format!("{name}.toml")));
        command
    }

    /// What the service says that does not start.
    pub fn complaint(&self, name: &str) -> String {
        let output = self.command(name).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts a service that may have to stand by.
    pub fn spawn(&self, name: &str) -> Process {
        let _ = fs::remove_file(self.address(name));
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        Process(self.command(name).stderr(log).spawn().unwrap())
    }

    /// Starts a service and waits until it listens.
    pub async fn start(&self, name: &str) -> Process {
        let process = self.spawn(name);
        self.listens(name).await;
        process
    }

    pub fn address(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.address"))
    }

    pub async fn listens(&self, name: &str) {
        eventually("the service listens", async || self.address(name).exists()).await;
    }

    pub fn client(&self, service: &str, name: &str) -> AuditServiceClient<Channel> {
        let identity = Identity::load(&self.path(service)).unwrap();
        AuditServiceClient::new(channel(&identity, "audit", Endpoint::File(self.address(name))))
    }

    /// The command line with an auditor at it.
    pub fn auditor(&self, name: &str) -> AuditServiceClient<InterceptedService<Channel, ActingFor>> {
        let identity = Identity::load(&self.path("cli")).unwrap();
        let channel = channel(&identity, "audit", Endpoint::File(self.address(name)));
        let auditor = Person { id: "user:auditor".to_owned(), ..Person::default() };
        AuditServiceClient::with_interceptor(channel, ActingFor::new(&auditor))
    }

    pub async fn checkpoint(&self, name: &str) -> SignedCheckpoint {
        let answer = self.client("cli", name).get_checkpoint(GetCheckpointRequest {}).await.unwrap();
        self.verifier().verify(&answer.into_inner().checkpoint).unwrap()
    }

    pub async fn read_all(&self, name: &str) -> HashMap<String, (u64, Vec<u8>)> {
        let request = ReadEntriesRequest::default();
        let mut entries = self.auditor(name).read_entries(request).await.unwrap().into_inner();
        let mut found = HashMap::new();
        while let Some(entry) = entries.message().await.unwrap() {
            let id = obscura_ocsf::read(&entry.leaf).unwrap().event_id;
            assert!(found.insert(id, (entry.index, entry.leaf.to_vec())).is_none(), "an event twice");
        }
        found
    }

    async fn export(&self, name: &str, to: &Path) {
        let mut pieces = self.auditor(name).export_log(ExportLogRequest {}).await.unwrap().into_inner();
        while let Some(piece) = pieces.message().await.unwrap() {
            let path = to.join(piece.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = fs::read(&path).unwrap_or_default();
            bytes.extend_from_slice(&piece.data);
            fs::write(path, bytes).unwrap();
        }
    }

    /// Every acknowledged entry is where its receipt says, and nobody saw a fork.
    pub async fn holds(&self, name: &str, receipts: &Receipts, seen: &[SignedCheckpoint]) {
        let entries = self.read_all(name).await;
        let receipts = receipts.lock().unwrap().clone();
        for (event_id, receipt) in &receipts {
            let receipt = verify_receipt(&self.audit, receipt).unwrap();
            let (index, leaf) = &entries[event_id];
            assert_eq!(*index, receipt.leaf_index);
            assert_eq!(obscura_tlog::leaf_hash(leaf).as_bytes()[..], receipt.leaf_hash[..]);
        }
        let size = u64::try_from(entries.len()).unwrap();
        let is_published = async || self.checkpoint(name).await.checkpoint().size >= size;
        eventually("everything is published", is_published).await;
        let copy = tempfile::tempdir().unwrap();
        self.export(name, copy.path()).await;
        self.verify(copy.path(), seen);
    }

    /// The copy is whole, and goes on from every checkpoint that was seen.
    pub fn verify(&self, copy: &Path, seen: &[SignedCheckpoint]) {
        let expected = Expectations {
            pruned: Pruned::Nothing,
            policy: Policy::none(),
            earlier: seen.iter().map(|note| note.checkpoint().clone()).collect(),
            more_files: Vec::new(),
        };
        let copy = DirectoryCopy::open(copy).unwrap();
        let report = verify_copy(&copy, &self.verifier(), &expected, &mut |_| {}).unwrap();
        assert!(report.is_good(), "{:?}", report.problems);
    }
}

/// A running service; killed without mercy when dropped.
pub struct Process(Child);

impl Process {
    pub fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Whether it ended well after SIGTERM.
    pub fn terminate(mut self) -> bool {
        self.signal("-TERM");
        self.0.wait().unwrap().success()
    }

    /// Waits until it ended by itself, and says whether it ended well.
    pub async fn ended(&mut self) -> bool {
        eventually("the service ends", async || self.0.try_wait().unwrap().is_some()).await;
        self.0.wait().unwrap().success()
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..POLLS {
        if condition().await {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    panic!("it did not happen in three minutes: {what}");
}

pub fn event() -> Event {
    Event {
        event_id: uuid::Uuid::now_v7().to_string(),
        time_unix_ns: SystemClock::shared().wall().unix_nanos(),
        outcome: Outcome::Success.into(),
        actor: None,
        body: Some(Body::Test(Test { text: "storm".to_owned() })),
    }
}

/// Receipts by event id, as producers remember them.
pub type Receipts = Arc<Mutex<HashMap<String, SignedReceipt>>>;

/// Appends until the service is gone. An event without an answer is asked for again the next time.
pub async fn produce(
    mut client: AuditServiceClient<Channel>,
    receipts: Receipts,
    mut open: Vec<Event>,
) -> Vec<Event> {
    loop {
        let event = open.pop().unwrap_or_else(event);
        if !append(&mut client, &receipts, &event).await {
            open.push(event);
            return open;
        }
    }
}

/// Whether the event was acknowledged.
pub async fn append(client: &mut AuditServiceClient<Channel>, receipts: &Receipts, event: &Event) -> bool {
    let asked = client.append(AppendRequest { event: Some(event.clone()) });
    let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(60), asked).await else { return false };
    let receipt = answer.into_inner().receipt.unwrap();
    let before = receipts.lock().unwrap().insert(event.event_id.clone(), receipt.clone());
    assert!(before.is_none_or(|before| before == receipt), "another receipt for the same event");
    true
}
