//! Why a witness does not cosign, with its HTTP face.

use std::io;

use crate::FileError;

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a request.
    #[error("{0}")]
    Malformed(FileError),
    /// The proof starts behind the checkpoint.
    #[error("the old size is larger than that of the checkpoint")]
    Backwards,
    /// Not one of the logs that this witness knows.
    #[error("this witness does not know the log")]
    UnknownLog,
    /// Nothing of the log was cosigned yet.
    #[error("this witness has cosigned nothing of the log yet")]
    NothingYet,
    /// Not by a key of the log.
    #[error("no good signature of the log")]
    Unsigned,
    /// The log is elsewhere than the client thinks, or was rolled back.
    #[error("the last tree that was cosigned has {size} entries")]
    Conflict {
        /// Size of the last tree that was cosigned.
        size: u64,
    },
    /// Another tree of the same size was cosigned.
    #[error("another tree of {size} entries was cosigned: the log has forked")]
    ForkAtHead {
        /// Size of both trees.
        size: u64,
    },
    /// The last tree that was cosigned is not the beginning of this one.
    #[error("the proof does not lead from the last tree that was cosigned: the log has forked")]
    Fork,
    /// The witness's own disk.
    #[error("the witness cannot remember what it would cosign: {0}")]
    Store(io::Error),
    /// The witness's own clock.
    #[error("the clock of the witness stands before 1970")]
    Clock,
}

impl Refusal {
    /// HTTP status that the specification gives to it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::Backwards => 400,
            Self::Unsigned => 403,
            Self::UnknownLog | Self::NothingYet => 404,
            Self::Conflict { .. } | Self::ForkAtHead { .. } => 409,
            Self::Fork => 422,
            Self::Store(_) | Self::Clock => 500,
        }
    }

    /// Media type of the answer.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self.size() {
            Some(_) => "text/x.tlog.size",
            None => "text/plain; charset=utf-8",
        }
    }

    /// The answer: the size that was cosigned last where the client needs it, else the reason.
    #[must_use]
    pub fn body(&self) -> String {
        match (self.size(), self) {
            (Some(size), _) => format!("{size}\n"),
            // What the disk said is for the log of the witness.
            (None, Self::Store(_)) => "the witness cannot store\n".to_owned(),
            (None, refusal) => format!("{refusal}\n"),
        }
    }

    const fn size(&self) -> Option<u64> {
        match self {
            Self::Conflict { size } | Self::ForkAtHead { size } => Some(*size),
            _ => None,
        }
    }
}
