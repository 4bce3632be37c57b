//! The bytes of one log file, as far as the disk gives them back.

use std::{io, ops::Range, path::Path};

use obscura_direct_file::{BLOCK_BYTES, DirectReader};

use crate::spool::disk::{Disk, is_damage};

/// Bytes that are read at once where nothing is wrong.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Tries to read one block.
const TRIES: usize = 3;
/// Tries to read one block that may fail in one start: each may take a second or more, and no camera is recorded
/// before they are over.
const MOST_FAILURES: usize = 120;

/// How many tries to read one block may still fail in this start.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST_FAILURES)
    }
}

/// A log file in memory.
#[derive(Debug)]
pub struct Image {
    /// Its bytes; zeros where they cannot be read.
    pub bytes: Vec<u8>,
    /// What cannot be read.
    pub unreadable: Vec<Range<usize>>,
    /// The file, open for reading.
    pub reader: DirectReader,
}

/// Reads a file. `None` where the disk gives back nothing of it. When the budget is used up, a window that cannot be
/// read at once counts as lost.
pub fn read(disk: &dyn Disk, path: &Path, budget: &mut Budget) -> io::Result<Option<Image>> {
    let reader = match DirectReader::open(path) {
        Err(error) if is_damage(&error) => return Ok(None),
        opened => opened?,
    };
    let length = usize::try_from(std::fs::metadata(path)?.len()).map_err(io::Error::other)?;
    let mut image = Image { bytes: vec![0; length], unreadable: Vec::new(), reader };
    let mut at = 0;
    for window in image.bytes.chunks_mut(WINDOW_BYTES) {
        let read =
            |into: &mut [u8], offset: usize| given(disk.read(path, &image.reader, into, offset as u64));
        if !read(window, at)? {
            window.fill(0);
            lost_blocks(window, at, budget, &mut image.unreadable, read)?;
        }
        at += window.len();
    }
    let lost: usize = image.unreadable.iter().map(Range::len).sum();
    Ok((lost < length || length == 0).then_some(image))
}

/// Reads what can be read of a window block by block, as long as the budget lasts.
fn lost_blocks(
    window: &mut [u8],
    at: usize,
    budget: &mut Budget,
    unreadable: &mut Vec<Range<usize>>,
    read: impl Fn(&mut [u8], usize) -> io::Result<bool>,
) -> io::Result<()> {
    for (number, block) in window.chunks_mut(BLOCK_BYTES).enumerate() {
        let offset = at + number * BLOCK_BYTES;
        let mut given = false;
        for _ in 0..TRIES {
            if given || budget.0 == 0 {
                break;
            }
            given = read(block, offset)?;
            budget.0 -= usize::from(!given);
        }
        if !given {
            block.fill(0);
            unreadable.push(offset..offset + block.len());
        }
    }
    Ok(())
}

/// Whether the disk gave the bytes back.
fn given(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if is_damage(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
