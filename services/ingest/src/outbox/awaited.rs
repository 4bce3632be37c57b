//! Segments that wait at one moment, for whoever wants to know when they have left. What is recorded meanwhile waits as
//! well, so that of a camera that records there is hardly a moment at which nothing does.

use std::collections::HashSet;

use obscura_ids::CameraId;

use super::{Formed, Outbox, State};
use crate::{segment::GivenUp, spool::Serial};

impl Outbox {
    /// Segments of `camera` (of all where `None`) that have not left and may soon: not what is refused.
    #[must_use]
    pub fn waiting_now(&self, camera: Option<CameraId>) -> HashSet<Serial> {
        let of = |id| camera.is_none_or(|camera| camera == id);
        self.lock().may_leave(of).collect()
    }

    /// Whether one of these segments may still leave soon.
    #[must_use]
    pub fn may_still_leave(&self, awaited: &HashSet<Serial>) -> bool {
        self.lock().may_leave(|_| true).any(|serial| awaited.contains(&serial))
    }

    /// How many of these segments have not left.
    #[must_use]
    pub fn still_waiting(&self, awaited: &HashSet<Serial>) -> usize {
        self.lock().waiting(|_| true, |_| true).filter(|serial| awaited.contains(serial)).count()
    }
}

impl State {
    fn may_leave(&self, of: impl Fn(CameraId) -> bool + Copy) -> impl Iterator<Item = Serial> {
        let aside = self.set_aside();
        self.waiting(of, move |pack| !self.is_refused(&aside, pack))
    }

    /// Segments of these cameras; of packs that are not on their way those in packs that `count`.
    fn waiting(
        &self,
        of: impl Fn(CameraId) -> bool + Copy,
        count: impl Fn(&Formed) -> bool,
    ) -> impl Iterator<Item = Serial> {
        let queued = self.segments.iter().filter(move |(camera, _)| of(**camera));
        let queued = queued.flat_map(|(_, queue)| queue).map(|(sealed, _)| sealed.serial);
        let given_up = self.given_up.iter().filter_map(move |segment| match segment {
            GivenUp::Torn(sealed) => of(sealed.entry.header.camera).then_some(sealed.serial),
            GivenUp::Empty(_) => None,
        });
        let taken = self.taken.iter().filter(move |(_, camera)| of(**camera)).map(|(serial, _)| *serial);
        queued.chain(given_up).chain(taken).chain(self.packs.serials(of, count))
    }
}
