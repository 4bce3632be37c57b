//! What can be wrong with stored footage, each with its place.

use std::ops::Range;

use obscura_clock::Timestamp;

/// Something is wrong with a stored segment, or with the object it rests in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Key of the object.
    pub object_key: String,
    /// Bytes of the object that belong to the segment or head that is wrong.
    pub bytes: Range<u64>,
    /// First frame of the segment; absent where the fault is in the head of the object.
    pub time: Option<Timestamp>,
    /// What is wrong.
    pub cause: Cause,
}

impl std::fmt::Display for Fault {
    /// Cause, then place.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { object_key, bytes, time, cause } = self;
        if let Some(time) = time {
            write!(f, "{time}: ")?;
        }
        if bytes.is_empty() {
            return write!(f, "{cause}\n    in the object {object_key}");
        }
        write!(
            f,
            "{cause}\n    in object {object_key}, bytes {} to {}",
            bytes.start,
            bytes.end.saturating_sub(1)
        )
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The object is gone.
    #[error("the object is missing")]
    Missing,
    /// It may be there, but could not be fetched.
    #[error("the object could not be fetched: {0}")]
    Unreachable(String),
    /// The object is too short.
    #[error("the object is cut: bytes {first} to {last} are not there")]
    Cut {
        /// First byte that lacks.
        first: u64,
        /// Last byte that lacks.
        last: u64,
    },
    /// Another camera's, or another zone's or layer's.
    #[error("object swapped: the header names {what} {named} where {expected} belongs")]
    Swapped {
        /// Camera, zone or layer.
        what: &'static str,
        /// As the stored bytes say.
        named: String,
        /// As the index says.
        expected: String,
    },
    /// Of the same camera, but another one.
    #[error("segment swapped: the header names {named} where {expected} belongs")]
    OtherSegment {
        /// As the stored bytes say.
        named: String,
        /// As the index says.
        expected: String,
    },
    /// Bytes differ, and it is known which.
    #[error("byte range {first} to {last} of the object changed ({what})")]
    Changed {
        /// First byte of the part that does not authenticate.
        first: u64,
        /// Last byte of it.
        last: u64,
        /// Which part that is.
        what: &'static str,
    },
    /// The key service does not have its key any more.
    #[error("the key of this segment was not released")]
    NoKey,
    /// The bytes are those of the index but do not open.
    #[error("the segment does not open: {0}")]
    Sealed(#[from] obscura_seal::Error),
    /// It opens but is not the footage it should be.
    #[error("the footage inside is not readable: {0}")]
    Media(String),
    /// It opens and reads but says something else about itself than the index.
    #[error("the trailer inside says {inside} where the index says {index}")]
    Disagrees {
        /// What the segment says about itself.
        inside: String,
        /// What the index says.
        index: String,
    },
    /// The head of the pack is no head.
    #[error("the head of the object is not readable: {0}")]
    Head(String),
    /// The head knows the segment differently, or not at all.
    #[error("the head of the object and the index disagree about this segment")]
    HeadDisagrees,
    /// The head is another one than when storage told the audit log of it.
    #[error(
        "the head of the object is not the one that entry {entry} of the audit log vouches for: the pack was \
         changed after it was stored"
    )]
    NotAsLogged {
        /// Index of the entry.
        entry: u64,
    },
    /// The audit log names it, and it is gone with its keys alive.
    #[error(
        "entry {entry} of the audit log names a pack that is gone, and no receipt of destruction explains it"
    )]
    Dropped {
        /// Index of the entry.
        entry: u64,
    },
    /// A recorder gives each number once, so at most one of them is its own.
    #[error("number {number} of recorder run {run} is that of another segment, too: {other}")]
    NumberTwice {
        /// Writer epoch.
        run: u64,
        /// Sequence number.
        number: u64,
        /// Where the other one lies.
        other: String,
    },
    /// The index lost a segment.
    #[error("the object holds a segment that the index does not know")]
    NotIndexed,
    /// The row of the index makes no sense.
    #[error("the index has a row that makes no sense: {0}")]
    Row(String),
}
