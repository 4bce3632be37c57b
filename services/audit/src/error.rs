//! Every failure of this service, and how a caller sees it.

use obscura_status::{Code, Failure};

use crate::{feed, guard, persons, projection, sequencer, store};

/// Why something was refused or failed. Never holds personal data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense.
    #[error("the {what} is malformed: {why}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The event cannot be an entry.
    #[error("the event is refused: `{}` {}", .0.field, .0.why)]
    Invalid(obscura_ocsf::Invalid),
    /// The event is too long.
    #[error("the event has {bytes} bytes; at most {limit} can be an entry")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// Erasing takes two.
    #[error(
        "erasing a person before retention ends takes the data-protection officer and an auditor, two different \
         persons, neither of whom is erased"
    )]
    NeedsTwo,
    /// Who agrees as an auditor is none.
    #[error(
        "whoever agrees as auditor has to be one: the settings of the audit service name auditors under `auditors`"
    )]
    NeedsAuditor,
    /// Who agrees as data-protection officer is none.
    #[error(
        "whoever agrees as data-protection officer has to be one: the settings of the audit service name them under \
         `data_protection_officers`"
    )]
    NeedsOfficer,
    /// Who asks for an erasure is neither of the two who agree.
    #[error("an erasure is asked for by one of the two who agree to it, and who asks now is neither")]
    NeedsApprover,
    /// No person is behind a call that takes one.
    #[error("who reads the log or acts on it has to say who they are")]
    NobodyAsks,
    /// Somebody who is no auditor reads what is about others.
    #[error("the log is for auditors, and who asks is none; everybody may read what is about themselves")]
    NotAuditor,
    /// A program that reads more than is its business.
    #[error("the key service reads entries about destruction and nothing else")]
    NotYours,
    /// There is no such entry.
    #[error("there is no such entry: it was never appended, or its retention is over")]
    UnknownEntry,
    /// There is no such feed.
    #[error("there is no such feed: `obscura audit status` names them")]
    UnknownFeed,
    /// The feed cannot go there.
    #[error("the log keeps the entries {first_kept} to {size}: choose an index within")]
    OutOfRange {
        /// First kept entry.
        first_kept: u64,
        /// Leaves in the log.
        size: u64,
    },
    /// Nothing was acknowledged.
    #[error(transparent)]
    Sequencer(#[from] sequencer::Error),
    /// An answer without a place: a defect.
    #[error("the sequencer gave no place")]
    Unplaced,
    /// An event that is owed does not parse.
    #[error("an event that the log is owed does not parse: restore the audit database from a backup")]
    Owed,
    /// Persons' keys cannot be had.
    #[error(transparent)]
    Persons(#[from] persons::Error),
    /// A person's key failed while an event was encoded.
    #[error("the event cannot be sealed: {0}")]
    Sealing(String),
    /// The tables failed.
    #[error("audit database: {0}")]
    Store(#[from] store::Error),
    /// The object store failed, or the log does not hold together.
    #[error(transparent)]
    Projection(#[from] projection::Error),
    /// Tiles do not give the proof.
    #[error("the log in the database does not hold together: {0}")]
    Proof(#[from] obscura_tlog::ProofError),
    /// Nothing is destroyed on the word of a clock that is in doubt.
    #[error("{0}")]
    ClockDisagrees(guard::Doubt),
}

impl Error {
    /// A malformed part of a request.
    pub const fn malformed(what: &'static str, why: &'static str) -> Self {
        Self::Malformed { what, why }
    }

    const fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } | Self::Invalid(_) | Self::TooLong { .. } | Self::OutOfRange { .. } => {
                Code::InvalidArgument
            }
            Self::NeedsTwo
            | Self::NeedsAuditor
            | Self::NeedsOfficer
            | Self::NeedsApprover
            | Self::NotAuditor
            | Self::NotYours => Code::PermissionDenied,
            Self::NobodyAsks => Code::Unauthenticated,
            Self::UnknownEntry | Self::UnknownFeed => Code::NotFound,
            Self::Sequencer(sequencer::Error::Full) => Code::ResourceExhausted,
            Self::Sequencer(_)
            | Self::Store(_)
            | Self::Persons(_)
            | Self::Sealing(_)
            | Self::Projection(_) => Code::Unavailable,
            Self::ClockDisagrees(_) => Code::FailedPrecondition,
            Self::Unplaced | Self::Owed | Self::Proof(_) => Code::Internal,
        }
    }
}

impl From<obscura_ocsf::Invalid> for Error {
    fn from(invalid: obscura_ocsf::Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<obscura_ocsf::Error> for Error {
    fn from(error: obscura_ocsf::Error) -> Self {
        match error {
            obscura_ocsf::Error::Invalid(invalid) => Self::Invalid(invalid),
            obscura_ocsf::Error::Persons(why) => Self::Sealing(why),
        }
    }
}

impl From<feed::ReplayError> for Error {
    fn from(error: feed::ReplayError) -> Self {
        match error {
            feed::ReplayError::UnknownFeed(_) => Self::UnknownFeed,
            feed::ReplayError::OutOfRange { first_kept, size, .. } => Self::OutOfRange { first_kept, size },
            feed::ReplayError::Unavailable(_) => Self::Sequencer(sequencer::Error::NotCommitted),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::Store(_) | Error::Persons(_) | Error::Projection(_) | Error::Proof(_) | Error::Owed => {
                // Producers ask again, so only this line tells the operator.
                tracing::error!(%error, "the log cannot be read or written");
                Self::new(
                    code,
                    "the log cannot be read or written now; its own log has the cause, try again later",
                )
            }
            error => Self::new(code, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_storage_fault_stays_in_our_own_log() {
        let database = store::Error::Database(sea_orm::DbErr::Custom("/secret/path".into()));
        let failure: Failure = Error::Store(database).into();
        assert_eq!(failure.code(), Code::Unavailable);
        assert!(!failure.external().contains("secret"));
    }

    #[test]
    fn what_was_not_acknowledged_may_be_asked_for_again() {
        for error in [sequencer::Error::NotCommitted, sequencer::Error::Full, sequencer::Error::Ended] {
            assert!(Failure::from(Error::Sequencer(error)).code().retryable(), "{error}");
        }
    }
}
