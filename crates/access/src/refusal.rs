//! Why a grant is not honoured.

use obscura_clock::Timestamp;
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, GrantId, Layer};
use obscura_status::{Code, Failure};

/// Why a grant is not honoured. Each variant is a sentence that a caller may read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request carried no receipt.
    #[error("the grant carries no receipt: ask for a new grant")]
    NoReceipt,
    /// A part is longer than any honest one.
    #[error("the {part} has {bytes} bytes, more than {limit}")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// How long it is.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A signature is not by the key that this installation trusts.
    #[error("the signature of the {part} is not by the key in this installation's trust file")]
    BadSignature {
        /// What was signed.
        part: &'static str,
    },
    /// Signed, and still not what the format allows.
    #[error("the {part} is malformed: {why}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The receipt is about something else.
    #[error("the receipt belongs to other claims: the grant is not in the audit log")]
    ReceiptForOtherClaims,
    /// Someone else's grant.
    #[error("the grant is for {holder}, not for {caller}")]
    WrongHolder {
        /// Who may use it.
        holder: SpiffeId,
        /// Who tried.
        caller: SpiffeId,
    },
    /// Too early.
    #[error("the grant is not valid before {0}: compare the clocks of issuer and service")]
    NotYetValid(Timestamp),
    /// Too late.
    #[error("the grant expired at {0}: ask for a new one")]
    Expired(Timestamp),
    /// The status note is too old to say that the grant still holds.
    #[error("the status note is from {made}, older than 30 s: send a fresh one")]
    StaleNote {
        /// When it was made.
        made: Timestamp,
    },
    /// The status note is from the future.
    #[error("the status note is from {made}, in the future: compare the clocks of issuer and service")]
    NoteFromTheFuture {
        /// When it says it was made.
        made: Timestamp,
    },
    /// Taken back before it expired.
    #[error("grant {0} was revoked")]
    Revoked(GrantId),
    /// Outside the grant.
    #[error("the grant does not name camera {0}")]
    CameraNotGranted(CameraId),
    /// Outside the grant.
    #[error("the grant does not name the layer `{0}`")]
    LayerNotGranted(Layer),
    /// Outside the grant.
    #[error("the grant's span does not touch the slot of {0}")]
    OutsideSpan(Timestamp),
}

impl Refusal {
    /// The code a caller sees: unauthenticated where nobody we trust vouches for the request.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoReceipt | Self::BadSignature { .. } => Code::Unauthenticated,
            Self::TooLong { .. }
            | Self::Malformed { .. }
            | Self::ReceiptForOtherClaims
            | Self::WrongHolder { .. }
            | Self::NotYetValid(_)
            | Self::Expired(_)
            | Self::StaleNote { .. }
            | Self::NoteFromTheFuture { .. }
            | Self::Revoked(_)
            | Self::CameraNotGranted(_)
            | Self::LayerNotGranted(_)
            | Self::OutsideSpan(_) => Code::PermissionDenied,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that `map_err(malformed)` can be written")]
    pub(crate) fn malformed(part: &'static str, why: impl ToString) -> Self {
        Self::Malformed { part, why: why.to_string() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_grant_is_unauthenticated_and_an_expired_one_is_denied() {
        let forged: Failure = Refusal::BadSignature { part: "grant" }.into();
        assert_eq!(forged.code(), Code::Unauthenticated);
        let expired: Failure = Refusal::Expired("2026-11-23T10:00:00Z".parse().unwrap()).into();
        assert_eq!(expired.code(), Code::PermissionDenied);
        assert_eq!(expired.external(), "the grant expired at 2026-11-23T10:00:00.000Z: ask for a new one");
    }
}
