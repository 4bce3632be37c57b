//! A log in a directory of its own, or on a real PostgreSQL server, for tests.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use obscura_blob::{BlobStore, Error as BlobError, LocalDirectory};
use obscura_clock::{Machine, SharedClock, SimulatedClock, Uptime};
use obscura_database::{Location, PostgresUrl};
use obscura_proto::audit::v1::{Event, Outcome, Person, Search, Test, event::Body};
use obscura_test_servers::postgres::{self, Postgres};
use obscura_tlog::{DirectoryCopy, Expectations, LogKey, Policy, Pruned, SignedCheckpoint, verify_copy};
use tempfile::TempDir;

use crate::{
    SCHEMA,
    event_id::EventId,
    fault::{Faults, NoFaults, Step},
    guard::{self, Guard},
    log::{Log, Parts},
    metrics::AuditMetrics,
    persons::{FileError, Lock, Persons},
    projection::{self, Projection},
    proving::Proof,
    roles::{Reader, Roles},
    sequencer::Sequencer,
    store::{self, Filter, Store},
    witness::Witnesses,
};

pub const ORIGIN: &str = "example.org/obscura/audit/eea";
pub const CLI: &str = "spiffe://example.org/obscura/cli";
/// The one auditor.
pub const AUDITOR: &str = "user:auditor";
/// The one data-protection officer.
pub const OFFICER: &str = "user:dpo";

/// Which database a bench uses.
#[derive(Clone, Copy, Debug)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// What survives a crash: a directory, a database, a clock.
pub struct Place {
    pub folder: TempDir,
    pub clock: Arc<SimulatedClock>,
    location: Location,
}

impl Place {
    pub fn new(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let location = Location::Sqlite(folder.path().join("audit.sqlite"));
                Self::at(folder, location)
            }
            Backend::Postgres => Self::on(postgres::shared()),
        }
    }

    /// On a server of the test's own.
    pub fn on(server: &Postgres) -> Self {
        let url = PostgresUrl::try_new(&server.new_database()).unwrap();
        Self::at(tempfile::tempdir().unwrap(), Location::Postgres { url, schema: SCHEMA })
    }

    fn at(folder: TempDir, location: Location) -> Self {
        let clock = SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap());
        Self { folder, clock, location }
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn key() -> LogKey {
        LogKey::from_seed(ORIGIN, &[7; 32]).unwrap()
    }

    pub async fn store(&self) -> Store {
        Store::open(&self.location).await.unwrap()
    }

    /// Starts the service on what is here.
    pub async fn start(self, faults: Arc<dyn Faults>) -> Bench {
        let (log, blobs) = self.open(faults.clone()).await.unwrap();
        let projection =
            self.projection(&log, &blobs, faults, Witnesses::new(&[], 1).unwrap()).await.unwrap();
        Bench { place: self, log, blobs, projection: tokio::sync::Mutex::new(projection) }
    }

    /// A program that another test starts at this moment has our files from its fork to its exec, and with them the
    /// lock that was just given back.
    async fn lock(&self) -> Result<Lock, FileError> {
        let file = self.path("person-keys.json");
        for _ in 0..6_000 {
            match Lock::take(&file) {
                Err(FileError::Locked(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                taken => return taken,
            }
        }
        Lock::take(&file)
    }

    /// The directory is locked too, and the lock comes back as late.
    async fn objects(&self) -> Result<LocalDirectory, BlobError> {
        let folder = self.path("log");
        for _ in 0..6_000 {
            match LocalDirectory::open(&folder) {
                Err(BlobError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                opened => return opened,
            }
        }
        LocalDirectory::open(&folder)
    }

    pub async fn open(&self, faults: Arc<dyn Faults>) -> anyhow::Result<(Arc<Log>, Arc<dyn BlobStore>)> {
        let clock: SharedClock = self.clock.clone();
        let lock = self.lock().await?;
        let store = Arc::new(Store::open(&self.location).await?);
        let blobs: Arc<dyn BlobStore> = Arc::new(self.objects().await?);
        let persons =
            Persons::open(&self.path("person-keys.json"), lock, store.clone(), faults.clone()).await?;
        let (sequencer, _writer) =
            Sequencer::start(store.clone(), clock.clone(), faults.clone(), AuditMetrics::new()).await?;
        let log = Arc::new(Log::new(Parts {
            store,
            sequencer,
            persons,
            roles: Roles::new([AUDITOR.to_owned()], [OFFICER.to_owned()]),
            key: Arc::new(Self::key()),
            zone: "eea".to_owned(),
            own_id: "spiffe://example.org/obscura/audit".to_owned(),
            clock,
            faults,
        }));
        log.settle_pending().await?;
        Ok((log, blobs))
    }

    pub async fn projection(
        &self,
        log: &Log,
        blobs: &Arc<dyn BlobStore>,
        faults: Arc<dyn Faults>,
        witnesses: Witnesses,
    ) -> Result<Projection, projection::Error> {
        let parts = projection::Parts {
            store: log.parts.store.clone(),
            blobs: blobs.clone(),
            key: log.parts.key.clone(),
            cosigned_file: self.path("cosigned.checkpoint"),
            faults,
        };
        Projection::open(parts, witnesses).await
    }
}

/// A running log.
pub struct Bench {
    pub place: Place,
    pub log: Arc<Log>,
    pub blobs: Arc<dyn BlobStore>,
    pub projection: tokio::sync::Mutex<Projection>,
}

impl Bench {
    pub async fn sqlite() -> Self {
        Place::new(Backend::Sqlite).start(Arc::new(NoFaults)).await
    }

    /// Ends everything, as an orderly stop would, and hands over what stays.
    pub async fn stop(self) -> Place {
        let Self { place, log, blobs, projection } = self;
        drop((projection, blobs));
        let store = log.parts.store.clone();
        drop(log);
        store.close().await.unwrap();
        place
    }

    /// What the clock is compared with from now on, where nobody vouches for it.
    pub async fn guard(&self, retention: Duration) -> Arc<Guard> {
        let machine = Arc::new(TestMachine::default());
        let witnesses = guard::Witnesses { machine, server: false, confirmed: None };
        Arc::new(self.guard_with(retention, witnesses).await)
    }

    /// For what has no retention of its own in a test.
    pub async fn any_guard(&self) -> Arc<Guard> {
        self.guard(Duration::from_hours(30 * 24)).await
    }

    pub async fn guard_with(&self, retention: Duration, witnesses: guard::Witnesses) -> Guard {
        let parts = &self.log.parts;
        Guard::begin(parts.store.clone(), parts.clock.clone(), retention, witnesses).await.unwrap()
    }

    pub async fn append(&self, event: &Event) -> u64 {
        self.log.append(CLI, event).await.unwrap().index
    }

    pub async fn publish(&self) {
        self.projection.lock().await.publish().await.unwrap();
    }

    pub async fn size(&self) -> u64 {
        self.log.parts.store.head().await.unwrap().size
    }

    pub async fn leaf(&self, index: u64) -> String {
        let row = self.log.parts.store.entry(index).await.unwrap().unwrap();
        String::from_utf8(row.leaf.to_vec()).unwrap()
    }

    /// Kinds of all kept entries.
    pub async fn kinds(&self) -> Vec<String> {
        let rows = self.log.parts.store.entries(0, u64::MAX >> 1, 100_000, &Filter::default()).await.unwrap();
        rows.iter().map(|row| obscura_ocsf::read(&row.leaf).unwrap().kind).collect()
    }

    /// Verifies the published copy offline against checkpoints that were seen before, and returns its checkpoint.
    pub fn verify(&self, earlier: &[SignedCheckpoint]) -> SignedCheckpoint {
        verify(&self.place.path("log"), earlier)
    }
}

pub fn verify(folder: &Path, earlier: &[SignedCheckpoint]) -> SignedCheckpoint {
    let expected = Expectations {
        pruned: Pruned::Detect,
        policy: Policy::none(),
        earlier: earlier.iter().map(|note| note.checkpoint().clone()).collect(),
        more_files: Vec::new(),
    };
    let copy = DirectoryCopy::open(folder).unwrap();
    let report = verify_copy(&copy, &Place::key().verifier(), &expected, &mut |_| {}).unwrap();
    assert!(report.is_good(), "{:?}", report.problems);
    let note = std::fs::read_to_string(folder.join("checkpoint")).unwrap();
    Place::key().verifier().verify(&note).unwrap()
}

/// An event in which nobody acted.
pub fn test_event(text: &str) -> Event {
    event(None, Body::Test(Test { text: text.to_owned() }))
}

/// A search by this person.
pub fn search_by(id: &str, name: &str, query: &str) -> Event {
    let search = Search { subject: "recordings".to_owned(), query: query.to_owned(), ..Search::default() };
    event(Some(person(id, name)), Body::Search(search))
}

pub fn person(id: &str, name: &str) -> Person {
    Person { id: id.to_owned(), name: name.to_owned(), address: String::new() }
}

/// This person behind the command line.
pub fn reader(id: &str) -> Reader {
    Reader::new(CLI.to_owned(), Some(person(id, "")))
}

pub fn event(actor: Option<Person>, body: Body) -> Event {
    Event {
        event_id: EventId::generate().to_string(),
        time_unix_ns: 1_795_000_000_000_000_000,
        outcome: Outcome::Success.into(),
        actor,
        body: Some(body),
    }
}

/// A machine whose clock no time server keeps, until one does.
#[derive(Debug, Default)]
pub struct TestMachine {
    pub is_kept: AtomicBool,
}

impl Machine for TestMachine {
    fn uptime(&self) -> Option<Uptime> {
        let synchronised = self.is_kept.load(Ordering::SeqCst);
        Some(Uptime { boot: "first".to_owned(), up: Duration::ZERO, synchronised })
    }
}

/// Fails one step, so many times, by an error or for good.
#[derive(Debug)]
pub struct Injector {
    step: Step,
    left: Mutex<u32>,
    is_crash: bool,
    is_dead: AtomicBool,
}

impl Injector {
    pub fn new(step: Step, times: u32, is_crash: bool) -> Arc<Self> {
        Arc::new(Self { step, left: Mutex::new(times), is_crash, is_dead: AtomicBool::new(false) })
    }

    /// Whether the step was reached at all.
    pub fn was_met(&self) -> bool {
        *self.left.lock().unwrap() == 0
    }

    /// The process is started again: what is left goes on failing.
    pub fn revive(&self) {
        self.is_dead.store(false, Ordering::SeqCst);
    }
}

impl Faults for Injector {
    fn at(&self, step: Step) -> Result<(), store::Error> {
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(store::Error::Injected(step));
        }
        let mut left = self.left.lock().unwrap();
        if step != self.step || *left == 0 {
            return Ok(());
        }
        *left -= 1;
        // Dead is dead: whatever would have come next does not.
        self.is_dead.store(self.is_crash, Ordering::SeqCst);
        Err(store::Error::Injected(step))
    }
}

/// The leaf in a proof, as an auditor sees it.
pub fn leaf_of(proof: &Proof) -> Vec<u8> {
    proof.leaf.as_ref().unwrap().1.bytes().to_vec()
}

/// Receipts by event id, as a producer remembers them.
pub type Receipts = HashMap<String, obscura_proto::access::v1::SignedReceipt>;
