//! What the audit log hears from the recorder: that a camera stopped or started to be recorded.

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use obscura_outbox::Outbox;
use obscura_proto::{
    audit::v1::{CameraAct, Outcome, event::Body},
    footage::v1::GapReason,
};

/// Tells the audit log. Never waits: recording goes on whatever becomes of the log.
#[derive(Clone, Debug)]
pub struct Reports(Option<Outbox>);

impl Reports {
    /// Tells it through this outbox.
    pub const fn to(outbox: Outbox) -> Self {
        Self(Some(outbox))
    }

    /// Tells nobody.
    #[cfg(test)]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// The camera is not recorded since then.
    pub fn stopped(&self, camera: CameraId, since: Timestamp, reason: GapReason) {
        self.act(camera, since, reason, false);
    }

    /// The camera is recorded again since then, after it was not for this reason.
    pub fn recording(&self, camera: CameraId, since: Timestamp, reason: GapReason) {
        self.act(camera, since, reason, true);
    }

    fn act(&self, camera: CameraId, since: Timestamp, reason: GapReason, recording: bool) {
        let Some(outbox) = &self.0 else { return };
        let act = CameraAct {
            camera_id: camera.to_string(),
            recording,
            reason: reason.into(),
            since_unix_ns: since.unix_nanos(),
        };
        outbox.record_body(Outcome::Success, Body::Camera(act));
    }
}
