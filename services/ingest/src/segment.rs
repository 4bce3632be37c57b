//! A segment on its way from frames to sealed bytes in the spool.

mod opening;
mod torn;
mod writer;

pub use opening::{Opening, Tail};
pub use torn::{record, recovered};
pub use writer::{Parts, SegmentWriter};

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
}
