//! One small code for every failure, with its gRPC and HTTP face, and a message in two halves:
//! what the caller may read, and what only our own log may.

use std::fmt;

/// What kind of failure it is. Each variant says whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request makes no sense; the caller must change it.
    InvalidArgument,
    /// Nobody knows who calls.
    Unauthenticated,
    /// The caller is known and may not do this.
    PermissionDenied,
    /// There is no such thing, or it may not be known that there is.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// Something else must be done first; the message says what.
    FailedPrecondition,
    /// A limit is reached.
    ResourceExhausted,
    /// A part is away; the same call may go through later.
    Unavailable,
    /// Stored bytes are not what they should be.
    DataLoss,
    /// A defect on our side.
    Internal,
}

impl Code {
    /// The gRPC status code.
    #[must_use]
    pub const fn grpc(self) -> tonic::Code {
        match self {
            Self::InvalidArgument => tonic::Code::InvalidArgument,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::PermissionDenied => tonic::Code::PermissionDenied,
            Self::NotFound => tonic::Code::NotFound,
            Self::AlreadyExists => tonic::Code::AlreadyExists,
            Self::FailedPrecondition => tonic::Code::FailedPrecondition,
            Self::ResourceExhausted => tonic::Code::ResourceExhausted,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::DataLoss => tonic::Code::DataLoss,
            Self::Internal => tonic::Code::Internal,
        }
    }

    /// The HTTP status code.
    #[must_use]
    pub const fn http(self) -> http::StatusCode {
        match self {
            Self::InvalidArgument => http::StatusCode::BAD_REQUEST,
            Self::Unauthenticated => http::StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => http::StatusCode::FORBIDDEN,
            Self::NotFound => http::StatusCode::NOT_FOUND,
            Self::AlreadyExists => http::StatusCode::CONFLICT,
            Self::FailedPrecondition => http::StatusCode::PRECONDITION_FAILED,
            Self::ResourceExhausted => http::StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::DataLoss | Self::Internal => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the same call may go through later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        match self {
            Self::Unavailable | Self::ResourceExhausted => true,
            Self::InvalidArgument
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::NotFound
            | Self::AlreadyExists
            | Self::FailedPrecondition
            | Self::DataLoss
            | Self::Internal => false,
        }
    }
}

/// A failure on its way to a caller.
///
/// There is no `Display` on purpose: choose [`Failure::external`] or [`Failure::log`].
pub struct Failure {
    code: Code,
    external: String,
    internal: Option<String>,
}

impl Failure {
    /// A failure with words for the caller: what was wrong, where, what to do.
    #[must_use]
    pub fn new(code: Code, external: impl Into<String>) -> Self {
        Self { code, external: external.into(), internal: None }
    }

    /// Adds what only our own log may show.
    #[must_use]
    pub fn with_internal(mut self, internal: impl fmt::Display) -> Self {
        self.internal = Some(internal.to_string());
        self
    }

    /// A defect or fault on our side: the caller learns only that, the log learns the cause.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Code::Internal, "internal error; the log of the service has the cause").with_internal(cause)
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Words for the caller.
    #[must_use]
    pub fn external(&self) -> &str {
        &self.external
    }

    /// Writes the failure to the log, where it is handled: defects as errors, the rest quietly.
    pub fn log(&self) {
        let internal = self.internal.as_deref().unwrap_or_default();
        match self.code {
            Code::Internal | Code::DataLoss => {
                tracing::error!(code = ?self.code, internal, "{}", self.external);
            }
            _ => tracing::debug!(code = ?self.code, internal, "{}", self.external),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("code", &self.code)
            .field("external", &self.external)
            .finish_non_exhaustive()
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        failure.log();
        Self::new(failure.code.grpc(), failure.external)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internal_half_never_reaches_the_caller() {
        let status: tonic::Status = Failure::internal("password=hunter2").into();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!format!("{status:?}").contains("hunter2"));
    }

    #[test]
    fn a_debug_print_does_not_show_the_internal_half() {
        let failure = Failure::new(Code::NotFound, "no such camera").with_internal("row 7");
        assert!(!format!("{failure:?}").contains("row 7"));
        assert_eq!(failure.code().http(), http::StatusCode::NOT_FOUND);
    }
}
