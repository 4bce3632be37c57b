//! Entry bundles: the leaves under one tile of level 0, each behind its length.

use std::{fmt, str::FromStr};

use crate::tile::{InvalidPath, TILE_WIDTH, TileId, parse_place, place};

/// Longest leaf: its length is two bytes.
pub const MAX_LEAF_BYTES: usize = 65_535;
/// Longest bundle.
pub const MAX_BUNDLE_BYTES: usize = 256 * (2 + MAX_LEAF_BYTES);

/// Where a bundle is and how many entries it has. Its text is its path:
/// `tile/entries/x001/067.p/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleId(TileId);

impl BundleId {
    /// Bundle `index` with 1 to 256 entries; `None` where no log is so large.
    #[must_use]
    pub fn new(index: u64, width: u16) -> Option<Self> {
        TileId::new(0, index, width).map(Self)
    }

    /// Bundle `index` as wide as it is in a log of `size` leaves; `None` where it is empty.
    #[must_use]
    pub fn in_log(index: u64, size: u64) -> Option<Self> {
        TileId::in_log(0, index, size).map(Self)
    }

    /// The bundle with this entry in a log of `size` leaves; `None` where it has no such entry.
    #[must_use]
    pub fn of_entry(entry: u64, size: u64) -> Option<Self> {
        if entry < size { Self::in_log(entry / TILE_WIDTH, size) } else { None }
    }

    /// Every bundle that a log of `new_size` leaves has and one of `old_size` leaves has not.
    pub fn all(old_size: u64, new_size: u64) -> impl Iterator<Item = Self> {
        TileId::all(old_size, new_size).take_while(|id| id.level() == 0).map(Self)
    }

    /// The tile of level 0 with the hashes of its entries.
    #[must_use]
    pub const fn tile(self) -> TileId {
        self.0
    }

    /// Its place among the bundles, from 0.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0.index()
    }

    /// Its number of entries, 1 to 256.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.0.width()
    }

    /// Index of its first entry.
    #[must_use]
    pub const fn first_entry(self) -> u64 {
        self.0.index() * TILE_WIDTH
    }

    /// Whether it will never change.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.0.is_full()
    }

    /// The complete bundle at the same place.
    #[must_use]
    pub const fn full(self) -> Self {
        Self(self.0.full())
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/entries/{}", place(self.index(), self.width()))
    }
}

impl FromStr for BundleId {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        let parse = || {
            let (index, width) = parse_place(path.strip_prefix("tile/entries/")?)?;
            Self::new(index, width)
        };
        parse().filter(|id| id.to_string() == path).ok_or_else(|| InvalidPath::new(path))
    }
}

/// The leaves make no bundle, or the bytes are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No leaves or too many.
    #[error("a bundle has 1 to 256 entries, not {0}")]
    Entries(usize),
    /// Too long a leaf.
    #[error("entry {position} of the bundle has {bytes} bytes, more than 65535")]
    LongLeaf {
        /// Its place in the bundle, from 0.
        position: usize,
        /// Its length.
        bytes: usize,
    },
    /// The bytes end within an entry.
    #[error("the bundle ends within entry {position}")]
    Truncated {
        /// Its place in the bundle, from 0.
        position: usize,
    },
}

/// The content of the file: each leaf behind its length as a big-endian `u16`.
///
/// # Errors
/// Where there are no leaves, more than 256, or one is too long.
pub fn encode_bundle<L: AsRef<[u8]>>(leaves: &[L]) -> Result<Vec<u8>, BundleError> {
    check_count(leaves.len())?;
    let mut bytes = Vec::with_capacity(leaves.iter().map(|leaf| 2 + leaf.as_ref().len()).sum());
    for (position, leaf) in leaves.iter().enumerate() {
        let leaf = leaf.as_ref();
        let length =
            u16::try_from(leaf.len()).map_err(|_| BundleError::LongLeaf { position, bytes: leaf.len() })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(leaf);
    }
    Ok(bytes)
}

/// The leaves of a bundle, in the order of the log.
///
/// # Errors
/// Where there are no leaves, more than 256, or bytes that make no whole entry.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut leaves = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let truncated = BundleError::Truncated { position: leaves.len() };
        let (length, behind) = rest.split_first_chunk::<2>().ok_or(truncated)?;
        let (leaf, behind) =
            behind.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(truncated)?;
        leaves.push(leaf);
        check_count(leaves.len())?;
        rest = behind;
    }
    check_count(leaves.len())?;
    Ok(leaves)
}

fn check_count(leaves: usize) -> Result<(), BundleError> {
    if (1..=256).contains(&leaves) { Ok(()) } else { Err(BundleError::Entries(leaves)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_name_entries_instead_of_a_level() {
        let id = BundleId::of_entry(273_153, 273_408).unwrap();
        assert_eq!(id.to_string(), "tile/entries/x001/067");
        assert_eq!(BundleId::of_entry(5, 6).unwrap().to_string(), "tile/entries/000.p/6");
        assert_eq!(BundleId::of_entry(6, 6), None);
        assert!("tile/0/000".parse::<BundleId>().is_err());
        assert_eq!(BundleId::all(0, 513).count(), 3);
        assert_eq!(BundleId::all(512, 513).map(BundleId::first_entry).collect::<Vec<_>>(), [512]);
    }

    #[test]
    fn bounds_are_kept_on_both_sides() {
        assert_eq!(encode_bundle::<&[u8]>(&[]), Err(BundleError::Entries(0)));
        assert_eq!(encode_bundle(&vec![b""; 257]), Err(BundleError::Entries(257)));
        assert_eq!(encode_bundle(&[vec![0; 65_535]]).unwrap().len(), 65_537);
        assert_eq!(
            encode_bundle(&[vec![], vec![0; 65_536]]),
            Err(BundleError::LongLeaf { position: 1, bytes: 65_536 })
        );
        assert_eq!(decode_bundle(&[]), Err(BundleError::Entries(0)));
        assert_eq!(decode_bundle(&[0; 257 * 2]), Err(BundleError::Entries(257)));
        assert_eq!(decode_bundle(&[0, 1, 7, 0]), Err(BundleError::Truncated { position: 1 }));
        assert_eq!(decode_bundle(&[0, 2, 7]), Err(BundleError::Truncated { position: 0 }));
    }

    proptest! {
        #[test]
        fn leaves_read_back(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..=256)) {
            let bytes = encode_bundle(&leaves).unwrap();
            prop_assert_eq!(decode_bundle(&bytes).unwrap(), leaves);
        }

        #[test]
        fn whatever_reads_as_a_bundle_is_written_the_same(bytes in prop::collection::vec(0..4_u8, 0..600)) {
            if let Ok(leaves) = decode_bundle(&bytes) {
                prop_assert_eq!(encode_bundle(&leaves).unwrap(), bytes);
            }
        }

        #[test]
        fn paths_read_back(index in 0..1_u64 << 48, width in 1..=256_u16) {
            if let Some(id) = BundleId::new(index, width) {
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
    }
}
