//! Segments that wait at one moment, for whoever wants to know when they have left. What is recorded meanwhile waits as
//! well, so that of a camera that records there is hardly a moment at which nothing does.

use std::collections::HashSet;

use obscura_ids::CameraId;

use super::{Outbox, State};
use crate::{segment::GivenUp, spool::Serial};

impl Outbox {
    /// Segments of `camera` (of all where `None`) that have not left and may soon: not those in packs that were refused.
    #[must_use]
    pub fn waiting_now(&self, camera: Option<CameraId>) -> HashSet<Serial> {
        self.lock().waiting(|id| camera.is_none_or(|camera| camera == id), false).collect()
    }

    /// Whether one of these segments may still leave soon.
    #[must_use]
    pub fn may_still_leave(&self, awaited: &HashSet<Serial>) -> bool {
        self.lock().waiting(|_| true, false).any(|serial| awaited.contains(&serial))
    }

    /// How many of these segments have not left.
    #[must_use]
    pub fn still_waiting(&self, awaited: &HashSet<Serial>) -> usize {
        self.lock().waiting(|_| true, true).filter(|serial| awaited.contains(serial)).count()
    }
}

impl State {
    fn waiting(&self, of: impl Fn(CameraId) -> bool + Copy, refused: bool) -> impl Iterator<Item = Serial> {
        let queued = self.segments.iter().filter(move |(camera, _)| of(**camera));
        let queued = queued.flat_map(|(_, queue)| queue).map(|(sealed, _)| sealed.serial);
        let given_up = self.given_up.iter().filter_map(move |segment| match segment {
            GivenUp::Torn(sealed) => of(sealed.entry.header.camera).then_some(sealed.serial),
            GivenUp::Empty(_) => None,
        });
        queued.chain(given_up).chain(self.packs.serials(of, refused))
    }
}
