//! A small implementation of a generated service.

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use futures::{Stream, StreamExt as _, stream};
use obscura_proto::keys::v1::{
    self as messages, GetIntakeKeyRequest, GetIntakeKeyResponse, GetKeyStatusRequest, GetKeyStatusResponse,
    ImportLayerKeyRequest, ImportLayerKeyResponse, ReleaseNodesRequest, ReleaseNodesResponse,
    RotateKeyEncryptionKeyRequest, RotateKeyEncryptionKeyResponse,
    keys_service_server::{KeysService, KeysServiceServer},
};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::Peer;

pub fn router() -> Router {
    router_that_tells(Arc::default())
}

/// Tells `arrived` when a slow request is under way.
pub fn router_that_tells(arrived: Arc<Notify>) -> Router {
    tonic::service::Routes::new(KeysServiceServer::new(Keys { arrived })).into_axum_router()
}

struct Keys {
    arrived: Arc<Notify>,
}

#[tonic::async_trait]
impl KeysService for Keys {
    type RotateKeyEncryptionKeyStream =
        Pin<Box<dyn Stream<Item = Result<RotateKeyEncryptionKeyResponse, Status>> + Send>>;

    /// Says who asked.
    async fn get_intake_key(
        &self,
        request: Request<GetIntakeKeyRequest>,
    ) -> Result<Response<GetIntakeKeyResponse>, Status> {
        let Peer(id) = request.extensions().get().cloned().unwrap();
        Ok(Response::new(GetIntakeKeyResponse { zone: id.to_string(), ..Default::default() }))
    }

    async fn import_layer_key(
        &self,
        _: Request<ImportLayerKeyRequest>,
    ) -> Result<Response<ImportLayerKeyResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn release_nodes(
        &self,
        _: Request<ReleaseNodesRequest>,
    ) -> Result<Response<ReleaseNodesResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    /// Never ends.
    async fn rotate_key_encryption_key(
        &self,
        _: Request<RotateKeyEncryptionKeyRequest>,
    ) -> Result<Response<Self::RotateKeyEncryptionKeyStream>, Status> {
        let first = stream::iter([Ok(RotateKeyEncryptionKeyResponse::default())]);
        Ok(Response::new(first.chain(stream::pending()).boxed()))
    }

    /// Takes its time.
    async fn get_key_status(
        &self,
        _: Request<GetKeyStatusRequest>,
    ) -> Result<Response<GetKeyStatusResponse>, Status> {
        self.arrived.notify_one();
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Response::new(GetKeyStatusResponse { layer_keys: 7, ..Default::default() }))
    }

    async fn place_hold(
        &self,
        _: Request<messages::PlaceHoldRequest>,
    ) -> Result<Response<messages::PlaceHoldResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn list_holds(
        &self,
        _: Request<messages::ListHoldsRequest>,
    ) -> Result<Response<messages::ListHoldsResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn release_hold(
        &self,
        _: Request<messages::ReleaseHoldRequest>,
    ) -> Result<Response<messages::ReleaseHoldResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn shred(
        &self,
        _: Request<messages::ShredRequest>,
    ) -> Result<Response<messages::ShredResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn list_shred_receipts(
        &self,
        _: Request<messages::ListShredReceiptsRequest>,
    ) -> Result<Response<messages::ListShredReceiptsResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn replay_shred_receipts(
        &self,
        _: Request<messages::ReplayShredReceiptsRequest>,
    ) -> Result<Response<messages::ReplayShredReceiptsResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn resume_destruction(
        &self,
        _: Request<messages::ResumeDestructionRequest>,
    ) -> Result<Response<messages::ResumeDestructionResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn describe_keys(
        &self,
        _: Request<messages::DescribeKeysRequest>,
    ) -> Result<Response<messages::DescribeKeysResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn list_keys(
        &self,
        _: Request<messages::ListKeysRequest>,
    ) -> Result<Response<messages::ListKeysResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn create_recovery_shares(
        &self,
        _: Request<messages::CreateRecoverySharesRequest>,
    ) -> Result<Response<messages::CreateRecoverySharesResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn rehearse_recovery(
        &self,
        _: Request<messages::RehearseRecoveryRequest>,
    ) -> Result<Response<messages::RehearseRecoveryResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }
}
