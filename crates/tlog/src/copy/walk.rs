//! From the root of the checkpoint down to every entry.

use std::io;

use super::{Copied, Progress, Pruned, entries::differences};
use crate::{
    BundleId, Checkpoint, Hash, Problem, Report, RightEdge, TILE_WIDTH, Tile, TileId, Tiles, decode_bundle,
    leaf_hash, tree_hash,
};

/// Checks the tree of the checkpoint.
pub fn walk(
    copy: &dyn Copied,
    checkpoint: &Checkpoint,
    pruned: Pruned,
    progress: &mut dyn FnMut(Progress),
    report: &mut Report,
) -> io::Result<()> {
    let first_kept = first_kept(copy, checkpoint.size, pruned)?;
    Walk { copy, size: checkpoint.size, first_kept, progress, report }.edge(&checkpoint.root)
}

/// Index of the first entry that must be there.
fn first_kept(copy: &dyn Copied, size: u64, pruned: Pruned) -> io::Result<u64> {
    match pruned {
        Pruned::Nothing => Ok(0),
        Pruned::Below(index) => Ok(index),
        Pruned::Detect => {
            for bundle in BundleId::all(0, size) {
                if copy.read(&bundle.to_string())?.is_some() {
                    return Ok(bundle.first_entry());
                }
            }
            Ok(size)
        }
    }
}

/// What is known of the hashes of a tile before it is looked at.
#[derive(Clone, Copy)]
enum Trust {
    /// It is at the right edge, and the edge leads to the root of the checkpoint.
    Sound,
    /// It must have this root.
    Root(Hash),
    /// Nothing.
    Unknown,
}

/// A tile, and the same hashes computed from what is below it.
struct Evidence {
    id: TileId,
    tile: Option<Vec<Hash>>,
    below: Vec<Option<Hash>>,
}

impl Evidence {
    /// The hashes from below, where all are known.
    fn below(&self) -> Option<Vec<Hash>> {
        self.below.iter().copied().collect()
    }

    /// Places where tile and what is below it differ.
    fn differences(&self) -> Vec<usize> {
        let tile = self.tile.iter().flatten();
        let pairs = tile.zip(&self.below).enumerate();
        pairs
            .filter(|(_, (hash, below))| below.is_some_and(|below| below != **hash))
            .map(|(at, _)| at)
            .collect()
    }
}

struct Walk<'a> {
    copy: &'a dyn Copied,
    size: u64,
    first_kept: u64,
    progress: &'a mut dyn FnMut(Progress),
    report: &'a mut Report,
}

impl Walk<'_> {
    /// The tiles at the right edge are vouched for by the checkpoint together.
    fn edge(&mut self, root: &Hash) -> io::Result<()> {
        let ids = RightEdge::tile_ids(self.size);
        let mut tiles = Vec::new();
        for id in &ids {
            tiles.push(self.read_tile(*id)?);
        }
        let sound = self.root(&ids, &tiles) == Some(*root);
        let mut found = Vec::new();
        // Highest level first: that is the order of the log.
        for (id, tile) in ids.iter().copied().zip(tiles).rev() {
            let trust = if sound { Trust::Sound } else { Trust::Unknown };
            found.push(self.look_below(id, tile, trust)?);
        }
        if sound {
            return Ok(());
        }
        found.reverse();
        let below: Vec<_> = found.iter().map(Evidence::below).collect();
        let wanted = self.root(&ids, &below) == Some(*root);
        if !wanted {
            self.report.add(Problem::Root);
        }
        found.iter().for_each(|evidence| self.name_differences(evidence, wanted));
        Ok(())
    }

    /// The root to which tiles at the right edge lead, if all are there.
    fn root(&self, ids: &[TileId], hashes: &[Option<Vec<Hash>>]) -> Option<Hash> {
        let whole =
            ids.iter().zip(hashes).map(|(id, hashes)| Some(Tile { id: *id, hashes: hashes.clone()? }));
        let tiles: Tiles = whole.collect::<Option<Vec<_>>>()?.into_iter().collect();
        Some(RightEdge::from_tiles(self.size, &tiles).ok()?.root())
    }

    fn read_tile(&mut self, id: TileId) -> io::Result<Option<Vec<Hash>>> {
        let path = id.to_string();
        let Some(bytes) = self.copy.read(&path)? else {
            self.report.add(Problem::MissingFile { path });
            return Ok(None);
        };
        self.report.tiles += 1;
        let expected = usize::from(id.width()) * 32;
        if bytes.len() != expected {
            self.report.add(Problem::TileLength { path, bytes: bytes.len(), expected });
            return Ok(None);
        }
        Ok(Tile::from_bytes(id, &bytes).ok().map(|tile| tile.hashes))
    }

    /// A complete tile and everything below it. Returns its root: as above says, or as below says,
    /// or what it says itself.
    fn full_tile(&mut self, level: u8, index: u64, trust: Trust) -> io::Result<Option<Hash>> {
        let Some(id) = TileId::new(level, index, 256) else { return Ok(None) };
        let tile = self.read_tile(id)?;
        let own = tile.as_deref().map(tree_hash);
        let evidence = self.look_below(id, tile, trust)?;
        let below = evidence.below().as_deref().map(tree_hash);
        match trust {
            Trust::Root(root) if own == Some(root) => {}
            Trust::Root(root) if below == Some(root) => self.name_differences(&evidence, true),
            Trust::Root(_) if evidence.differences().is_empty() && own.is_some() => {
                self.report.add(Problem::Tile { path: id.to_string() });
            }
            _ => self.name_differences(&evidence, false),
        }
        Ok(match trust {
            Trust::Root(root) => Some(root),
            _ => below.or(own),
        })
    }

    /// Looks at the children of a tile, with its hashes as their measure where it is sound.
    fn look_below(&mut self, id: TileId, tile: Option<Vec<Hash>>, trust: Trust) -> io::Result<Evidence> {
        let sound = match trust {
            Trust::Sound => true,
            Trust::Root(root) => tile.as_deref().map(tree_hash) == Some(root),
            Trust::Unknown => false,
        };
        let hashes = tile.as_deref().filter(|_| sound);
        let below = match id.level().checked_sub(1) {
            None => self.bundle(id, hashes)?,
            Some(level) => self.children(level, id, hashes)?,
        };
        Ok(Evidence { id, tile, below })
    }

    fn children(&mut self, level: u8, id: TileId, sound: Option<&[Hash]>) -> io::Result<Vec<Option<Hash>>> {
        let first = id.index() * TILE_WIDTH;
        (0..usize::from(id.width()))
            .zip(first..)
            .map(|(position, index)| {
                let root = sound.and_then(|hashes| hashes.get(position));
                self.full_tile(level, index, root.map_or(Trust::Unknown, |root| Trust::Root(*root)))
            })
            .collect()
    }

    /// The hashes of the entries under a tile of level 0; where the tile is sound, every difference
    /// is named.
    fn bundle(&mut self, id: TileId, sound: Option<&[Hash]>) -> io::Result<Vec<Option<Hash>>> {
        let unknown = vec![None; usize::from(id.width())];
        let Some(bundle) = BundleId::new(id.index(), id.width()) else { return Ok(unknown) };
        let end = bundle.first_entry() + u64::from(id.width());
        let bytes = self.copy.read(&bundle.to_string())?;
        let hashes = self.entry_hashes(bundle, bytes.as_deref(), end);
        let below = match (&hashes, sound) {
            (Some(found), Some(expected)) => {
                let problems = differences(bundle, expected, found);
                self.report.entries += expected.iter().zip(found).filter(|(a, b)| a == b).count() as u64;
                problems.into_iter().for_each(|problem| self.report.add(problem));
                unknown
            }
            (Some(found), None) if found.len() == unknown.len() => {
                self.report.entries += found.len() as u64;
                found.iter().copied().map(Some).collect()
            }
            (Some(found), None) => {
                let (path, entries) = (bundle.to_string(), found.len());
                self.report.add(Problem::BundleLength { path, entries, expected: unknown.len() });
                unknown
            }
            (None, _) => unknown,
        };
        (self.progress)(Progress { entries: end, of: self.size });
        Ok(below)
    }

    fn entry_hashes(&mut self, bundle: BundleId, bytes: Option<&[u8]>, end: u64) -> Option<Vec<Hash>> {
        let path = bundle.to_string();
        let Some(bytes) = bytes else {
            if end <= self.first_kept {
                self.report.pruned += u64::from(bundle.width());
            } else {
                self.report.add(Problem::MissingFile { path });
            }
            return None;
        };
        match decode_bundle(bytes) {
            Ok(leaves) => Some(leaves.into_iter().map(leaf_hash).collect()),
            Err(error) => {
                self.report.add(Problem::Bundle { path, error });
                None
            }
        }
    }

    /// Names the places where a tile and what is below it differ.
    fn name_differences(&mut self, evidence: &Evidence, below_is_right: bool) {
        for position in evidence.differences() {
            let path = evidence.id.to_string();
            self.report.add(if below_is_right {
                Problem::TileHash { path, position }
            } else {
                Problem::Contradiction { path, position }
            });
        }
    }
}
