//! Secrets in rows of a database: sealed with AES-256-GCM under a key of the service, and bound to their row.
//!
//! ```text
//! sealed = nonce 12 (random) | ciphertext | tag 16        AAD = whatever names the row
//! ```
//!
//! One key seals far fewer than 2^32 rows, the bound of NIST SP 800-38D (section 8.3) for random nonces.
//! Keys and opened secrets vanish from memory when dropped.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, KeyType, Prk},
    rand,
};
use zeroize::Zeroizing;

/// A 256-bit key that vanishes from memory when dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// The library or the system's randomness failed: nothing was made or sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed to make or use a key")]
pub struct Failed;

/// A new random key.
///
/// # Errors
/// [`Failed`] where the system has no randomness.
pub fn generate() -> Result<Key, Failed> {
    let mut key = Key::default();
    rand::fill(key.as_mut()).map_err(|_| Failed)?;
    Ok(key)
}

/// The key with these bytes, where there are 32.
#[must_use]
pub fn key_from(bytes: &[u8]) -> Option<Key> {
    let mut key = Key::default();
    (bytes.len() == key.len()).then(|| key.copy_from_slice(bytes))?;
    Some(key)
}

/// The key for `purpose` below `key`, by HKDF-Expand (RFC 5869, section 2.3) with SHA-256. `key` is uniformly
/// random already, so there is nothing to extract.
///
/// # Errors
/// [`Failed`] where the library does not do it.
pub fn derive(key: &Key, purpose: &[u8]) -> Result<Key, Failed> {
    let mut derived = Key::default();
    let pseudorandom = Prk::new_less_safe(HKDF_SHA256, key.as_ref());
    let info = [purpose];
    let output = pseudorandom.expand(&info, KeyLength).map_err(|_| Failed)?;
    output.fill(derived.as_mut()).map_err(|_| Failed)?;
    Ok(derived)
}

/// Seals a secret, bound to `aad`. What comes back is 28 bytes longer.
///
/// # Errors
/// [`Failed`] where the library does not do it.
pub fn seal(key: &Key, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>, Failed> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| Failed)?;
    // Sealed in place with room for the tag, so that no copy of the secret is left behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(secret);
    let nonce = cipher.seal_in_place_append_tag(Aad::from(aad), &mut *sealed).map_err(|_| Failed)?;
    Ok([nonce.as_ref(), &sealed[..]].concat())
}

/// Opens what [`seal`] sealed; `None` where key, `aad` or any byte differs.
#[must_use]
pub fn open(key: &Key, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()?;
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut secret = Zeroizing::new(ciphertext.to_vec());
    let length = cipher.open_in_place(nonce, Aad::from(aad), &mut secret).ok()?.len();
    secret.truncate(length);
    Some(secret)
}

/// Length of a derived key.
struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
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

    #[test]
    fn a_key_has_exactly_32_bytes() {
        assert_eq!(key_from(&[7; 32]), Some(Key::new([7; 32])));
        for length in [0, 31, 33] {
            assert_eq!(key_from(&vec![7; length]), None);
        }
    }

    /// RFC 5869, A.1, whose pseudorandom key has 32 bytes; the first block of its output.
    #[test]
    fn a_derived_key_is_that_of_the_rfc() {
        let hex = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
        let key = key_from(&hex::decode(hex).unwrap()).unwrap();
        let purpose = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let derived = derive(&key, &purpose).unwrap();
        assert_eq!(
            hex::encode(derived.as_ref()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        );
        assert_ne!(derived, derive(&key, b"another purpose").unwrap());
    }

    proptest! {
        #[test]
        fn a_secret_reads_back_and_only_under_its_own_key_and_context(
            secret in proptest::collection::vec(any::<u8>(), 0..100),
            aad in proptest::collection::vec(any::<u8>(), 0..50),
            flip: prop::sample::Index,
        ) {
            let key = generate().unwrap();
            let mut sealed = seal(&key, &aad, &secret).unwrap();
            prop_assert_eq!(sealed.len(), secret.len() + 28);
            prop_assert_eq!(&open(&key, &aad, &sealed).unwrap()[..], &secret[..]);
            prop_assert!(open(&key, b"another context that is longer than any of those above", &sealed).is_none());
            prop_assert!(open(&generate().unwrap(), &aad, &sealed).is_none());
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
