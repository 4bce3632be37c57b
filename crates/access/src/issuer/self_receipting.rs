//! For tests of services that honour grants: an issuer that is its own audit log.

use std::path::Path;

use aws_lc_rs::signature::Ed25519KeyPair;
use obscura_clock::SharedClock;
use obscura_proto::access::v1::{Receipt, SignedGrant, SignedReceipt, SignedStatusNote};
use prost::Message as _;

use super::{Error, GrantRequest, LocalIssuer, Prepared, public};
use crate::{
    AccessTrust,
    signing::{receipt_message, sha256},
};

/// Signs receipts that no log stands behind. Only built for tests.
#[derive(Debug)]
pub struct SelfReceipting {
    issuer: LocalIssuer,
    receipts: Ed25519KeyPair,
}

impl SelfReceipting {
    /// As [`LocalIssuer::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(directory: &Path) -> Result<(), Error> {
        LocalIssuer::create(directory)
    }

    /// As [`LocalIssuer::open`], with a receipt key that lives as long as this value.
    ///
    /// # Errors
    /// As there.
    pub fn open(directory: &Path, clock: SharedClock) -> Result<Self, Error> {
        let receipts = Ed25519KeyPair::generate().map_err(|_| Error::Random)?;
        Ok(Self { issuer: LocalIssuer::open(directory, clock)?, receipts })
    }

    /// Both public keys.
    #[must_use]
    pub fn public_keys(&self) -> AccessTrust {
        AccessTrust { grant_issuer: self.issuer.public_key(), audit: public(&self.receipts) }
    }

    /// Prepares, receipts and signs in one go.
    ///
    /// # Errors
    /// As [`LocalIssuer::prepare`].
    pub fn issue(&self, request: GrantRequest) -> Result<SignedGrant, Error> {
        self.sign(self.issuer.prepare(request)?)
    }

    /// Receipts and signs.
    ///
    /// # Errors
    /// As [`LocalIssuer::sign`].
    pub fn sign(&self, prepared: Prepared) -> Result<SignedGrant, Error> {
        let receipt = Receipt {
            log: "test".to_owned(),
            claims_hash: sha256(&prepared.bytes).as_bytes().to_vec().into(),
            ..Receipt::default()
        };
        let receipt = receipt.encode_to_vec();
        let signature = self.receipts.sign(&receipt_message(&receipt)).as_ref().to_vec().into();
        let receipt = SignedReceipt { receipt: receipt.into(), signature };
        self.issuer.sign(prepared, receipt, &public(&self.receipts))
    }

    /// As [`LocalIssuer::status_note`].
    #[must_use]
    pub fn status_note(&self) -> SignedStatusNote {
        self.issuer.status_note()
    }
}
