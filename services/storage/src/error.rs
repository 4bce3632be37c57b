//! Why this service refuses or fails, and what a caller may read of it.

use std::io;

use obscura_access::Refusal;
use obscura_blob::{BlobKey, Error as BlobError, InvalidKey};
use obscura_ids::{InvalidId, PackId, ZoneId};
use obscura_status::{Code, Failure};

use crate::{expiry::receipt::Unbelievable, store, url_signer::Refused};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field makes no sense.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A field is not an id.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The text cannot name an object.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The placement is not the zone authority's word.
    #[error("the placement is refused: {0}")]
    Placement(#[from] obscura_snapshot::Error),
    /// The placement is for somewhere else.
    #[error(
        "the camera is placed in zone {placement}, and this service keeps the footage of zone {own} only"
    )]
    ForeignZone {
        /// Zone of the placement.
        placement: ZoneId,
        /// Zone of this service.
        own: ZoneId,
    },
    /// The placement names a bucket that is not here.
    #[error("the bucket `{0}` is not one of this service: compare its `buckets` with the zone's bucket")]
    UnknownBucket(String),
    /// Commit before upload.
    #[error("there is no object `{0}`: upload it before committing it")]
    NotUploaded(BlobKey),
    /// It was there, and is not any more.
    #[error("the object `{0}` was there and is gone or cut: upload it again and commit again")]
    Vanished(BlobKey),
    /// The object is not what its recorder or its name says.
    #[error("the object `{key}` is not the announced pack: {why}")]
    Lying {
        /// The object.
        key: BlobKey,
        /// What is wrong with it.
        why: String,
    },
    /// The pack is indexed with other content.
    #[error("pack {0} is in the index already with another directory or under another key")]
    CommittedOtherwise(PackId),
    /// The index has no such pack.
    #[error("there is no pack `{0}` in the index")]
    UnknownPack(BlobKey),
    /// No mTLS peer behind the request.
    #[error("the connection carries no identity")]
    NoPeer,
    /// The grant does not permit it.
    #[error(transparent)]
    Access(#[from] Refusal),
    /// The URL does not permit it.
    #[error(transparent)]
    Url(#[from] Refused),
    /// Too many transfers at once.
    #[error("{0} transfers are under way, which is the limit: try again")]
    Busy(usize),
    /// The body did not arrive in time.
    #[error("the upload took too long: ask for a new URL and try again")]
    TooSlow,
    /// The object store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The index.
    #[error("the index failed: {0}")]
    Store(#[from] store::Error),
    /// Custody does not answer, or refuses to.
    #[error("custody gives no answer ({}): see whether the keys service runs and what its log says", .0.message())]
    CustodyAway(Box<tonic::Status>),
    /// The audit log could not be told.
    #[error(
        "the search could not be written down for the audit log, so nothing is found: see whether the disk of \
         storage is full and whether the audit service runs (`obscura status`), then ask again"
    )]
    Unlogged,
    /// Nothing says where custody is.
    #[error("the configuration does not say where `keys` is: add it under [peers]")]
    NoCustody,
    /// Custody's answer makes no sense.
    #[error("custody's answer makes no sense: {0}")]
    Custody(String),
    /// A receipt of destruction is not believed.
    #[error("a receipt of destruction is not believed, and nothing is deleted: {0}")]
    Unbelievable(#[from] Unbelievable),
    /// One at a time.
    #[error("{0} is under way: wait until it has finished")]
    UnderWay(&'static str),
    /// Whoever asked went away.
    #[error("whoever asked went away")]
    GoneAway,
    /// The address file cannot be read.
    #[error("the service does not know its own address yet: {0}")]
    Address(io::Error),
}

impl Error {
    /// A field that makes no sense.
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }

    /// Why a request was refused, in words that hold nothing of what the caller wrote.
    pub fn refusal(&self) -> String {
        match self {
            Self::Access(refusal) => refusal.to_string(),
            Self::Invalid { .. } | Self::Id(_) | Self::Key(_) => "the request makes no sense".to_owned(),
            Self::UnknownPack(_) => "an object is not in the index".to_owned(),
            Self::NoPeer => self.to_string(),
            _ => "storage failed; its log has the cause".to_owned(),
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } | Self::Id(_) | Self::Key(_) => Code::InvalidArgument,
            Self::Placement(_) | Self::ForeignZone { .. } | Self::UnknownBucket(_) | Self::Url(_) => {
                Code::PermissionDenied
            }
            Self::NotUploaded(_) | Self::UnderWay(_) | Self::Unbelievable(_) => Code::FailedPrecondition,
            Self::Lying { .. } | Self::Store(store::Error::Corrupt(_)) => Code::DataLoss,
            Self::CommittedOtherwise(_) => Code::AlreadyExists,
            Self::UnknownPack(_) => Code::NotFound,
            Self::NoPeer => Code::Unauthenticated,
            Self::Access(refusal) => refusal.code(),
            Self::Busy(_) => Code::ResourceExhausted,
            Self::Blob(error) => blob_code(error),
            Self::Custody(_) => Code::Internal,
            Self::TooSlow
            | Self::Vanished(_)
            | Self::Store(store::Error::Database(_))
            | Self::Address(_)
            | Self::CustodyAway(_)
            | Self::NoCustody
            | Self::Unlogged
            | Self::GoneAway => Code::Unavailable,
        }
    }
}

fn blob_code(error: &BlobError) -> Code {
    match error {
        BlobError::AlreadyExists(_) => Code::AlreadyExists,
        BlobError::NotFound(_) => Code::NotFound,
        BlobError::WrongSize { .. } | BlobError::OutOfBounds { .. } | BlobError::TooLarge { .. } => {
            Code::InvalidArgument
        }
        // Keys of a bucket that were changed are put right by somebody, and callers go on trying.
        BlobError::Body(_)
        | BlobError::Io { .. }
        | BlobError::Unavailable { .. }
        | BlobError::Unanswered { .. }
        | BlobError::Refused { .. } => Code::Unavailable,
    }
}

impl From<Error> for Failure {
    /// Faults of disk and database are told without their cause, and logged here with it: callers
    /// try them again, so nothing further up would.
    fn from(error: Error) -> Self {
        let failure = match &error {
            Error::Store(_)
            | Error::Blob(
                BlobError::Io { .. }
                | BlobError::Unavailable { .. }
                | BlobError::Unanswered { .. }
                | BlobError::Refused { .. },
            ) => {
                tracing::error!(%error, "storage failed");
                Self::new(
                    error.code(),
                    "the index or the object store failed; the log of storage has the cause",
                )
            }
            _ => Self::new(error.code(), error.to_string()),
        };
        failure.with_internal(&error)
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_disk_can_be_tried_again_and_does_not_tell_its_cause() {
        let fault = BlobError::Io { doing: "writing an object", source: io::Error::other("sector 7") };
        let failure = Failure::from(Error::from(fault));
        assert!(failure.code().retryable());
        assert!(!failure.external().contains("sector 7"));
    }

    #[test]
    fn a_lying_object_is_data_loss_and_says_what_is_wrong() {
        let key = "eea/object".parse().unwrap();
        let failure = Failure::from(Error::Lying { key, why: "its head has another hash".into() });
        assert_eq!(failure.code(), Code::DataLoss);
        assert!(failure.external().ends_with("its head has another hash"));
    }
}
