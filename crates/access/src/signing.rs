//! The bytes that are signed, with the domain strings of `proto/obscura/access/v1/grant.proto`.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};
use obscura_ids::Digest;

use crate::Refusal;

const GRANT: &[u8] = b"obscura grant v1\0";
const RECEIPT: &[u8] = b"obscura receipt v1\0";
const NOTE: &[u8] = b"obscura status note v1\0";

/// What the grant issuer signs: the claims together with the receipt that precedes them.
pub(crate) fn grant_message(claims: &[u8], receipt: &[u8]) -> Vec<u8> {
    [GRANT, sha256(claims).as_bytes(), sha256(receipt).as_bytes()].concat()
}

/// What the audit log signs to vouch for one serialised `Receipt`.
#[must_use]
pub fn receipt_message(receipt: &[u8]) -> Vec<u8> {
    [RECEIPT, receipt].concat()
}

/// What the grant issuer signs every few seconds.
pub(crate) fn note_message(note: &[u8]) -> Vec<u8> {
    [NOTE, note].concat()
}

/// SHA-256 of the bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest::from_bytes(hash)
}

/// Checks an Ed25519 signature (RFC 8032).
pub(crate) fn check(
    part: &'static str,
    key: &[u8; 32],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refusal> {
    UnparsedPublicKey::new(&ED25519, key)
        .verify(message, signature)
        .map_err(|_| Refusal::BadSignature { part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_of_message_never_coincide() {
        let grant = grant_message(b"a", b"b");
        assert_eq!(grant.len(), 17 + 32 + 32);
        assert_ne!(grant_message(b"ab", b""), grant_message(b"a", b"b"));
        assert_ne!(receipt_message(b"x"), note_message(b"x"));
    }
}
