//! The recorder's own RPCs.

use std::{sync::Arc, time::Duration};

use obscura_clock::{SharedClock, Timestamp};
use obscura_ids::{CameraId, WriterEpoch};
use obscura_proto::ingest::v1::{
    FlushRequest, FlushResponse, GetIngestStatusRequest, GetIngestStatusResponse, GetSourceKeyRequest,
    GetSourceKeyResponse, TestSourceRequest, TestSourceResponse, ingest_service_server::IngestService,
    test_source_request::Target,
};
use obscura_snapshot::Cache;
use obscura_status::{Code, Failure as Refusal};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::{
    cameras::Cameras, failure::Failure, outbox::Outbox, pressure::Pressure, probe, source::SourceKey,
    spool::Spool, upload::Uploader,
};

/// How long open segments may take to end.
const CUT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a flush may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);
/// Sources that are tested at the same time.
pub const PARALLEL_TESTS: usize = 8;

/// Answers the RPCs.
pub struct Ingest {
    /// Opens sources.
    pub source_key: Arc<SourceKey>,
    /// What is recorded.
    pub cameras: Arc<Cameras>,
    /// Where it goes.
    pub uploader: Arc<Uploader>,
    /// What waits.
    pub outbox: Arc<Outbox>,
    /// Where it waits.
    pub spool: Arc<Spool>,
    /// How full that is.
    pub pressure: Arc<Pressure>,
    /// The configuration in use.
    pub snapshots: Arc<Cache>,
    /// Time.
    pub clock: SharedClock,
    /// This run.
    pub writer_epoch: WriterEpoch,
    /// When this run started.
    pub started: Timestamp,
    /// Bounds tests of sources.
    pub tests: Semaphore,
}

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn get_source_key(
        &self,
        _: Request<GetSourceKeyRequest>,
    ) -> Result<Response<GetSourceKeyResponse>, Status> {
        let public_key = self.source_key.public().0.to_vec().into();
        Ok(Response::new(GetSourceKeyResponse { public_key }))
    }

    async fn test_source(
        &self,
        request: Request<TestSourceRequest>,
    ) -> Result<Response<TestSourceResponse>, Status> {
        let source = match request.into_inner().target {
            Some(Target::SealedSource(sealed)) => (self.source_key.open(&sealed))
                .map_err(|error| Failure::not_permitted(error.to_string(), "give an rtsp:// address")),
            Some(Target::CameraId(id)) => {
                let camera = camera_id(&id)?;
                self.cameras.source(camera).ok_or_else(|| {
                    Refusal::new(
                        Code::NotFound,
                        "the recorder does not know this camera yet; try again in a second",
                    )
                })?
            }
            None => {
                return Err(Refusal::new(Code::InvalidArgument, "name a source or a camera to test").into());
            }
        };
        let _permit = self.tests.acquire().await.map_err(Refusal::internal)?;
        Ok(Response::new(probe::test(source, Arc::clone(&self.clock)).await))
    }

    async fn get_ingest_status(
        &self,
        _: Request<GetIngestStatusRequest>,
    ) -> Result<Response<GetIngestStatusResponse>, Status> {
        let committed = *self.spool.committed().borrow();
        let cameras: Vec<_> = self.cameras.gauges().iter().map(|gauge| gauge.status(committed)).collect();
        let forecast = self.pressure.forecast();
        let first = cameras.iter().map(|camera| camera.first_acknowledged_unix_ns).filter(|at| *at > 0).min();
        Ok(Response::new(GetIngestStatusResponse {
            cameras,
            spool_bytes: self.spool.used_bytes(),
            spool_limit_bytes: self.spool.limit_bytes(),
            pending_segments: self.outbox.waiting_segments(None) as u64,
            pending_keys: self.outbox.waiting_keys() as u64,
            snapshot_version: self.snapshots.version(),
            writer_epoch: self.writer_epoch.0,
            first_acknowledged_unix_ns: first.unwrap_or(0),
            started_unix_ns: self.started.unix_nanos(),
            spool_full_in_seconds: forecast.full_in.map(|time| time.as_secs()),
            spool_alarm: forecast.alarm,
            oldest_pending_seconds: forecast.oldest.as_secs(),
            paused_camera_ids: self.cameras.paused().iter().map(ToString::to_string).collect(),
            refused_keys: self.outbox.refused_keys() as u64,
            disk_full: self.spool.disk_is_full(),
        }))
    }

    async fn flush(&self, request: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        let request = request.into_inner();
        let camera = match request.camera_id.as_str() {
            "" => None,
            id => Some(camera_id(id)?),
        };
        if request.end_open_segments {
            self.cameras.cut(CUT_PATIENCE).await;
        }
        let flushed = self.uploader.flush(camera, FLUSH_PATIENCE).await;
        if flushed.left == 0 && flushed.waiting > 0 {
            return Err(Refusal::new(
                Code::Unavailable,
                "storage or keys does not answer; what was recorded waits safely in the spool",
            )
            .into());
        }
        Ok(Response::new(FlushResponse { segments: u32::try_from(flushed.left).unwrap_or(u32::MAX) }))
    }
}

fn camera_id(text: &str) -> Result<CameraId, Refusal> {
    text.parse()
        .map_err(|error: obscura_ids::InvalidId| Refusal::new(Code::InvalidArgument, error.to_string()))
}
