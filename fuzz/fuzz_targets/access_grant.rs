//! Grants, receipts and status notes that someone made up: no signature is believed, and behind a good one
//! whatever the issuer may have written is honoured only for its holder and in its time.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use libfuzzer_sys::fuzz_target;
use obscura_access::{AccessTrust, receipt_message, verify, verify_receipt};
use obscura_clock::Timestamp;
use obscura_identity::SpiffeId;
use obscura_proto::access::v1::{Receipt, SignedGrant, SignedReceipt, SignedStatusNote};
use prost::Message as _;

/// Signs everything here; in an installation these are two keys.
static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed"));
static TRUST: LazyLock<AccessTrust> = LazyLock::new(|| {
    let public = SIGNER.public_key().as_ref().try_into().expect("a public key has 32 bytes");
    AccessTrust { grant_issuer: public, audit: public }
});
static HOLDER: LazyLock<SpiffeId> =
    LazyLock::new(|| "spiffe://shop.example/obscura/cli".parse().expect("a SPIFFE id"));

fuzz_target!(|input: (&[u8], &[u8], &[u8], i64)| {
    let (claims, receipt, note, now) = input;
    let now = Timestamp::from_unix_nanos(now);
    let forged = SignedGrant {
        claims: claims.to_vec().into(),
        receipt: Some(SignedReceipt { receipt: receipt.to_vec().into(), signature: note.to_vec().into() }),
        signature: note.to_vec().into(),
    };
    let forged_note =
        SignedStatusNote { note: note.to_vec().into(), signature: receipt.to_vec().into() };
    assert!(verify(&TRUST, &forged, &forged_note, &HOLDER, now).is_err());
    for receipt in [receipt.to_vec(), receipt_for(claims)] {
        let (grant, note) = (signed_grant(claims, receipt), signed_note(note));
        let _ = verify_receipt(&TRUST.audit, grant.receipt.as_ref().expect("it has one"));
        if let Ok(grant) = verify(&TRUST, &grant, &note, &HOLDER, now) {
            assert!(grant.holder == *HOLDER && now < grant.expires);
        }
    }
});

/// A receipt for these very claims, which the fuzzer would not find by itself.
fn receipt_for(claims: &[u8]) -> Vec<u8> {
    let claims_hash = digest(&SHA256, claims).as_ref().to_vec().into();
    Receipt { claims_hash, ..Receipt::default() }.encode_to_vec()
}

fn signed_grant(claims: &[u8], receipt: Vec<u8>) -> SignedGrant {
    let hash = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().to_vec();
    let message = [b"obscura grant v1\0".as_slice(), &hash(claims), &hash(&receipt)].concat();
    let signature = sign(&receipt_message(&receipt)).into();
    SignedGrant {
        claims: claims.to_vec().into(),
        receipt: Some(SignedReceipt { receipt: receipt.into(), signature }),
        signature: sign(&message).into(),
    }
}

fn signed_note(note: &[u8]) -> SignedStatusNote {
    let signature = sign(&[b"obscura status note v1\0".as_slice(), note].concat());
    SignedStatusNote { note: note.to_vec().into(), signature: signature.into() }
}

fn sign(message: &[u8]) -> Vec<u8> {
    SIGNER.sign(message).as_ref().to_vec()
}
