use std::{io, ops::Range};

use crate::BlobKey;

/// Why a blob store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Objects are written once.
    #[error("there is an object `{0}` already, and objects are written once")]
    AlreadyExists(BlobKey),
    /// No such object.
    #[error("there is no object `{0}`")]
    NotFound(BlobKey),
    /// The body was not as long as announced. Nothing was stored.
    #[error("{announced} bytes were announced and {received} or more came; nothing was stored")]
    WrongSize {
        /// Bytes announced.
        announced: u64,
        /// Bytes seen until it was clear that they do not match.
        received: u64,
    },
    /// The range does not lie within the object.
    #[error("the range {range:?} does not lie within the {size} bytes of the object")]
    OutOfBounds {
        /// What was asked for.
        range: Range<u64>,
        /// Bytes of the object.
        size: u64,
    },
    /// The body broke off. Nothing was stored.
    #[error("the body broke off, nothing was stored: {0}")]
    Body(#[source] io::Error),
    /// The store itself failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was going on.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
