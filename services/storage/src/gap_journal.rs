//! Gaps beside the packs: what a recorder told is an object of the bucket before it is a row of the index.
//!
//! A gap is acknowledged when both are durable, in this order, as with packs. A crash between them leaves a page
//! that the index does not know; the recorder tells the gap again, which writes the same page. So every gap of the
//! index that somebody told is in the journal, and `storage reindex` brings it back with its reason.
//!
//! A page is never changed. From time to time the pages of each day are written anew, as few as hold what the index
//! and the pages say, and those that are in them are removed; not before, so that whatever a crash cuts short,
//! each gap is in some page. A page that cannot be read is left where it is and told by reconciliation; what the
//! index has of its day is written again.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use obscura_blob::{BlobKey, BlobStore, Error as BlobError};
use obscura_clock::{Span, Timestamp};
use obscura_gap_journal::{Error as Unreadable, MAX_PAGE_BYTES, MAX_RECORDS, Page, PageName, Record, pages};
use obscura_pack::Day;

use crate::{Error, gap::Gap, store::Store};

/// Pages of a day that are listed together; those behind them wait for the next time.
const PAGES: usize = 1_000;
/// Gaps of a day that are read into memory: 20 MB. Where a day has more, its pages grow fewer time by time.
const GAPS: usize = 20 * MAX_RECORDS;
/// A day.
const DAY: Duration = Duration::from_hours(24);

/// The journal of gaps in the bucket.
#[derive(Clone, Debug)]
pub struct GapJournal {
    /// The index.
    pub store: Store,
    /// The objects.
    pub blobs: Arc<dyn BlobStore>,
}

/// Pages of one day as they were found.
#[derive(Debug, Default)]
struct Found {
    /// Pages that can be read.
    good: Vec<PageName>,
    /// Pages that cannot.
    bad: Vec<PageName>,
    /// The gaps of those that can.
    records: Vec<Record>,
}

impl GapJournal {
    /// The name of the page that rests under this key; `None` where it is the key of something else.
    pub fn name_of(key: &BlobKey) -> Option<PageName> {
        key.as_str().parse().ok()
    }

    /// Makes gaps durable in the bucket. Their recorder is not answered before.
    ///
    /// # Errors
    /// [`Error::Blob`]: the recorder keeps them and tells them again.
    pub async fn write(&self, gaps: &[Gap]) -> Result<(), Error> {
        for page in pages(gaps.iter().copied().map(Record::from)) {
            let bytes = Bytes::from(page.encode());
            self.put(page.name(&bytes), bytes).await?;
        }
        Ok(())
    }

    /// A page is named after its bytes, so one that is there already is this one.
    async fn put(&self, name: PageName, bytes: Bytes) -> Result<(), Error> {
        let size = bytes.len() as u64;
        match self.blobs.put(&key(name)?, obscura_blob::body(bytes), size).await {
            Ok(()) | Err(BlobError::AlreadyExists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The gaps of a page; `None` where it is gone. The inner error is about the page.
    ///
    /// # Errors
    /// [`Error::Blob`].
    pub async fn read(&self, name: PageName) -> Result<Option<Result<Page, Unreadable>>, Error> {
        match self.blobs.read_whole(&key(name)?, MAX_PAGE_BYTES as u64).await {
            Ok(bytes) => Ok(Some(Page::open(name, &bytes))),
            Err(BlobError::NotFound(_)) => Ok(None),
            Err(BlobError::TooLarge { bytes, .. }) => {
                Ok(Some(Err(Unreadable::Length(usize::try_from(bytes).unwrap_or(usize::MAX)))))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts the gaps of a page into the index; doing it again changes nothing. `None` where it is gone.
    ///
    /// # Errors
    /// [`Error::Blob`], [`Error::Store`]. The inner error is about the page.
    pub async fn restore(&self, name: PageName) -> Result<Option<Result<(), Unreadable>>, Error> {
        Ok(match self.read(name).await? {
            Some(Ok(page)) => {
                let gaps: Vec<Gap> = page.records().iter().copied().map(Gap::from).collect();
                self.store.record_gaps(&gaps).await?;
                Some(Ok(()))
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }

    /// Brings journal and index to the same gaps in as few pages as hold them, and forgets what ended before a
    /// moment. Whatever cuts it short, the next goes on.
    ///
    /// # Errors
    /// [`Error::Blob`], [`Error::Store`].
    pub async fn tidy(&self, before: Option<Timestamp>) -> Result<(), Error> {
        if let Some(before) = before {
            self.store.prune_gaps(before).await?;
        }
        let mut from = Day::of(Timestamp::from_unix_nanos(0));
        while let Some(day) = self.next_day(from).await? {
            self.tidy_day(day, before).await?;
            let next = Day::of(day.start() + DAY);
            if next == day {
                return Ok(()); // The last day that a moment can lie in.
            }
            from = next;
        }
        Ok(())
    }

    /// The first day from this one on of which index or journal has gaps.
    async fn next_day(&self, from: Day) -> Result<Option<Day>, Error> {
        let is_first = from.start().unix_nanos() <= 0;
        let since = if is_first { Timestamp::from_unix_nanos(i64::MIN) } else { from.start() };
        let indexed = self.store.first_gap_from(since).await?.map(|start| Day::of(start).max(from));
        // The key of a day is in front of those of its pages and behind those of the day before.
        let mut after: BlobKey = PageName::prefix_of(from).trim_end_matches('/').parse()?;
        loop {
            let listed = self.blobs.list(PageName::PREFIX, Some(&after), 1).await?;
            let Some(key) = listed.into_iter().next() else { return Ok(indexed) };
            if let Some(name) = Self::name_of(&key) {
                return Ok(Some(indexed.map_or(name.day, |indexed| indexed.min(name.day))));
            }
            after = key;
        }
    }

    async fn tidy_day(&self, day: Day, before: Option<Timestamp>) -> Result<(), Error> {
        let found = self.find(day).await?;
        let is_forgotten = |record: &Record| record.end.zip(before).is_some_and(|(end, before)| end < before);
        let told: Vec<Gap> =
            found.records.iter().filter(|record| !is_forgotten(record)).copied().map(Gap::from).collect();
        self.store.record_gaps(&told).await?;
        let indexed = match span_of(day) {
            Some(span) => self.store.gaps_started_in(span, GAPS as u64).await?,
            None => Vec::new(),
        };
        // What did not fit comes from its page.
        let kept = indexed.into_iter().chain(told).map(Record::from);
        let wanted: BTreeMap<PageName, Bytes> = pages(kept)
            .iter()
            .map(|page| {
                let bytes = Bytes::from(page.encode());
                (page.name(&bytes), bytes)
            })
            .collect();
        for (name, bytes) in wanted.iter().filter(|(name, _)| !found.good.contains(name)) {
            if found.bad.contains(name) {
                self.blobs.replace(&key(*name)?, bytes.clone()).await?;
            } else {
                self.put(*name, bytes.clone()).await?;
            }
        }
        for name in found.good.iter().filter(|name| !wanted.contains_key(name)) {
            self.blobs.delete(&key(*name)?).await?;
        }
        Ok(())
    }

    /// Reads the pages of a day, as many as fit.
    async fn find(&self, day: Day) -> Result<Found, Error> {
        let mut found = Found::default();
        for key in self.blobs.list(&PageName::prefix_of(day), None, PAGES).await? {
            let Some(name) = Self::name_of(&key) else { continue };
            match self.read(name).await? {
                Some(Ok(page)) => {
                    found.records.extend_from_slice(page.records());
                    found.good.push(name);
                }
                Some(Err(_)) => found.bad.push(name),
                None => {}
            }
            if found.records.len() >= GAPS {
                break;
            }
        }
        Ok(found)
    }
}

fn key(name: PageName) -> Result<BlobKey, Error> {
    Ok(name.to_string().parse()?)
}

/// The starts of the gaps in the pages of a day. What claims to be older than 1970 is with the first day.
fn span_of(day: Day) -> Option<Span> {
    let start =
        if day.start().unix_nanos() <= 0 { Timestamp::from_unix_nanos(i64::MIN) } else { day.start() };
    Span::try_new(start, day.start() + DAY)
}
