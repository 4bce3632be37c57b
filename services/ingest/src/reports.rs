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
        outbox.record_body_or_drop(Outcome::Success, body(camera, since, reason, recording));
    }
}

fn body(camera: CameraId, since: Timestamp, reason: GapReason, recording: bool) -> Body {
    Body::Camera(CameraAct {
        camera_id: camera.to_string(),
        recording,
        reason: reason.into(),
        since_unix_ns: since.unix_nanos(),
    })
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;

    use super::*;

    #[test]
    fn every_stop_and_every_start_is_an_event_that_the_log_takes() {
        let clock = SystemClock::shared();
        let reasons: Vec<_> = (1..100).filter_map(|number| GapReason::try_from(number).ok()).collect();
        assert!(reasons.len() > 3);
        for reason in reasons {
            for recording in [false, true] {
                let body = body(CameraId::generate(), clock.wall(), reason, recording);
                obscura_ocsf::validate(&obscura_outbox::event(&clock, Outcome::Success, body)).unwrap();
            }
        }
    }
}
