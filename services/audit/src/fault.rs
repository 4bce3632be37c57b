//! The steps of everything that the log writes, and what a crash at each of them leaves behind.
//!
//! The table of faults in the tests stops the service at each step, by an error and by a crash, twice in a
//! row each, and then verifies the whole log against every receipt that was handed out.

use std::fmt;

use crate::store::Error;

/// A moment before which, or at which, the service may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    // Appending a batch.
    /// Look up which events are in the log already, after the database refused one. Leaves nothing.
    LookUp,
    /// Begin the transaction. Leaves nothing.
    Begin,
    /// Insert entries. The database undoes what was not committed: nothing was acknowledged, producers ask again.
    InsertEntries,
    /// Replace the tiles that changed. As before.
    PutTiles,
    /// Move the head where it still has the old size. As before.
    MoveHead,
    /// Commit. Leaves the old log or the new one; whoever goes on reads the head first.
    Commit,
    /// Committed, and nobody was told. The log is longer than any receipt says; a producer that asks again
    /// gets the receipt of the first time.
    Committed,
    // Publishing.
    /// Store a hash tile. Leaves objects that no checkpoint points at yet; the next publishing finds them there.
    PutTile,
    /// Store a bundle of entries. As before.
    PutBundle,
    /// Collect cosignatures. A witness may have seen a checkpoint that is not published: it is committed, so it
    /// is a prefix of every later one.
    Cosign,
    /// Write down the newest cosigned checkpoint. As before.
    KeepCosigned,
    /// Replace the checkpoint. Leaves the old one or the new one, and tiles for both.
    ReplaceCheckpoint,
    /// Remove partial tiles of what has become full. Leaves superfluous objects.
    RemovePartials,
    // Pruning.
    /// Say from where on entries are kept. Leaves all entries; the next pruning goes on.
    KeepFrom,
    /// Remove bundles from the object store. Leaves rows, which are the list of what is to be done.
    RemoveBundles,
    /// Remove the rows. As before.
    RemoveRows,
    // Erasing.
    /// The approvals are in the log. Leaves approvals of an erasure that never came.
    Approved,
    /// Make the secret of the next generation. Leaves two secrets; the start drops the one without rows.
    MakeSecret,
    /// Put all other keys under it, drop the erased ones, and write down what has to be told: one transaction.
    /// Leaves the old keys, and the erasure is not acknowledged, or the new ones.
    Rewrap,
    /// Destroy the old secret. Until then the dropped keys open from old pages; the start does it.
    DropSecret,
    /// Append what has to be told. The start does it.
    TellErasure,
}

/// Decides whether a step fails.
pub trait Faults: Send + Sync + fmt::Debug {
    /// Called before the step, and for [`Step::Committed`] after it.
    ///
    /// # Errors
    /// [`Error::Injected`].
    fn at(&self, step: Step) -> Result<(), Error>;
}

/// Nothing fails by itself.
#[derive(Clone, Copy, Debug)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn at(&self, _step: Step) -> Result<(), Error> {
        Ok(())
    }
}
