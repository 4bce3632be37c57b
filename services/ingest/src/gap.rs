//! Gaps: when a camera is not recorded, since when, and why.

use std::{sync::Arc, time::Duration};

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, GapId, WriterEpoch};
use obscura_proto::footage::v1::{Gap, GapReason};
use prost::Message as _;

use crate::{
    outbox::Outbox,
    reports::Reports,
    segment::record,
    spool::{Spool, record::Kind},
};

/// Keeps at most one open gap of a camera and reports every change of it.
pub struct Gaps {
    camera: CameraId,
    writer_epoch: WriterEpoch,
    spool: Arc<Spool>,
    outbox: Arc<Outbox>,
    reports: Reports,
    open: Option<OpenGap>,
    /// The newest span of lost packets, and whether its end was reported.
    loss: Option<(OpenGap, Timestamp, bool)>,
}

/// Losses that follow each other this closely are one gap: a bad network is not thousands of events.
const SAME_LOSS: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
struct OpenGap {
    id: GapId,
    start: Timestamp,
    reason: GapReason,
}

impl Gaps {
    /// No gap is open.
    #[must_use]
    pub fn new(
        camera: CameraId,
        writer_epoch: WriterEpoch,
        spool: Arc<Spool>,
        outbox: Arc<Outbox>,
        reports: Reports,
    ) -> Self {
        Self { camera, writer_epoch, spool, outbox, reports, open: None, loss: None }
    }

    /// The camera is not recorded since `since`, or `now` still is not, for this reason. A broken
    /// connection is only the symptom: the first more telling reason replaces it.
    pub fn not_recording(&mut self, since: Timestamp, now: Timestamp, reason: GapReason) {
        match self.open {
            Some(open) if open.reason == reason => return,
            Some(open) if open.reason == GapReason::ConnectionLost => {
                self.open = Some(OpenGap { reason, ..open });
            }
            Some(_) => {
                self.recording(now);
                self.begin(now, reason);
            }
            None => self.begin(since, reason),
        }
        self.report_open(None);
    }

    /// The camera is recorded again from `from` on.
    pub fn recording(&mut self, from: Timestamp) {
        if let Some(open) = self.open {
            self.report_open(Some(from.max(open.start)));
            self.reports.recording(self.camera, from.max(open.start), open.reason);
            self.open = None;
        }
    }

    /// A gap whose end is known already.
    pub fn passed(&self, start: Timestamp, end: Timestamp, reason: GapReason) {
        self.report(OpenGap { id: GapId::generate(), start, reason }, Some(end));
    }

    /// Packets were lost between these moments.
    pub fn lost(&mut self, start: Timestamp, end: Timestamp) {
        match &mut self.loss {
            Some((_, until, reported)) if start <= *until + SAME_LOSS => {
                *reported &= *until >= end;
                *until = end.max(*until);
            }
            _ => {
                self.loss_is_over();
                let gap = OpenGap { id: GapId::generate(), start, reason: GapReason::PacketLoss };
                self.report(gap, Some(end));
                self.loss = Some((gap, end, true));
            }
        }
    }

    /// Reports how far the newest loss reached, where that is not known yet.
    pub fn loss_is_over(&mut self) {
        if let Some((gap, until, reported @ false)) = &mut self.loss {
            *reported = true;
            let (gap, until) = (*gap, *until);
            self.report(gap, Some(until));
        }
    }

    fn begin(&mut self, start: Timestamp, reason: GapReason) {
        self.open = Some(OpenGap { id: GapId::generate(), start, reason });
        self.reports.stopped(self.camera, start, reason);
    }

    fn report_open(&self, end: Option<Timestamp>) {
        if let Some(open) = self.open {
            self.report(open, end);
        }
    }

    fn report(&self, open: OpenGap, end: Option<Timestamp>) {
        let gap = Gap {
            camera_id: self.camera.to_string(),
            gap_id: open.id.to_string(),
            start_unix_ns: open.start.unix_nanos(),
            end_unix_ns: end.map_or(0, Timestamp::unix_nanos),
            reason: open.reason.into(),
            writer_epoch: self.writer_epoch.0,
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
        let limits = Limits::of_bytes(1 << 30);
        let (spool, _) = Spool::open(dir.path().to_owned(), limits, SystemClock::shared()).unwrap();
        let outbox = Arc::new(Outbox::default());
        (
            Gaps::new(CameraId::generate(), WriterEpoch(7), spool, Arc::clone(&outbox), Reports::nobody()),
            outbox,
        )
    }

    #[tokio::test]
    async fn a_broken_connection_takes_the_reason_that_explains_it_and_ends_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut gaps, outbox) = gaps(&dir);
        gaps.not_recording(at(1), at(1), GapReason::ConnectionLost);
        gaps.not_recording(at(1), at(2), GapReason::Unauthorized);
        gaps.not_recording(at(1), at(3), GapReason::Unauthorized);
        gaps.recording(at(4));
        gaps.recording(at(5));
        let reported = outbox.gaps();
        let ids: std::collections::BTreeSet<_> = reported.iter().map(|gap| gap.gap_id.clone()).collect();
        assert_eq!((reported.len(), ids.len()), (3, 1));
        let last = reported.last().unwrap();
        assert_eq!((last.start_unix_ns, last.end_unix_ns), (at(1).unix_nanos(), at(4).unix_nanos()));
        assert_eq!(last.reason(), GapReason::Unauthorized);
        assert!(reported.iter().all(|gap| gap.writer_epoch == 7), "{reported:?}");
    }

    #[tokio::test]
    async fn another_reason_ends_one_gap_and_begins_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (mut gaps, outbox) = gaps(&dir);
        gaps.not_recording(at(1), at(1), GapReason::Unauthorized);
        gaps.not_recording(at(1), at(9), GapReason::Unreachable);
        let reported = outbox.gaps();
        assert_eq!(reported[1].end_unix_ns, at(9).unix_nanos());
        assert_eq!((reported[2].start_unix_ns, reported[2].end_unix_ns), (at(9).unix_nanos(), 0));
    }

    #[tokio::test]
    async fn losses_that_follow_each_other_closely_are_one_gap() {
        let dir = tempfile::tempdir().unwrap();
        let (mut gaps, outbox) = gaps(&dir);
        for second in 1..30 {
            gaps.lost(at(second), at(second + 1));
        }
        gaps.loss_is_over();
        gaps.loss_is_over();
        let reported = outbox.gaps();
        assert_eq!(reported.len(), 2);
        assert_eq!(
            (reported[1].start_unix_ns, reported[1].end_unix_ns),
            (at(1).unix_nanos(), at(30).unix_nanos())
        );
    }
}
