//! What can be wrong with a copy.

use crate::{BundleError, CheckpointError};

/// Problems that a report keeps; the rest is only counted.
pub const MAX_PROBLEMS: usize = 1_000;

/// Something that is wrong, with the exact path or index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The checkpoint is not this log's, or too few witnesses saw it.
    #[error("checkpoint: {0}")]
    Checkpoint(CheckpointError),
    /// The tree is another than the one that the log signed.
    #[error("the tree of this copy does not have the root that its checkpoint says")]
    Root,
    /// Not there.
    #[error("{path} is missing")]
    MissingFile {
        /// Which file.
        path: String,
    },
    /// Does not belong there.
    #[error("{path} does not belong to a log of this size")]
    ExtraFile {
        /// Which file.
        path: String,
    },
    /// Not whole hashes, or not as many as there must be.
    #[error("{path} has {bytes} bytes, expected {expected}")]
    TileLength {
        /// Which tile.
        path: String,
        /// Bytes that it has.
        bytes: usize,
        /// Bytes that it must have.
        expected: usize,
    },
    /// A hash in a tile was changed.
    #[error("{path}: hash {position} is not that of what is below it")]
    TileHash {
        /// Which tile.
        path: String,
        /// Place of the hash in the tile, from 0.
        position: usize,
    },
    /// A tile does not fit to what is above it, and what is below does not help to say more.
    #[error("{path} does not hash to what the tile above it says")]
    Tile {
        /// Which tile.
        path: String,
    },
    /// A hash and what is below it contradict each other, and nothing above can say who is right.
    #[error("{path}: hash {position} and what is below it contradict each other")]
    Contradiction {
        /// Which tile.
        path: String,
        /// Place of the hash in the tile, from 0.
        position: usize,
    },
    /// An entry was changed.
    #[error("entry {index} was changed")]
    EntryChanged {
        /// Index of the entry.
        index: u64,
    },
    /// Another entry is in its place.
    #[error("entry {belongs_at} stands in the place of entry {index}")]
    EntryMoved {
        /// Index of the place.
        index: u64,
        /// Index where the entry belongs.
        belongs_at: u64,
    },
    /// An entry is gone from its bundle.
    #[error("entry {index} is missing")]
    EntryMissing {
        /// Index of the entry.
        index: u64,
    },
    /// An entry was put in.
    #[error("{path}: entry {position} of the bundle was added")]
    EntryAdded {
        /// Which bundle.
        path: String,
        /// Its place in the bundle, from 0.
        position: usize,
    },
    /// No entry of a bundle belongs there.
    #[error("{path}: none of its {entries} entries belongs there")]
    ForeignBundle {
        /// Which bundle.
        path: String,
        /// Number of its entries.
        entries: usize,
    },
    /// Too few or too many.
    #[error("{path} has {entries} entries, expected {expected}")]
    BundleLength {
        /// Which bundle.
        path: String,
        /// Entries that it has.
        entries: usize,
        /// Entries that it must have.
        expected: usize,
    },
    /// Not whole entries.
    #[error("{path}: {error}")]
    Bundle {
        /// Which bundle.
        path: String,
        /// What is wrong with it.
        error: BundleError,
    },
    /// A partial file that was replaced by a fuller one differs from it.
    #[error("{path} is not the beginning of {fuller}")]
    NotBeginning {
        /// Which file.
        path: String,
        /// The file that replaced it.
        fuller: String,
    },
    /// Somebody saw another log under the same name and size.
    #[error("fork: the log of {size} entries that was seen before is not the beginning of this one")]
    Fork {
        /// Size of the log that was seen before.
        size: u64,
    },
    /// Somebody saw more of it.
    #[error("rollback: this copy has {size} entries, {seen} were seen before")]
    Rollback {
        /// Size of this copy.
        size: u64,
        /// Size of the log that was seen before.
        seen: u64,
    },
    /// Seen, but of another log.
    #[error("the checkpoint that was seen before is of the log `{origin}`")]
    OtherLog {
        /// Its name.
        origin: String,
    },
}
