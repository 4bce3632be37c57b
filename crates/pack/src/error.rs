/// Why a pack, an entry or an object key is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The object does not start as a pack does.
    #[error("not a pack: it does not start with OBSPACK and version 1")]
    Magic,
    /// The head states a length that no pack has, or is not as long as it states.
    #[error("the head of the pack states {stated} bytes of directory, which {why}")]
    HeadLength {
        /// Length as stated.
        stated: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The directory is not the protobuf message that it should be.
    #[error("the directory of the pack is malformed: {0}")]
    Directory(&'static str),
    /// One entry is wrong.
    #[error("entry {index} of the pack: {why}")]
    Entry {
        /// Number of the entry, from 0.
        index: usize,
        /// What is wrong with it.
        why: InvalidEntry,
    },
    /// The compact form of a directory is not one that is ever written.
    #[error("the compact directory of the pack is malformed: {0}")]
    Compact(&'static str),
    /// The text is not the key of a pack's object.
    #[error("not the key of a pack: expected <zone>/<camera>/<layer>/<yyyy-mm-dd>/<pack>.pack")]
    ObjectKey,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// The header of the segment cannot be read.
    #[error(transparent)]
    Header(#[from] obscura_seal::Error),
    /// The header disagrees with the directory.
    #[error("its header names another {0} than the pack: it was moved")]
    Moved(&'static str),
    /// A field cannot be as it is.
    #[error("its {field} {why}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl InvalidEntry {
    pub(crate) const fn field(field: &'static str, why: &'static str) -> Self {
        Self::Field { field, why }
    }
}
