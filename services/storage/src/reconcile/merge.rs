//! Two sorted listings side by side, read page by page: what is in both and what is in one alone.

use std::{cmp::Ordering, collections::VecDeque};

use obscura_blob::{BlobKey, Found};

use crate::index::PackRow;

/// One key of either listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// In the bucket, with so many bytes where it says so, and in the index.
    Both(Box<PackRow>, Option<u64>),
    /// In the bucket alone.
    Bucket(BlobKey),
    /// In the index alone.
    Index(Box<PackRow>),
}

/// What the merge needs or gives next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Keys of the bucket behind this one.
    ReadBucket(Option<BlobKey>),
    /// Rows of the index behind this key.
    ReadIndex(Option<BlobKey>),
    /// The next key.
    Step(Step),
    /// Both listings are over.
    End,
}

/// A listing of which a page is in memory.
#[derive(Debug)]
struct Listing<T> {
    page: VecDeque<T>,
    after: Option<BlobKey>,
    is_over: bool,
}

/// The merge. Holds one page of each listing.
#[derive(Debug, Default)]
pub struct Merge {
    bucket: Listing<Found>,
    index: Listing<PackRow>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { page: VecDeque::new(), after: None, is_over: false }
    }
}

impl<T> Listing<T> {
    fn feed(&mut self, page: Vec<T>, limit: usize, key: impl Fn(&T) -> &BlobKey) {
        self.is_over = page.len() < limit;
        self.after = page.last().map(|last| key(last).clone()).or(self.after.take());
        self.page = page.into();
    }

    fn must_read(&self) -> bool {
        self.page.is_empty() && !self.is_over
    }
}

impl Merge {
    /// The next page of the bucket; one with fewer than `limit` keys is the last.
    pub fn feed_bucket(&mut self, page: Vec<Found>, limit: usize) {
        self.bucket.feed(page, limit, |found| &found.key);
    }

    /// The next page of the index; one with fewer than `limit` rows is the last.
    pub fn feed_index(&mut self, page: Vec<PackRow>, limit: usize) {
        self.index.feed(page, limit, |row| &row.key);
    }

    /// What comes next. Both listings must be in the order of the bytes of their keys.
    pub fn next(&mut self) -> Next {
        if self.bucket.must_read() {
            return Next::ReadBucket(self.bucket.after.clone());
        }
        if self.index.must_read() {
            return Next::ReadIndex(self.index.after.clone());
        }
        let order = match (self.bucket.page.front(), self.index.page.front()) {
            (Some(found), Some(row)) => found.key.cmp(&row.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Next::End,
        };
        let found = order.is_le().then(|| self.bucket.page.pop_front()).flatten();
        let row = order.is_ge().then(|| self.index.page.pop_front()).flatten().map(Box::new);
        match (found, row) {
            (Some(found), Some(row)) => Next::Step(Step::Both(row, found.size)),
            (Some(found), None) => Next::Step(Step::Bucket(found.key)),
            (None, Some(row)) => Next::Step(Step::Index(row)),
            (None, None) => Next::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use obscura_ids::PackId;
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{pack, row};

    fn numbered(number: u8) -> PackRow {
        row(&pack(1, PackId::from_bytes([number; 16]), &[(0, 4_000)])).0
    }

    proptest! {
        #[test]
        fn every_key_of_either_listing_comes_once_and_in_order(
            bucket in prop::collection::btree_set(0..40_u8, 0..20),
            index in prop::collection::btree_set(0..40_u8, 0..20),
            limit in 1..7_usize,
        ) {
            let (keys, rows): (Vec<BlobKey>, Vec<PackRow>) = (
                bucket.iter().map(|&number| numbered(number).key).collect(),
                index.iter().map(|&number| numbered(number)).collect(),
            );
            let (mut merge, mut told) = (Merge::default(), Vec::new());
            loop {
                match merge.next() {
                    Next::ReadBucket(after) => {
                        let page = keys.iter().filter(|key| Some(*key) > after.as_ref()).take(limit);
                        let sized = |key: &BlobKey| Found { key: key.clone(), size: Some(key.as_str().len() as u64) };
                        merge.feed_bucket(page.map(sized).collect(), limit);
                    }
                    Next::ReadIndex(after) => {
                        let page = rows.iter().filter(|row| Some(&row.key) > after.as_ref()).take(limit);
                        merge.feed_index(page.cloned().collect(), limit);
                    }
                    Next::Step(step) => told.push(step),
                    Next::End => break,
                }
            }
            let all: BTreeSet<u8> = bucket.union(&index).copied().collect();
            let expected: Vec<Step> = all.into_iter().map(|number| {
                let row = numbered(number);
                match (bucket.contains(&number), index.contains(&number)) {
                    (true, true) => {
                        let size = row.key.as_str().len() as u64;
                        Step::Both(Box::new(row), Some(size))
                    }
                    (true, false) => Step::Bucket(row.key),
                    _ => Step::Index(Box::new(row)),
                }
            }).collect();
            prop_assert_eq!(told, expected);
        }
    }
}
