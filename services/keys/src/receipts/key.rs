//! The Ed25519 key that signs receipts: made at the first start, kept under the key-encryption key.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use obscura_proto::keys::v1::{ShredReceipt, SignedShredReceipt};
use obscura_row_cipher::{self as row_cipher, Failed};
use prost::Message as _;

use crate::{
    custody::Parts,
    error::Error,
    key_encryption::{Row, RowKind},
    store::receipt_key::{self, ReceiptKeyRow},
};

/// Id of the one receipt key that a zone has.
const ID: &str = "receipt";
/// With the zero byte behind it, what stands before every receipt that is signed (`keys.proto`).
const DOMAIN: &[u8] = b"obscura shred receipt v1\0";

/// Signs receipts. Has no `Debug`, so that it cannot be printed.
pub struct ReceiptKey {
    pair: Ed25519KeyPair,
}

impl ReceiptKey {
    /// Opens the zone's receipt key, or makes it; it is durable on return.
    pub async fn open_or_create(parts: &Parts) -> Result<Self, Error> {
        match receipt_key::get(parts.store.reader(), &parts.zone).await? {
            Some(stored) => Self::open(parts, &stored).await,
            None => Self::create(parts).await,
        }
    }

    async fn open(parts: &Parts, stored: &ReceiptKeyRow) -> Result<Self, Error> {
        let name = || format!("the receipt key of zone {}", parts.zone);
        let seed = parts.encryption.unwrap(row(parts), &stored.seed).await.map_err(Error::opening(name))?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &stored.public_key);
        Ok(Self { pair: pair.map_err(|_| Error::Damaged { row: name() })? })
    }

    async fn create(parts: &Parts) -> Result<Self, Error> {
        let seed = row_cipher::generate()?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| Failed)?;
        let writer = parts.store.write().await?;
        let wrapped = parts.encryption.wrap(row(parts), seed.as_ref()).await?;
        let stored = ReceiptKeyRow { public_key: pair.public_key().as_ref().to_vec(), seed: wrapped };
        receipt_key::put(writer.tx(), &parts.zone, &stored).await?;
        writer.commit().await?;
        Ok(Self { pair })
    }

    /// The public half.
    pub fn public_key(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// Signs a receipt.
    pub fn sign(&self, receipt: &ShredReceipt) -> SignedShredReceipt {
        let receipt = receipt.encode_to_vec();
        let signature = self.pair.sign(&[DOMAIN, &receipt].concat());
        SignedShredReceipt { receipt: receipt.into(), signature: signature.as_ref().to_vec().into() }
    }
}

/// Puts the seed under the newest version. Call it with a writer in hand.
pub async fn rewrap(parts: &Parts, stored: ReceiptKeyRow) -> Result<ReceiptKeyRow, Error> {
    let name = || format!("the receipt key of zone {}", parts.zone);
    let seed = parts.encryption.unwrap(row(parts), &stored.seed).await.map_err(Error::opening(name))?;
    let seed = parts.encryption.wrap(row(parts), &seed).await?;
    Ok(ReceiptKeyRow { seed, ..stored })
}

/// Whether one of these keys signed it.
pub fn verifies(signed: &SignedShredReceipt, public_keys: &[Vec<u8>]) -> bool {
    let message = [DOMAIN, &signed.receipt].concat();
    let by =
        |key: &Vec<u8>| UnparsedPublicKey::new(&ED25519, key).verify(&message, &signed.signature).is_ok();
    public_keys.iter().any(by)
}

fn row(parts: &Parts) -> Row<'_> {
    Row { kind: RowKind::ReceiptSeed, id: ID, zone: &parts.zone }
}
