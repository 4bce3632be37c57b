//! One sealed segment, hashed while it passes by.
//!
//! SHA-256 over the whole segment says whether a byte changed. Where it changed cannot be told from
//! one hash, and storage has no key to ask the seal of each chunk. So the first time a segment is found
//! whole, a CRC-32C of each of its sealed chunks is kept (4 bytes for 16,400); when the segment is later
//! found changed, the first chunk whose sum differs is named. The sums only locate: a change that keeps
//! a sum is found by SHA-256 all the same.

use aws_lc_rs::digest::{Context, SHA256};
use obscura_ids::Digest;
use obscura_pack::Entry;
use obscura_seal::{CHUNK_BYTES, TAG_BYTES, prefix_length};

/// Bytes of a full sealed chunk.
const SEALED_CHUNK_BYTES: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;

/// What was seen of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// SHA-256 of all bytes.
    pub sha256: Digest,
    /// CRC-32C of each chunk, in order. What precedes the first chunk counts as part of it, and what
    /// follows the full chunks of a torn segment is one chunk.
    pub sums: Vec<u32>,
}

/// Takes the bytes of one segment in order.
pub struct SegmentHasher {
    hash: Context,
    sums: Vec<u32>,
    current: u32,
    /// Bytes until the end of the current chunk.
    missing: u64,
    /// Bytes behind the current chunk.
    behind: u64,
    torn_after: Option<u64>,
}

impl SegmentHasher {
    /// For the bytes of this segment.
    #[must_use]
    pub fn new(entry: &Entry) -> Self {
        let prefix = prefix_length(&entry.header) as u64;
        let mut hasher = Self {
            hash: Context::new(&SHA256),
            sums: Vec::new(),
            current: 0,
            missing: 0,
            behind: entry.length,
            torn_after: entry.torn_after_chunks.map(u64::from),
        };
        hasher.open_chunk(prefix);
        hasher
    }

    /// Takes the next bytes; those beyond the end of the segment are ignored.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.missing > 0 {
            let fits = usize::try_from(self.missing).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_checked(fits).unwrap_or((rest, &[]));
            self.hash.update(now);
            self.current = crc32c::crc32c_append(self.current, now);
            self.missing = self.missing.saturating_sub(now.len() as u64);
            rest = later;
            if self.missing == 0 {
                self.close_chunk();
            }
        }
    }

    /// What was seen. Of a segment that ended early the last sum is that of a part.
    #[must_use]
    pub fn finish(mut self) -> Seen {
        if self.missing > 0 {
            self.sums.push(self.current);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.hash.finish().as_ref());
        Seen { sha256: Digest::from_bytes(sha256), sums: self.sums }
    }

    fn close_chunk(&mut self) {
        self.sums.push(self.current);
        self.open_chunk(0);
    }

    fn open_chunk(&mut self, prefix: u64) {
        let is_tail = self.torn_after.is_some_and(|full| self.sums.len() as u64 >= full);
        let length = if is_tail { self.behind } else { (prefix + SEALED_CHUNK_BYTES).min(self.behind) };
        (self.current, self.missing) = (0, length);
        self.behind = self.behind.saturating_sub(length);
    }
}

/// Number of sealed chunks of a segment.
#[must_use]
pub fn chunk_count(entry: &Entry) -> usize {
    let body = entry.length.saturating_sub(prefix_length(&entry.header) as u64);
    let full = body.div_ceil(SEALED_CHUNK_BYTES);
    let count = entry.torn_after_chunks.map_or(full, |torn| full.min(u64::from(torn) + 1));
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Number of the first chunk in which two lists of sums differ.
#[must_use]
pub fn first_difference(before: &[u32], now: &[u32]) -> Option<u64> {
    let longest = before.len().max(now.len());
    let differs = |chunk: &usize| before.get(*chunk) != now.get(*chunk);
    (0..longest).find(differs).map(|chunk| chunk as u64)
}

#[cfg(test)]
mod tests {
    use obscura_ids::PackId;
    use proptest::prelude::*;

    use super::*;
    use crate::{inspection::sha256, test_support::pack};

    fn entry(length: u64, torn_after_chunks: Option<u32>) -> Entry {
        let entry = pack(1, PackId::from_bytes([1; 16]), &[(0, 4_000)]).entries.remove(0);
        Entry { length: prefix_length(&entry.header) as u64 + length, torn_after_chunks, ..entry }
    }

    fn seen(entry: &Entry, bytes: &[u8], piece: usize) -> Seen {
        let mut hasher = SegmentHasher::new(entry);
        bytes.chunks(piece).for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    fn bytes(entry: &Entry) -> Vec<u8> {
        (0..entry.length).map(|position| (position % 251) as u8).collect()
    }

    #[test]
    fn the_tail_of_a_torn_segment_is_one_chunk() {
        let torn = entry(2 * SEALED_CHUNK_BYTES + 56 + 5_000 + 16, Some(2));
        assert_eq!(seen(&torn, &bytes(&torn), 1_000).sums.len(), 3);
        assert_eq!(chunk_count(&torn), 3);
        let almost_full = entry(SEALED_CHUNK_BYTES + 56 + 16_383 + 16, Some(1));
        assert_eq!(seen(&almost_full, &bytes(&almost_full), 1_000).sums.len(), 2);
        assert_eq!(chunk_count(&almost_full), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_flipped_bit_is_found_in_its_chunk(
            length in 16..70_000_u64, piece in 1..40_000_usize, at: prop::sample::Index, bit in 0..8_u32,
        ) {
            let entry = entry(length, None);
            let whole = bytes(&entry);
            let before = seen(&entry, &whole, piece);
            prop_assert_eq!(before.sha256, sha256(&whole));
            prop_assert_eq!(before.sums.len() as u64, length.div_ceil(SEALED_CHUNK_BYTES));
            prop_assert_eq!(before.sums.len(), chunk_count(&entry));
            let mut changed = whole.clone();
            let at = at.index(changed.len());
            changed[at] ^= 1_u8 << bit;
            let after = seen(&entry, &changed, piece);
            prop_assert_ne!(after.sha256, before.sha256);
            let chunk = (at as u64).saturating_sub(prefix_length(&entry.header) as u64) / SEALED_CHUNK_BYTES;
            prop_assert_eq!(first_difference(&before.sums, &after.sums), Some(chunk));
            prop_assert_eq!(first_difference(&before.sums, &before.sums), None);
        }
    }
}
