//! Segments in order of time, page by page, from packs that may overlap.
//!
//! Packs come in order of their start; a segment can be told once no pack that is still to come can
//! hold an earlier one. A page token is the position of the last segment told.

use std::{cmp::Reverse, collections::BinaryHeap};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer, PackId};
use obscura_pack::Entry;
use obscura_proto::storage::v1::SegmentLocation;

use crate::{Error, index::PackRow, inspection::sha256, marks::Marks};

/// Segments in one answer.
pub const PAGE_SEGMENTS: usize = 1_000;
/// Bytes of a token that tell a query from others.
const QUERY_BYTES: usize = 8;

/// Segments of a page, and where the next one goes on if there can be one.
pub type Told = (Vec<SegmentLocation>, Option<Position>);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The camera.
    pub camera: CameraId,
    /// The layer.
    pub layer: Layer,
    /// Segments that overlap this span.
    pub span: Span,
    /// Also those whose keys are destroyed.
    pub with_shredded: bool,
}

impl Query {
    fn fingerprint(&self) -> [u8; QUERY_BYTES] {
        let parts = [
            &self.camera.as_bytes()[..],
            &[self.layer.code(), self.with_shredded.into()],
            &self.span.start().unix_nanos().to_be_bytes(),
            &self.span.end().unix_nanos().to_be_bytes(),
        ];
        let mut fingerprint = [0; QUERY_BYTES];
        fingerprint.iter_mut().zip(sha256(&parts.concat()).as_bytes()).for_each(|(to, from)| *to = *from);
        fingerprint
    }
}

/// Where a segment stands in an answer: by start, then by pack, then by its place in the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    start: Timestamp,
    pack: PackId,
    ordinal: u32,
}

impl Position {
    /// The token for the page behind this position.
    #[must_use]
    pub fn to_token(self, query: &Query) -> String {
        let bytes = [
            &query.fingerprint()[..],
            &self.start.unix_nanos().to_be_bytes(),
            self.pack.as_bytes(),
            &self.ordinal.to_be_bytes(),
        ];
        URL_SAFE_NO_PAD.encode(bytes.concat())
    }

    /// Reads a token; an empty one is the first page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is not a token of this very query.
    pub fn from_token(token: &str, query: &Query) -> Result<Option<Self>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        Self::read(token, query).map(Some).ok_or_else(|| {
            Error::invalid("page token", "it does not belong to this query: start with an empty one")
        })
    }

    fn read(token: &str, query: &Query) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let bytes = bytes.strip_prefix(&query.fingerprint())?;
        let (start, bytes) = bytes.split_first_chunk()?;
        let (pack, ordinal) = bytes.split_first_chunk()?;
        Some(Self {
            start: Timestamp::from_unix_nanos(i64::from_be_bytes(*start)),
            pack: PackId::from_bytes(*pack),
            ordinal: u32::from_be_bytes(ordinal.try_into().ok()?),
        })
    }
}

/// One page in the making.
#[derive(Debug)]
pub struct Page {
    query: Query,
    after: Option<Position>,
    limit: usize,
    waiting: BinaryHeap<Reverse<Waiting>>,
    told: Vec<Waiting>,
}

impl Page {
    /// An empty page of at most `limit` segments behind `after`.
    #[must_use]
    pub const fn new(query: Query, after: Option<Position>, limit: usize) -> Self {
        Self { query, after, limit, waiting: BinaryHeap::new(), told: Vec::new() }
    }

    /// First moment at which a segment of this page can start or last.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        let start = self.query.span.start();
        self.after.map_or(start, |after| after.start.max(start))
    }

    /// Takes the next pack in order of start, after which the page may be full. Shredded segments are
    /// told where they are asked for.
    ///
    /// # Errors
    /// [`Error::Lying`] where its head cannot be read.
    pub fn add(&mut self, row: &PackRow, marks: Option<&Marks>) -> Result<(), Error> {
        self.tell_before(Some(row.span.start()));
        if self.is_full() {
            return Ok(());
        }
        for (ordinal, entry) in (0..).zip(&row.directory.entries) {
            let position = Position { start: entry.span.start(), pack: row.pack, ordinal };
            let is_shredded = marks.is_some_and(|marks| marks.contains(ordinal));
            let is_wanted = self.query.with_shredded || !is_shredded;
            if is_wanted && entry.span.overlaps(self.query.span) && Some(position) > self.after {
                let head_bytes = row.head_bytes();
                let (key, entry) = (row.key.to_string(), entry.clone());
                self.waiting.push(Reverse(Waiting { position, key, head_bytes, entry, is_shredded }));
            }
        }
        Ok(())
    }

    /// Whether no more segments fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.told.len() >= self.limit
    }

    /// Closes the page. `all` says that there are no more packs.
    #[must_use]
    pub fn finish(mut self, all: bool) -> Told {
        if all {
            self.tell_before(None);
        }
        let more = !all || !self.waiting.is_empty();
        let next = self.told.last().map(|last| last.position).filter(|_| more);
        (self.told.into_iter().map(Into::into).collect(), next)
    }

    /// Tells the waiting segments that start before `bound`, in order, as many as fit.
    fn tell_before(&mut self, bound: Option<Timestamp>) {
        while !self.is_full() {
            match self.waiting.pop() {
                Some(Reverse(next)) if bound.is_none_or(|bound| next.position.start < bound) => {
                    self.told.push(next);
                }
                Some(too_early) => return self.waiting.push(too_early),
                None => return,
            }
        }
    }
}

/// A segment of the answer.
#[derive(Debug)]
struct Waiting {
    position: Position,
    key: String,
    head_bytes: u64,
    entry: Entry,
    is_shredded: bool,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.position.cmp(&other.position)
    }
}

impl From<Waiting> for SegmentLocation {
    fn from(segment: Waiting) -> Self {
        Self {
            object_key: segment.key,
            object_offset: segment.head_bytes.saturating_add(segment.entry.offset),
            entry: Some(segment.entry.into()),
            shredded: segment.is_shredded,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{camera, pack, row, span};

    fn query(start: i64, end: i64) -> Query {
        let span = span(start, end);
        Query { camera: camera(1), layer: Layer::Original, span, with_shredded: false }
    }

    /// All pages over these packs, each made as `FindSegments` makes it.
    fn pages(query: Query, packs: &[PackRow], limit: usize) -> Vec<(i64, u64)> {
        let (mut told, mut after) = (Vec::new(), None);
        loop {
            let mut page = Page::new(query, after, limit);
            let from = page.from();
            let mut rest =
                packs.iter().filter(|row| row.span.start() < query.span.end() && row.span.end() >= from);
            let cut = rest.by_ref().any(|row| {
                page.add(row, None).unwrap();
                page.is_full()
            });
            let (segments, next) = page.finish(!cut);
            assert!(segments.len() <= limit);
            told.extend(segments.into_iter().map(|segment| {
                let entry = segment.entry.unwrap();
                (entry.start_unix_ns, segment.object_offset)
            }));
            let Some(next) = next else { return told };
            let token = next.to_token(&query);
            after = Position::from_token(&token, &query).unwrap();
        }
    }

    #[test]
    fn a_token_belongs_to_its_query() {
        let position = Position { start: span(5, 5).start(), pack: PackId::from_bytes([3; 16]), ordinal: 7 };
        let token = position.to_token(&query(0, 10));
        assert_eq!(Position::from_token(&token, &query(0, 10)).unwrap(), Some(position));
        assert!(Position::from_token(&token, &query(0, 11)).is_err());
        assert!(Position::from_token(&token, &Query { camera: camera(2), ..query(0, 10) }).is_err());
        assert!(Position::from_token(&format!("{token}AAAA"), &query(0, 10)).is_err());
        assert_eq!(Position::from_token("", &query(0, 10)).unwrap(), None);
    }

    #[test]
    fn shredded_segments_are_told_only_to_those_who_ask_for_them_and_by_that_name() {
        let (row, _) = row(&pack(1, PackId::from_bytes([1; 16]), &[(0, 2_000), (2_000, 4_000)]));
        let mut marks = Marks::none(2);
        marks.insert(1);
        for (with_shredded, expected) in [(false, vec![false]), (true, vec![false, true])] {
            let mut page = Page::new(Query { with_shredded, ..query(0, 9_000) }, None, 10);
            page.add(&row, Some(&marks)).unwrap();
            let (told, _) = page.finish(true);
            assert_eq!(told.iter().map(|segment| segment.shredded).collect::<Vec<_>>(), expected);
        }
    }

    proptest! {
        #[test]
        fn an_arbitrary_token_is_refused(token in "[A-Za-z0-9_-]{1,60}|.{1,60}") {
            prop_assert!(Position::from_token(&token, &query(0, 10)).is_err());
        }

        #[test]
        fn pages_of_any_size_give_every_segment_once_and_in_order(
            packs in prop::collection::vec(prop::collection::vec((0..40_i64, 1..8_i64), 1..5), 0..8),
            start in 0..40_i64,
            length in 1..40_i64,
            limit in 1..9_usize,
        ) {
            let query = query(start * 1_000, (start + length) * 1_000);
            let mut rows: Vec<PackRow> = (1..).zip(&packs).map(|(number, segments)| {
                let segments: Vec<(i64, i64)> =
                    segments.iter().map(|&(start, length)| (start * 1_000, (start + length) * 1_000)).collect();
                row(&pack(1, PackId::from_bytes([number; 16]), &segments)).0
            }).collect();
            rows.sort_by_key(|row| (row.span.start(), row.pack));
            let mut expected: Vec<_> = rows.iter().flat_map(|row| {
                let head = row.head_bytes();
                let entries = row.directory.entries.clone().into_iter().enumerate();
                entries.map(move |(ordinal, entry)| (entry.span, row.pack, ordinal, head + entry.offset))
            }).filter(|(span, ..)| span.overlaps(query.span)).collect();
            expected.sort_by_key(|&(span, pack, ordinal, _)| (span.start(), pack, ordinal));
            let expected: Vec<_> =
                expected.into_iter().map(|(span, _, _, offset)| (span.start().unix_nanos(), offset)).collect();
            prop_assert_eq!(pages(query, &rows, limit), expected);
        }
    }
}
