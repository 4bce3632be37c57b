//! Wrapping secrets to a public key: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, AES-256-GCM.

use std::fmt;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch, ZoneId};
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey},
};
use zeroize::Zeroizing;

use crate::{Error, Hour};

/// HPKE info of layer keys on their way to custody.
pub const LAYER_KEY_INFO: &[u8] = b"obscura layer key v1";
/// HPKE info of camera sources and their credentials, sealed to the recorder.
pub const SOURCE_INFO: &[u8] = b"obscura source v1";

const CONTEXT_FORMAT: u8 = 1;

/// An X25519 public key, 32 bytes (RFC 7748).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecipientPublicKey(pub [u8; 32]);

/// An X25519 key pair, to whose public half secrets are wrapped. Never printed.
pub struct RecipientKeyPair {
    private: HpkePrivateKey,
    public: RecipientPublicKey,
}

/// A wrapped secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// HPKE encapsulated key, 32 bytes.
    pub encapsulated_key: Vec<u8>,
    /// The secret, sealed, and 16 bytes of tag.
    pub ciphertext: Vec<u8>,
}

/// What a wrapped layer key is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerKeyContext {
    /// The layer key.
    pub key_id: LayerKeyId,
    /// Its camera.
    pub camera: CameraId,
    /// Its layer.
    pub layer: Layer,
    /// Its hour.
    pub hour: Hour,
    /// Zone whose custody it is for.
    pub zone: ZoneId,
    /// Run of the recorder that made it.
    pub writer_epoch: WriterEpoch,
}

impl RecipientKeyPair {
    /// A new random key pair.
    ///
    /// # Errors
    /// [`Error::Library`] where the operating system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let made = DH_KEM_X25519_HKDF_SHA256_AES_256.generate_key_pair();
        let (_, private) = made.map_err(|_| Error::Library("make an X25519 key pair"))?;
        Self::from_private_bytes(private.secret_bytes())
    }

    /// The key pair with this private key, as [`RecipientKeyPair::private_bytes`] gave it.
    ///
    /// # Errors
    /// [`Error::RecipientKey`] unless there are 32 bytes.
    pub fn from_private_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = |_| Error::RecipientKey("private");
        let public =
            PrivateKey::from_private_key(&X25519, bytes).map_err(|_| Error::RecipientKey("private"))?;
        let public = public.compute_public_key().map_err(invalid)?;
        let public = public.as_ref().try_into().map_err(|_| Error::RecipientKey("private"))?;
        Ok(Self { private: bytes.to_vec().into(), public: RecipientPublicKey(public) })
    }

    /// The private key, 32 bytes.
    #[must_use]
    pub fn private_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.private.secret_bytes().to_vec())
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> RecipientPublicKey {
        self.public
    }
}

impl fmt::Debug for RecipientKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientKeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

impl LayerKeyContext {
    /// The associated data: format 1, layer, u32 BE hour, key id, camera, u64 BE writer epoch, zone.
    /// Only the last field varies in length, so there is one encoding of each context.
    #[must_use]
    pub fn aad(&self) -> Vec<u8> {
        let mut bytes = vec![CONTEXT_FORMAT, self.layer.code()];
        bytes.extend(self.hour.get().to_be_bytes());
        bytes.extend(self.key_id.as_bytes());
        bytes.extend(self.camera.as_bytes());
        bytes.extend(self.writer_epoch.0.to_be_bytes());
        bytes.extend(self.zone.as_str().as_bytes());
        bytes
    }
}

/// Wraps a secret so that only the owner of `to` can read it, under the same `info` and `aad`.
///
/// # Errors
/// [`Error::RecipientKey`] where `to` is a low-order point.
pub fn wrap(to: &RecipientPublicKey, info: &[u8], aad: &[u8], secret: &[u8]) -> Result<Wrapped, Error> {
    let (encapsulated, ciphertext) = DH_KEM_X25519_HKDF_SHA256_AES_256
        .seal(info, aad, secret, &HpkePublicKey(to.0.to_vec()))
        .map_err(|_| Error::RecipientKey("public"))?;
    Ok(Wrapped { encapsulated_key: encapsulated.0, ciphertext })
}

/// Reads a wrapped secret.
///
/// # Errors
/// [`Error::Unwrap`] where it was wrapped to another key, under another `info` or `aad`, or changed.
pub fn unwrap(
    by: &RecipientKeyPair,
    info: &[u8],
    aad: &[u8],
    wrapped: &Wrapped,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let encapsulated = EncapsulatedSecret(wrapped.encapsulated_key.clone());
    DH_KEM_X25519_HKDF_SHA256_AES_256
        .open(&encapsulated, info, aad, &wrapped.ciphertext, &by.private)
        .map(Zeroizing::new)
        .map_err(|_| Error::Unwrap)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context() -> LayerKeyContext {
        LayerKeyContext {
            key_id: LayerKeyId::from_bytes([1; 16]),
            camera: CameraId::from_bytes([2; 16]),
            layer: Layer::Original,
            hour: Hour::new(500_000).unwrap(),
            zone: "eea".parse().unwrap(),
            writer_epoch: WriterEpoch(3),
        }
    }

    #[test]
    fn a_wrapped_key_opens_only_in_its_own_context() {
        let pair = RecipientKeyPair::generate().unwrap();
        let wrapped = wrap(&pair.public(), LAYER_KEY_INFO, &context().aad(), &[9; 32]).unwrap();
        assert_eq!(*unwrap(&pair, LAYER_KEY_INFO, &context().aad(), &wrapped).unwrap(), [9; 32]);
        let others = [
            LayerKeyContext { key_id: LayerKeyId::from_bytes([9; 16]), ..context() },
            LayerKeyContext { camera: CameraId::from_bytes([9; 16]), ..context() },
            LayerKeyContext { layer: Layer::Masked, ..context() },
            LayerKeyContext { hour: Hour::new(500_001).unwrap(), ..context() },
            LayerKeyContext { zone: "eea1".parse().unwrap(), ..context() },
            LayerKeyContext { writer_epoch: WriterEpoch(4), ..context() },
        ];
        for other in others {
            assert_eq!(
                unwrap(&pair, LAYER_KEY_INFO, &other.aad(), &wrapped),
                Err(Error::Unwrap),
                "{other:?}"
            );
        }
        assert_eq!(unwrap(&pair, SOURCE_INFO, &context().aad(), &wrapped), Err(Error::Unwrap));
    }

    #[test]
    fn a_wrapped_key_opens_for_nobody_else() {
        let (pair, other) = (RecipientKeyPair::generate().unwrap(), RecipientKeyPair::generate().unwrap());
        let wrapped = wrap(&pair.public(), LAYER_KEY_INFO, b"", &[9; 32]).unwrap();
        assert_eq!(unwrap(&other, LAYER_KEY_INFO, b"", &wrapped), Err(Error::Unwrap));
    }

    #[test]
    fn a_key_pair_reads_back_from_its_private_half() {
        let pair = RecipientKeyPair::generate().unwrap();
        let again = RecipientKeyPair::from_private_bytes(&pair.private_bytes()).unwrap();
        assert_eq!(again.public(), pair.public());
        assert_eq!(
            RecipientKeyPair::from_private_bytes(&[1; 31]).unwrap_err(),
            Error::RecipientKey("private")
        );
    }

    #[test]
    fn a_low_order_point_is_no_recipient() {
        let error = wrap(&RecipientPublicKey([0; 32]), SOURCE_INFO, b"", b"secret").unwrap_err();
        assert_eq!(error, Error::RecipientKey("public"));
    }

    #[test]
    fn a_debug_print_shows_no_private_key() {
        let pair = RecipientKeyPair::from_private_bytes(&[0xab; 32]).unwrap();
        assert!(!format!("{pair:?}").contains("171, 171"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn secrets_of_any_length_come_back(secret in prop::collection::vec(any::<u8>(), 0..2_000), aad: [u8; 7]) {
            let pair = RecipientKeyPair::generate().unwrap();
            let wrapped = wrap(&pair.public(), SOURCE_INFO, &aad, &secret).unwrap();
            prop_assert_eq!(&*unwrap(&pair, SOURCE_INFO, &aad, &wrapped).unwrap(), &secret);
        }

        #[test]
        fn arbitrary_bytes_never_unwrap_and_never_panic(
            encapsulated_key in prop::collection::vec(any::<u8>(), 0..70),
            ciphertext in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let pair = RecipientKeyPair::from_private_bytes(&[5; 32]).unwrap();
            let wrapped = Wrapped { encapsulated_key, ciphertext };
            prop_assert_eq!(unwrap(&pair, SOURCE_INFO, b"", &wrapped), Err(Error::Unwrap));
        }
    }
}
