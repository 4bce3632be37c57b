//! A real gRPC server that behaves badly.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use obscura_access::receipt_message;
use obscura_proto::{
    access::v1::{Receipt, SignedReceipt},
    audit::v1::{
        AppendRequest, AppendResponse, ErasePersonRequest, ErasePersonResponse, Event, ExportLogRequest,
        ExportLogResponse, GetAuditStatusRequest, GetAuditStatusResponse, GetCheckpointRequest,
        GetCheckpointResponse, ProveRequest, ProveResponse, ReadEntriesRequest, ReadEntriesResponse,
        ReplayFeedRequest, ReplayFeedResponse, ReportRequest, ReportResponse, SendTestEventRequest,
        SendTestEventResponse,
        audit_service_server::{AuditService, AuditServiceServer},
        event::Body,
    },
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    codegen::tokio_stream::Empty,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::AuditLog;

/// What the log does wrong, as often as the number says.
#[derive(Debug, Default)]
pub struct Faults {
    pub unavailable: AtomicU32,
    /// Stores everything and loses the answer.
    pub silent: AtomicU32,
    /// Stores only the first half.
    pub half: AtomicU32,
    /// Signs with another key.
    pub forged: AtomicU32,
    /// About something else.
    pub confused: AtomicU32,
    pub no_receipt: AtomicU32,
}

pub fn strikes(fault: &AtomicU32) -> bool {
    fault.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[derive(Debug, Default)]
pub struct Stored {
    pub through: HashMap<String, u64>,
    /// By outbox and counter.
    pub events: BTreeMap<(String, u64), Event>,
    pub ids: HashSet<String>,
    pub batches: Vec<usize>,
    pub asked: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub faults: Arc<Faults>,
    pub stored: Arc<Mutex<Stored>>,
}

pub fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub fn trust() -> [u8; 32] {
    key(1).public_key().as_ref().try_into().unwrap()
}

/// Events with this text are refused.
pub const BAD: &str = "bad";

pub fn text(event: &Event) -> &str {
    match &event.body {
        Some(Body::Test(test)) => &test.text,
        _ => "",
    }
}

impl Log {
    pub fn texts(&self) -> Vec<String> {
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
pub fn not_asked<T>() -> Result<Response<T>, Status> {
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

pub struct Running {
    pub address: SocketAddr,
    pub serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub async fn serve(log: &Log, address: SocketAddr) -> Running {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(AuditServiceServer::new(log.clone()));
    let serving =
        tokio::spawn(async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
    Running { address, serving }
}

pub fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub fn client(running: &Running) -> AuditLog {
    AuditLog::new(channel(running.address), trust())
}
