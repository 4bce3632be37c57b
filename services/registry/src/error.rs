//! Why the registry refuses or fails, and how callers see it.

use obscura_ids::CameraId;
use obscura_status::{Code, Failure};

use crate::{camera, words, zone};

/// Each variant is a sentence for the caller, or a fault of ours that only the log shows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request makes no sense.
    #[error(transparent)]
    Invalid(#[from] words::Invalid),
    /// The camera is not described well enough.
    #[error(transparent)]
    Camera(#[from] camera::Error),
    /// The place has no zone.
    #[error(transparent)]
    Zone(#[from] zone::Error),
    /// The name is taken.
    #[error("a {kind} named `{name}` exists already: choose another name")]
    Exists {
        /// `site` or `camera`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// There is no site with this name.
    #[error("there is no site named `{0}`: add the site first, or list the sites")]
    NoSuchSite(String),
    /// There is no camera with this id.
    #[error("there is no camera {0}: list the cameras to find its id")]
    NoSuchCamera(CameraId),
    /// The registry holds as much as it may.
    #[error(
        "the registry holds {0} already, which is the most it may: remove some or use another installation"
    )]
    Full(&'static str),
    /// A stored placement no longer agrees with the configured zones.
    #[error(
        "camera {camera} was placed in zone `{zone}`, bucket `{bucket}`, country {country}, and the configured \
         zones no longer have that: restore the zone in the zones file, or remove the camera first"
    )]
    Displaced {
        /// The camera.
        camera: CameraId,
        /// Its zone.
        zone: String,
        /// Its bucket.
        bucket: String,
        /// Its country.
        country: String,
    },
    /// The stored snapshot or a stored placement is not signed by our own key.
    #[error("what the database holds was not signed by the zone authority's key at hand: {0}")]
    Snapshot(#[from] obscura_snapshot::Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Store(#[from] sea_orm::DbErr),
    /// A stored row cannot be read.
    #[error("a stored {0} cannot be read: restore the database from its backup")]
    Damaged(&'static str),
    /// A task of ours ended before it could answer.
    #[error("the change was not finished")]
    Unfinished,
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Camera(_) => Code::InvalidArgument,
            Self::Zone(_) | Self::Displaced { .. } => Code::FailedPrecondition,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::NoSuchSite(_) | Self::NoSuchCamera(_) => Code::NotFound,
            Self::Full(_) => Code::ResourceExhausted,
            Self::Damaged(_) | Self::Snapshot(_) => Code::DataLoss,
            Self::Store(_) | Self::Unfinished => Code::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.code() {
            Code::Internal => Self::internal(error),
            Code::DataLoss => {
                Self::new(Code::DataLoss, "stored data is damaged; the log of the registry has the details")
                    .with_internal(error)
            }
            code => Self::new(code, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_ours_stays_in_the_log_and_a_refusal_reaches_the_caller() {
        let fault = Failure::from(Error::Store(sea_orm::DbErr::Custom("disk I/O error at /secret".into())));
        assert!(!fault.external().contains("/secret"));
        let refusal = Failure::from(Error::NoSuchSite("Shop".into()));
        assert_eq!((refusal.code(), refusal.external().contains("`Shop`")), (Code::NotFound, true));
    }
}
