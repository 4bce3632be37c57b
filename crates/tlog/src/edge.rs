//! What a sequencer keeps of a log: its right edge.

use crate::{
    Hash, MAX_SIZE, ProofError, Root, TILE_WIDTH, Tile, TileId, Tiles, hash::tree_hash, tile::at_level,
};

/// Says how the rest of the bytes is to be read.
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 8;

/// The bytes are no right edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// Written by another version.
    #[error("the state of the log has version {0}, expected 1")]
    Version(u8),
    /// Larger than any log can be.
    #[error("the state of the log says {0} leaves, more than 2^56")]
    Size(u64),
    /// Too short or too long.
    #[error("the state of the log has {bytes} bytes, expected {expected}")]
    Length {
        /// Bytes that there are.
        bytes: usize,
        /// Bytes of a log of that size.
        expected: usize,
    },
}

/// The number of leaves and, level by level, the hashes that are not yet in a complete tile.
///
/// At most 255 hashes for each of 8 levels: as small at a hundred million leaves as at one. Clone
/// it, append to the clone, commit, and put the clone in its place: a commit that fails leaves
/// nothing behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightEdge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl RightEdge {
    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree of all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut right: Option<Hash> = None;
        for level in self.levels.iter().filter(|level| !level.is_empty()) {
            let mut subtrees = level.clone();
            subtrees.extend(right);
            right = Some(tree_hash(&subtrees));
        }
        right.unwrap_or(Hash::EMPTY)
    }

    /// Adds leaves by their hashes. Returns every tile that changed with all its hashes, partial
    /// ones too, lowest level first: complete tiles of a level in order, then its partial one.
    pub fn append(&mut self, leaves: &[Hash]) -> Vec<Tile> {
        let mut changed = Vec::new();
        let mut incoming = leaves.to_vec();
        let mut level: u8 = 0;
        while !incoming.is_empty() {
            incoming = self.append_at(level, &incoming, &mut changed);
            level += 1;
        }
        self.size += leaves.len() as u64;
        changed
    }

    /// Adds hashes at one level; returns the roots of the tiles that they completed.
    fn append_at(&mut self, level: u8, incoming: &[Hash], changed: &mut Vec<Tile>) -> Vec<Hash> {
        let mut index = at_level(self.size, level) / TILE_WIDTH;
        let mut completed = Vec::new();
        let row = self.row(level);
        for hash in incoming {
            row.push(*hash);
            if row.len() as u64 == TILE_WIDTH {
                completed.push(tree_hash(row));
                changed.extend(tile(level, index, std::mem::take(row)));
                index += 1;
            }
        }
        if !row.is_empty() {
            changed.extend(tile(level, index, row.clone()));
        }
        completed
    }

    fn row(&mut self, level: u8) -> &mut Vec<Hash> {
        let level = usize::from(level);
        if self.levels.len() <= level {
            self.levels.resize(level + 1, Vec::new());
        }
        #[expect(clippy::indexing_slicing, reason = "resized to be long enough just above")]
        &mut self.levels[level]
    }

    /// Version, size (big-endian `u64`) and the hashes, lowest level first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend(self.levels.iter().flatten().flat_map(|hash| *hash.as_bytes()));
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; how many hashes there are follows from the size.
    ///
    /// # Errors
    /// Where it is of another version, or has not exactly the length that belongs to its size.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EdgeError> {
        let short = EdgeError::Length { bytes: bytes.len(), expected: HEAD_BYTES };
        let (version, rest) = bytes.split_first().ok_or(short)?;
        if *version != VERSION {
            return Err(EdgeError::Version(*version));
        }
        let (size, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
        let size = u64::from_be_bytes(*size);
        if size > MAX_SIZE {
            return Err(EdgeError::Size(size));
        }
        let (hashes, odd) = rest.as_chunks::<32>();
        let expected: usize = widths(size).sum();
        if hashes.len() != expected || !odd.is_empty() {
            return Err(EdgeError::Length { bytes: bytes.len(), expected: HEAD_BYTES + 32 * expected });
        }
        let mut hashes = hashes.iter().copied().map(Hash::from_bytes);
        let levels = widths(size).map(|width| hashes.by_ref().take(width).collect()).collect();
        Ok(Self { size, levels })
    }

    /// The partial tiles from which the edge of a log of `size` leaves can be made again.
    #[must_use]
    pub fn tile_ids(size: u64) -> Vec<TileId> {
        edge_tiles(size).collect()
    }

    /// The edge of a log of `size` leaves, from its tiles.
    ///
    /// # Errors
    /// Where one of [`Self::tile_ids`] is not there.
    pub fn from_tiles(size: u64, tiles: &Tiles) -> Result<Self, ProofError> {
        Root::new(size)?;
        let mut levels = vec![Vec::new(); widths(size).count()];
        for id in edge_tiles(size) {
            let hashes = tiles.get(id).ok_or(ProofError::MissingTile(id))?;
            if let Some(row) = levels.get_mut(usize::from(id.level())) {
                *row = hashes.to_vec();
            }
        }
        Ok(Self { size, levels })
    }
}

/// Number of hashes at the edge, level by level, up to the highest level that has any.
fn widths(size: u64) -> impl Iterator<Item = usize> {
    (0_u8..8)
        .map(move |level| at_level(size, level))
        .take_while(|hashes| *hashes > 0)
        .map(|hashes| usize::try_from(hashes % TILE_WIDTH).unwrap_or(0))
}

/// The partial tiles at the right edge, lowest level first.
pub(crate) fn edge_tiles(size: u64) -> impl Iterator<Item = TileId> {
    (0_u8..8).filter_map(move |level| {
        let hashes = at_level(size, level);
        TileId::new(level, hashes / TILE_WIDTH, u16::try_from(hashes % TILE_WIDTH).ok()?)
    })
}

fn tile(level: u8, index: u64, hashes: Vec<Hash>) -> Option<Tile> {
    let id = TileId::new(level, index, u16::try_from(hashes.len()).ok()?)?;
    Some(Tile { id, hashes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{leaves, naive_root};
    use proptest::prelude::*;

    #[test]
    fn the_root_is_the_recursive_root_for_every_size_to_2000() {
        let hashes = leaves(2_000);
        let mut edge = RightEdge::default();
        for size in 0..=2_000 {
            assert_eq!(edge.root(), naive_root(&hashes[..size]), "{size}");
            assert_eq!(edge.size(), size as u64);
            assert_eq!(RightEdge::from_bytes(&edge.to_bytes()), Ok(edge.clone()));
            edge.append(&hashes[size..(size + 1).min(2_000)]);
        }
    }

    #[test]
    fn the_edge_of_a_hundred_million_leaves_stays_below_32_kib() {
        let largest = (0..100_000_000_u64).step_by(65_535).map(|size| widths(size).sum::<usize>()).max();
        assert!(largest.unwrap() * 32 < 4 * 8 * 1024);
        assert_eq!(widths(MAX_SIZE).sum::<usize>(), 1);
    }

    proptest! {
        #[test]
        fn batches_of_any_size_give_the_tiles_of_the_whole(batches in prop::collection::vec(0..700_usize, 0..8)) {
            let hashes = leaves(batches.iter().sum());
            let (mut edge, mut tiles, mut from) = (RightEdge::default(), Tiles::default(), 0);
            for batch in batches {
                let changed = edge.append(&hashes[from..from + batch]);
                let ids: Vec<_> = changed.iter().map(|tile| tile.id).collect();
                prop_assert_eq!(ids, TileId::all(from as u64, (from + batch) as u64).collect::<Vec<_>>());
                changed.into_iter().for_each(|tile| tiles.insert(tile));
                from += batch;
            }
            prop_assert_eq!(edge.root(), naive_root(&hashes));
            for id in TileId::all(0, from as u64).filter(|id| id.level() == 0) {
                let start = usize::try_from(id.index()).unwrap() * 256;
                prop_assert_eq!(tiles.get(id).unwrap(), &hashes[start..start + usize::from(id.width())]);
            }
            prop_assert_eq!(RightEdge::from_tiles(from as u64, &tiles).unwrap(), edge);
        }

        #[test]
        fn any_bytes_are_read_back_or_refused(mut bytes: Vec<u8>, size in 0..70_000_u64, change: bool) {
            if change && bytes.len() > 9 {
                bytes[0] = 1;
                bytes[1..9].copy_from_slice(&size.to_be_bytes());
                bytes.resize(9 + 32 * widths(size).sum::<usize>(), 3);
            }
            match RightEdge::from_bytes(&bytes) {
                Ok(edge) => prop_assert_eq!(edge.to_bytes(), bytes),
                Err(_) => prop_assert!(!change || bytes.len() <= 9),
            }
        }
    }

    #[test]
    fn an_edge_of_another_version_length_or_size_is_refused_in_words() {
        let mut bytes = RightEdge::default().to_bytes();
        assert_eq!(RightEdge::from_bytes(&[]), Err(EdgeError::Length { bytes: 0, expected: 9 }));
        bytes[8] = 1;
        assert_eq!(RightEdge::from_bytes(&bytes), Err(EdgeError::Length { bytes: 9, expected: 41 }));
        bytes[1] = 2;
        assert_eq!(RightEdge::from_bytes(&bytes), Err(EdgeError::Size((2 << 56) + 1)));
        bytes[0] = 2;
        assert_eq!(RightEdge::from_bytes(&bytes), Err(EdgeError::Version(2)));
    }
}
