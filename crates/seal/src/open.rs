//! Opening sealed segments, whole or chunk by chunk.

use std::{fmt, ops::Range};

use crate::{
    Clear, Error, LeafKey, NodeSet, SegmentHeader,
    chunked::{CHUNK_BYTES, Cobblestone, PREFIX_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES},
    segment::{LENGTH_BYTES, tail_context},
};

/// A segment that was opened and is authentic from its first to its last byte. Wiped when dropped.
pub struct ClearSegment {
    /// The clear header, as authentic as the rest.
    pub header: SegmentHeader,
    clear: Clear,
    torn: bool,
}

impl ClearSegment {
    /// The footage.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.clear
    }

    /// The footage, now the caller's to wipe.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.clear.into_bytes()
    }

    /// Whether a crash cut the segment: up to the last checkpoint it is complete, but nothing
    /// proves that there was no later one.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        self.torn
    }
}

impl fmt::Debug for ClearSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClearSegment");
        shown.field("header", &self.header).field("bytes", &self.clear.len()).field("torn", &self.torn);
        shown.finish_non_exhaustive()
    }
}

/// Random access to a sealed segment: its header and commitment are verified, chunks can be opened
/// in any order.
pub struct ChunkReader {
    header: SegmentHeader,
    context: Vec<u8>,
    leaf: LeafKey,
    file: Cobblestone,
}

impl ChunkReader {
    /// The most bytes that [`ChunkReader::new`] needs from the start of a segment.
    pub const MAX_PREFIX_BYTES: usize = LENGTH_BYTES + SegmentHeader::MAX_BYTES + PREFIX_BYTES;

    /// Reads the start of a sealed segment and verifies that it belongs to the key of its slot.
    /// What follows the commitment is not looked at.
    ///
    /// # Errors
    /// [`Error::Length`] where bytes miss, [`Error::Header`], [`Error::NotCovered`] or
    /// [`Error::Commitment`].
    pub fn new(keys: &NodeSet, prefix: &[u8]) -> Result<Self, Error> {
        split(prefix).and_then(|parts| Self::verify(keys, &parts))
    }

    /// The verified header.
    #[must_use]
    pub const fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Where the full chunk with this number lies, counted from the start of the sealed segment.
    #[must_use]
    pub fn chunk_range(&self, index: u32) -> Range<u64> {
        let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let length = number(SEALED_CHUNK_BYTES);
        let start = number(LENGTH_BYTES + self.context.len() + PREFIX_BYTES) + u64::from(index) * length;
        start..start + length
    }

    /// Opens one chunk. Whoever trusts the length of the segment must have opened its last chunk.
    ///
    /// # Errors
    /// [`Error::Length`] where a chunk that is not the last is not full, or the last one is;
    /// [`Error::Chunk`] where it does not authenticate.
    pub fn open_chunk(&self, index: u32, sealed: &[u8], is_last: bool) -> Result<Clear, Error> {
        if is_last != (sealed.len() < SEALED_CHUNK_BYTES) || sealed.len() > SEALED_CHUNK_BYTES {
            return Err(Error::Length("every chunk is full except the last"));
        }
        open_alone(&self.file, index, sealed)
    }

    /// Opens the separately sealed tail behind so many full chunks of a torn segment.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Commitment`] where it is the tail of something else, or
    /// [`Error::Chunk`].
    pub fn open_tail(&self, full_chunks: u32, sealed: &[u8]) -> Result<Clear, Error> {
        let (prefix, chunk) = sealed.split_first_chunk().ok_or(Error::Length("its tail is cut"))?;
        if chunk.len() < TAG_BYTES || chunk.len() >= SEALED_CHUNK_BYTES {
            return Err(Error::Length("its tail cannot have this length"));
        }
        let tail = Cobblestone::open(&self.leaf, prefix, &tail_context(&self.context, full_chunks))?;
        open_alone(&tail, 0, chunk)
    }

    fn verify(keys: &NodeSet, parts: &Parts<'_>) -> Result<Self, Error> {
        let header = SegmentHeader::decode(parts.header)?;
        let leaf = keys.leaf(header.slot).ok_or(Error::NotCovered { slot: header.slot })?;
        let file = Cobblestone::open(&leaf, parts.prefix, parts.header)?;
        Ok(Self { header, context: parts.header.to_vec(), leaf, file })
    }

    /// The last chunk is opened first: it proves the length before anything else is decrypted.
    fn open_finished(&self, body: &[u8]) -> Result<Clear, Error> {
        let (chunks, last) = body.as_chunks();
        let count = u32::try_from(chunks.len()).map_err(|_| Error::TooLong)?;
        let last = open_alone(&self.file, count, last)?;
        open_before(&self.file, chunks, &last)
    }

    fn open_torn(&self, body: &[u8], full_chunks: u32) -> Result<Clear, Error> {
        let (chunks, tail) = split_torn(body, full_chunks).ok_or(Error::Length("full chunks are missing"))?;
        let tail = if tail.is_empty() { Clear::default() } else { self.open_tail(full_chunks, tail)? };
        open_before(&self.file, chunks, &tail)
    }
}

impl fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkReader").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Opens a whole segment.
pub(crate) fn segment(
    keys: &NodeSet,
    sealed: &[u8],
    torn_after_chunks: Option<u32>,
) -> Result<ClearSegment, Error> {
    let parts = split(sealed)?;
    let reader = ChunkReader::verify(keys, &parts)?;
    let clear = match torn_after_chunks {
        None => reader.open_finished(parts.body)?,
        Some(full_chunks) => reader.open_torn(parts.body, full_chunks)?,
    };
    Ok(ClearSegment { header: reader.header, clear, torn: torn_after_chunks.is_some() })
}

/// A sealed segment, cut at its fixed places. Nothing is verified yet.
struct Parts<'a> {
    header: &'a [u8],
    prefix: &'a [u8; PREFIX_BYTES],
    body: &'a [u8],
}

fn split(sealed: &[u8]) -> Result<Parts<'_>, Error> {
    let (length, rest) = sealed.split_first_chunk().ok_or(Error::Length("it ends before its header"))?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (header, rest) = rest.split_at_checked(length).ok_or(Error::Length("it ends within its header"))?;
    let (prefix, body) = rest.split_first_chunk().ok_or(Error::Length("it ends before its first chunk"))?;
    Ok(Parts { header, prefix, body })
}

fn split_torn(body: &[u8], full_chunks: u32) -> Option<(&[[u8; SEALED_CHUNK_BYTES]], &[u8])> {
    let length = usize::try_from(full_chunks).ok()?.checked_mul(SEALED_CHUNK_BYTES)?;
    let (chunks, tail) = body.split_at_checked(length)?;
    Some((chunks.as_chunks().0, tail))
}

/// Opens full chunks, and puts what follows them behind.
fn open_before(
    file: &Cobblestone,
    chunks: &[[u8; SEALED_CHUNK_BYTES]],
    behind: &[u8],
) -> Result<Clear, Error> {
    let mut clear = Clear::zeroed(chunks.len() * CHUNK_BYTES + behind.len());
    let (full, rest) = clear.as_mut_slice().as_chunks_mut::<CHUNK_BYTES>();
    for (index, (sealed, clear)) in (0..).zip(chunks.iter().zip(full)) {
        file.open_chunk(index, sealed, clear)?;
    }
    rest.copy_from_slice(behind);
    Ok(clear)
}

fn open_alone(file: &Cobblestone, index: u32, sealed: &[u8]) -> Result<Clear, Error> {
    let length = sealed.len().checked_sub(TAG_BYTES).ok_or(Error::Length("a chunk is cut within its tag"))?;
    let mut clear = Clear::zeroed(length);
    file.open_chunk(index, sealed, clear.as_mut_slice())?;
    Ok(clear)
}
