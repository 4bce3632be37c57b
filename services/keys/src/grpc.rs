//! The gRPC face: validates, calls, translates.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use obscura_identity::{Peer, SpiffeId};
use obscura_outbox::actor;
use obscura_proto::audit::v1::Person;
use obscura_proto::keys::v1::{
    CreateRecoverySharesRequest, CreateRecoverySharesResponse, DescribeKeysRequest, DescribeKeysResponse,
    GetIntakeKeyRequest, GetIntakeKeyResponse, GetKeyStatusRequest, GetKeyStatusResponse,
    ImportLayerKeyRequest, ImportLayerKeyResponse, ListHoldsRequest, ListHoldsResponse, ListKeysRequest,
    ListKeysResponse, ListShredReceiptsRequest, ListShredReceiptsResponse, PlaceHoldRequest,
    PlaceHoldResponse, RehearseRecoveryRequest, RehearseRecoveryResponse, ReleaseHoldRequest,
    ReleaseHoldResponse, ReleaseNodesRequest, ReleaseNodesResponse, ReplayShredReceiptsRequest,
    ReplayShredReceiptsResponse, ResumeDestructionRequest, ResumeDestructionResponse,
    RotateKeyEncryptionKeyRequest, RotateKeyEncryptionKeyResponse, ShredRequest, ShredResponse,
    keys_service_server::KeysService,
};
use obscura_status::{Code, Failure};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::{
    custody::Custody,
    error::Error,
    metrics::KeyMetrics,
    rotation::{Progress, Rotation},
};

/// Progress messages that may wait for a slow caller; more are dropped, the last one never.
const PROGRESS_QUEUE: usize = 16;

type ProgressStream = Pin<Box<dyn Stream<Item = Result<RotateKeyEncryptionKeyResponse, Status>> + Send>>;

/// Answers for one zone's custody.
pub struct KeysGrpc {
    custody: Arc<Custody>,
    metrics: KeyMetrics,
    rewrap_batch: u32,
}

impl KeysGrpc {
    /// The service in front of `custody`.
    pub const fn new(custody: Arc<Custody>, metrics: KeyMetrics, rewrap_batch: u32) -> Self {
        Self { custody, metrics, rewrap_batch }
    }

    /// Does what must not stop half way when the caller hangs up.
    async fn act<T: Send + 'static, F>(&self, act: impl FnOnce(Arc<Custody>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = tokio::spawn(act(Arc::clone(&self.custody))).await;
        done.map_err(Failure::internal)?.map_err(status)
    }
}

#[tonic::async_trait]
impl KeysService for KeysGrpc {
    type RotateKeyEncryptionKeyStream = ProgressStream;

    async fn get_intake_key(
        &self,
        _request: Request<GetIntakeKeyRequest>,
    ) -> Result<Response<GetIntakeKeyResponse>, Status> {
        let zone = self.custody.parts.zone.to_string();
        let public_key = self.custody.intake.public().0.to_vec().into();
        Ok(Response::new(GetIntakeKeyResponse { zone, public_key }))
    }

    async fn import_layer_key(
        &self,
        request: Request<ImportLayerKeyRequest>,
    ) -> Result<Response<ImportLayerKeyResponse>, Status> {
        let request = request.into_inner();
        self.act(|custody| async move { custody.import(&request).await }).await?;
        self.metrics.imported();
        Ok(Response::new(ImportLayerKeyResponse {}))
    }

    async fn release_nodes(
        &self,
        request: Request<ReleaseNodesRequest>,
    ) -> Result<Response<ReleaseNodesResponse>, Status> {
        let by = actor(request.metadata());
        self.custody.wait_until_confirmed().await;
        let released = self.custody.release(&caller(&request)?, request.get_ref(), by).await;
        let keys = released.map_err(|error| {
            self.metrics.refused();
            status(error)
        })?;
        self.metrics.released(keys.len());
        Ok(Response::new(ReleaseNodesResponse { keys }))
    }

    async fn rotate_key_encryption_key(
        &self,
        request: Request<RotateKeyEncryptionKeyRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let by = actor(request.metadata());
        let (sender, receiver) = mpsc::channel(PROGRESS_QUEUE);
        let (custody, metrics, batch) = (self.custody.clone(), self.metrics.clone(), self.rewrap_batch);
        // On its own, so that it goes on when the caller does not wait for the end.
        tokio::spawn(async move {
            let last = rotate(&custody, batch, by, &metrics, &sender).await;
            // A caller that went away needs no answer.
            let _ = sender.send(last.map(message).map_err(status)).await;
        });
        let next = |mut receiver: mpsc::Receiver<_>| async move { Some((receiver.recv().await?, receiver)) };
        Ok(Response::new(Box::pin(stream::unfold(receiver, next))))
    }

    async fn get_key_status(
        &self,
        _request: Request<GetKeyStatusRequest>,
    ) -> Result<Response<GetKeyStatusResponse>, Status> {
        let parts = &self.custody.parts;
        let version = parts.encryption.current().await.map_err(|error| status(error.into()))?;
        let counts = parts.store.counts().await.map_err(|error| status(error.into()))?;
        Ok(Response::new(GetKeyStatusResponse {
            key_encryption_key_version: version.0,
            layer_keys: counts.layer_keys,
            epoch_keys: counts.epoch_keys,
            holds: counts.holds,
            shred_receipts: counts.shred_receipts,
            destruction_stopped: self.custody.stopped().unwrap_or_default(),
            receipt_public_key: self.custody.receipt_key.public_key().into(),
            reviews_passed: self.custody.reviews_passed().await.map_err(status)?,
            releases_stopped: self.custody.check_current().err().map(|e| e.to_string()).unwrap_or_default(),
        }))
    }

    async fn place_hold(
        &self,
        request: Request<PlaceHoldRequest>,
    ) -> Result<Response<PlaceHoldResponse>, Status> {
        let by = person_or_program(&request)?;
        let hold = request.into_inner().hold.unwrap_or_default();
        let placed = self.custody.place_hold(&hold, by).await.map_err(status)?;
        let (keys, slots, lost_slots) = (placed.keys, placed.slots, placed.lost_slots);
        Ok(Response::new(PlaceHoldResponse { hold: Some(placed.hold.into()), keys, slots, lost_slots }))
    }

    async fn list_holds(
        &self,
        request: Request<ListHoldsRequest>,
    ) -> Result<Response<ListHoldsResponse>, Status> {
        let ListHoldsRequest { camera_id, include_released } = request.into_inner();
        let holds = self.custody.list_holds(&camera_id, include_released).await.map_err(status)?;
        let (standing, most) = self.custody.hold_quota().await.map_err(status)?;
        let holds = holds.into_iter().map(Into::into).collect();
        Ok(Response::new(ListHoldsResponse { holds, standing, most }))
    }

    async fn release_hold(
        &self,
        request: Request<ReleaseHoldRequest>,
    ) -> Result<Response<ReleaseHoldResponse>, Status> {
        let by = person_or_program(&request)?;
        let hold_id = request.into_inner().hold_id;
        self.custody.wait_until_confirmed().await;
        let hold = self.act(|custody| async move { custody.release_hold(&hold_id, by).await }).await?;
        Ok(Response::new(ReleaseHoldResponse { hold: Some(hold) }))
    }

    async fn shred(&self, request: Request<ShredRequest>) -> Result<Response<ShredResponse>, Status> {
        let request = request.into_inner();
        self.custody.wait_until_confirmed().await;
        let receipt = self.act(|custody| async move { custody.shred(&request).await }).await?;
        Ok(Response::new(ShredResponse { receipt: Some(receipt) }))
    }

    async fn list_shred_receipts(
        &self,
        request: Request<ListShredReceiptsRequest>,
    ) -> Result<Response<ListShredReceiptsResponse>, Status> {
        let receipts = self.custody.list_receipts(request.get_ref().after_number).await.map_err(status)?;
        // It asks with the newest one that it has; others ask with whatever they like.
        if caller(&request).is_ok_and(|caller| caller.service() == "storage") {
            self.act(|custody| async move {
                custody.storage_compared().await;
                Ok(())
            })
            .await?;
        }
        Ok(Response::new(ListShredReceiptsResponse { receipts }))
    }

    async fn replay_shred_receipts(
        &self,
        request: Request<ReplayShredReceiptsRequest>,
    ) -> Result<Response<ReplayShredReceiptsResponse>, Status> {
        let receipts = request.into_inner().receipts;
        let destroyed_again = self.act(|custody| async move { custody.replay(&receipts).await }).await?;
        Ok(Response::new(ReplayShredReceiptsResponse { destroyed_again }))
    }

    async fn resume_destruction(
        &self,
        request: Request<ResumeDestructionRequest>,
    ) -> Result<Response<ResumeDestructionResponse>, Status> {
        let by = actor(request.metadata());
        let confirmed_by = request.into_inner().confirmed_by;
        let resumed =
            self.act(|custody| async move { custody.resume_destruction(&confirmed_by, by).await }).await;
        self.metrics.expired(resumed.as_ref().ok().map(|(_, destroyed)| *destroyed));
        let (was_stopped, destroyed) = resumed?;
        Ok(Response::new(ResumeDestructionResponse { was_stopped, destroyed_keys: destroyed.layer_keys }))
    }

    async fn describe_keys(
        &self,
        request: Request<DescribeKeysRequest>,
    ) -> Result<Response<DescribeKeysResponse>, Status> {
        let keys = self.custody.describe(&request.get_ref().key_ids).await.map_err(status)?;
        Ok(Response::new(DescribeKeysResponse { keys }))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let key_ids = self.custody.list_keys(&request.get_ref().after_key_id).await.map_err(status)?;
        Ok(Response::new(ListKeysResponse { key_ids }))
    }

    async fn create_recovery_shares(
        &self,
        request: Request<CreateRecoverySharesRequest>,
    ) -> Result<Response<CreateRecoverySharesResponse>, Status> {
        let by = actor(request.metadata());
        let CreateRecoverySharesRequest { shares, threshold } = request.into_inner();
        let shares = self.custody.recovery_shares(threshold, shares, by).await.map_err(status)?;
        Ok(Response::new(CreateRecoverySharesResponse { shares }))
    }

    async fn rehearse_recovery(
        &self,
        request: Request<RehearseRecoveryRequest>,
    ) -> Result<Response<RehearseRecoveryResponse>, Status> {
        let by = actor(request.metadata());
        let shares = Zeroizing::new(request.into_inner().shares);
        let version = self.custody.rehearse_recovery(&shares, by).await.map_err(status)?;
        Ok(Response::new(RehearseRecoveryResponse { version }))
    }
}

async fn rotate(
    custody: &Custody,
    batch: u32,
    by: Option<Person>,
    metrics: &KeyMetrics,
    sender: &mpsc::Sender<Result<RotateKeyEncryptionKeyResponse, Status>>,
) -> Result<Progress, Error> {
    let mut rotation = Rotation::begin(custody, batch, by).await?;
    let last = rotation
        .run(|progress| {
            metrics.rotating(progress);
            // A full queue loses an intermediate report, not the rotation.
            let _ = sender.try_send(Ok(message(progress)));
        })
        .await?;
    metrics.rotating(last);
    tracing::info!(version = last.version.0, rows = last.total, "rotated the key-encryption key");
    Ok(last)
}

const fn message(progress: Progress) -> RotateKeyEncryptionKeyResponse {
    RotateKeyEncryptionKeyResponse {
        version: progress.version.0,
        rewrapped: progress.rewrapped,
        total: progress.total,
    }
}

/// The service that calls, as the mTLS layer saw it.
fn caller<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    let peer = request.extensions().get::<Peer>();
    let unknown = || Failure::new(Code::Unauthenticated, "nobody vouches for the caller: connect with mTLS");
    peer.map(|Peer(id)| id.clone()).ok_or_else(|| unknown().into())
}

/// Who acts: the person behind the call, or the program where it names none.
fn person_or_program<T>(request: &Request<T>) -> Result<Person, Status> {
    let program = Person { id: caller(request)?.to_string(), ..Person::default() };
    Ok(actor(request.metadata()).unwrap_or(program))
}

fn status(error: Error) -> Status {
    Failure::from(error).into()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;
    use crate::test_support::{Bench, HOUR, caller as cli, node_set};

    async fn service(bench: &Bench) -> KeysGrpc {
        KeysGrpc::new(Arc::new(bench.open().await), KeyMetrics::new(), 2)
    }

    fn from_cli<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(Peer(cli()));
        request
    }

    #[tokio::test]
    async fn a_recorder_imports_and_a_reader_with_a_grant_gets_the_nodes() {
        let bench = Bench::new();
        let service = service(&bench).await;
        let intake = service.get_intake_key(Request::new(GetIntakeKeyRequest {})).await.unwrap().into_inner();
        assert_eq!(intake.zone, "eea");
        let public = obscura_seal::RecipientPublicKey(intake.public_key[..].try_into().unwrap());
        let key = bench.made_key(HOUR);
        let import = bench.import_wrapped_to(public, &key);
        service.import_layer_key(Request::new(import)).await.unwrap();

        let release = bench.release_of(&[&key], bench.hour_of(&key));
        let response = service.release_nodes(from_cli(release)).await.unwrap().into_inner();
        let slot = obscura_seal::Slot::new(1_234).unwrap();
        let leaf = node_set(&response.keys[0]).leaf(slot).unwrap();
        assert_eq!(leaf.expose(), key.key.leaf(slot).expose());
        let kept = service.get_key_status(Request::new(GetKeyStatusRequest {})).await.unwrap().into_inner();
        assert_eq!((kept.layer_keys, kept.epoch_keys, kept.key_encryption_key_version), (1, 1, 1));
    }

    #[tokio::test]
    async fn a_request_that_nobody_vouches_for_gets_nothing() {
        let bench = Bench::new();
        let service = service(&bench).await;
        let refused = service.release_nodes(Request::new(ReleaseNodesRequest::default())).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        let refused = service.release_nodes(from_cli(ReleaseNodesRequest::default())).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }

    #[tokio::test]
    async fn only_storage_says_that_receipts_were_compared() {
        let bench = Bench::new();
        let custody = bench.open_alone().await;
        custody.log_compared().await;
        let service = KeysGrpc::new(Arc::new(custody), KeyMetrics::new(), 2);
        for (peer, waits) in [("cli", true), ("ingest", true), ("storage", false)] {
            let id = format!("spiffe://example.org/obscura/{peer}").parse().unwrap();
            let mut request = Request::new(ListShredReceiptsRequest { after_number: 0 });
            request.extensions_mut().insert(Peer(id));
            service.list_shred_receipts(request).await.unwrap();
            let status = service.get_key_status(Request::new(GetKeyStatusRequest {})).await.unwrap();
            let why = status.into_inner().releases_stopped;
            assert_eq!(why.contains("storage"), waits, "{peer}: {why}");
        }
    }

    #[tokio::test]
    async fn storage_that_has_seen_more_confirms_nothing() {
        let bench = Bench::new();
        let custody = bench.open_alone().await;
        custody.log_compared().await;
        let service = KeysGrpc::new(Arc::new(custody), KeyMetrics::new(), 2);
        let mut request = Request::new(ListShredReceiptsRequest { after_number: 1 });
        request.extensions_mut().insert(Peer("spiffe://example.org/obscura/storage".parse().unwrap()));
        assert_eq!(
            service.list_shred_receipts(request).await.unwrap_err().code(),
            tonic::Code::FailedPrecondition
        );
        let refused = service.custody.check_current().unwrap_err();
        assert!(matches!(refused, Error::Behind { have: 0, need: 1 }), "{refused}");
    }

    #[tokio::test]
    async fn a_rotation_reports_its_progress_and_its_end() {
        let bench = Bench::new();
        let service = service(&bench).await;
        for day in 0..5 {
            let import = bench.import_of(&service.custody, &bench.made_key(HOUR + 24 * day));
            service.import_layer_key(Request::new(import)).await.unwrap();
        }
        let request = Request::new(RotateKeyEncryptionKeyRequest {});
        let reports = service.rotate_key_encryption_key(request).await.unwrap().into_inner();
        let reports: Vec<_> = reports.map(|report| report.unwrap().rewrapped).collect().await;
        assert_eq!(reports, [4, 6, 7, 7]);
    }

    #[tokio::test]
    async fn a_rotation_goes_on_when_the_caller_hangs_up() {
        let bench = Bench::new();
        let service = service(&bench).await;
        let request = Request::new(RotateKeyEncryptionKeyRequest {});
        drop(service.rotate_key_encryption_key(request).await.unwrap());
        for _ in 0..6_000 {
            if service.custody.parts.encryption.versions().await.unwrap()
                == [crate::key_encryption::KeyVersion(2)]
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the rotation stopped");
    }
}
