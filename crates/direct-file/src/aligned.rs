//! Memory that starts at a multiple of a block.

use std::ops::Range;

use crate::BLOCK_BYTES;

/// Memory of a fixed size, aligned for `O_DIRECT`.
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// Zeros: at least so many bytes, in whole blocks.
    pub fn with_capacity(bytes: usize) -> Self {
        let bytes = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let memory = vec![0; bytes + BLOCK_BYTES];
        // Never more than a block for bytes; the memory does not move, because it is never resized.
        let start = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { memory, start, bytes }
    }

    /// How many bytes there are: a multiple of a block.
    pub fn capacity(&self) -> usize {
        self.bytes
    }

    /// The bytes in this range; none where it is out of bounds.
    pub fn get(&self, range: Range<usize>) -> &[u8] {
        self.memory.get(self.start + range.start..self.start + range.end).unwrap_or_default()
    }

    /// As [`Self::get`], to write to.
    pub fn get_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.memory.get_mut(self.start + range.start..self.start + range.end).unwrap_or_default()
    }

    /// Moves the bytes in this range to the front.
    pub fn move_to_front(&mut self, range: Range<usize>) {
        self.memory.copy_within(self.start + range.start..self.start + range.end, self.start);
    }
}
