//! Grants, receipts and status notes: types, canonical bytes, verification.
//!
//! Whoever releases a key or a frame calls [`verify`], offline and again and again during long
//! streams: a [`Grant`] exists only behind two good signatures, the right holder and a fresh status
//! note. Until policy exists, grants come from the [`LocalIssuer`] of the administrator's CLI.

mod claims;
mod grant;
mod issuer;
mod key_file;
mod note;
mod refusal;
mod signing;
#[cfg(test)]
mod test_support;
mod verification;

pub use claims::{
    MAX_APPROVALS, MAX_CAMERAS, MAX_CLAIMS_BYTES, MAX_PURPOSE_BYTES, MAX_REASON_BYTES, MAX_SUBJECT_BYTES,
};
pub use grant::Grant;
#[cfg(any(test, feature = "test-issuer"))]
pub use issuer::SelfReceipting;
pub use issuer::{Error as IssuerError, GrantRequest, LocalIssuer, MAX_VALID_FOR, Prepared};
pub use note::{MAX_NOTE_AGE, MAX_NOTE_BYTES, MAX_NOTE_LEAD, MAX_REVOCATIONS};
pub use refusal::Refusal;
pub use signing::receipt_message;
pub use verification::{AccessTrust, MAX_RECEIPT_BYTES, verify, verify_receipt};
