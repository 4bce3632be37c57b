//! `obscura.storage.v1.StorageService`: validate, ask the index, translate.

mod commit;
mod describe;
mod downloads;
mod receipts;
mod reconcile;
mod recordings;
mod reindex;
mod scrub;
mod segments;
mod status;
#[cfg(test)]
mod tests;
mod uploads;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use obscura_access::AccessTrust;
use obscura_blob::{BlobKey, BlobStore};
use obscura_clock::{SharedClock, Span, Timestamp};
use obscura_identity::Peer;
use obscura_ids::Layer;
use obscura_pack::ObjectName;
use obscura_proto::{
    footage::v1 as footage,
    storage::v1::{
        CommitPackRequest, CommitPackResponse, CreateDownloadsRequest, CreateDownloadsResponse,
        CreateUploadRequest, CreateUploadResponse, DescribePacksRequest, DescribePacksResponse,
        FindSegmentsRequest, FindSegmentsResponse, GetStorageStatusRequest, GetStorageStatusResponse,
        ListKeptReceiptsRequest, ListKeptReceiptsResponse, ListRecordingsRequest, ListRecordingsResponse,
        ReconcileRequest, ReconcileResponse, RecordGapsRequest, RecordGapsResponse, ReindexRequest,
        ReindexResponse, ScrubRequest, ScrubResponse, storage_service_server::StorageService,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    Error,
    access_log::{AccessLog, behind},
    gap,
    links::Links,
    metrics::Metrics,
    placement::PlacementCheck,
    report::Reports,
    store::Store,
    upkeep::Upkeep,
};

/// How long a signed URL holds at most.
pub const URL_VALIDITY: Duration = Duration::from_secs(300);

/// What the rpcs need.
#[derive(Debug)]
pub struct Grpc {
    /// Which footage may rest here.
    pub placement: PlacementCheck,
    /// Whose grants count.
    pub access: AccessTrust,
    /// The index.
    pub store: Store,
    /// The objects.
    pub blobs: Arc<dyn BlobStore>,
    /// Makes URLs to them.
    pub links: Arc<dyn Links>,
    /// What kind of store they are in, in words.
    pub kind: &'static str,
    /// What that store does not do, and what that costs.
    pub limitations: Vec<String>,
    /// What time it is.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
    /// Tells of searches and refusals.
    pub access_log: Arc<AccessLog>,
    /// What keeps index and bucket in order.
    pub upkeep: Arc<Upkeep>,
}

impl Grpc {
    async fn record(&self, request: RecordGapsRequest) -> Result<RecordGapsResponse, Error> {
        let gaps = gap::read(request.gaps)?;
        self.upkeep.orphans().gap_journal().write(&gaps).await?;
        self.store.record_gaps(&gaps).await?;
        self.metrics.gaps.inc_by(gaps.len() as u64);
        Ok(RecordGapsResponse {})
    }
}

#[async_trait]
impl StorageService for Grpc {
    async fn create_upload(
        &self,
        request: Request<CreateUploadRequest>,
    ) -> Result<Response<CreateUploadResponse>, Status> {
        Ok(Response::new(self.upload(request.into_inner()).await?))
    }

    async fn commit_pack(
        &self,
        request: Request<CommitPackRequest>,
    ) -> Result<Response<CommitPackResponse>, Status> {
        Ok(Response::new(self.commit(request.into_inner()).await?))
    }

    async fn record_gaps(
        &self,
        request: Request<RecordGapsRequest>,
    ) -> Result<Response<RecordGapsResponse>, Status> {
        Ok(Response::new(self.record(request.into_inner()).await?))
    }

    async fn list_recordings(
        &self,
        request: Request<ListRecordingsRequest>,
    ) -> Result<Response<ListRecordingsResponse>, Status> {
        let (by, request) = (behind(&request), request.into_inner());
        let asked = recordings::search(&request);
        let found = self.recordings(request).await;
        let results = |found: &ListRecordingsResponse| found.runs.len() + found.gaps.len();
        Ok(Response::new(self.access_log.search(by, asked, found, results).await?))
    }

    async fn find_segments(
        &self,
        request: Request<FindSegmentsRequest>,
    ) -> Result<Response<FindSegmentsResponse>, Status> {
        let (by, request) = (behind(&request), request.into_inner());
        let (asked, is_first) = (segments::search(&request), request.page_token.is_empty());
        let found = self.segments(request).await;
        if found.is_ok() && !is_first {
            // Further pages are the same search.
            return Ok(Response::new(found?));
        }
        let results = |found: &FindSegmentsResponse| found.segments.len();
        Ok(Response::new(self.access_log.search(by, asked, found, results).await?))
    }

    async fn create_downloads(
        &self,
        request: Request<CreateDownloadsRequest>,
    ) -> Result<Response<CreateDownloadsResponse>, Status> {
        let (by, caller) = (behind(&request), request.extensions().get().cloned());
        let request = request.into_inner();
        let answer = match &caller {
            Some(Peer(caller)) => self.downloads(caller, &request).await,
            None => Err(Error::NoPeer),
        };
        let refused = |error| {
            self.access_log.refused(by, downloads::refusal(&request, &error));
            error
        };
        Ok(Response::new(answer.map_err(refused)?))
    }

    async fn get_storage_status(
        &self,
        _: Request<GetStorageStatusRequest>,
    ) -> Result<Response<GetStorageStatusResponse>, Status> {
        Ok(Response::new(self.status().await?))
    }

    type ReconcileStream = Reports<ReconcileResponse>;

    async fn reconcile(
        &self,
        request: Request<ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        Ok(Response::new(self.reconciled(request.into_inner())?))
    }

    type ScrubStream = Reports<ScrubResponse>;

    async fn scrub(&self, request: Request<ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        Ok(Response::new(self.scrubbed(request.get_ref())?))
    }

    async fn describe_packs(
        &self,
        request: Request<DescribePacksRequest>,
    ) -> Result<Response<DescribePacksResponse>, Status> {
        Ok(Response::new(self.described(request.get_ref()).await?))
    }

    async fn list_kept_receipts(
        &self,
        request: Request<ListKeptReceiptsRequest>,
    ) -> Result<Response<ListKeptReceiptsResponse>, Status> {
        Ok(Response::new(self.kept_receipts(request.get_ref()).await?))
    }

    type ReindexStream = Reports<ReindexResponse>;

    async fn reindex(&self, _: Request<ReindexRequest>) -> Result<Response<Self::ReindexStream>, Status> {
        Ok(Response::new(self.reindexed()?))
    }
}

fn layer(code: i32) -> Result<Layer, Error> {
    let layer = u8::try_from(code).ok().and_then(Layer::from_code);
    layer.ok_or_else(|| Error::invalid("layer", "it is not one that is known here"))
}

fn span(span: footage::Span) -> Result<Span, Error> {
    let (start, end) =
        (Timestamp::from_unix_nanos(span.start_unix_ns), Timestamp::from_unix_nanos(span.end_unix_ns));
    Span::try_new(start, end).ok_or_else(|| Error::invalid("span", "it ends before it starts"))
}

/// An object key as a key of the store and as what its name says.
fn pack_key(text: &str) -> Result<(BlobKey, ObjectName), Error> {
    let name = obscura_pack::parse_object_key(text)
        .map_err(|error| Error::invalid("object key", error.to_string()))?;
    Ok((text.parse()?, name))
}
