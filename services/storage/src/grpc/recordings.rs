//! `ListRecordings`.

use obscura_clock::Span;
use obscura_ids::CameraId;
use obscura_proto::{
    audit::v1::Search,
    footage::v1 as footage,
    storage::v1::{ListRecordingsRequest, ListRecordingsResponse, Run},
};

use super::{Grpc, span};
use crate::{Error, store::CameraRun};

/// Runs, and gaps, in one answer.
const MAX_ROWS: usize = 10_000;

impl Grpc {
    pub(super) async fn recordings(
        &self,
        request: ListRecordingsRequest,
    ) -> Result<ListRecordingsResponse, Error> {
        let camera: Option<CameraId> = match request.camera_id.as_str() {
            "" => None,
            camera => Some(camera.parse()?),
        };
        let span = request.span.map(span).transpose()?;
        // One more than fits tells whether something was cut.
        let limit = MAX_ROWS as u64 + 1;
        let mut runs = self.store.runs(camera, span, limit).await?;
        let mut gaps = self.store.gaps(camera, span, limit).await?;
        let truncated = runs.len() > MAX_ROWS || gaps.len() > MAX_ROWS;
        runs.truncate(MAX_ROWS);
        // The one more is the oldest, and of any camera.
        if gaps.len() > MAX_ROWS {
            gaps = self.store.gaps(camera, span, MAX_ROWS as u64).await?;
        }
        Ok(ListRecordingsResponse {
            runs: runs.into_iter().map(Into::into).collect(),
            gaps: gaps.into_iter().map(Into::into).collect(),
            truncated,
        })
    }
}

/// What the audit log hears of the question; `results` is still open.
pub(super) fn search(request: &ListRecordingsRequest) -> Search {
    asked("recordings", &request.camera_id, request.span)
}

/// Only what makes sense: the log takes nothing else.
pub(super) fn asked(subject: &str, camera_id: &str, asked: Option<footage::Span>) -> Search {
    let camera = camera_id.parse::<CameraId>().ok();
    Search {
        subject: subject.to_owned(),
        camera_ids: camera.iter().map(ToString::to_string).collect(),
        span: asked.filter(|asked| asked.start_unix_ns >= 0 && span(*asked).is_ok()),
        ..Search::default()
    }
}

impl From<CameraRun> for Run {
    fn from(CameraRun { camera, layer, run }: CameraRun) -> Self {
        Self {
            camera_id: camera.to_string(),
            layer: layer.code().into(),
            span: Some(message(run.span)),
            segments: run.segments,
            bytes: run.bytes,
        }
    }
}

fn message(span: Span) -> footage::Span {
    footage::Span { start_unix_ns: span.start().unix_nanos(), end_unix_ns: span.end().unix_nanos() }
}
