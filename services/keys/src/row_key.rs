//! The keys that seal rows: one per leaf of an epoch ([`crate::epoch_key`]), one per hold.
//!
//! Each is made of two halves, and without either there is no key:
//!
//! ```text
//! row key = first 32 bytes of HMAC-SHA512(key = secret outside the database, "obscura row key v1", 0, half inside)
//! ```
//!
//! The half inside the database is under the key-encryption key and moves with every rotation; the
//! secret outside ([`crate::secrets`]) never moves and is erased when the rows have to die. So a copy of
//! the database together with the key-encryption key opens nothing whose secret is erased.

use aws_lc_rs::hmac;
use obscura_row_cipher::{self as row_cipher, Failed, Key};
use obscura_seal::{LayerKeyContext, NodeSet};

use crate::{error::Error, expiry_hour::ExpiryHour, hold::HoldId};

const KEY_DOMAIN: &[u8] = b"obscura row key v1\0";
const KEPT_DOMAIN: &[u8] = b"obscura kept key v2\0";
const HELD_DOMAIN: &[u8] = b"obscura held key v1\0";

/// The key of one epoch or hold. Has no `Debug`, so that it cannot be printed.
pub struct RowKey(Key);

/// Which row it is: in any other it does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The hold whose row it is; `None` for a row of an epoch.
    pub hold: Option<HoldId>,
    /// When its retention ends.
    pub expiry: ExpiryHour,
    /// The layer key.
    pub context: &'a LayerKeyContext,
}

impl RowKey {
    /// The key of these halves.
    pub fn derive(secret: &[u8; 32], half: &[u8]) -> Self {
        let message = zeroize::Zeroizing::new([KEY_DOMAIN, half].concat());
        let whole = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret), &message);
        let mut key = Key::default();
        key.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    /// Seals what is left of a layer key.
    pub fn seal(&self, place: Place<'_>, nodes: &NodeSet) -> Result<Vec<u8>, Error> {
        let bytes = nodes.encode().map_err(|_| Failed)?;
        Ok(row_cipher::seal(&self.0, &place.aad(), &bytes)?)
    }

    /// Opens a row.
    ///
    /// # Errors
    /// [`Error::Damaged`] where any part of the row was changed.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<NodeSet, Error> {
        let opened = row_cipher::open(&self.0, &place.aad(), sealed);
        opened.and_then(|bytes| NodeSet::decode(&bytes).ok()).ok_or_else(|| place.damaged())
    }

    /// The 32 bytes, for tests that look for them.
    #[cfg(test)]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Place<'_> {
    fn aad(&self) -> Vec<u8> {
        let expiry = self.expiry.number().to_be_bytes();
        match self.hold {
            Some(hold) => [HELD_DOMAIN, hold.as_bytes(), &expiry, &self.context.aad()].concat(),
            None => [KEPT_DOMAIN, &expiry, &self.context.aad()].concat(),
        }
    }

    fn damaged(&self) -> Error {
        let key = self.context.key_id;
        let row = match self.hold {
            Some(hold) => format!("held key {hold}/{key}"),
            None => format!("layer key {key}"),
        };
        Error::Damaged { row }
    }
}

#[cfg(test)]
mod tests {
    use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch};
    use obscura_seal::{Hour, LayerKey, SlotSet};

    use super::*;

    fn context() -> LayerKeyContext {
        LayerKeyContext {
            key_id: LayerKeyId::from_bytes([1; 16]),
            camera: CameraId::from_bytes([2; 16]),
            layer: Layer::Original,
            hour: Hour::new(498_000).unwrap(),
            zone: "eea".parse().unwrap(),
            writer_epoch: WriterEpoch(3),
        }
    }

    #[test]
    fn a_row_opens_only_as_what_it_was_sealed_as() {
        let key = RowKey::derive(&row_cipher::generate().unwrap(), &[1; 32]);
        let (expiry, hold) = (ExpiryHour::from_number(498_100), HoldId::generate());
        let nodes = NodeSet::whole(&LayerKey::generate().unwrap());
        let context_of = context();
        let place = Place { hold: None, expiry, context: &context_of };
        let sealed = key.seal(place, &nodes).unwrap();
        assert_eq!(key.open(place, &sealed).unwrap().slots(), SlotSet::whole_hour());
        let contexts = [
            LayerKeyContext { key_id: LayerKeyId::from_bytes([9; 16]), ..context() },
            LayerKeyContext { camera: CameraId::from_bytes([9; 16]), ..context() },
            LayerKeyContext { layer: Layer::Masked, ..context() },
            LayerKeyContext { hour: Hour::new(498_001).unwrap(), ..context() },
            LayerKeyContext { zone: "eez".parse().unwrap(), ..context() },
            LayerKeyContext { writer_epoch: WriterEpoch(4), ..context() },
        ];
        let moved = contexts.iter().map(|context| Place { context, ..place });
        let other_hour = Place { expiry: ExpiryHour::from_number(498_101), ..place };
        let others = moved.chain([other_hour, Place { hold: Some(hold), ..place }]);
        for other in others {
            assert!(matches!(key.open(other, &sealed), Err(Error::Damaged { .. })), "{other:?}");
        }
        let held = key.seal(Place { hold: Some(hold), ..place }, &nodes).unwrap();
        assert!(key.open(Place { hold: Some(HoldId::generate()), ..place }, &held).is_err());
        assert!(key.open(place, &held).is_err());
    }

    #[test]
    fn without_either_half_there_is_no_key() {
        let (secret, other) = (row_cipher::generate().unwrap(), row_cipher::generate().unwrap());
        let key = RowKey::derive(&secret, &[1; 32]);
        assert_ne!(key.expose(), RowKey::derive(&other, &[1; 32]).expose());
        assert_ne!(key.expose(), RowKey::derive(&secret, &[2; 32]).expose());
        assert_eq!(key.expose(), RowKey::derive(&secret, &[1; 32]).expose());
    }
}
