//! Reading objects again: every byte is held against the hashes of the index.
//!
//! In the background packs are drawn at random and read at a set rate; on demand all of a camera or
//! span are. What is found is remembered until the pack is found whole again, and reading never changes
//! an object.

mod background;
mod blame;
mod body;
pub mod chunks;
pub mod demand;
pub mod rate;
#[cfg(test)]
mod tests;

use std::{
    fmt::{self, Display},
    io,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use obscura_blob::{BlobStore, Error as BlobError, read};
use obscura_clock::SharedClock;
use obscura_pack::Entry;
use obscura_proto::storage::v1::FindingKind;

use self::{
    blame::is_of_object,
    body::BodyHasher,
    chunks::{Seen, chunk_count, first_difference},
    rate::Rate,
};
use crate::{Error, finding::Finding, index::PackRow, marks::Marks, metrics::Metrics, store::Store};

/// Reads packs again.
#[derive(Clone, Debug)]
pub struct Scrubber {
    /// The index.
    pub store: Store,
    /// The objects.
    pub blobs: Arc<dyn BlobStore>,
    /// What time it is.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
}

/// How fast to read.
#[derive(Debug)]
pub enum Pace {
    /// As fast as it goes.
    Free,
    /// At a set rate.
    Set(Rate, SharedClock),
}

impl Pace {
    async fn keep(&mut self, bytes: u64) {
        if let Self::Set(rate, clock) = self {
            let wait = rate.take(bytes, clock.monotonic());
            if wait > Duration::ZERO {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

impl Scrubber {
    /// Reads one pack. What is found is remembered; nothing found, too. An object that cannot be read is a finding
    /// like any other, so that those behind it are read as well; also where the store has its size and cannot read it,
    /// while it reads others.
    ///
    /// # Errors
    /// [`Error::Blob`] where the object store as a whole is away, or a disk is busy; [`Error::Store`].
    pub async fn check(&self, row: &PackRow, pace: &mut Pace) -> Result<Vec<Finding>, Error> {
        let marks = self.store.marks(&[row.pack]).await?.remove(&row.pack);
        if marks.as_ref().is_some_and(Marks::is_all) {
            return Ok(Vec::new());
        }
        let sums = self.store.chunk_sums(row.pack).await?;
        let mut check = Check { row, marks, sums, findings: Vec::new(), seen: Vec::new(), has_size: false };
        // What fails once may be the moment's; a bad sector fails at the same place again.
        let mut read = self.read(&mut check, pace).await;
        if matches!(&read, Err(Error::Blob(error)) if is_of_object(error) || check.may_be_of_object(error)) {
            check.findings.clear();
            read = self.read(&mut check, pace).await;
        }
        match read {
            Err(Error::Blob(BlobError::NotFound(_))) => self.missing(&mut check).await?,
            Err(Error::Blob(error)) if is_of_object(&error) => check.unreadable(&error),
            Err(Error::Blob(error)) if check.may_be_of_object(&error) && self.reads_others(row).await? => {
                check.unreadable(&error);
            }
            read => read?,
        }
        self.conclude(check).await
    }

    async fn read(&self, check: &mut Check<'_>, pace: &mut Pace) -> Result<(), Error> {
        check.has_size = false;
        let size = self.blobs.size(&check.row.key).await?;
        check.has_size = true;
        check.size(size);
        self.head(check, size).await?;
        self.body(check, size, pace).await?;
        self.metrics.scrubbed_packs.inc();
        Ok(())
    }

    /// A pack that was deleted meanwhile is no loss.
    async fn missing(&self, check: &mut Check<'_>) -> Result<(), Error> {
        if self.store.pack(check.row.pack).await?.is_some() {
            check
                .find(FindingKind::ObjectMissing, "its object is gone: restore it from a copy of the bucket");
        }
        Ok(())
    }

    async fn head(&self, check: &mut Check<'_>, size: u64) -> Result<(), Error> {
        let length = check.row.head_bytes().min(size);
        if read(&*self.blobs, &check.row.key, 0..length).await? != check.row.head() {
            check.find(
                FindingKind::HeadChanged,
                "the head of the object is not the one that was indexed: restore it from a copy of the bucket",
            );
        }
        Ok(())
    }

    /// A transfer that broke off is tried once more; a bad sector ends it at the same place again.
    async fn body(&self, check: &mut Check<'_>, size: u64, pace: &mut Pace) -> Result<(), Error> {
        let entries = &check.row.directory.entries;
        let range = check.row.head_bytes()..size;
        let mut seen = self.hash(check.row, entries, range.clone(), pace).await?;
        if seen.1.is_some() {
            seen = self.hash(check.row, entries, range, pace).await?;
        }
        if let Some(error) = seen.1 {
            let error = BlobError::Io { doing: "reading an object", source: error };
            if error.may_pass() && !self.reads_others(check.row).await? {
                return Err(error.into());
            }
            check.unreadable(&error);
        }
        check.compare(entries, seen.0);
        Ok(())
    }

    /// What was seen of the segments, and why not of all.
    async fn hash(
        &self,
        row: &PackRow,
        entries: &[Entry],
        range: Range<u64>,
        pace: &mut Pace,
    ) -> Result<(Vec<Seen>, Option<io::Error>), Error> {
        let mut hasher = BodyHasher::new(entries);
        if range.is_empty() {
            return Ok((hasher.finish(), None));
        }
        let mut bytes = self.blobs.get(&row.key, range).await?;
        while let Some(piece) = bytes.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return Ok((hasher.finish(), Some(error))),
            };
            hasher.update(&piece);
            self.metrics.scrubbed_bytes.inc_by(piece.len() as u64);
            pace.keep(piece.len() as u64).await;
        }
        Ok((hasher.finish(), None))
    }

    async fn conclude(&self, check: Check<'_>) -> Result<Vec<Finding>, Error> {
        let Check { row, findings, seen, sums, .. } = check;
        if let Some(first) = findings.first() {
            self.metrics.damage_found.inc();
            tracing::error!(object = %row.key, kind = first.kind.as_str_name(), "the scrub found damage");
            self.store.add_damage(row.pack, first.kind, self.clock.wall()).await?;
        // Of a pack that was deleted meanwhile nothing was seen.
        } else if !seen.is_empty() && (sums.is_none() || self.store.is_damaged(row.pack).await?) {
            let sums: Vec<u32> = seen.into_iter().flat_map(|seen| seen.sums).collect();
            self.store.set_whole(row.pack, Some(&sums)).await?;
        }
        Ok(findings)
    }
}

/// One pack under the eyes of the scrub.
struct Check<'a> {
    row: &'a PackRow,
    marks: Option<Marks>,
    sums: Option<Vec<u32>>,
    findings: Vec<Finding>,
    seen: Vec<Seen>,
    /// Whether the store said how large the object is, and so is there.
    has_size: bool,
}

impl Check<'_> {
    fn find(&mut self, kind: FindingKind, words: impl Into<String>) {
        self.findings.push(Finding::of_pack(kind, self.row, words));
    }

    fn size(&mut self, size: u64) {
        let expected = self.row.bytes;
        if size != expected {
            let words = format!(
                "the object has {size} bytes and the index says {expected}: restore it from a copy of the bucket"
            );
            self.find(FindingKind::ObjectWrongSize, words);
        }
    }

    fn unreadable(&mut self, error: &dyn Display) {
        let words =
            format!("the object store cannot read the object to its end ({error}): look at its disks");
        self.find(FindingKind::BytesChanged, words);
    }

    /// Holds what was seen against the directory; shredded segments do not matter any more.
    fn compare(&mut self, entries: &[Entry], seen: Vec<Seen>) {
        let mut before = self.sums.clone().unwrap_or_default().into_iter();
        for (segment, entry) in (0_u32..).zip(entries) {
            let before: Vec<u32> = before.by_ref().take(chunk_count(entry)).collect();
            let seen = usize::try_from(segment).ok().and_then(|segment| seen.get(segment));
            let is_shredded = self.marks.as_ref().is_some_and(|marks| marks.contains(segment));
            if is_shredded || seen.is_some_and(|seen| seen.sha256 == entry.sha256) {
                continue;
            }
            let now = seen.map_or(&[][..], |seen| &seen.sums);
            let chunk = (!before.is_empty()).then(|| first_difference(&before, now)).flatten();
            self.changed(segment, chunk);
        }
        self.seen = seen;
    }

    fn changed(&mut self, segment: u32, chunk: Option<u64>) {
        let words = match chunk {
            Some(chunk) => format!(
                "segment {segment} of the object changed in its 16 KiB chunk {chunk}: restore the object from a \
                 copy of the bucket; the other segments can still be read"
            ),
            None => format!(
                "segment {segment} of the object changed, and it was never read whole before: `obscura recording \
                 verify` opens it with its key and names the chunk; restore the object from a copy of the bucket"
            ),
        };
        let finding = Finding::of_pack(FindingKind::BytesChanged, self.row, words);
        self.findings.push(Finding { segment: Some(segment), chunk, ..finding });
    }
}

impl fmt::Debug for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("pack", &self.row.pack).finish_non_exhaustive()
    }
}
