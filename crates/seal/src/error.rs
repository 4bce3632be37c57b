use crate::{Hour, Slot};

/// Why something could not be sealed, opened, wrapped or read. Never holds secrets or plaintext.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The clear header breaks its format.
    #[error("the header of the sealed segment is malformed: {0}")]
    Header(&'static str),
    /// The number is not an hour that a timestamp can express.
    #[error("{0} is not an hour since the Unix epoch: the last one is {last}", last = Hour::MAX.get())]
    Hour(u32),
    /// The number is not a slot of an hour.
    #[error("{0} is not a slot: an hour has the slots 0 to {last}", last = Slot::MAX.get())]
    Slot(u16),
    /// The first slot of a range is after its last.
    #[error("slot range {first} to {last} runs backwards")]
    SlotRange {
        /// First slot as given.
        first: u16,
        /// Last slot as given.
        last: u16,
    },
    /// There is no such position in the tree.
    #[error("depth {depth}, index {index} is not a node: depths are 0 to 11, and depth d has 2^d nodes")]
    Node {
        /// Depth as given.
        depth: u8,
        /// Index as given.
        index: u16,
    },
    /// The bytes are not a set of nodes.
    #[error("the stored part of a layer key is malformed: {0}")]
    NodeSet(&'static str),
    /// None of the nodes leads to the slot of the segment.
    #[error("the released keys do not cover slot {0}: ask for a grant that covers its time", slot.get())]
    NotCovered {
        /// Slot of the segment.
        slot: Slot,
    },
    /// The commitment differs: nothing was decrypted.
    #[error(
        "the key does not belong to this segment: it was sealed under another key, or its header, salt or \
         commitment was changed"
    )]
    Commitment,
    /// The sealed bytes end too early, or cannot have this length: nothing was decrypted.
    #[error("the sealed segment is cut or has bytes too many: {0}")]
    Length(&'static str),
    /// A chunk does not authenticate.
    #[error("chunk {index} of the sealed segment was changed, moved or cut")]
    Chunk {
        /// Number of the chunk, from 0.
        index: u32,
    },
    /// There are more chunks than a counter of 32 bits can tell apart.
    #[error("the segment is too long to be sealed: start a new one")]
    TooLong,
    /// The cryptographic library refused what it normally never refuses.
    #[error("the cryptographic library failed to {0}")]
    Library(&'static str),
    /// The wrapped secret is for someone else or was changed.
    #[error("the wrapped secret does not open: it is for another key or context, or was changed")]
    Unwrap,
    /// The bytes are not an X25519 key.
    #[error("not an X25519 {0} key: expected 32 bytes that are not a low-order point")]
    RecipientKey(&'static str),
}
