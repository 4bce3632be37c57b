//! AES-256-GCM with a random 96-bit nonce, stored as nonce, ciphertext, tag.
//!
//! One key seals far fewer than 2^32 texts, the bound of NIST SP 800-38D for random nonces.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, KeyType, Prk},
    rand,
};
use zeroize::Zeroizing;

/// A 256-bit key that vanishes from memory when dropped and cannot be printed.
pub type Key = Zeroizing<[u8; 32]>;

/// The library or the system's randomness failed: nothing was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed to make or use a key")]
pub struct Failed;

/// A new random key.
pub fn generate() -> Result<Key, Failed> {
    let mut key = Key::default();
    rand::fill(key.as_mut()).map_err(|_| Failed)?;
    Ok(key)
}

/// The key for `purpose` below `key` (HKDF-Expand, RFC 5869).
pub fn derive(key: &Key, purpose: &[u8]) -> Result<Key, Failed> {
    let mut derived = Key::default();
    let prk = Prk::new_less_safe(HKDF_SHA256, key.as_ref());
    let okm = prk.expand(&[purpose], Length).map_err(|_| Failed)?.fill(derived.as_mut());
    okm.map_err(|_| Failed)?;
    Ok(derived)
}

/// Seals the text, bound to `aad`.
pub fn seal(key: &Key, aad: &[u8], clear: &[u8]) -> Result<Vec<u8>, Failed> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| Failed)?;
    // Sealed in place with room for the tag, so that no copy of the text is left behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(clear.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(clear);
    let nonce = cipher.seal_in_place_append_tag(Aad::from(aad), &mut *sealed).map_err(|_| Failed)?;
    Ok([nonce.as_ref(), &sealed[..]].concat())
}

/// Opens what [`seal`] sealed; `None` where key, context or any byte differs.
pub fn open(key: &Key, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()?;
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut clear = Zeroizing::new(ciphertext.to_vec());
    let length = cipher.open_in_place(nonce, Aad::from(aad), &mut clear).ok()?.len();
    clear.truncate(length);
    Some(clear)
}

/// Length of a derived key.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_reads_back_and_only_under_its_own_key_and_context(
            clear in proptest::collection::vec(any::<u8>(), 0..100),
            aad in proptest::collection::vec(any::<u8>(), 0..50),
            flip: prop::sample::Index,
        ) {
            let key = generate().unwrap();
            let mut sealed = seal(&key, &aad, &clear).unwrap();
            prop_assert_eq!(&open(&key, &aad, &sealed).unwrap()[..], &clear[..]);
            prop_assert!(open(&key, b"another context", &sealed).is_none());
            prop_assert!(open(&derive(&key, b"other").unwrap(), &aad, &sealed).is_none());
            let at = flip.index(sealed.len());
            sealed[at] ^= 1;
            prop_assert!(open(&key, &aad, &sealed).is_none());
        }

        #[test]
        fn arbitrary_bytes_never_open_and_never_panic(sealed in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(open(&Key::default(), b"", &sealed).is_none());
        }
    }
}
