//! Sealing a segment while it is recorded.

use std::fmt;

use zeroize::Zeroize as _;

use crate::{
    ClearSegment, Error, LeafKey, NodeSet, SegmentHeader,
    chunked::{CHUNK_BYTES, Cobblestone, PREFIX_BYTES, SALT_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES},
    open,
};

/// Bytes of the length in front of the header.
pub(crate) const LENGTH_BYTES: usize = 2;
/// What sets the context of a tail apart from that of a segment. No header ends like this: a
/// header ends with its zone, whose length it states.
const TAIL_LABEL: &[u8] = b"obscura torn tail";

/// A way to seal segments.
pub trait SegmentCipher: Send + Sync + fmt::Debug {
    /// Starts a segment: appends length, header, salt and commitment to `out`.
    ///
    /// # Errors
    /// [`Error::Library`]; `out` is then as before.
    fn begin(
        &self,
        leaf: &LeafKey,
        header: &SegmentHeader,
        out: &mut Vec<u8>,
    ) -> Result<Box<dyn SegmentSealer>, Error>;

    /// Opens a whole sealed segment. `torn_after_chunks` is `None` for a finished one, and for one
    /// that a crash cut the number of full chunks, which a separately sealed tail may follow.
    ///
    /// # Errors
    /// [`Error::NotCovered`] without a key for its slot, [`Error::Commitment`] where key or header
    /// differ, [`Error::Length`] where bytes miss or are too many, [`Error::Chunk`] where they were
    /// changed. Nothing of a segment is returned unless all of it is authentic.
    fn open(
        &self,
        keys: &NodeSet,
        sealed: &[u8],
        torn_after_chunks: Option<u32>,
    ) -> Result<ClearSegment, Error>;
}

/// A segment on its way to the disk.
pub trait SegmentSealer: Send + fmt::Debug {
    /// Takes more of the segment and appends every chunk that is now full to `out`. What does not
    /// fill a chunk waits inside. A failure shows in [`SegmentSealer::checkpoint`] and
    /// [`SegmentSealer::finish`]; clear bytes never reach `out`.
    fn update(&mut self, clear: &[u8], out: &mut Vec<u8>);

    /// Number of full chunks that were appended.
    fn full_chunks(&self) -> u32;

    /// Seals what waits inside as a tail of its own, with its own salt, and goes on as if nothing
    /// had happened. A segment that a crash cuts is the prefix, the full chunks, and the last tail
    /// that was stored since the last full chunk.
    ///
    /// # Errors
    /// [`Error::Library`] or [`Error::TooLong`], also of an earlier [`SegmentSealer::update`].
    fn checkpoint(&self) -> Result<Vec<u8>, Error>;

    /// Appends the last chunk, which is shorter than the others and may be empty.
    ///
    /// # Errors
    /// As [`SegmentSealer::checkpoint`].
    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), Error>;
}

/// C2SP chunked encryption with AES-256-GCM and HKDF-SHA512, the clear header being the context.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cobblestone256;

impl SegmentCipher for Cobblestone256 {
    fn begin(
        &self,
        leaf: &LeafKey,
        header: &SegmentHeader,
        out: &mut Vec<u8>,
    ) -> Result<Box<dyn SegmentSealer>, Error> {
        let context = header.encode();
        let file = Cobblestone::create(leaf, &context)?;
        Ok(Box::new(Sealer::begin(file, leaf, context, out)?))
    }

    fn open(
        &self,
        keys: &NodeSet,
        sealed: &[u8],
        torn_after_chunks: Option<u32>,
    ) -> Result<ClearSegment, Error> {
        open::segment(keys, sealed, torn_after_chunks)
    }
}

impl Cobblestone256 {
    /// Seals a whole segment under a given salt, to prove that a clear segment is the one that was
    /// sealed: the same key, header, salt and clear bytes give the same sealed bytes. Sealing other
    /// bytes under a salt that was used gives both away, so the result must never be stored.
    ///
    /// # Errors
    /// [`Error::Library`] or [`Error::TooLong`].
    pub fn seal_again(
        leaf: &LeafKey,
        header: &SegmentHeader,
        salt: [u8; SALT_BYTES],
        clear: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let context = header.encode();
        let file = Cobblestone::derive(leaf, salt, &context)?;
        let mut out = Vec::new();
        let mut sealer = Sealer::begin(file, leaf, context, &mut out)?;
        sealer.update(clear, &mut out);
        Box::new(sealer).finish(&mut out)?;
        Ok(out)
    }
}

/// Bytes before the first chunk of a segment with this header.
#[must_use]
pub fn prefix_length(header: &SegmentHeader) -> usize {
    LENGTH_BYTES + header.encoded_length() + PREFIX_BYTES
}

/// Whether a sealed segment with this header can have this many bytes: a lie about a length shows
/// without a key.
#[must_use]
pub fn is_possible_length(header: &SegmentHeader, length: u64, torn_after_chunks: Option<u32>) -> bool {
    let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let (chunk, last) = (number(SEALED_CHUNK_BYTES), number(TAG_BYTES)..number(SEALED_CHUNK_BYTES));
    let Some(body) = length.checked_sub(number(prefix_length(header))) else { return false };
    let Some(full) = torn_after_chunks else { return last.contains(&(body % chunk)) };
    let Some(tail) = body.checked_sub(u64::from(full) * chunk) else { return false };
    tail == 0 || tail.checked_sub(number(PREFIX_BYTES)).is_some_and(|tail| last.contains(&tail))
}

/// Context of the tail behind so many full chunks: header, label, u32 BE number of chunks.
pub(crate) fn tail_context(header: &[u8], full_chunks: u32) -> Vec<u8> {
    [header, TAIL_LABEL, &full_chunks.to_be_bytes()].concat()
}

struct Sealer {
    file: Cobblestone,
    leaf: LeafKey,
    header: Vec<u8>,
    /// What does not fill a chunk yet: always shorter than one, so that the buffer never moves.
    waiting: Vec<u8>,
    full_chunks: u32,
    failed: Option<Error>,
}

impl Sealer {
    fn begin(file: Cobblestone, leaf: &LeafKey, header: Vec<u8>, out: &mut Vec<u8>) -> Result<Self, Error> {
        let length = u16::try_from(header.len()).map_err(|_| Error::Header("it is too long"))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&header);
        file.append_prefix(out);
        let waiting = Vec::with_capacity(CHUNK_BYTES);
        Ok(Self { file, leaf: leaf.clone(), header, waiting, full_chunks: 0, failed: None })
    }

    fn try_update(&mut self, mut clear: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        out.reserve((self.waiting.len() + clear.len()) / CHUNK_BYTES * SEALED_CHUNK_BYTES);
        if !self.waiting.is_empty() {
            let missing = CHUNK_BYTES.saturating_sub(self.waiting.len());
            let Some((filling, rest)) = clear.split_at_checked(missing) else {
                self.waiting.extend_from_slice(clear);
                return Ok(());
            };
            self.waiting.extend_from_slice(filling);
            seal_full(&self.file, &mut self.full_chunks, &self.waiting, out)?;
            self.waiting.clear();
            clear = rest;
        }
        let (chunks, rest) = clear.as_chunks::<CHUNK_BYTES>();
        for chunk in chunks {
            seal_full(&self.file, &mut self.full_chunks, chunk, out)?;
        }
        self.waiting.extend_from_slice(rest);
        Ok(())
    }
}

impl SegmentSealer for Sealer {
    fn update(&mut self, clear: &[u8], out: &mut Vec<u8>) {
        if self.failed.is_none() {
            self.failed = self.try_update(clear, out).err();
        }
    }

    fn full_chunks(&self) -> u32 {
        self.full_chunks
    }

    fn checkpoint(&self) -> Result<Vec<u8>, Error> {
        self.failed.clone().map_or(Ok(()), Err)?;
        let tail = Cobblestone::create(&self.leaf, &tail_context(&self.header, self.full_chunks))?;
        let mut out = Vec::with_capacity(PREFIX_BYTES + self.waiting.len() + TAG_BYTES);
        tail.append_prefix(&mut out);
        tail.seal_chunk(0, &self.waiting, &mut out)?;
        Ok(out)
    }

    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)?;
        self.file.seal_chunk(self.full_chunks, &self.waiting, out)
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        // An empty vector is all spare capacity, which has what earlier chunks left there as well.
        self.waiting.clear();
        self.waiting.spare_capacity_mut().zeroize();
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("full_chunks", &self.full_chunks).finish_non_exhaustive()
    }
}

fn seal_full(file: &Cobblestone, count: &mut u32, clear: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let next = count.checked_add(1).ok_or(Error::TooLong)?;
    file.seal_chunk(*count, clear, out)?;
    *count = next;
    Ok(())
}
