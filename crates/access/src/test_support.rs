//! Keys and claims for the tests of this crate.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use obscura_clock::Timestamp;
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, GrantId};
use obscura_proto::{
    access::v1::{GrantClaims, Receipt, SignedGrant, SignedReceipt, SignedStatusNote, StatusNote},
    footage::v1::{Layer, Span},
};
use prost::Message as _;

use crate::{AccessTrust, signing};

pub(crate) fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

pub(crate) fn holder() -> SpiffeId {
    "spiffe://example.org/obscura/cli".parse().unwrap()
}

/// Claims for two cameras and ten minutes, valid from now for five.
pub(crate) fn claims() -> GrantClaims {
    let now = now().unix_nanos();
    GrantClaims {
        grant_id: GrantId::generate().to_string(),
        subject: "u-17".into(),
        camera_ids: vec![CameraId::generate().to_string(), CameraId::generate().to_string()],
        layers: vec![Layer::Original.into()],
        span: Some(Span { start_unix_ns: now - 600_000_000_000, end_unix_ns: now }),
        purpose: "theft".into(),
        reason: "case 12".into(),
        approvals: Vec::new(),
        holder: holder().to_string(),
        relay: String::new(),
        not_before_unix_ns: now,
        expires_unix_ns: now + 300_000_000_000,
    }
}

/// The two keys of an installation.
pub(crate) struct Signers {
    grants: Ed25519KeyPair,
    receipts: Ed25519KeyPair,
}

impl Signers {
    pub(crate) fn new() -> Self {
        let key = |seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Self { grants: key(1), receipts: key(2) }
    }

    pub(crate) fn trust(&self) -> AccessTrust {
        let public = |key: &Ed25519KeyPair| key.public_key().as_ref().try_into().unwrap();
        AccessTrust { grant_issuer: public(&self.grants), audit: public(&self.receipts) }
    }

    pub(crate) fn sign_grant(&self, claims: &GrantClaims) -> SignedGrant {
        self.sign_grant_with_receipt(claims, self.sign_receipt(&claims.encode_to_vec()))
    }

    pub(crate) fn sign_grant_with_receipt(
        &self,
        claims: &GrantClaims,
        receipt: SignedReceipt,
    ) -> SignedGrant {
        self.sign_grant_bytes(&claims.encode_to_vec(), receipt)
    }

    pub(crate) fn sign_grant_bytes(&self, claims: &[u8], receipt: SignedReceipt) -> SignedGrant {
        let signature = self.grants.sign(&signing::grant_message(claims, &receipt.receipt));
        SignedGrant {
            claims: claims.to_vec().into(),
            receipt: Some(receipt),
            signature: signature.as_ref().to_vec().into(),
        }
    }

    pub(crate) fn sign_receipt(&self, claims: &[u8]) -> SignedReceipt {
        let receipt = Receipt {
            log: "test".into(),
            leaf_index: 3,
            claims_hash: signing::sha256(claims).as_bytes().to_vec().into(),
            committed_unix_ns: now().unix_nanos(),
            ..Receipt::default()
        };
        self.sign_receipt_bytes(&receipt.encode_to_vec())
    }

    pub(crate) fn sign_receipt_bytes(&self, receipt: &[u8]) -> SignedReceipt {
        let signature = self.receipts.sign(&signing::receipt_message(receipt)).as_ref().to_vec().into();
        SignedReceipt { receipt: receipt.to_vec().into(), signature }
    }

    pub(crate) fn sign_note(&self, note: &StatusNote) -> SignedStatusNote {
        self.sign_note_bytes(&note.encode_to_vec())
    }

    pub(crate) fn sign_note_bytes(&self, note: &[u8]) -> SignedStatusNote {
        let signature = self.grants.sign(&signing::note_message(note)).as_ref().to_vec().into();
        SignedStatusNote { note: note.to_vec().into(), signature }
    }
}
