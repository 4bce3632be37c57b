//! The outbox against a real gRPC server that behaves badly.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use obscura_access::receipt_message;
use obscura_clock::{SharedClock, SystemClock};
use obscura_proto::{
    access::v1::{Receipt, SignedReceipt},
    audit::v1::{
        AppendRequest, AppendResponse, ErasePersonRequest, ErasePersonResponse, Event, ExportLogRequest,
        ExportLogResponse, GetAuditStatusRequest, GetAuditStatusResponse, GetCheckpointRequest,
        GetCheckpointResponse, GrantDecision, Outcome, Person, ProveRequest, ProveResponse,
        ReadEntriesRequest, ReadEntriesResponse, ReplayFeedRequest, ReplayFeedResponse, ReportRequest,
        ReportResponse, SendTestEventRequest, SendTestEventResponse, Test,
        audit_service_server::{AuditService, AuditServiceServer},
        event::Body,
    },
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle, time};
use tonic::{
    Request, Response, Status,
    codegen::tokio_stream::Empty,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{AuditLog, Error, Limits, OnOld, Outbox, event, file::Step};

/// What the log does wrong, as often as the number says.
#[derive(Debug, Default)]
struct Faults {
    unavailable: AtomicU32,
    /// Stores everything and loses the answer.
    silent: AtomicU32,
    /// Stores only the first half.
    half: AtomicU32,
    /// Signs with another key.
    forged: AtomicU32,
    /// About something else.
    confused: AtomicU32,
    no_receipt: AtomicU32,
}

fn strikes(fault: &AtomicU32) -> bool {
    fault.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[derive(Debug, Default)]
struct Stored {
    through: HashMap<String, u64>,
    /// By outbox and counter.
    events: BTreeMap<(String, u64), Event>,
    ids: HashSet<String>,
    batches: Vec<usize>,
    asked: u32,
}

#[derive(Clone, Debug, Default)]
struct Log {
    faults: Arc<Faults>,
    stored: Arc<Mutex<Stored>>,
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn trust() -> [u8; 32] {
    key(1).public_key().as_ref().try_into().unwrap()
}

/// Events with this text are refused.
const BAD: &str = "bad";

fn text(event: &Event) -> &str {
    match &event.body {
        Some(Body::Test(test)) => &test.text,
        _ => "",
    }
}

impl Log {
    fn texts(&self) -> Vec<String> {
        self.stored.lock().unwrap().events.values().map(|event| text(event).to_owned()).collect()
    }

    fn store(&self, request: ReportRequest) -> u64 {
        let mut stored = self.stored.lock().unwrap();
        stored.batches.push(request.events.len());
        stored.asked += u32::from(request.events.is_empty());
        let half = strikes(&self.faults.half).then_some(request.events.len() / 2);
        for counted in request.events.into_iter().take(half.unwrap_or(usize::MAX)) {
            let event = counted.event.unwrap();
            let through = stored.through.entry(request.outbox_id.clone()).or_default();
            if counted.counter > *through {
                *through = counted.counter;
                if stored.ids.insert(event.event_id.clone()) {
                    stored.events.insert((request.outbox_id.clone(), counted.counter), event);
                }
            }
        }
        stored.through.get(&request.outbox_id).copied().unwrap_or(0)
    }
}

/// A producer asks for nothing else.
fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("a producer does not ask for this"))
}

#[tonic::async_trait]
impl AuditService for Log {
    type ReadEntriesStream = Empty<Result<ReadEntriesResponse, Status>>;
    type ExportLogStream = Empty<Result<ExportLogResponse, Status>>;

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let event = request.into_inner().event.unwrap();
        if strikes(&self.faults.unavailable) {
            return Err(Status::unavailable("not now"));
        }
        if text(&event) == BAD {
            return Err(Status::invalid_argument("text"));
        }
        let claims_hash = match &event.body {
            Some(Body::Grant(decision)) if !strikes(&self.faults.confused) => decision.claims_hash.clone(),
            _ => bytes::Bytes::new(),
        };
        let receipt =
            Receipt { log: "log".into(), leaf_index: 7, claims_hash, ..Receipt::default() }.encode_to_vec();
        let signer = key(if strikes(&self.faults.forged) { 2 } else { 1 });
        let signature = signer.sign(&receipt_message(&receipt)).as_ref().to_vec().into();
        let receipt =
            (!strikes(&self.faults.no_receipt)).then(|| SignedReceipt { receipt: receipt.into(), signature });
        Ok(Response::new(AppendResponse { receipt }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let request = request.into_inner();
        if strikes(&self.faults.unavailable) {
            return Err(Status::unavailable("not now"));
        }
        if request.events.iter().any(|counted| text(counted.event.as_ref().unwrap()) == BAD) {
            return Err(Status::invalid_argument("one of them is bad"));
        }
        let through_counter = self.store(request);
        if strikes(&self.faults.silent) {
            return Err(Status::internal("died after the commit"));
        }
        Ok(Response::new(ReportResponse { through_counter }))
    }

    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        not_asked()
    }

    async fn prove(&self, _: Request<ProveRequest>) -> Result<Response<ProveResponse>, Status> {
        not_asked()
    }

    async fn erase_person(
        &self,
        _: Request<ErasePersonRequest>,
    ) -> Result<Response<ErasePersonResponse>, Status> {
        not_asked()
    }

    async fn read_entries(
        &self,
        _: Request<ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        not_asked()
    }

    async fn export_log(
        &self,
        _: Request<ExportLogRequest>,
    ) -> Result<Response<Self::ExportLogStream>, Status> {
        not_asked()
    }

    async fn send_test_event(
        &self,
        _: Request<SendTestEventRequest>,
    ) -> Result<Response<SendTestEventResponse>, Status> {
        not_asked()
    }

    async fn replay_feed(
        &self,
        _: Request<ReplayFeedRequest>,
    ) -> Result<Response<ReplayFeedResponse>, Status> {
        not_asked()
    }

    async fn get_audit_status(
        &self,
        _: Request<GetAuditStatusRequest>,
    ) -> Result<Response<GetAuditStatusResponse>, Status> {
        not_asked()
    }
}

struct Running {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(log: &Log, address: SocketAddr) -> Running {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(AuditServiceServer::new(log.clone()));
    let serving =
        tokio::spawn(async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
    Running { address, serving }
}

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

fn client(running: &Running) -> AuditLog {
    AuditLog::new(channel(running.address), trust())
}

fn clock() -> SharedClock {
    SystemClock::shared()
}

fn test(text: &str) -> Body {
    Body::Test(Test { text: text.into() })
}

fn record(outbox: &Outbox, texts: std::ops::Range<u32>) {
    texts.for_each(|number| outbox.record_body(Outcome::Success, test(&number.to_string())));
}

fn numbers(texts: std::ops::Range<u32>) -> Vec<String> {
    texts.map(|number| number.to_string()).collect()
}

async fn open(folder: &tempfile::TempDir) -> Outbox {
    Outbox::open(folder.path(), Limits::default(), clock()).await.unwrap()
}

async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(Duration::from_secs(30), waiting).await.expect("in 30 s");
}

async fn until_empty(outbox: &Outbox) {
    until(|| outbox.queued() == 0).await;
}

#[tokio::test]
async fn an_appended_event_comes_back_with_a_receipt_that_counts() {
    let log = Log::default();
    let running = serve(&log, anywhere()).await;
    let decision = GrantDecision { claims_hash: vec![3; 32].into(), ..GrantDecision::default() };
    let event = event(&clock(), Outcome::Success, Body::Grant(decision));
    let (_, receipt) = client(&running).append_decoded(event.clone()).await.unwrap();
    assert_eq!((receipt.leaf_index, receipt.claims_hash), (7, vec![3; 32].into()));
    log.faults.forged.store(1, Ordering::SeqCst);
    assert!(matches!(client(&running).append(event.clone()).await, Err(Error::BadReceipt(_))));
    log.faults.confused.store(1, Ordering::SeqCst);
    assert!(matches!(client(&running).append(event.clone()).await, Err(Error::BadReceipt(_))));
    log.faults.no_receipt.store(1, Ordering::SeqCst);
    assert!(matches!(client(&running).append(event).await, Err(Error::NoReceipt)));
}

#[tokio::test]
async fn append_says_at_once_what_the_log_says() {
    let log = Log::default();
    let running = serve(&log, anywhere()).await;
    log.faults.unavailable.store(1, Ordering::SeqCst);
    let good = event(&clock(), Outcome::Success, test("good"));
    let error = client(&running).append(good.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.code() == obscura_status::Code::Unavailable);
    let bad = event(&clock(), Outcome::Success, test(BAD));
    assert!(matches!(client(&running).append(bad).await, Err(Error::Refused(_))));
    client(&running).append(good).await.unwrap();
}

#[tokio::test]
async fn append_waits_for_a_log_that_is_not_up_yet_and_gives_up_after_5_s() {
    let log = Log::default();
    let address = serve(&log, anywhere()).await.address;
    // The server is gone again, its port is free.
    let waiting = AuditLog::new(channel(address), trust());
    let event = event(&clock(), Outcome::Success, test("early"));
    let appending = tokio::spawn({
        let (waiting, event) = (waiting.clone(), event.clone());
        async move { waiting.append(event).await }
    });
    time::sleep(Duration::from_millis(600)).await;
    assert!(!appending.is_finished());
    let running = serve(&log, address).await;
    appending.await.unwrap().unwrap();
    drop(running);
    until(|| std::net::TcpStream::connect(address).is_err()).await;
    let fresh = AuditLog::new(channel(address), trust());
    let error = time::timeout(Duration::from_secs(8), fresh.append(event)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
}

#[tokio::test]
async fn events_arrive_once_and_in_order_whatever_the_log_does() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    log.faults.unavailable.store(2, Ordering::SeqCst);
    log.faults.silent.store(2, Ordering::SeqCst);
    log.faults.half.store(2, Ordering::SeqCst);
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    record(&outbox, 0..2_500);
    until_empty(&outbox).await;
    assert_eq!(log.texts(), numbers(0..2_500));
    assert_eq!(outbox.dropped(), 0);
    let counters: Vec<_> = log.stored.lock().unwrap().events.keys().map(|(_, counter)| *counter).collect();
    assert_eq!(counters, (1..=2_500).collect::<Vec<_>>());
    assert!(log.stored.lock().unwrap().batches.iter().all(|events| *events <= 1_000));
}

#[tokio::test]
async fn a_log_that_is_away_loses_nothing_over_a_restart() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let outbox = open(&folder).await;
    record(&outbox, 0..50);
    outbox.close().await;
    drop(outbox);
    let outbox = open(&folder).await;
    assert_eq!(outbox.queued(), 50, "and no alarm after a clean stop");
    record(&outbox, 50..60);
    outbox.flush().await;
    // A crash, and another one before anything could be sent.
    drop(outbox);
    drop(open(&folder).await);
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    let texts: Vec<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(texts, numbers(0..60));
    assert_eq!(log.stored.lock().unwrap().through.len(), 1, "one outbox all the time");
}

#[tokio::test]
async fn a_producer_that_dies_between_answer_and_note_of_it_sends_nothing_twice() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    for round in 0..2 {
        let outbox = open(&folder).await;
        log.faults.silent.store(2, Ordering::SeqCst);
        outbox.send_to(client(&running));
        record(&outbox, round * 10..round * 10 + 10);
        until(|| {
            log.faults.silent.load(Ordering::SeqCst) < 2
                && log.texts().iter().any(|text| *text == (round * 10).to_string())
        })
        .await;
        drop(outbox);
        log.faults.silent.store(0, Ordering::SeqCst);
    }
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    let texts: Vec<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
    assert!(texts.contains(&"0".to_owned()) && texts.contains(&"10".to_owned()));
}

fn copied(from: &tempfile::TempDir) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

#[tokio::test]
async fn whoever_was_put_back_from_a_backup_learns_it_before_anything_is_sent() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    let told = Arc::new(AtomicU32::new(0));
    let on_old = |told: &Arc<AtomicU32>, failures: u32| -> OnOld {
        let told = Arc::clone(told);
        Box::new(move || {
            let before = told.fetch_add(1, Ordering::SeqCst);
            if before < failures { Err(io::Error::other("no space left on device")) } else { Ok(()) }
        })
    };
    outbox.send_to_after(client(&running), on_old(&told, 0));
    record(&outbox, 0..3);
    until_empty(&outbox).await;
    assert!(*outbox.compared().borrow());
    outbox.close().await;
    let copy = copied(&folder);
    let outbox = open(&folder).await;
    outbox.send_to_after(client(&running), on_old(&told, 0));
    record(&outbox, 3..6);
    until_empty(&outbox).await;
    outbox.close().await;
    assert_eq!(told.load(Ordering::SeqCst), 0, "it was never old");

    let outbox = open(&copy).await;
    assert!(!*outbox.compared().borrow());
    record(&outbox, 6..9);
    outbox.send_to_after(client(&running), on_old(&told, 2));
    let mut compared = outbox.compared();
    compared.wait_for(|compared| *compared).await.unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 3, "again until it could be written down");
    until_empty(&outbox).await;
    let texts: BTreeSet<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(texts, numbers(0..9).into_iter().collect());
}

#[tokio::test]
async fn an_event_that_the_log_refuses_does_not_stop_the_others() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    record(&outbox, 0..20);
    outbox.record_body(Outcome::Success, test(BAD));
    record(&outbox, 20..40);
    outbox.flush().await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    let stored = log.stored.lock().unwrap();
    assert_eq!(stored.events.len(), 41);
    let replaced = stored.events.iter().find(|((_, counter), _)| *counter == 21).unwrap().1;
    let Some(Body::Overflow(overflow)) = &replaced.body else { panic!("{replaced:?}") };
    assert_eq!((overflow.first_counter, overflow.last_counter), (21, 21));
}

#[tokio::test]
async fn a_full_outbox_never_waits_and_names_what_it_dropped() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let limits = Limits { max_events: 100, ..Limits::default() };
    let outbox = Outbox::open(folder.path(), limits, clock()).await.unwrap();
    record(&outbox, 0..250);
    assert_eq!((outbox.queued(), outbox.dropped()), (100, 150));
    outbox.send_to(client(&running));
    until(|| log.stored.lock().unwrap().events.len() == 101).await;
    until_empty(&outbox).await;
    let stored = log.stored.lock().unwrap();
    let ((_, counter), last) = stored.events.iter().next_back().unwrap();
    let Some(Body::Overflow(overflow)) = &last.body else { panic!("{last:?}") };
    assert_eq!((*counter, overflow.first_counter, overflow.last_counter), (251, 101, 250));
}

#[tokio::test]
async fn a_file_does_not_grow_with_what_is_done() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    for _ in 0..4 {
        let long = "x".repeat(20_000);
        (0..60).for_each(|_| outbox.record_body(Outcome::Success, test(&long)));
        until_empty(&outbox).await;
        outbox.flush().await;
    }
    let length = std::fs::metadata(folder.path().join("events")).unwrap().len();
    assert!(length < 2 << 20, "{length} bytes of 4.8 MB");
}

const NAME: &str = "Erika Mustermann-Gabler";

fn search_by_a_person() -> Event {
    let actor = Person { id: "user:erika".into(), name: NAME.into(), address: String::new() };
    Event { actor: Some(actor), ..event(&clock(), Outcome::Success, test("a search")) }
}

/// Whether a file in the folder has these bytes.
fn names(folder: &tempfile::TempDir) -> bool {
    let has = |path: std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(NAME.len()).any(|window| window == NAME.as_bytes())
    };
    std::fs::read_dir(folder.path()).unwrap().any(|entry| has(entry.unwrap().path()))
}

#[tokio::test]
async fn soon_after_the_log_has_taken_an_event_no_file_names_who_it_is_about() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let limits = Limits { forget_after: Duration::from_millis(200), ..Limits::default() };
    let outbox = Outbox::open(folder.path(), limits, clock()).await.unwrap();
    for _ in 0..2 {
        outbox.record(search_by_a_person());
        outbox.flush().await;
        assert!(names(&folder), "it waits in clear");
        let running = serve(&log, anywhere()).await;
        outbox.send_to(client(&running));
        until_empty(&outbox).await;
        until(|| !names(&folder)).await;
    }
    outbox.close().await;
    assert_eq!(log.texts().len(), 2);
}

#[tokio::test]
async fn an_outbox_that_was_closed_keeps_only_what_waits() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let outbox = open(&folder).await;
    outbox.record(search_by_a_person());
    outbox.flush().await;
    let running = serve(&log, anywhere()).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    outbox.close().await;
    drop(outbox);
    assert!(!names(&folder));
    let outbox = open(&folder).await;
    assert_eq!(outbox.queued(), 0, "it was closed in good order");
    outbox.record(search_by_a_person());
    outbox.close().await;
    assert!(names(&folder), "what waits is not lost");
}

/// Whoever starts on a file that a crash left writes it anew.
#[tokio::test]
async fn after_a_crash_what_the_log_has_taken_goes_with_the_next_start() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let outbox = open(&folder).await;
    outbox.record(search_by_a_person());
    outbox.flush().await;
    let running = serve(&log, anywhere()).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    outbox.flush().await;
    drop(outbox);
    assert!(names(&folder), "a crash leaves it");
    let outbox = open(&folder).await;
    outbox.flush().await;
    assert!(!names(&folder));
    outbox.close().await;
}

#[tokio::test]
async fn flush_says_whether_the_disk_took_everything_and_never_waits_for_a_closed_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let looked_at = Arc::clone(&broken);
    let gate: crate::file::Gate = Box::new(move |step| match step {
        Step::SyncFile if looked_at.load(Ordering::SeqCst) => {
            Err(io::Error::other("no space left on device"))
        }
        _ => Ok(()),
    });
    let outbox = Outbox::open_with(folder.path(), Limits::default(), clock(), gate).await.unwrap();
    assert!(outbox.flush().await);
    broken.store(true, Ordering::SeqCst);
    record(&outbox, 0..1);
    assert!(!outbox.flush().await);
    broken.store(false, Ordering::SeqCst);
    assert!(outbox.flush().await);
    outbox.close().await;
    assert!(!outbox.flush().await);
}

#[tokio::test]
async fn a_second_process_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(&folder).await;
    let error = Outbox::open(folder.path(), Limits::default(), clock()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be opened"), "{error}");
    outbox.close().await;
}

/// Fails a step for the given number of times.
fn failing(at: Step, times: u32) -> crate::file::Gate {
    let left = AtomicU32::new(times);
    Box::new(move |step| {
        if step == at && strikes(&left) { Err(io::Error::other("no space left on device")) } else { Ok(()) }
    })
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_twice_loses_nothing_when_it_comes_back() {
    let steps =
        [Step::WriteAside, Step::SyncAside, Step::Rename, Step::SyncFolder, Step::Append, Step::SyncFile];
    for step in steps {
        let folder = tempfile::tempdir().unwrap();
        let gate = failing(step, 2);
        let outbox = Outbox::open_with(folder.path(), Limits::default(), clock(), gate).await.unwrap();
        for round in 0..4 {
            record(&outbox, round * 10..round * 10 + 10);
            outbox.flush().await;
        }
        outbox.close().await;
        drop(outbox);
        let outbox = open(&folder).await;
        assert_eq!(outbox.queued(), 40, "{step:?}");
        outbox.close().await;
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_step_twice_finds_what_was_durable() {
    let steps =
        [Step::WriteAside, Step::SyncAside, Step::Rename, Step::SyncFolder, Step::Append, Step::SyncFile];
    for step in steps {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(&folder).await;
        record(&outbox, 0..10);
        outbox.close().await;
        drop(outbox);
        for _ in 0..2 {
            // From that step on the disk does nothing any more, and then the process is gone.
            let gate = failing(step, u32::MAX);
            let outbox = Outbox::open_with(folder.path(), Limits::default(), clock(), gate).await.unwrap();
            record(&outbox, 10..12);
            outbox.flush().await;
            drop(outbox);
        }
        let log = Log::default();
        let running = serve(&log, anywhere()).await;
        let outbox = open(&folder).await;
        outbox.send_to(client(&running));
        until_empty(&outbox).await;
        let texts: Vec<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
        assert_eq!(texts[..10], numbers(0..10), "{step:?}");
    }
}
