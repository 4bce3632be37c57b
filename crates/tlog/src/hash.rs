//! SHA-256 as RFC 6962, section 2.1 uses it: leaves and nodes can never be mistaken for each other.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// The text or bytes are no SHA-256 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 32 bytes, or 44 characters of base64")]
pub struct InvalidHash;

/// A SHA-256 hash in the tree, 32 bytes. Its text is base64, as in checkpoints and proofs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Root of the tree without leaves: the hash of nothing.
    pub const EMPTY: Self = Self(tlog_tiles::EMPTY_HASH.0);

    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(bytes: &[u8]) -> Self {
        Self::from_digest(digest(&SHA256, bytes))
    }

    fn from_digest(digest: impl AsRef<[u8]>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl From<tlog_tiles::Hash> for Hash {
    fn from(hash: tlog_tiles::Hash) -> Self {
        Self(hash.0)
    }
}

impl From<Hash> for tlog_tiles::Hash {
    fn from(hash: Hash) -> Self {
        Self(hash.0)
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = InvalidHash;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidHash> {
        bytes.try_into().map(Self).map_err(|_| InvalidHash)
    }
}

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| InvalidHash)?;
        Self::try_from(bytes.as_slice())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Hash of a leaf: SHA-256 of a zero byte and the leaf.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(leaf);
    Hash::from_digest(context.finish())
}

/// Hash of a node: SHA-256 of a byte 1 and its two children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut message = [1; 65];
    let (_, children) = message.split_at_mut(1);
    let (first, second) = children.split_at_mut(32);
    first.copy_from_slice(&left.0);
    second.copy_from_slice(&right.0);
    Hash::of(&message)
}

/// Merkle tree hash over the hashes of leaves, or over the roots of equally tall full subtrees of
/// which the last may be a smaller tree.
///
/// Pairs layer by layer and lifts a last odd node: the same shape as the recursion of RFC 6962,
/// which splits at the largest power of two.
#[must_use]
pub fn tree_hash(leaves: &[Hash]) -> Hash {
    let mut layer = leaves.to_vec();
    while layer.len() > 1 {
        layer = layer.chunks(2).map(pair_hash).collect();
    }
    layer.first().copied().unwrap_or(Hash::EMPTY)
}

fn pair_hash(pair: &[Hash]) -> Hash {
    match pair {
        [left, right] => node_hash(left, right),
        [single] => *single,
        _ => Hash::EMPTY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{leaves, naive_root};
    use proptest::prelude::*;

    #[test]
    fn hashes_are_those_of_tlog_tiles() {
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b""));
        assert_eq!(left, tlog_tiles::record_hash(b"left").into());
        assert_eq!(right, tlog_tiles::record_hash(b"").into());
        assert_eq!(node_hash(&left, &right), tlog_tiles::node_hash(left.into(), right.into()).into());
        assert_eq!(tree_hash(&[]), Hash::EMPTY);
    }

    #[test]
    fn the_layered_tree_is_the_recursive_tree_for_every_size_to_600() {
        let hashes = leaves(600);
        for size in 0..=600 {
            assert_eq!(tree_hash(&hashes[..size]), naive_root(&hashes[..size]), "{size}");
        }
    }

    proptest! {
        #[test]
        fn hashes_read_back_from_their_text(bytes: [u8; 32]) {
            let hash = Hash::from_bytes(bytes);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
        }

        #[test]
        fn whatever_reads_as_a_hash_is_written_the_same(text in "[A-Za-z0-9+/=]{40,46}") {
            if let Ok(hash) = text.parse::<Hash>() {
                prop_assert_eq!(hash.to_string(), text);
            }
        }
    }
}
