//! One camera: connect, record, and when that ends, wait and connect again.

mod backoff;
mod handover;
#[cfg(test)]
mod tests;
mod track;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use obscura_clock::{SharedClock, Timestamp};
use obscura_ids::CameraId;
use obscura_proto::footage::v1::GapReason;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
pub use self::{
    handover::{Ended, Predecessor, Terms},
    track::Track,
};
use crate::{
    failure::Failure,
    frame::Release,
    gap::Gaps,
    gauge::{Gauge, State},
    outbox::Outbox,
    pressure::Pressure,
    segment::{FRAGMENT_EVERY, Parts},
    session::{Event, Session},
    source::Source,
};

/// Everything one camera needs to be recorded.
pub struct Recorder {
    /// The camera.
    pub camera: CameraId,
    /// Where its video comes from; why not, where it cannot be recorded as configured.
    pub source: Result<Source, Failure>,
    /// How its frames are released.
    pub release: Release,
    /// What its segments are made with.
    pub parts: Parts,
    /// Where its gaps go.
    pub gaps: Gaps,
    /// Where its segments go.
    pub outbox: Arc<Outbox>,
    /// What is told about it.
    pub gauge: Arc<Gauge>,
    /// Time.
    pub clock: SharedClock,
    /// How full the spool is.
    pub pressure: Arc<Pressure>,
    /// Since when the recorder was not running; `None` where it never was before.
    pub stopped_since: Option<Timestamp>,
    /// Who recorded the camera before in this run.
    pub predecessor: Option<Predecessor>,
    /// Set before `shutdown` where another recorder of the same camera takes over.
    pub handed_over: Arc<AtomicBool>,
    /// What may change from one segment to the next.
    pub terms: watch::Receiver<Terms>,
    /// Changes whenever open segments must end.
    pub cut: watch::Receiver<u64>,
    /// Ends the recorder.
    pub shutdown: CancellationToken,
}

impl Recorder {
    /// Records until told to stop, and says where it stopped. Never gives up.
    pub async fn run(mut self) -> Ended {
        let shutdown = self.shutdown.clone();
        if let Some(predecessor) = self.predecessor.take() {
            self.take_over(predecessor).await;
        }
        self.note_stop();
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            self.gauge.set_state(State::Connecting);
            let failure = match self.connect().await {
                Ok(session) => {
                    self.gauge.connected();
                    self.record(session, &mut backoff).await
                }
                Err(failure) => failure,
            };
            if shutdown.is_cancelled() {
                break;
            }
            self.note(&failure);
            let wait = backoff.next(failure.reason);
            let _ = tokio::time::timeout(wait, shutdown.cancelled()).await;
        }
        if !self.handed_over.load(Ordering::Acquire) {
            // Nobody would ever end it: the next start has gaps of its own.
            self.gaps.recording(self.clock.wall());
        }
        Ended { gaps: self.gaps, next_sequence: self.parts.next_sequence }
    }

    /// Nobody recorded since the recorder stopped.
    pub fn note_stop(&mut self) {
        if let Some(since) = self.stopped_since {
            self.gaps.not_recording(since, self.clock.wall(), GapReason::RecorderStopped);
        }
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let source = self.source.as_ref().map_err(Clone::clone)?;
        if self.release == Release::NeedsMasking {
            return Err(Failure::not_permitted(
                "the camera has a permanent mask and no masking service is configured",
                "run a masking service, or remove the permanent mask",
            ));
        }
        tokio::select! {
            session = Session::open(source, Arc::clone(&self.clock)) => session,
            () = self.shutdown.cancelled() => Err(Failure::ended()),
        }
    }

    /// Records one session and says why it ended. Every segment that was started is closed.
    async fn record(&mut self, mut session: Session, backoff: &mut Backoff) -> Failure {
        let mut track = Track::new(self.release, Arc::clone(&self.gauge), self.clock.wall());
        // Waited for across frames: registering anew with each frame would cost more than the frame.
        let shutdown = self.shutdown.clone();
        let mut cut = std::pin::pin!(next_cut(self.cut.clone()));
        let mut shutdown = std::pin::pin!(shutdown.cancelled());
        let mut due = std::pin::pin!(tokio::time::sleep(FRAGMENT_EVERY));
        loop {
            let event = tokio::select! {
                biased;
                event = session.next() => event,
                (cuts, number) = &mut cut => {
                    track.cut(self);
                    self.gauge.cut_done(number);
                    cut.set(next_cut(cuts));
                    continue;
                }
                () = &mut due => {
                    let again = track.spool_due(self);
                    due.as_mut().reset(Instant::now() + again);
                    continue;
                }
                () = &mut shutdown => Err(Failure::ended()),
            };
            match event {
                Ok(Event::Frame(frame)) => {
                    // Not before: a camera that accepts sessions and sends nothing is not asked every second.
                    backoff.reset();
                    track.take(self, frame);
                }
                Ok(Event::SenderReport(report)) => track.heard(report),
                Err(failure) => {
                    track.end(self);
                    return failure;
                }
            }
        }
    }

    fn note(&mut self, failure: &Failure) {
        let now = self.clock.wall();
        let since = self.gauge.recorded_through().unwrap_or(now);
        self.gaps.not_recording(since.min(now), now, failure.reason);
        let waiting = match failure.reason {
            GapReason::NotPermitted | GapReason::UnsupportedCodec => State::NotPermitted(failure.reason),
            reason => State::Waiting(reason),
        };
        if self.gauge.set_state(waiting) {
            tracing::warn!(camera = %self.camera, reason = failure.reason.as_str_name(), finding = failure.finding, "not recording");
        }
    }
}

/// The number of the next request to end open segments; never, once nobody can ask any more.
async fn next_cut(mut cuts: watch::Receiver<u64>) -> (watch::Receiver<u64>, u64) {
    if cuts.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    let number = *cuts.borrow_and_update();
    (cuts, number)
}
