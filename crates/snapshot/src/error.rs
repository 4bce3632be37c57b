//! Why a snapshot, a placement or the authority's key was refused.

use std::{io, path::PathBuf};

/// Each variant says what was refused, and what to do where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes given as the zone authority's private key are not one.
    #[error("the zone authority's key is not an Ed25519 key in PKCS #8: restore it from its backup")]
    Key,
    /// The signature is not the zone authority's, or is about other bytes.
    #[error("the {0} is not signed by this installation's zone authority")]
    Forged(&'static str),
    /// Signed, but not in the expected format: writer and reader are of different versions.
    #[error("the signed {what} cannot be read: {why}")]
    Malformed {
        /// `snapshot` or `placement`.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// More than [`crate::MAX_SNAPSHOT_BYTES`].
    #[error("the snapshot has {0} bytes, more than the {max} that are allowed", max = crate::MAX_SNAPSHOT_BYTES)]
    TooLarge(usize),
    /// An older version than the one at hand.
    #[error(
        "snapshot {offered} is older than snapshot {held} which is held already: was the registry's \
         database restored from an old copy?"
    )]
    RolledBack {
        /// Version that came.
        offered: u64,
        /// Version that is held.
        held: u64,
    },
    /// The version at hand, with other content.
    #[error(
        "another snapshot {0} than the one that is held already: do two registries share one zone \
         authority, or was a database restored from an old copy?"
    )]
    Forked(u64),
    /// The cache on disk could not be read or written.
    #[error("the snapshot cache {path} failed: {cause}", path = path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

impl Error {
    /// A signed message that cannot be read.
    #[expect(clippy::needless_pass_by_value, reason = "reads better inside `map_err`")]
    pub(crate) fn malformed(what: &'static str, why: impl ToString) -> Self {
        Self::Malformed { what, why: why.to_string() }
    }
}
