//! The body of a pack, segment after segment, while it passes by.

use obscura_pack::Entry;

use super::chunks::{Seen, SegmentHasher};

/// Takes the bytes behind the head of a pack in order.
pub struct BodyHasher<'a> {
    entries: std::slice::Iter<'a, Entry>,
    current: Option<(SegmentHasher, u64)>,
    seen: Vec<Seen>,
}

impl<'a> BodyHasher<'a> {
    /// For segments that lie back to back, as those of a directory do.
    #[must_use]
    pub fn new(entries: &'a [Entry]) -> Self {
        let mut hasher = Self { entries: entries.iter(), current: None, seen: Vec::new() };
        hasher.next_segment();
        hasher
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let (false, Some((hasher, missing))) = (rest.is_empty(), &mut self.current) {
            let fits = usize::try_from(*missing).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_checked(fits).unwrap_or((rest, &[]));
            hasher.update(now);
            *missing = missing.saturating_sub(now.len() as u64);
            rest = later;
            if *missing == 0 {
                self.next_segment();
            }
        }
    }

    /// What was seen of each segment, in order. Those for which no byte came are absent.
    #[must_use]
    pub fn finish(mut self) -> Vec<Seen> {
        self.close();
        self.seen
    }

    fn next_segment(&mut self) {
        self.close();
        self.current = self.entries.next().map(|entry| (SegmentHasher::new(entry), entry.length));
    }

    fn close(&mut self) {
        self.seen.extend(self.current.take().map(|(hasher, _)| hasher.finish()));
    }
}

#[cfg(test)]
mod tests {
    use obscura_ids::PackId;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        inspection::sha256,
        test_support::{object, pack},
    };

    proptest! {
        #[test]
        fn every_segment_is_hashed_by_itself_however_the_bytes_come(segments in 1..6_i64, piece in 1..2_000_usize) {
            let times: Vec<_> = (0..segments).map(|n| (n * 4_000, n * 4_000 + 4_000)).collect();
            let pack = pack(1, PackId::from_bytes([1; 16]), &times);
            let (object, head) = (object(&pack), pack.encode_head().len());
            let mut hasher = BodyHasher::new(&pack.entries);
            object[head..].chunks(piece).for_each(|piece| hasher.update(piece));
            let seen = hasher.finish();
            prop_assert_eq!(seen.len(), pack.entries.len());
            for (entry, seen) in pack.entries.iter().zip(seen) {
                let start = head + usize::try_from(entry.offset).unwrap();
                let bytes = &object[start..start + usize::try_from(entry.length).unwrap()];
                prop_assert_eq!(seen.sha256, sha256(bytes));
            }
        }
    }
}
