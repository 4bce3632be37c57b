//! Every failure of this service, and how a caller sees it.

use obscura_access::Refusal;
use obscura_ids::{LayerKeyId, ZoneId};
use obscura_row_cipher as row_cipher;
use obscura_status::{Code, Failure};

use crate::{hold::HoldId, key_encryption, secrets};

/// Why custody refused or failed. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense.
    #[error("the {what} is malformed: {why}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// More keys than one request may name.
    #[error("the request names {0} keys: ask for at most 256 at a time")]
    TooManyKeys(usize),
    /// The placement does not verify.
    #[error(transparent)]
    Placement(#[from] obscura_snapshot::Error),
    /// The placement is for another camera.
    #[error("the placement belongs to another camera than key {0}")]
    OtherCamera(LayerKeyId),
    /// Another zone's footage or key.
    #[error("the {what} belongs to zone `{found}`, and this service keeps the keys of zone `{own}` only")]
    WrongZone {
        /// Placement or key.
        what: &'static str,
        /// Its zone.
        found: ZoneId,
        /// The zone of this service.
        own: ZoneId,
    },
    /// The wrapped key does not open.
    #[error("key {0} does not open with the intake key: wrap it to the key that GetIntakeKey returns")]
    Unwrap(LayerKeyId),
    /// The id is taken by another key.
    #[error("key {0} is in custody already with other content: a layer key never changes, make a new id")]
    Conflict(LayerKeyId),
    /// No such key.
    #[error("no key {0} is in custody: it was never imported or has expired")]
    UnknownKey(LayerKeyId),
    /// The grant does not count.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The grant counts and does not touch this key.
    #[error("key {key_id} is outside the grant: {reason}")]
    OutsideGrant {
        /// The key.
        key_id: LayerKeyId,
        /// In what way.
        reason: Refusal,
    },
    /// A stored row is not what was stored.
    #[error("{row} does not open: it was changed or damaged; restore the key database from a backup")]
    Damaged {
        /// Which row.
        row: String,
    },
    /// No such hold.
    #[error("there is no hold {0}: list the holds to find its id")]
    UnknownHold(HoldId),
    /// As many holds stand as may.
    #[error("{0} holds stand, which is the most there may be: release those that are no longer needed")]
    TooManyHolds(u64),
    /// A span that is too long for one hold or one early destruction.
    #[error("the span is longer than {0} days: use several")]
    SpanTooLong(u32),
    /// Slots that are to be destroyed are held.
    #[error("holds keep slots of this span: {}; release them first, or choose another span", .0.join(", "))]
    Held(Vec<String>),
    /// One person asks and approves.
    #[error("the requester never approves: name another person as the approver")]
    SameApprover,
    /// Nothing of the span can be opened anyway.
    #[error(
        "nothing of this span can be opened: it was never recorded here, or its keys are destroyed already"
    )]
    NothingToDestroy,
    /// The database is an old copy.
    #[error(
        "the key database is an old copy: it has {have} receipts of destruction, and there were {need}. Nothing is \
         released or destroyed until receipts {} to {need} are replayed: `obscura key replay`",
        have.saturating_add(1)
    )]
    Behind {
        /// Newest receipt that is here.
        have: u64,
        /// Newest receipt that there ever was.
        need: u64,
    },
    /// The audit log says that the data directory is an old copy.
    #[error(
        "the data directory of keys was put back from a backup: the audit log has seen more of it than it knows. \
         Nothing is released or destroyed until the receipts of destruction are replayed from the audit log, \
         which happens by itself; where the log of this service says that it cannot, `obscura key replay` helps"
    )]
    Restored,
    /// Nobody has said yet that this is not an old copy.
    #[error(
        "the key service does not know yet that it was not put back from a backup: it waits for {0}, and releases \
         nothing until then; try again"
    )]
    Unconfirmed(&'static str),
    /// The audit log does not give its entries.
    #[error("the audit log does not give the receipts of destruction: {}", .0.message())]
    LogAway(#[source] Box<tonic::Status>),
    /// A receipt cannot be replayed.
    #[error("receipt {number} cannot be replayed: {why}")]
    Receipt {
        /// Its number; 0 where it could not be read.
        number: u64,
        /// Why.
        why: &'static str,
    },
    /// The clock or the volume is in doubt.
    #[error("{0}")]
    InDoubt(String),
    /// Recovery shares cannot be made or used.
    #[error(transparent)]
    Shares(#[from] obscura_shares::Error),
    /// Shares of a root that is not in use.
    #[error(
        "these shares restore version {restored} of the zone root, and version {in_use} is in use: make new ones with \
         `obscura key shares`"
    )]
    OtherRoot {
        /// Version that the shares restore.
        restored: u32,
        /// Version in use.
        in_use: u32,
    },
    /// Rehearsals come too fast.
    #[error("a recovery was rehearsed a moment ago: try again in 5 seconds")]
    TooSoon,
    /// A secret outside the database cannot be kept or erased.
    #[error("secrets outside the database: {0}")]
    Secrets(#[from] secrets::Error),
    /// What cannot be told is not done.
    #[error("custody could not write this down for the audit log, so it was not done: try again later")]
    Untold,
    /// The audit log does not take what it is told.
    #[error(
        "{} events wait for the audit log, and nothing is released until it takes them: see why `audit` cannot be \
         reached (`obscura status`)",
        crate::journal::MAX_STAGED
    )]
    Unheard,
    /// Keys were exchanged or destroyed while a release was written down, again and again.
    #[error("the keys changed while they were being released: try again")]
    Changing,
    /// One rotation at a time.
    #[error("a rotation is under way: wait until it has finished")]
    RotationUnderWay,
    /// The back end of the key-encryption key failed.
    #[error("key-encryption key: {0}")]
    KeyEncryption(#[from] key_encryption::Error),
    /// The database failed.
    #[error("key database: {0}")]
    Store(#[from] sea_orm::DbErr),
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] row_cipher::Failed),
}

impl Error {
    /// A malformed part of a request.
    pub fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }

    /// What it means that the back end did not open `row`: its key or the row itself is not what was
    /// stored. Other failures of the back end stay what they are.
    pub fn opening(row: impl FnOnce() -> String) -> impl FnOnce(key_encryption::Error) -> Self {
        |error| match error {
            key_encryption::Error::DoesNotOpen(_) | key_encryption::Error::UnknownVersion(_) => {
                Self::Damaged { row: row() }
            }
            other => other.into(),
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Malformed { .. }
            | Self::TooManyKeys(_)
            | Self::OtherCamera(_)
            | Self::Unwrap(_)
            | Self::SpanTooLong(_)
            | Self::SameApprover
            | Self::Receipt { .. }
            | Self::Shares(_) => Code::InvalidArgument,
            Self::Placement(_) | Self::WrongZone { .. } | Self::OutsideGrant { .. } => Code::PermissionDenied,
            Self::Conflict(_) => Code::AlreadyExists,
            Self::UnknownKey(_) | Self::UnknownHold(_) | Self::NothingToDestroy => Code::NotFound,
            Self::TooManyHolds(_) | Self::TooSoon => Code::ResourceExhausted,
            Self::Refused(refusal) => refusal.code(),
            Self::Damaged { .. } => Code::DataLoss,
            Self::RotationUnderWay
            | Self::Held(_)
            | Self::Behind { .. }
            | Self::Restored
            | Self::InDoubt(_)
            | Self::OtherRoot { .. }
            | Self::KeyEncryption(key_encryption::Error::NoRoot | key_encryption::Error::Rotating(_)) => {
                Code::FailedPrecondition
            }
            Self::KeyEncryption(_)
            | Self::Store(_)
            | Self::Secrets(_)
            | Self::Unconfirmed(_)
            | Self::LogAway(_)
            | Self::Untold
            | Self::Unheard
            | Self::Changing => Code::Unavailable,
            Self::Crypto(_) => Code::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::KeyEncryption(key_encryption::Error::NoRoot | key_encryption::Error::Rotating(_)) => {
                Self::new(code, error.to_string())
            }
            Error::KeyEncryption(_) | Error::Store(_) | Error::Secrets(_) => {
                // A recorder keeps its key and tries again, so only this line tells the operator.
                tracing::error!(%error, "custody cannot reach its own keys");
                Self::new(
                    code,
                    "custody cannot read or write its keys now; its log has the cause, try again later",
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
        let failure: Failure = Error::Store(sea_orm::DbErr::Custom("/secret/path".into())).into();
        assert_eq!(failure.code(), Code::Unavailable);
        assert!(failure.code().retryable());
        assert!(!failure.external().contains("secret"));
    }

    #[test]
    fn a_refusal_names_the_key_and_the_reason() {
        let key_id = LayerKeyId::from_bytes([1; 16]);
        let reason = Refusal::LayerNotGranted(obscura_ids::Layer::Original);
        let failure: Failure = Error::OutsideGrant { key_id, reason }.into();
        assert_eq!(failure.code(), Code::PermissionDenied);
        assert!(failure.external().contains(&key_id.to_string()));
        assert!(failure.external().contains("original"));
    }
}
