//! What is told about a camera: shared between its recorder and who asks.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use obscura_pack::Entry;
use obscura_proto::{
    footage::v1::GapReason,
    ingest::v1::{CameraState, CameraStatus},
};

use crate::spool::Position;

/// What a recorder is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Opening a session.
    Connecting,
    /// Frames arrive and are sealed.
    Recording,
    /// Waiting to try again, for this reason.
    Waiting(GapReason),
    /// May not or cannot be recorded as configured.
    NotPermitted(GapReason),
}

/// Counters and state of one camera.
#[derive(Debug)]
pub struct Gauge {
    camera: CameraId,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    plaintext: bool,
    state: State,
    /// The last reason that was told, so that it is logged once and not with every attempt.
    told: Option<State>,
    segments: u64,
    bytes: u64,
    frames: u64,
    packets_lost: u64,
    connections: u64,
    cut: u64,
    recorded_through: Option<Timestamp>,
    /// Appended to the spool, not yet known to be durable.
    waiting: VecDeque<(Position, Timestamp)>,
    durable_through: Option<Timestamp>,
    first_durable: Option<Timestamp>,
}

impl Gauge {
    /// A camera that was not recorded yet.
    #[must_use]
    pub fn new(camera: CameraId, plaintext: bool) -> Self {
        let inner = Inner {
            plaintext,
            state: State::Connecting,
            told: None,
            segments: 0,
            bytes: 0,
            frames: 0,
            packets_lost: 0,
            connections: 0,
            cut: 0,
            recorded_through: None,
            waiting: VecDeque::new(),
            durable_through: None,
            first_durable: None,
        };
        Self { camera, inner: Mutex::new(inner) }
    }

    /// The camera has another source from here on.
    pub fn set_plaintext(&self, plaintext: bool) {
        self.lock().plaintext = plaintext;
    }

    /// Whether it is not recorded because the spool is full.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().state == State::Waiting(GapReason::SpoolFull)
    }

    /// Sets the state; true where it is news worth a line in the log.
    pub fn set_state(&self, state: State) -> bool {
        let mut inner = self.lock();
        inner.state = state;
        let news = state != State::Connecting && inner.told != Some(state);
        if news {
            inner.told = Some(state);
        }
        news
    }

    /// A session was opened.
    pub fn connected(&self) {
        self.lock().connections += 1;
    }

    /// A frame arrived, and so many packets before it did not.
    pub fn received(&self, lost_packets: u16) {
        let mut inner = self.lock();
        inner.frames += 1;
        inner.packets_lost += u64::from(lost_packets);
    }

    /// Frames up to `through` are durable once the spool has committed `position`.
    pub fn spooled(&self, position: Position, through: Timestamp) {
        let mut inner = self.lock();
        inner.recorded_through = inner.recorded_through.max(Some(through));
        if inner.waiting.len() >= 64 {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back((position, through));
    }

    /// The clock was set: what was recorded so far no longer tells where to go on. Returns it.
    pub fn rebase(&self, now: Timestamp) -> Option<Timestamp> {
        let mut inner = self.lock();
        inner.waiting.clear();
        inner.durable_through = None;
        inner.recorded_through.replace(now)
    }

    /// A segment was sealed.
    pub fn sealed(&self, entry: &Entry) {
        let mut inner = self.lock();
        inner.segments += 1;
        inner.bytes += entry.length;
    }

    /// Open segments ended at the request with this number.
    pub fn cut_done(&self, number: u64) {
        self.lock().cut = number;
    }

    /// The last such request that was followed.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.lock().cut
    }

    /// Whether a session is being recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.lock().state == State::Recording
    }

    /// Wall time up to which frames are in the spool, durable or not.
    #[must_use]
    pub fn recorded_through(&self) -> Option<Timestamp> {
        self.lock().recorded_through
    }

    /// What is told, given what the spool has committed.
    #[must_use]
    pub fn status(&self, committed: Position) -> CameraStatus {
        let mut inner = self.lock();
        while let Some((position, through)) =
            inner.waiting.front().copied().filter(|(at, _)| *at <= committed)
        {
            debug_assert!(position <= committed);
            inner.durable_through = inner.durable_through.max(Some(through));
            inner.first_durable = inner.first_durable.or(Some(through));
            inner.waiting.pop_front();
        }
        let (state, reason) = match inner.state {
            State::Connecting => (CameraState::Connecting, told_reason(inner.told)),
            State::Recording => (CameraState::Recording, GapReason::Unspecified),
            State::Waiting(reason) => (CameraState::Waiting, reason),
            State::NotPermitted(reason) => (CameraState::NotPermitted, reason),
        };
        CameraStatus {
            camera_id: self.camera.to_string(),
            state: state.into(),
            reason: reason.into(),
            acknowledged_through_unix_ns: inner.durable_through.map_or(0, Timestamp::unix_nanos),
            segments: inner.segments,
            bytes: inner.bytes,
            frames: inner.frames,
            packets_lost: inner.packets_lost,
            plaintext: inner.plaintext,
            connections: inner.connections,
            first_acknowledged_unix_ns: inner.first_durable.map_or(0, Timestamp::unix_nanos),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it connects again, a camera keeps the reason for which it must.
fn told_reason(told: Option<State>) -> GapReason {
    match told {
        Some(State::Waiting(reason) | State::NotPermitted(reason)) => reason,
        _ => GapReason::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_spool_has_committed_is_acknowledged() {
        let gauge = Gauge::new(CameraId::generate(), true);
        gauge.spooled(Position(10), Timestamp::from_unix_nanos(1));
        gauge.spooled(Position(20), Timestamp::from_unix_nanos(2));
        assert_eq!(gauge.status(Position(9)).acknowledged_through_unix_ns, 0);
        assert_eq!(gauge.status(Position(19)).acknowledged_through_unix_ns, 1);
        assert_eq!(gauge.status(Position(20)).acknowledged_through_unix_ns, 2);
    }

    #[test]
    fn a_state_is_news_once() {
        let gauge = Gauge::new(CameraId::generate(), true);
        let waiting = State::Waiting(GapReason::Unreachable);
        assert!(gauge.set_state(waiting));
        gauge.set_state(State::Connecting);
        assert!(!gauge.set_state(waiting));
        assert!(gauge.set_state(State::Recording));
    }
}
