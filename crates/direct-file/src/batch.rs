//! Bytes that wait to be appended together.

use crate::{BLOCK_BYTES, aligned::Aligned};

/// Bytes in memory of a fixed size, laid out as they will lie in the blocks of a file: then
/// [`AppendedFile::append_batch`](crate::AppendedFile::append_batch) hands them over where they are.
#[derive(Debug)]
pub struct Batch {
    pub(crate) memory: Aligned,
    /// Room before `start` takes what the file has in its last block already: less than a block.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Batch {
    /// Empty, for at least so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { memory: Aligned::with_capacity(bytes.saturating_add(BLOCK_BYTES)), start: 0, end: 0 }
    }

    /// For how many bytes it is at least.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.capacity() - BLOCK_BYTES
    }

    /// Empties it. The first byte will lie at `offset` of the file, if that is known: wrong, it only
    /// costs a copy.
    pub fn restart(&mut self, offset: u64) {
        let within = offset % BLOCK_BYTES as u64;
        self.start = usize::try_from(within).unwrap_or(0);
        self.end = self.start;
    }

    /// Whether so many bytes more find room.
    #[must_use]
    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= self.memory.capacity() - self.end
    }

    /// Adds all of the bytes, or none where they do not fit.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        if !self.fits(bytes.len()) {
            return false;
        }
        let end = self.end + bytes.len();
        self.memory.get_mut(self.end..end).copy_from_slice(bytes);
        self.end = end;
        true
    }

    /// What was added.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end)
    }

    /// Number of bytes that were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }
}
