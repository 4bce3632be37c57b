//! From signed bytes to a [`Grant`].

use obscura_clock::Timestamp;
use obscura_identity::SpiffeId;
use obscura_proto::access::v1::{Receipt, SignedGrant, SignedReceipt, SignedStatusNote};
use prost::Message as _;

use crate::{
    Grant, MAX_CLAIMS_BYTES, Refusal,
    claims::Claims,
    note::FreshNote,
    signing::{self, sha256},
};

/// Longest receipt.
pub const MAX_RECEIPT_BYTES: usize = 1 << 10;

/// The Ed25519 public keys that vouch for access in this installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTrust {
    /// Signs grants and status notes.
    pub grant_issuer: [u8; 32],
    /// Signs the receipts of the audit log.
    pub audit: [u8; 32],
}

/// Checks everything that makes a grant count at `now` for the calling service `holder`: both
/// signatures, that the receipt is about these very claims, the holder, the time of validity, the
/// age of the status note (at most 30 s old, at most 5 s ahead) and its revocations.
///
/// Needs no network. What the claims then permit is [`Grant::covers`].
///
/// # Errors
/// The first reason for which the grant is not honoured.
pub fn verify(
    trust: &AccessTrust,
    grant: &SignedGrant,
    note: &SignedStatusNote,
    holder: &SpiffeId,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let receipt = grant.receipt.as_ref().ok_or(Refusal::NoReceipt)?;
    check_signatures(trust, grant, receipt)?;
    check_receipt(receipt, &grant.claims)?;
    let claims = Claims::parse(&grant.claims)?;
    if claims.grant.holder != *holder {
        return Err(Refusal::WrongHolder { holder: claims.grant.holder, caller: holder.clone() });
    }
    check_validity(&claims, now)?;
    FreshNote::verify(trust, note, now)?.check_not_revoked(claims.grant.id)?;
    Ok(claims.grant)
}

/// Nothing is parsed before its signature is good.
fn check_signatures(
    trust: &AccessTrust,
    grant: &SignedGrant,
    receipt: &SignedReceipt,
) -> Result<(), Refusal> {
    check_length("claims", &grant.claims, MAX_CLAIMS_BYTES)?;
    check_length("receipt", &receipt.receipt, MAX_RECEIPT_BYTES)?;
    let message = signing::grant_message(&grant.claims, &receipt.receipt);
    signing::check("grant", &trust.grant_issuer, &message, &grant.signature)?;
    let message = signing::receipt_message(&receipt.receipt);
    signing::check("receipt", &trust.audit, &message, &receipt.signature)
}

/// What a receipt says, where the log with the Ed25519 key `audit` signed it.
///
/// # Errors
/// [`Refusal::TooLong`], [`Refusal::BadSignature`], or that it is malformed.
pub fn verify_receipt(audit: &[u8; 32], signed: &SignedReceipt) -> Result<Receipt, Refusal> {
    check_length("receipt", &signed.receipt, MAX_RECEIPT_BYTES)?;
    let message = signing::receipt_message(&signed.receipt);
    signing::check("receipt", audit, &message, &signed.signature)?;
    Receipt::decode(signed.receipt.clone()).map_err(|error| Refusal::malformed("receipt", error))
}

fn check_length(part: &'static str, bytes: &[u8], limit: usize) -> Result<(), Refusal> {
    if bytes.len() > limit {
        return Err(Refusal::TooLong { part, bytes: bytes.len(), limit });
    }
    Ok(())
}

fn check_receipt(signed: &SignedReceipt, claims: &[u8]) -> Result<(), Refusal> {
    let receipt =
        Receipt::decode(signed.receipt.clone()).map_err(|error| Refusal::malformed("receipt", error))?;
    if receipt.claims_hash != sha256(claims).as_bytes()[..] {
        return Err(Refusal::ReceiptForOtherClaims);
    }
    Ok(())
}

fn check_validity(claims: &Claims, now: Timestamp) -> Result<(), Refusal> {
    if now < claims.not_before {
        return Err(Refusal::NotYetValid(claims.not_before));
    }
    if now >= claims.grant.expires {
        return Err(Refusal::Expired(claims.grant.expires));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use obscura_ids::GrantId;
    use obscura_proto::{
        access::v1::{Approval, GrantClaims, StatusNote},
        footage::v1::Span,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{Signers, claims, holder, now};

    fn note(signers: &Signers) -> SignedStatusNote {
        signers.sign_note(&StatusNote { made_unix_ns: now().unix_nanos(), ..StatusNote::default() })
    }

    fn verify_at(signers: &Signers, claims: &GrantClaims, at: Timestamp) -> Result<Grant, Refusal> {
        let note = StatusNote { made_unix_ns: at.unix_nanos(), ..StatusNote::default() };
        verify(&signers.trust(), &signers.sign_grant(claims), &signers.sign_note(&note), &holder(), at)
    }

    #[test]
    fn a_good_grant_says_what_its_claims_say() {
        let claims = claims();
        let grant = verify_at(&Signers::new(), &claims, now()).unwrap();
        assert_eq!(grant.id.to_string(), claims.grant_id);
        assert_eq!(grant.cameras.len(), 2);
        assert_eq!(grant.reason, claims.reason);
        assert_eq!(grant.relay, None);
    }

    /// One change to each field of the claims.
    fn alterations() -> Vec<fn(&mut GrantClaims)> {
        vec![
            |c| c.grant_id = GrantId::generate().to_string(),
            |c| c.subject.push('x'),
            |c| c.camera_ids.truncate(1),
            |c| c.layers.push(2),
            |c| c.span = Some(Span { start_unix_ns: 0, end_unix_ns: i64::MAX }),
            |c| c.purpose.push('x'),
            |c| c.reason.push('x'),
            |c| c.approvals.push(Approval::default()),
            |c| c.holder = "spiffe://example.org/obscura/export".into(),
            |c| c.relay = "spiffe://example.org/obscura/gateway".into(),
            |c| c.not_before_unix_ns -= 1,
            |c| c.expires_unix_ns += 1,
        ]
    }

    #[test]
    fn altering_any_field_of_the_claims_breaks_the_grant() {
        let signers = Signers::new();
        let good = signers.sign_grant(&claims());
        for alter in alterations() {
            let mut altered = claims();
            altered.grant_id = GrantClaims::decode(good.claims.clone()).unwrap().grant_id;
            alter(&mut altered);
            let forged = SignedGrant { claims: altered.encode_to_vec().into(), ..good.clone() };
            let refused = verify(&signers.trust(), &forged, &note(&signers), &holder(), now());
            assert_eq!(refused, Err(Refusal::BadSignature { part: "grant" }));
        }
    }

    #[test]
    fn flipping_any_byte_of_the_grant_or_the_note_breaks_it() {
        let signers = Signers::new();
        let good = signers.sign_grant(&claims());
        let good_note = note(&signers);
        let receipt = good.receipt.clone().unwrap();
        let parts = [
            &good.claims,
            &good.signature,
            &receipt.receipt,
            &receipt.signature,
            &good_note.note,
            &good_note.signature,
        ];
        for (part, bytes) in parts.into_iter().enumerate() {
            for at in 0..bytes.len() {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1;
                let (mut grant, mut note) = (good.clone(), good_note.clone());
                let receipt = grant.receipt.as_mut().unwrap();
                let target = match part {
                    0 => &mut grant.claims,
                    1 => &mut grant.signature,
                    2 => &mut receipt.receipt,
                    3 => &mut receipt.signature,
                    4 => &mut note.note,
                    _ => &mut note.signature,
                };
                *target = flipped.into();
                let refused = verify(&signers.trust(), &grant, &note, &holder(), now());
                assert!(matches!(refused, Err(Refusal::BadSignature { .. })), "part {part} byte {at}");
            }
        }
    }

    #[test]
    fn a_grant_without_a_receipt_or_with_one_for_other_claims_is_refused() {
        let signers = Signers::new();
        let mut grant = signers.sign_grant(&claims());
        let refuse = |grant: &SignedGrant| verify(&signers.trust(), grant, &note(&signers), &holder(), now());
        let mut other = claims();
        other.reason.push('x');
        let swapped =
            signers.sign_grant_with_receipt(&claims(), signers.sign_receipt(&other.encode_to_vec()));
        assert_eq!(refuse(&swapped), Err(Refusal::ReceiptForOtherClaims));
        grant.receipt = None;
        assert_eq!(refuse(&grant), Err(Refusal::NoReceipt));
    }

    #[test]
    fn the_grant_key_cannot_sign_receipts_and_the_audit_key_cannot_sign_grants() {
        let signers = Signers::new();
        let swapped =
            AccessTrust { grant_issuer: signers.trust().audit, audit: signers.trust().grant_issuer };
        let refused = verify(&swapped, &signers.sign_grant(&claims()), &note(&signers), &holder(), now());
        assert_eq!(refused, Err(Refusal::BadSignature { part: "grant" }));
    }

    #[test]
    fn another_service_cannot_use_the_grant() {
        let signers = Signers::new();
        let caller: SpiffeId = "spiffe://example.org/obscura/ingest".parse().unwrap();
        let refused =
            verify(&signers.trust(), &signers.sign_grant(&claims()), &note(&signers), &caller, now());
        assert_eq!(refused, Err(Refusal::WrongHolder { holder: holder(), caller }));
    }

    #[test]
    fn a_grant_counts_from_its_first_to_before_its_last_moment() {
        let signers = Signers::new();
        let claims = claims();
        let first = Timestamp::from_unix_nanos(claims.not_before_unix_ns);
        let end = Timestamp::from_unix_nanos(claims.expires_unix_ns);
        let tick = Duration::from_nanos(1);
        assert_eq!(verify_at(&signers, &claims, first - tick), Err(Refusal::NotYetValid(first)));
        assert!(verify_at(&signers, &claims, first).is_ok());
        assert!(verify_at(&signers, &claims, end - tick).is_ok());
        assert_eq!(verify_at(&signers, &claims, end), Err(Refusal::Expired(end)));
    }

    #[test]
    fn a_revoked_grant_is_refused() {
        let signers = Signers::new();
        let claims = claims();
        let note = StatusNote {
            made_unix_ns: now().unix_nanos(),
            revoked_grant_ids: vec![GrantId::generate().to_string(), claims.grant_id.clone()],
            ..StatusNote::default()
        };
        let grant = signers.sign_grant(&claims);
        let refused = verify(&signers.trust(), &grant, &signers.sign_note(&note), &holder(), now());
        assert_eq!(refused, Err(Refusal::Revoked(claims.grant_id.parse().unwrap())));
    }

    #[test]
    fn oversized_parts_are_refused_before_any_cryptography() {
        let signers = Signers::new();
        let mut grant = signers.sign_grant(&claims());
        grant.claims = vec![0; MAX_CLAIMS_BYTES + 1].into();
        let refused = verify(&signers.trust(), &grant, &note(&signers), &holder(), now());
        assert!(matches!(refused, Err(Refusal::TooLong { part: "claims", .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_pass(
            claims in proptest::collection::vec(any::<u8>(), 0..200),
            receipt in proptest::collection::vec(any::<u8>(), 0..200),
            note in proptest::collection::vec(any::<u8>(), 0..200),
            signature in proptest::collection::vec(any::<u8>(), 0..80),
            now: i64,
        ) {
            let signers = Signers::new();
            let unsigned = SignedGrant {
                claims: claims.clone().into(),
                receipt: Some(SignedReceipt { receipt: receipt.clone().into(), signature: signature.clone().into() }),
                signature: signature.clone().into(),
            };
            let note = signers.sign_note_bytes(&note);
            let now = Timestamp::from_unix_nanos(now);
            prop_assert!(verify(&signers.trust(), &unsigned, &note, &holder(), now).is_err());
            // Well signed nonsense gets past the signatures and must still not panic.
            let signed = signers.sign_grant_bytes(&claims, signers.sign_receipt_bytes(&receipt));
            prop_assert!(verify(&signers.trust(), &signed, &note, &holder(), now).is_err());
        }
    }
}
