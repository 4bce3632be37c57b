//! A camera that is changed while it is recorded.
//!
//! What only footage to come depends on (where it may rest and for how long, how important it is)
//! changes from one segment to the next, without a frame lost. Anything else takes a new recorder: it
//! waits until the old one has ended its segment, goes on with the next number, and the time between
//! the two is a gap with its reason.

use obscura_proto::{footage::v1::GapReason, registry::v1::SignedPlacement};
use tokio::sync::oneshot;

use super::Recorder;
use crate::{gap::Gaps, pressure::Priority};

/// What may change from one segment to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Where the footage may rest, and for how long.
    pub placement: SignedPlacement,
    /// How long it is recorded when the spool runs full.
    pub priority: Priority,
}

/// Where a recorder stopped.
pub struct Ended {
    /// Its gaps, perhaps one that is open.
    pub gaps: Gaps,
    /// Number of the next segment.
    pub next_sequence: u64,
}

/// A recorder that goes before another one of the same camera.
pub struct Predecessor {
    /// Told when it has ended.
    pub ended: oneshot::Receiver<Ended>,
    /// Whether the camera was to be recorded all the time between the two.
    pub without_pause: bool,
}

impl Recorder {
    /// Waits for the one before. Where that one came to harm the numbers stay as they were chosen:
    /// far behind everything that it can have used.
    pub(super) async fn take_over(&mut self, predecessor: Predecessor) {
        let Ok(ended) = predecessor.ended.await else { return };
        self.gaps = ended.gaps;
        self.parts.next_sequence = ended.next_sequence;
        if predecessor.without_pause {
            let now = self.clock.wall();
            let since = self.gauge.recorded_through().unwrap_or(now).min(now);
            self.gaps.not_recording(since, now, GapReason::RecorderStopped);
        }
    }

    /// Whether the next segment is recorded on other terms.
    pub(super) fn has_new_terms(&self) -> bool {
        self.terms.has_changed().unwrap_or(false)
    }

    /// Goes on with the newest terms. Custody counts the days of a key from the placement that came
    /// with it, so footage under another placement gets another key.
    pub(super) fn take_terms(&mut self) {
        if !self.has_new_terms() {
            return;
        }
        let placement = self.terms.borrow_and_update().placement.clone();
        if placement != self.parts.placement {
            self.parts.placement = placement;
            self.parts.keys.forget();
        }
    }

    /// Whether the spool has room for a camera of this priority.
    pub(super) fn is_admitted(&self) -> bool {
        self.pressure.admits(self.terms.borrow().priority)
    }
}
