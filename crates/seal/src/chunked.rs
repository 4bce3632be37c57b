//! C2SP chunked encryption, instance "Cobblestone-256": AES-256-GCM and HKDF-SHA512.
//!
//! <https://c2sp.org/chunked-encryption>. A file is a salt, a key commitment and chunks of 16 KiB;
//! the last chunk is always shorter, if need be empty, and that is how its end is known. Chunk `k`
//! starts at `56 + k * (16384 + 16)`.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    constant_time::verify_slices_are_equal,
    hkdf::{HKDF_SHA512, KeyType, Prk},
    rand,
};
use zeroize::Zeroizing;

use crate::{Error, LeafKey};

/// Clear bytes in a chunk that is full.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes that sealing adds to each chunk.
pub const TAG_BYTES: usize = 16;
/// Bytes of salt and commitment together.
pub const PREFIX_BYTES: usize = SALT_BYTES + COMMITMENT_BYTES;

pub(crate) const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
pub(crate) const SALT_BYTES: usize = 24;
const COMMITMENT_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
const DERIVED_BYTES: usize = KEY_BYTES + NONCE_LEN + COMMITMENT_BYTES;
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// The key, nonces and salt of one file.
pub(crate) struct Cobblestone {
    key: LessSafeKey,
    base_nonce: [u8; NONCE_LEN],
    salt: [u8; SALT_BYTES],
    commitment: [u8; COMMITMENT_BYTES],
}

impl Cobblestone {
    /// A new file: the salt is random.
    pub(crate) fn create(leaf: &LeafKey, context: &[u8]) -> Result<Self, Error> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(|_| Error::Library("make a random salt"))?;
        Self::derive(leaf, salt, context)
    }

    /// A file that exists. Nothing is decrypted before its commitment is verified.
    pub(crate) fn open(leaf: &LeafKey, prefix: &[u8; PREFIX_BYTES], context: &[u8]) -> Result<Self, Error> {
        let (salt, commitment) =
            prefix.split_first_chunk().ok_or(Error::Length("the salt or the commitment is missing"))?;
        let file = Self::derive(leaf, *salt, context)?;
        verify_slices_are_equal(&file.commitment, commitment).map_err(|_| Error::Commitment)?;
        Ok(file)
    }

    /// `key | base nonce | commitment = HKDF-Expand(leaf, label | 0x00 | salt | context, 76)`.
    pub(crate) fn derive(leaf: &LeafKey, salt: [u8; SALT_BYTES], context: &[u8]) -> Result<Self, Error> {
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        Prk::new_less_safe(HKDF_SHA512, leaf.expose())
            .expand(&[LABEL, &salt, context], Derived)
            .and_then(|okm| okm.fill(derived.as_mut()))
            .map_err(|_| Error::Library("derive the key of a segment"))?;
        Self::from_derived(&derived, salt).ok_or(Error::Library("take a key of 32 bytes"))
    }

    fn from_derived(derived: &[u8; DERIVED_BYTES], salt: [u8; SALT_BYTES]) -> Option<Self> {
        let (key, rest) = derived.split_first_chunk::<KEY_BYTES>()?;
        let (base_nonce, rest) = rest.split_first_chunk()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some(Self { key, base_nonce: *base_nonce, salt, commitment: *rest.first_chunk()? })
    }

    /// Appends salt and commitment.
    pub(crate) fn append_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.commitment);
    }

    /// Appends one sealed chunk; on failure `out` is as before. Each index may be sealed once only.
    pub(crate) fn seal_chunk(&self, index: u32, clear: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.resize(start + clear.len() + TAG_BYTES, 0);
        let place = out.get_mut(start..).and_then(|place| place.split_last_chunk_mut::<TAG_BYTES>());
        let sealed = place.and_then(|(ciphertext, tag)| {
            self.key
                .seal_out_of_place_scatter(self.nonce(index), Aad::empty(), clear, ciphertext, &[], tag)
                .ok()
        });
        if sealed.is_none() {
            out.truncate(start);
        }
        sealed.ok_or(Error::Library("encrypt a chunk"))
    }

    /// Opens one chunk into `clear`, which is shorter by the tag.
    pub(crate) fn open_chunk(&self, index: u32, sealed: &[u8], clear: &mut [u8]) -> Result<(), Error> {
        let opened = sealed.split_last_chunk::<TAG_BYTES>().and_then(|(ciphertext, tag)| {
            self.key.open_separate_gather(self.nonce(index), Aad::empty(), ciphertext, tag, clear).ok()
        });
        opened.ok_or(Error::Chunk { index })
    }

    /// The base nonce XOR the number of the chunk, big-endian in its low bytes.
    fn nonce(&self, index: u32) -> Nonce {
        let mut nonce = self.base_nonce;
        let low = nonce.iter_mut().rev().zip(index.to_le_bytes());
        low.for_each(|(byte, of_index)| *byte ^= of_index);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl std::fmt::Debug for Cobblestone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cobblestone")
    }
}

struct Derived;

impl KeyType for Derived {
    fn len(&self) -> usize {
        DERIVED_BYTES
    }
}
