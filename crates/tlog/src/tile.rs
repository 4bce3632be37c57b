//! Tiles: 256 hashes side by side at every eighth level of the tree (C2SP tlog-tiles).

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Hash, decimal};

/// Hashes in a complete tile, entries in a complete bundle.
pub const TILE_WIDTH: u64 = 256;
/// Leaves in the largest log that is understood. Keeps all arithmetic on sizes far from overflow.
pub const MAX_SIZE: u64 = 1 << 56;
/// A log of [`MAX_SIZE`] leaves has tiles at the levels 0 to 7.
const MAX_LEVEL: u8 = 7;

/// The text is not the path of a file of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path of C2SP tlog-tiles")]
pub struct InvalidPath(pub(crate) String);

impl InvalidPath {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.chars().take(64).collect())
    }
}

/// Where a tile is and how many hashes it has. Its text is its path: `tile/0/x001/067.p/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

impl TileId {
    /// Tile `index` of `level` with 1 to 256 hashes; `None` where no log is so large.
    #[must_use]
    pub fn new(level: u8, index: u64, width: u16) -> Option<Self> {
        let fits = level <= MAX_LEVEL && width >= 1 && u64::from(width) <= TILE_WIDTH;
        let hashes = index.checked_mul(TILE_WIDTH)?.checked_add(u64::from(width))?;
        (fits && hashes <= at_level(MAX_SIZE, level)).then_some(Self { level, index, width })
    }

    /// Tile `index` of `level` as wide as it is in a log of `size` leaves; `None` where it is empty.
    #[must_use]
    pub fn in_log(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = at_level(size, level).checked_sub(index.checked_mul(TILE_WIDTH)?)?;
        Self::new(level, index, u16::try_from(hashes.min(TILE_WIDTH)).ok()?)
    }

    /// Every tile that a log of `new_size` leaves has and one of `old_size` leaves has not, lowest
    /// level first.
    pub fn all(old_size: u64, new_size: u64) -> impl Iterator<Item = Self> {
        (0..=MAX_LEVEL).flat_map(move |level| {
            let (old, new) = (at_level(old_size, level), at_level(new_size, level));
            let end = if old < new { new.div_ceil(TILE_WIDTH) } else { 0 };
            (old / TILE_WIDTH..end).filter_map(move |index| Self::in_log(level, index, new_size))
        })
    }

    /// How many times 256 leaves are under one of its hashes: 0 for hashes of leaves.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.level
    }

    /// Its place in the level, from 0.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Its number of hashes, 1 to 256.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it will never change.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.width as u64 == TILE_WIDTH
    }

    /// The complete tile at the same place: to be asked for where the partial one is gone.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { width: 256, ..self }
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/{}", self.level, place(self.index, self.width))
    }
}

impl FromStr for TileId {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        let parse = || {
            let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
            let (index, width) = parse_place(rest)?;
            Self::new(u8::try_from(decimal::parse(level)?).ok()?, index, width)
        };
        parse().filter(|id| id.to_string() == path).ok_or_else(|| InvalidPath::new(path))
    }
}

/// Number of hashes at a level of tiles in a log of `size` leaves.
pub(crate) const fn at_level(size: u64, level: u8) -> u64 {
    // Level 8 and above: no size reaches them, and the shift would be undefined.
    if level > MAX_LEVEL { 0 } else { size >> (8 * level) }
}

/// Three digits a folder: `x001/067`, and `.p/5` behind it where it is not complete.
pub(crate) fn place(index: u64, width: u16) -> String {
    let mut text = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    if u64::from(width) < TILE_WIDTH { format!("{text}.p/{width}") } else { text }
}

/// Lenient reverse of [`place`]: callers compare with the one spelling.
pub(crate) fn parse_place(text: &str) -> Option<(u64, u16)> {
    let (digits, width) = match text.split_once(".p/") {
        Some((digits, width)) => (digits, u16::try_from(decimal::parse(width)?).ok()?),
        None => (text, 256),
    };
    let index = digits.split('/').try_fold(0_u64, |index, part| {
        let part: u64 = part.strip_prefix('x').unwrap_or(part).parse().ok()?;
        index.checked_mul(1000)?.checked_add(part)
    })?;
    Some((index, width))
}

/// A tile of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{id} has {bytes} bytes, expected {}", u64::from(id.width()) * 32)]
pub struct TileError {
    /// Which tile.
    pub id: TileId,
    /// Bytes that there are.
    pub bytes: usize,
}

/// A tile and its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Where it is.
    pub id: TileId,
    /// As many as the id says.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// The content of the file: 32 bytes per hash.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }

    /// Reads a file. One that has grown since the id was made is cut to the id's width.
    ///
    /// # Errors
    /// Where the file has too few hashes, too many, or a part of one.
    pub fn from_bytes(id: TileId, bytes: &[u8]) -> Result<Self, TileError> {
        let error = TileError { id, bytes: bytes.len() };
        let (chunks, rest) = bytes.as_chunks::<32>();
        let width = usize::from(id.width);
        if !rest.is_empty() || chunks.len() < width || chunks.len() > usize::from(id.full().width) {
            return Err(error);
        }
        Ok(Self { id, hashes: chunks.iter().take(width).copied().map(Hash::from_bytes).collect() })
    }
}

/// Tiles that a caller fetched, by place.
#[derive(Clone, Debug, Default)]
pub struct Tiles(BTreeMap<(u8, u64), Vec<Hash>>);

impl Tiles {
    /// Adds a tile. Of two at the same place the wider one stays.
    pub fn insert(&mut self, tile: Tile) {
        let slot = self.0.entry((tile.id.level, tile.id.index)).or_default();
        if slot.len() < tile.hashes.len() {
            *slot = tile.hashes;
        }
    }

    /// The hashes of a tile, if they are here, perhaps from a wider one.
    #[must_use]
    pub fn get(&self, id: TileId) -> Option<&[Hash]> {
        self.0.get(&(id.level, id.index))?.get(..usize::from(id.width))
    }
}

impl FromIterator<Tile> for Tiles {
    fn from_iter<I: IntoIterator<Item = Tile>>(tiles: I) -> Self {
        let mut all = Self::default();
        tiles.into_iter().for_each(|tile| all.insert(tile));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(level: u8, index: u64, width: u16) -> TileId {
        TileId::new(level, index, width).unwrap()
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(id(0, 1_234_067, 256).to_string(), "tile/0/x001/x234/067");
        assert_eq!(id(0, 1_067, 5).to_string(), "tile/0/x001/067.p/5");
        assert_eq!(id(2, 0, 1).to_string(), "tile/2/000.p/1");
    }

    #[test]
    fn a_log_of_70000_has_the_tiles_that_the_specification_counts() {
        let all: Vec<_> = TileId::all(0, 70_000).collect();
        assert_eq!(all.len(), 273 + 1 + 1 + 1 + 1);
        for expected in [id(0, 273, 112), id(1, 0, 256), id(1, 1, 17), id(2, 0, 1)] {
            assert!(all.contains(&expected), "{expected}");
        }
        assert_eq!(TileId::all(0, 256).collect::<Vec<_>>(), [id(0, 0, 256), id(1, 0, 1)]);
        assert_eq!(TileId::all(256, 256).count(), 0);
        assert_eq!(TileId::all(300, 301).collect::<Vec<_>>(), [id(0, 1, 45)]);
    }

    #[test]
    fn what_is_no_path_is_refused_without_a_panic() {
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/0/+01",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/05",
            "tile/0/000.p/",
            "tile/8/000",
            "tile/64/000",
            "tile/00/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/entries/000",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/0/000\n",
            "tile/0/000.p/1.p/1",
        ] {
            assert!(path.parse::<TileId>().is_err(), "{path:?}");
        }
    }

    #[test]
    fn tlog_tiles_panics_where_this_parser_refuses() {
        for path in ["tile/8/64/000", "tile/8/0/000.p/0"] {
            let parsed = std::panic::catch_unwind(|| tlog_tiles::Tile::from_path(path).is_ok());
            assert!(parsed.is_err(), "{path}: the library's parser can be used now");
        }
    }

    #[test]
    fn a_tile_of_a_wrong_length_is_refused_and_a_grown_one_is_cut() {
        for bytes in [0, 31, 32, 63, 65, 256 * 32 + 32] {
            assert!(Tile::from_bytes(id(0, 0, 2), &vec![7; bytes]).is_err(), "{bytes}");
        }
        let grown = Tile::from_bytes(id(0, 0, 2), &[7; 96]).unwrap();
        assert_eq!(grown.to_bytes(), [7; 64]);
    }

    proptest! {
        #[test]
        fn paths_read_back(level in 0..=7_u8, index in 0..1_u64 << 48, width in 1..=256_u16) {
            if let Some(id) = TileId::new(level, index, width) {
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
        }

        #[test]
        fn whatever_reads_as_a_path_is_written_the_same(path in "(tile/)?[0-9]{1,2}/(x?[0-9]{1,4}/?){0,8}(.p/[0-9]{1,3})?") {
            if let Ok(id) = path.parse::<TileId>() {
                prop_assert_eq!(id.to_string(), path);
            }
        }

        #[test]
        fn any_text_is_refused_without_a_panic(path: String) {
            prop_assert!(path.parse::<TileId>().is_err());
        }

        #[test]
        fn paths_are_those_of_go(level in 0..=7_u8, index in 0..1_u64 << 30, width in 1..=256_u16) {
            if let Some(id) = TileId::new(level, index, width) {
                let theirs = tlog_tiles::Tile::new(8, level, index, u32::from(width), false).path();
                prop_assert_eq!(id.to_string(), theirs.replacen("tile/8/", "tile/", 1));
            }
        }
    }
}
