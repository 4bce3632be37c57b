//! Gaps: when a camera is not recorded, since when, and why.

use std::sync::Arc;

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, GapId};
use obscura_proto::footage::v1::{Gap, GapReason};
use prost::Message as _;

use crate::{
    outbox::Outbox,
    segment::record,
    spool::{Spool, record::Kind},
};

/// Keeps at most one open gap of a camera and reports every change of it.
pub struct Gaps {
    camera: CameraId,
    spool: Arc<Spool>,
    outbox: Arc<Outbox>,
    open: Option<OpenGap>,
}

#[derive(Clone, Copy)]
struct OpenGap {
    id: GapId,
    start: Timestamp,
    reason: GapReason,
}

impl Gaps {
    /// No gap is open.
    #[must_use]
    pub fn new(camera: CameraId, spool: Arc<Spool>, outbox: Arc<Outbox>) -> Self {
        Self { camera, spool, outbox, open: None }
    }

    /// The camera is not recorded since `since`, or still is not, now for this reason. A broken
    /// connection is only the symptom: the first more telling reason replaces it.
    pub fn not_recording(&mut self, since: Timestamp, reason: GapReason) {
        match self.open {
            Some(open) if open.reason == reason => return,
            Some(open) if open.reason == GapReason::ConnectionLost => {
                self.open = Some(OpenGap { reason, ..open });
            }
            Some(_) => {
                self.recording(since);
                self.begin(since, reason);
            }
            None => self.begin(since, reason),
        }
        self.report(None);
    }

    /// The camera is recorded again from `from` on.
    pub fn recording(&mut self, from: Timestamp) {
        if let Some(open) = self.open {
            self.report(Some(from.max(open.start)));
            self.open = None;
        }
    }

    /// A gap whose end is known already.
    pub fn passed(&mut self, start: Timestamp, end: Timestamp, reason: GapReason) {
        let standing = self.open.take();
        self.begin(start, reason);
        self.report(Some(end));
        self.open = standing;
    }

    fn begin(&mut self, start: Timestamp, reason: GapReason) {
        self.open = Some(OpenGap { id: GapId::generate(), start, reason });
    }

    fn report(&self, end: Option<Timestamp>) {
        let Some(open) = self.open else { return };
        let gap = Gap {
            camera_id: self.camera.to_string(),
            gap_id: open.id.to_string(),
            start_unix_ns: open.start.unix_nanos(),
            end_unix_ns: end.map_or(0, Timestamp::unix_nanos),
            reason: open.reason.into(),
        };
        let serial = self.spool.next_serial();
        match self.spool.append(&[record(Kind::Gap, serial, &gap.encode_to_vec())]) {
            Ok((extents, _)) => {
                extents.first().into_iter().for_each(|extent| self.spool.hold(serial, *extent));
            }
            Err(error) => tracing::error!(%error, "a gap could not be spooled; it is reported without"),
        }
        self.outbox.add_gap(serial, gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Limits;
    use obscura_clock::SystemClock;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_nanos(seconds * 1_000_000_000)
    }

    fn gaps(dir: &tempfile::TempDir) -> (Gaps, Arc<Outbox>) {
        let limits = Limits { bytes: 1 << 30 };
        let (spool, _) = Spool::open(dir.path().to_owned(), limits, SystemClock::shared()).unwrap();
        let outbox = Arc::new(Outbox::default());
        (Gaps::new(CameraId::generate(), spool, Arc::clone(&outbox)), outbox)
    }

    #[tokio::test]
    async fn a_broken_connection_takes_the_reason_that_explains_it_and_ends_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut gaps, outbox) = gaps(&dir);
        gaps.not_recording(at(1), GapReason::ConnectionLost);
        gaps.not_recording(at(2), GapReason::Unauthorized);
        gaps.not_recording(at(3), GapReason::Unauthorized);
        gaps.recording(at(4));
        gaps.recording(at(5));
        let reported = outbox.gaps();
        let ids: std::collections::BTreeSet<_> = reported.iter().map(|gap| gap.gap_id.clone()).collect();
        assert_eq!((reported.len(), ids.len()), (3, 1));
        let last = reported.last().unwrap();
        assert_eq!((last.start_unix_ns, last.end_unix_ns), (at(1).unix_nanos(), at(4).unix_nanos()));
        assert_eq!(last.reason(), GapReason::Unauthorized);
    }

    #[tokio::test]
    async fn another_reason_ends_one_gap_and_begins_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (mut gaps, outbox) = gaps(&dir);
        gaps.not_recording(at(1), GapReason::Unauthorized);
        gaps.not_recording(at(9), GapReason::Unreachable);
        let reported = outbox.gaps();
        assert_eq!(reported[1].end_unix_ns, at(9).unix_nanos());
        assert_eq!((reported[2].start_unix_ns, reported[2].end_unix_ns), (at(9).unix_nanos(), 0));
    }
}
