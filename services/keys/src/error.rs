//! Every failure of this service, and how a caller sees it.

use obscura_access::Refusal;
use obscura_ids::{LayerKeyId, ZoneId};
use obscura_status::{Code, Failure};

use crate::{aead, key_encryption};

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
    Crypto(#[from] aead::Failed),
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
            Self::Malformed { .. } | Self::TooManyKeys(_) | Self::OtherCamera(_) | Self::Unwrap(_) => {
                Code::InvalidArgument
            }
            Self::Placement(_) | Self::WrongZone { .. } | Self::OutsideGrant { .. } => Code::PermissionDenied,
            Self::Conflict(_) => Code::AlreadyExists,
            Self::UnknownKey(_) => Code::NotFound,
            Self::Refused(refusal) => refusal.code(),
            Self::Damaged { .. } => Code::DataLoss,
            Self::RotationUnderWay => Code::FailedPrecondition,
            Self::KeyEncryption(_) | Self::Store(_) => Code::Unavailable,
            Self::Crypto(_) => Code::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::KeyEncryption(_) | Error::Store(_) => {
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
