//! Proofs of inclusion and consistency (RFC 6962, sections 2.1.1 and 2.1.2) from tiles.

use std::{cell::RefCell, collections::BTreeSet};

use tlog_tiles::{HashReader, split_stored_hash_index};

use crate::{
    Hash, MAX_SIZE, TILE_WIDTH, TileId, Tiles, hash::tree_hash, proof_file::MAX_PROOF_HASHES, tile::at_level,
};

/// Why there is no proof, or why it does not prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf.
    #[error("there is no entry {index} in a log of {size}")]
    NoSuchEntry {
        /// Index that was asked for.
        index: u64,
        /// Size of the log.
        size: u64,
    },
    /// The log was never so large, or had nothing to be a prefix.
    #[error("a log of {new} has no proof that it goes on from {old}: sizes go from 1 to the log's own")]
    NoSuchPrefix {
        /// Size of the prefix.
        old: u64,
        /// Size of the log.
        new: u64,
    },
    /// Larger than any log can be.
    #[error("no log has {0} entries: the limit is 2^56")]
    Size(u64),
    /// A tile that was asked for is not there.
    #[error("{0} is missing")]
    MissingTile(TileId),
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root of the log")]
    Wrong,
}

/// A proof that an entry is in a log of some size, to be made.
#[derive(Clone, Copy, Debug)]
pub struct Inclusion {
    index: u64,
    size: u64,
}

impl Inclusion {
    /// For entry `index` (from 0) in a log of `size` entries.
    ///
    /// # Errors
    /// Where there is no such entry.
    pub fn new(index: u64, size: u64) -> Result<Self, ProofError> {
        check_size(size)?;
        if index < size { Ok(Self { index, size }) } else { Err(ProofError::NoSuchEntry { index, size }) }
    }

    /// The tiles to fetch.
    #[must_use]
    pub fn plan(&self) -> Vec<TileId> {
        plan(self.size, |hashes| tlog_tiles::prove_record(self.size, self.index, hashes).map(drop))
    }

    /// The hashes from the leaf's sibling up to the root's child.
    ///
    /// # Errors
    /// Where one of the planned tiles is missing.
    pub fn prove(&self, tiles: &Tiles) -> Result<Vec<Hash>, ProofError> {
        prove(self.size, &self.plan(), tiles, |hashes| {
            tlog_tiles::prove_record(self.size, self.index, hashes)
        })
    }
}

/// A proof that a log of one size goes on from a smaller one, to be made.
#[derive(Clone, Copy, Debug)]
pub struct Consistency {
    old: u64,
    new: u64,
}

impl Consistency {
    /// From `old` entries to `new`. From 0 the proof is empty and proves nothing.
    ///
    /// # Errors
    /// Where `old` is larger than `new`.
    pub fn new(old: u64, new: u64) -> Result<Self, ProofError> {
        check_size(new)?;
        if old <= new { Ok(Self { old, new }) } else { Err(ProofError::NoSuchPrefix { old, new }) }
    }

    /// The tiles to fetch.
    #[must_use]
    pub fn plan(&self) -> Vec<TileId> {
        if self.old == 0 {
            return Vec::new();
        }
        plan(self.new, |hashes| tlog_tiles::prove_tree(self.new, self.old, hashes).map(drop))
    }

    /// The hashes of the proof in the order of the RFC.
    ///
    /// # Errors
    /// Where one of the planned tiles is missing.
    pub fn prove(&self, tiles: &Tiles) -> Result<Vec<Hash>, ProofError> {
        if self.old == 0 {
            return Ok(Vec::new());
        }
        prove(self.new, &self.plan(), tiles, |hashes| tlog_tiles::prove_tree(self.new, self.old, hashes))
    }
}

/// The root that a log had at some size, to be computed again.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    size: u64,
}

impl Root {
    /// Of the first `size` entries.
    ///
    /// # Errors
    /// Where no log is so large.
    pub const fn new(size: u64) -> Result<Self, ProofError> {
        if size > MAX_SIZE { Err(ProofError::Size(size)) } else { Ok(Self { size }) }
    }

    /// The tiles to fetch.
    #[must_use]
    pub fn plan(&self) -> Vec<TileId> {
        plan(self.size, |hashes| tlog_tiles::tree_hash(self.size, hashes).map(drop))
    }

    /// The root.
    ///
    /// # Errors
    /// Where one of the planned tiles is missing.
    pub fn compute(&self, tiles: &Tiles) -> Result<Hash, ProofError> {
        let root = |hashes: &FromTiles<'_>| tlog_tiles::tree_hash(self.size, hashes).map(|root| vec![root]);
        let root = prove(self.size, &self.plan(), tiles, root)?;
        root.first().copied().ok_or(ProofError::Wrong)
    }
}

/// Checks that a leaf with this hash is entry `index` of the log with this size and root.
///
/// # Errors
/// Where the entry does not exist or the proof does not lead to the root.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    Inclusion::new(index, size)?;
    tlog_tiles::check_record(&theirs(proof)?, size, (*root).into(), index, (*leaf).into())
        .map_err(|_| ProofError::Wrong)
}

/// Checks that the log with `new` entries begins with the `old` entries that had `old_root`.
/// Everything begins with nothing: from size 0 only an empty proof and the empty root are right.
///
/// # Errors
/// Where `old` is larger than `new`, or the proof leads to other roots.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    Consistency::new(old, new)?;
    let proven = if old == 0 {
        proof.is_empty() && *old_root == Hash::EMPTY && (new > 0 || *new_root == Hash::EMPTY)
    } else {
        tlog_tiles::check_tree(&theirs(proof)?, new, (*new_root).into(), old, (*old_root).into()).is_ok()
    };
    if proven { Ok(()) } else { Err(ProofError::Wrong) }
}

const fn check_size(size: u64) -> Result<(), ProofError> {
    if size > MAX_SIZE { Err(ProofError::Size(size)) } else { Ok(()) }
}

/// No tree is so deep that a proof needs more hashes; the library copies the rest at each step.
fn theirs(proof: &[Hash]) -> Result<Vec<tlog_tiles::Hash>, ProofError> {
    if proof.len() > MAX_PROOF_HASHES {
        return Err(ProofError::Wrong);
    }
    Ok(proof.iter().copied().map(Into::into).collect())
}

/// Runs a proof over a tree of which nothing is known, to see which tiles it reads.
fn plan(size: u64, run: impl FnOnce(&Recorder) -> Result<(), tlog_tiles::Error>) -> Vec<TileId> {
    let recorder = Recorder::default();
    // It only fails where its reader fails, and this one does not.
    let _ = run(&recorder);
    let tiles: BTreeSet<_> =
        recorder.0.into_inner().into_iter().filter_map(|stored| Node::at(stored).tile(size)).collect();
    tiles.into_iter().collect()
}

fn prove(
    size: u64,
    plan: &[TileId],
    tiles: &Tiles,
    run: impl FnOnce(&FromTiles<'_>) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error>,
) -> Result<Vec<Hash>, ProofError> {
    if let Some(missing) = plan.iter().find(|id| tiles.get(**id).is_none()) {
        return Err(ProofError::MissingTile(*missing));
    }
    let hashes = run(&FromTiles { size, tiles }).map_err(|_| ProofError::Wrong)?;
    Ok(hashes.into_iter().map(Hash::from).collect())
}

#[derive(Default)]
struct Recorder(RefCell<Vec<u64>>);

impl HashReader for Recorder {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        self.0.borrow_mut().extend_from_slice(indexes);
        Ok(vec![tlog_tiles::EMPTY_HASH; indexes.len()])
    }
}

struct FromTiles<'a> {
    size: u64,
    tiles: &'a Tiles,
}

impl HashReader for FromTiles<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        let read = |stored: &u64| self.hash(Node::at(*stored)).ok_or(tlog_tiles::Error::IndexesNotInTree);
        indexes.iter().map(read).map(|hash| hash.map(Into::into)).collect()
    }
}

impl FromTiles<'_> {
    fn hash(&self, node: Node) -> Option<Hash> {
        let hashes = self.tiles.get(node.tile(self.size)?)?;
        Some(tree_hash(hashes.get(node.range()?)?))
    }
}

/// The `index`th full subtree of 2 to the power of `height` leaves.
#[derive(Clone, Copy)]
struct Node {
    height: u8,
    index: u64,
}

impl Node {
    fn at(stored: u64) -> Self {
        let (height, index) = split_stored_hash_index(stored);
        Self { height, index }
    }

    /// The lowest tile under which it can be computed.
    fn tile(self, size: u64) -> Option<TileId> {
        let level = self.height / 8;
        TileId::in_log(level, self.first() / TILE_WIDTH, at_level(size, 0))
    }

    /// Index of its first hash among those of its tile's level.
    const fn first(self) -> u64 {
        self.index << (self.height % 8)
    }

    /// Its hashes within the tile.
    fn range(self) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(self.first() % TILE_WIDTH).ok()?;
        Some(start..start + (1 << (self.height % 8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        RightEdge, Tile,
        test_support::{leaves, naive_consistency, naive_path, naive_root},
    };
    use proptest::prelude::*;

    fn tiles(hashes: &[Hash]) -> Tiles {
        RightEdge::default().append(hashes).into_iter().collect()
    }

    /// Only the planned tiles, so that a proof that reads another one fails.
    fn fetch(plan: &[TileId], all: &Tiles) -> Tiles {
        plan.iter().map(|id| Tile { id: *id, hashes: all.get(*id).unwrap().to_vec() }).collect()
    }

    fn check_inclusion(index: usize, hashes: &[Hash], all: &Tiles) {
        let size = hashes.len() as u64;
        let inclusion = Inclusion::new(index as u64, size).unwrap();
        let proof = inclusion.prove(&fetch(&inclusion.plan(), all)).unwrap();
        assert_eq!(proof, naive_path(index, hashes), "{index} of {size}");
        let root = naive_root(hashes);
        verify_inclusion(&hashes[index], index as u64, size, &root, &proof).unwrap();
        let other = leaves(1)[0];
        if hashes[index] != other {
            verify_inclusion(&other, index as u64, size, &root, &proof).unwrap_err();
        }
        verify_inclusion(&hashes[index], index as u64, size, &other, &proof)
            .map_or_else(|error| assert_eq!(error, ProofError::Wrong), |()| assert_eq!(size, 1));
        for gone in inclusion.plan() {
            let rest = inclusion.plan().into_iter().filter(|id| *id != gone).collect::<Vec<_>>();
            assert_eq!(inclusion.prove(&fetch(&rest, all)), Err(ProofError::MissingTile(gone)));
        }
    }

    fn check_consistency(old: usize, hashes: &[Hash], all: &Tiles) {
        let (new, root) = (hashes.len() as u64, naive_root(hashes));
        let consistency = Consistency::new(old as u64, new).unwrap();
        let proof = consistency.prove(&fetch(&consistency.plan(), all)).unwrap();
        let old_root = naive_root(&hashes[..old]);
        verify_consistency(old as u64, &old_root, new, &root, &proof).unwrap();
        assert_eq!(Root::new(old as u64).unwrap().compute(all), Ok(old_root));
        if old > 0 {
            assert_eq!(proof, naive_consistency(old, hashes), "{old} to {new}");
            let forked = leaves(old + 1)[old];
            verify_consistency(old as u64, &forked, new, &root, &proof).unwrap_err();
        }
    }

    #[test]
    fn proofs_are_those_of_the_rfc_for_every_pair_of_small_sizes() {
        for size in 1..=40 {
            let hashes = leaves(size);
            let all = tiles(&hashes);
            for index in 0..size {
                check_inclusion(index, &hashes, &all);
            }
            for old in 0..=size {
                check_consistency(old, &hashes, &all);
            }
        }
    }

    #[test]
    fn proofs_are_those_of_the_rfc_around_the_borders_of_tiles() {
        for size in [255, 256, 257, 511, 512, 513, 1_023, 1_025, 2_000] {
            let hashes = leaves(size);
            let all = tiles(&hashes);
            for near in [0, 1, 127, 254, 255, 256, 257, 510, 511, 512, 513, 1_022, 1_024, size - 1, size] {
                if near < size {
                    check_inclusion(near, &hashes, &all);
                }
                if near <= size {
                    check_consistency(near, &hashes, &all);
                }
            }
        }
    }

    #[test]
    fn impossible_proofs_are_refused_in_words() {
        assert_eq!(Inclusion::new(3, 3).unwrap_err(), ProofError::NoSuchEntry { index: 3, size: 3 });
        assert_eq!(Consistency::new(4, 3).unwrap_err(), ProofError::NoSuchPrefix { old: 4, new: 3 });
        assert_eq!(Inclusion::new(0, u64::MAX).unwrap_err(), ProofError::Size(u64::MAX));
        assert_eq!(Root::new(0).unwrap().compute(&Tiles::default()), Ok(Hash::EMPTY));
        let long = vec![Hash::EMPTY; 100_000];
        assert_eq!(verify_inclusion(&long[0], 0, 1 << 50, &long[0], &long), Err(ProofError::Wrong));
        assert_eq!(verify_consistency(0, &Hash::EMPTY, 5, &long[0], &long), Err(ProofError::Wrong));
        assert_eq!(verify_consistency(0, &leaves(1)[0], 5, &long[0], &[]), Err(ProofError::Wrong));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn proofs_are_those_of_the_rfc_at_random(size in 1..20_000_usize, a: prop::sample::Index) {
            let hashes = leaves(size);
            let all = tiles(&hashes);
            check_inclusion(a.index(size), &hashes, &all);
            check_consistency(a.index(size + 1), &hashes, &all);
        }

        #[test]
        fn an_altered_proof_proves_nothing(size in 2..600_usize, a: prop::sample::Index, b: prop::sample::Index, bit in 0..256_usize) {
            let hashes = leaves(size);
            let (index, root) = (a.index(size), naive_root(&hashes));
            let mut proof = naive_path(index, &hashes);
            let at = b.index(proof.len());
            let mut bytes = *proof[at].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            proof[at] = Hash::from_bytes(bytes);
            prop_assert!(verify_inclusion(&hashes[index], index as u64, size as u64, &root, &proof).is_err());
        }
    }
}
