//! AES-256-GCM with a random 96-bit nonce, stored as nonce, ciphertext, tag.
//!
//! One key seals far fewer than 2^32 rows, the bound of NIST SP 800-38D for random nonces.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

/// A 256-bit key that vanishes from memory when dropped and cannot be printed.
pub type Key = Zeroizing<[u8; 32]>;

/// The library or the system's randomness failed: nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed to make or use a key")]
pub struct Failed;

/// A new random key.
pub fn generate() -> Result<Key, Failed> {
    let mut key = Key::default();
    rand::fill(key.as_mut()).map_err(|_| Failed)?;
    Ok(key)
}

/// The key with these bytes, where there are 32.
pub fn key_from(bytes: &[u8]) -> Option<Key> {
    let mut key = Key::default();
    (bytes.len() == key.len()).then(|| key.copy_from_slice(bytes))?;
    Some(key)
}

/// Seals the secret, bound to `aad`.
pub fn seal(key: &Key, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>, Failed> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| Failed)?;
    // Sealed in place with room for the tag, so that no copy of the secret is left behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(secret);
    let nonce = cipher.seal_in_place_append_tag(Aad::from(aad), &mut *sealed).map_err(|_| Failed)?;
    Ok([nonce.as_ref(), &sealed[..]].concat())
}

/// Opens what [`seal`] sealed; `None` where key, context or any byte differs.
pub fn open(key: &Key, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()?;
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut secret = Zeroizing::new(ciphertext.to_vec());
    let length = cipher.open_in_place(nonce, Aad::from(aad), &mut secret).ok()?.len();
    secret.truncate(length);
    Some(secret)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_secret_never_looks_the_same_twice() {
        let key = generate().unwrap();
        assert_ne!(seal(&key, b"a", b"secret").unwrap(), seal(&key, b"a", b"secret").unwrap());
    }

    proptest! {
        #[test]
        fn a_secret_reads_back_and_only_under_its_own_context(
            secret in proptest::collection::vec(any::<u8>(), 0..100),
            aad in proptest::collection::vec(any::<u8>(), 0..50),
            flip: prop::sample::Index,
        ) {
            let key = generate().unwrap();
            let mut sealed = seal(&key, &aad, &secret).unwrap();
            prop_assert_eq!(sealed.len(), secret.len() + 28);
            prop_assert_eq!(&open(&key, &aad, &sealed).unwrap()[..], &secret[..]);
            prop_assert!(open(&key, b"another context", &sealed).is_none());
            prop_assert!(open(&generate().unwrap(), &aad, &sealed).is_none());
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
