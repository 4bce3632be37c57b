//! An audit log in memory, over mTLS, which outlives the key service: what it takes, it can read out again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::stream::{self, BoxStream, Empty};
use obscura_identity::Identity;
use obscura_proto::audit::v1::{
    AppendRequest, AppendResponse, ErasePersonRequest, ErasePersonResponse, ExportLogRequest,
    ExportLogResponse, GetAuditStatusRequest, GetAuditStatusResponse, GetCheckpointRequest,
    GetCheckpointResponse, ProveRequest, ProveResponse, ReadEntriesRequest, ReadEntriesResponse,
    ReplayFeedRequest, ReplayFeedResponse, ReportRequest, ReportResponse, SendTestEventRequest,
    SendTestEventResponse,
    audit_service_server::{AuditService, AuditServiceServer},
    event::Body,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// Counters by outbox, and the receipts of destruction that were told.
#[derive(Default)]
struct Taken {
    through: BTreeMap<String, u64>,
    receipts: Vec<Vec<u8>>,
}

/// The log; clones are the same one.
#[derive(Clone, Default)]
pub struct FakeLog(Arc<Mutex<Taken>>);

impl FakeLog {
    /// Serves as `audit` until the test ends; returns where.
    pub async fn serve(&self, identity: &Path) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let identity = Identity::load(identity).unwrap();
        let router = tonic::service::Routes::new(AuditServiceServer::new(self.clone())).into_axum_router();
        tokio::spawn(obscura_identity::serve(listener, identity, router, &[], std::future::pending()));
        address
    }

    /// How many destructions were told.
    pub fn destructions(&self) -> usize {
        self.0.lock().unwrap().receipts.len()
    }
}

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("custody does not ask for this"))
}

#[tonic::async_trait]
impl AuditService for FakeLog {
    type ReadEntriesStream = BoxStream<'static, Result<ReadEntriesResponse, Status>>;
    type ExportLogStream = Empty<Result<ExportLogResponse, Status>>;

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let ReportRequest { outbox_id, events } = request.into_inner();
        let mut taken = self.0.lock().unwrap();
        let mut through_counter = taken.through.get(&outbox_id).copied().unwrap_or_default();
        let known = through_counter;
        for counted in events.into_iter().filter(|counted| counted.counter > known) {
            through_counter = counted.counter;
            if let Some(Body::Destruction(told)) = counted.event.and_then(|event| event.body) {
                taken.receipts.push(told.receipt.to_vec());
            }
        }
        taken.through.insert(outbox_id, through_counter);
        Ok(Response::new(ReportResponse { through_counter }))
    }

    async fn read_entries(
        &self,
        request: Request<ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        assert_eq!(request.into_inner().kinds, ["destruction"]);
        let receipts = self.0.lock().unwrap().receipts.clone();
        let entries = receipts.into_iter().map(|receipt| {
            let leaf = format!(
                r#"{{"source":"spiffe://example.org/obscura/keys","data":{{"unmapped":{{"receipt":"{}"}}}}}}"#,
                STANDARD.encode(receipt)
            );
            Ok(ReadEntriesResponse { leaf: leaf.into(), ..ReadEntriesResponse::default() })
        });
        Ok(Response::new(Box::pin(stream::iter(entries))))
    }

    async fn append(&self, _: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        not_asked()
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
