//! Receipts of destruction, believed only with the signature of custody and without a gap.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use obscura_clock::Timestamp;
use obscura_ids::{CameraId, Layer, LayerKeyId, ZoneId};
use obscura_pack::Entry;
use obscura_proto::keys::v1::{ShredCause, ShredReceipt, ShreddedKey as Message, SignedShredReceipt};
use obscura_seal::{Hour, SlotRange};
use prost::Message as _;

use crate::state::slot_range;

/// Domain of the signature, see `SignedShredReceipt` in `proto/obscura/keys/v1/keys.proto`.
const DOMAIN: &[u8] = b"obscura shred receipt v1\0";

/// Why a receipt is not believed. Nothing is marked or deleted for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbelievable {
    /// Not the pinned key.
    #[error(
        "its signature is not that of the custody that was met first: if custody was set up anew, \
         see docs/runbooks/storage.md"
    )]
    Signature,
    /// Receipts are missing, or come again.
    #[error(
        "receipt {expected} should follow, and {got} came: custody was rolled back, or receipts are missing"
    )]
    Gap {
        /// The number that had to come.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// Another zone.
    #[error("it is of another zone")]
    Zone,
    /// What no custody writes.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
}

/// The destroyed part of one layer key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShreddedKey {
    /// The key.
    pub key: LayerKeyId,
    /// Its camera.
    pub camera: CameraId,
    /// Its layer.
    pub layer: Layer,
    /// Its hour.
    pub hour: Hour,
    /// What of it is destroyed.
    pub slots: SlotRange,
}

/// What can no longer be opened, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Counts the receipts of the zone from 1.
    pub number: u64,
    /// Whether somebody asked for it before the retention ended.
    pub is_early: bool,
    /// What was destroyed.
    pub keys: Vec<ShreddedKey>,
    /// Since when.
    pub effective: Timestamp,
    /// The `SignedShredReceipt`, serialised.
    pub signed: Bytes,
}

/// Whose receipts count.
#[derive(Clone, Debug)]
pub struct ReceiptTrust {
    /// The zone.
    pub zone: ZoneId,
    /// Public key of its custody, Ed25519.
    pub key: [u8; 32],
}

impl ReceiptTrust {
    /// The receipt, which must have this number.
    ///
    /// # Errors
    /// [`Unbelievable`].
    pub fn read(&self, signed: &SignedShredReceipt, expected: u64) -> Result<Receipt, Unbelievable> {
        let message = [DOMAIN, &signed.receipt].concat();
        let key = UnparsedPublicKey::new(&ED25519, self.key);
        key.verify(&message, &signed.signature).map_err(|_| Unbelievable::Signature)?;
        let receipt = ShredReceipt::decode(&*signed.receipt)
            .map_err(|_| Unbelievable::Malformed("it is not a ShredReceipt in protobuf"))?;
        if receipt.number != expected {
            return Err(Unbelievable::Gap { expected, got: receipt.number });
        }
        if receipt.zone != self.zone.as_str() {
            return Err(Unbelievable::Zone);
        }
        let is_early = match receipt.cause() {
            ShredCause::Unspecified => {
                return Err(Unbelievable::Malformed("it has no cause that is known here"));
            }
            cause => cause == ShredCause::Early,
        };
        Ok(Receipt {
            number: receipt.number,
            is_early,
            keys: receipt.keys.into_iter().map(ShreddedKey::try_from).collect::<Result<_, _>>()?,
            effective: Timestamp::from_unix_nanos(receipt.effective_unix_ns),
            signed: signed.encode_to_vec().into(),
        })
    }
}

impl ShreddedKey {
    /// Whether the segment is sealed under the destroyed part.
    #[must_use]
    pub fn covers(&self, entry: &Entry) -> bool {
        let header = &entry.header;
        header.key_id == self.key && header.hour == self.hour && self.slots.contains(header.slot)
    }
}

impl Receipt {
    /// Cameras of which something was destroyed.
    #[must_use]
    pub fn cameras(&self) -> BTreeSet<CameraId> {
        self.keys.iter().map(|key| key.camera).collect()
    }
}

impl TryFrom<Message> for ShreddedKey {
    type Error = Unbelievable;

    fn try_from(message: Message) -> Result<Self, Unbelievable> {
        let wrong = Unbelievable::Malformed;
        let layer = u8::try_from(message.layer).ok().and_then(Layer::from_code);
        Ok(Self {
            key: message.key_id.parse().map_err(|_| wrong("a key id that is none"))?,
            camera: message.camera_id.parse().map_err(|_| wrong("a camera id that is none"))?,
            layer: layer.ok_or(wrong("a layer that is unknown"))?,
            hour: Hour::new(message.hour).map_err(|_| wrong("an hour that is none"))?,
            slots: slot_range(message.first_slot, message.last_slot)
                .ok_or(wrong("slots that no hour has"))?,
        })
    }
}

/// Signs receipts as custody does.
#[cfg(test)]
pub mod testing {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    /// A custody that only signs.
    pub struct Signer(Ed25519KeyPair);

    impl Signer {
        pub fn from_seed(seed: u8) -> Self {
            Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
        }

        pub fn public_key(&self) -> [u8; 32] {
            self.0.public_key().as_ref().try_into().unwrap()
        }

        pub fn sign(&self, receipt: &ShredReceipt) -> SignedShredReceipt {
            let receipt = receipt.encode_to_vec();
            let signature = self.0.sign(&[DOMAIN, &receipt].concat());
            SignedShredReceipt { receipt: receipt.into(), signature: signature.as_ref().to_vec().into() }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{testing::Signer, *};
    use crate::test_support::camera;

    fn receipt() -> ShredReceipt {
        ShredReceipt {
            number: 7,
            zone: "eea".into(),
            cause: ShredCause::Expiry.into(),
            keys: vec![Message {
                key_id: LayerKeyId::from_bytes([1; 16]).to_string(),
                camera_id: camera(1).to_string(),
                layer: 1,
                hour: 490_000,
                first_slot: 0,
                last_slot: 1_799,
            }],
            epochs: vec![490_072],
            effective_unix_ns: 5,
            reason: String::new(),
            spans: Vec::new(),
        }
    }

    fn read(signed: &SignedShredReceipt) -> Result<Receipt, Unbelievable> {
        let key = Signer::from_seed(1).public_key();
        ReceiptTrust { zone: "eea".parse().unwrap(), key }.read(signed, 7)
    }

    #[test]
    fn a_receipt_of_the_pinned_custody_is_believed() {
        let read = read(&Signer::from_seed(1).sign(&receipt())).unwrap();
        assert_eq!((read.number, read.is_early, read.keys.len()), (7, false, 1));
        assert_eq!(read.keys[0].slots, SlotRange::WHOLE_HOUR);
        assert_eq!(read.cameras(), BTreeSet::from([camera(1)]));
    }

    #[test]
    fn another_signer_number_zone_or_cause_is_not_believed() {
        let own = Signer::from_seed(1);
        let sign = |change: fn(&mut ShredReceipt)| {
            let mut receipt = receipt();
            change(&mut receipt);
            read(&own.sign(&receipt))
        };
        assert_eq!(read(&Signer::from_seed(2).sign(&receipt())), Err(Unbelievable::Signature));
        assert_eq!(sign(|receipt| receipt.number = 9), Err(Unbelievable::Gap { expected: 7, got: 9 }));
        assert_eq!(sign(|receipt| receipt.number = 6), Err(Unbelievable::Gap { expected: 7, got: 6 }));
        assert_eq!(sign(|receipt| receipt.zone = "ch".into()), Err(Unbelievable::Zone));
        assert!(matches!(sign(|receipt| receipt.cause = 0), Err(Unbelievable::Malformed(_))));
        assert!(matches!(sign(|receipt| receipt.keys[0].last_slot = 1_800), Err(Unbelievable::Malformed(_))));
    }

    proptest! {
        #[test]
        fn a_changed_receipt_is_never_believed(at: prop::sample::Index, flip in 1..=255_u8) {
            let mut signed = Signer::from_seed(1).sign(&receipt());
            let mut bytes = signed.receipt.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            signed.receipt = bytes.into();
            prop_assert_eq!(read(&signed), Err(Unbelievable::Signature));
        }

        #[test]
        fn arbitrary_signed_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let receipt = ShredReceipt::decode(&*bytes).unwrap_or_default();
            prop_assert!(read(&Signer::from_seed(1).sign(&receipt)).is_err() || receipt.number == 7);
        }
    }
}
