//! A segment on its way from frames to sealed bytes in the spool.

mod again;
mod opening;
mod scratch;
mod torn;
mod writer;

pub use again::again;
pub use opening::{Opening, Tail};
pub use torn::{beginning, is_cut, opened, record, recovered};
pub use writer::{FRAGMENT_EVERY, Parts, SegmentWriter, note_torn};

use std::time::Duration;

use obscura_clock::Monotonic;
use obscura_pack::Entry;
use obscura_proto::registry::v1::SignedPlacement;

use crate::spool::{Extent, Position, Serial};

/// A segment that waits for its pack.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its records in the spool.
    pub serial: Serial,
    /// Its directory entry; the offset is set when the pack is laid out.
    pub entry: Entry,
    /// Where its sealed bytes lie, in order.
    pub extents: Vec<Extent>,
    /// Where it may rest.
    pub placement: SignedPlacement,
    /// Must be committed before it is uploaded.
    pub end: Position,
    /// Since when it waits in this run,
    pub since: Monotonic,
    /// and how long it waited in earlier ones.
    pub waited_before: Duration,
}

impl Sealed {
    /// How long it waits.
    #[must_use]
    pub fn waited(&self, now: Monotonic) -> Duration {
        self.waited_before.saturating_add(now.since(self.since))
    }
}

/// A segment that could not be completed, and whose end the spool has not yet noted.
#[derive(Debug)]
pub enum GivenUp {
    /// What is in the spool of it is whole footage.
    Torn(Box<Sealed>),
    /// Nothing of it can be shown.
    Empty(Serial),
}
