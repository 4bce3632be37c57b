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
    /// More bytes than this is meant for.
    #[error("{bytes} bytes are more than the {limit} that are allowed here")]
    TooLarge {
        /// Bytes there are.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The body broke off. Nothing was stored.
    #[error("the body broke off, nothing was stored: {0}")]
    Body(#[source] io::Error),
    /// The operating system refused; nothing was stored.
    #[error("{doing}: {source}")]
    Io {
        /// What was going on.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The store cannot now. Nothing happened.
    #[error("{doing}: the object store is not available: {why}")]
    Unavailable {
        /// What was going on.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// The store did not say how it went: what was asked happened, or did not.
    #[error("{doing}: the object store did not say how it went: {why}")]
    Unanswered {
        /// What was going on.
        doing: &'static str,
        /// How the exchange ended.
        why: String,
    },
    /// The store will not, and somebody has to change that. Nothing happened.
    #[error("{doing}: the object store refuses: {why}")]
    Refused {
        /// What was going on.
        doing: &'static str,
        /// Why, and what to look at.
        why: String,
    },
}

impl Error {
    /// Whether the same call may go through a moment later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Unanswered { .. } => true,
            Self::Io { source, .. } => {
                use io::ErrorKind::{Interrupted, ResourceBusy, TimedOut, WouldBlock};
                matches!(source.kind(), Interrupted | ResourceBusy | TimedOut | WouldBlock)
            }
            Self::AlreadyExists(_)
            | Self::NotFound(_)
            | Self::WrongSize { .. }
            | Self::OutOfBounds { .. }
            | Self::TooLarge { .. }
            | Self::Body(_)
            | Self::Refused { .. } => false,
        }
    }

    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
