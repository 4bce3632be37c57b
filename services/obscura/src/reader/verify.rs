//! Proving that everything the index knows of a camera is there, unchanged and readable.
//!
//! For every segment: the SHA-256 of the sealed bytes, the header, the authenticated opening, and
//! strict reading of the media inside. For every object: its head against the index. For every run of
//! the recorder: that no sequence number is missing, unless a recorded gap explains it.

mod continuity;

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use obscura_clock::Span;
use obscura_pack::{Directory, Entry, parse_object_key};
use obscura_proto::{footage::v1::Gap, storage::v1::ListRecordingsResponse};
use obscura_seal::ClearSegment;

use super::{Cause, Fault, Located, Reader, Sink, Stretch, Wanted};
use crate::problem::Result;
use continuity::Continuity;
pub use continuity::Missing;

/// Faults that are kept with their place; further ones are only counted.
const MAX_FAULTS: usize = 1_000;
/// Heads that are fetched at the same time.
const PARALLEL: usize = 4;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Segments in the index.
    pub segments: u64,
    /// Segments without any fault.
    pub verified: u64,
    /// Sealed bytes of all segments.
    pub bytes: u64,
    /// Recorded time of all segments.
    pub recorded: Duration,
    /// First and last moment; absent where nothing was recorded.
    pub span: Option<Span>,
    /// Everything that is wrong, the first [`MAX_FAULTS`] with their place.
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub further_faults: u64,
    /// Sequence numbers that are missing.
    pub missing: Vec<Missing>,
}

impl Verdict {
    /// Whether nothing is wrong. Missing segments that a recorded gap explains are no fault.
    pub fn is_good(&self) -> bool {
        self.failures() == 0
    }

    /// Everything that is wrong or missing, a sentence each.
    pub fn troubles(&self) -> Vec<String> {
        let faults = self.faults.iter().map(ToString::to_string);
        let more = (self.further_faults > 0).then(|| format!("and {} more faults", self.further_faults));
        faults.chain(self.missing.iter().map(ToString::to_string)).chain(more).collect()
    }

    /// Number of things that are wrong.
    pub fn failures(&self) -> u64 {
        let missing = self.missing.iter().filter(|missing| missing.explained.is_none()).count();
        let placed = u64::try_from(self.faults.len() + missing).unwrap_or(u64::MAX);
        placed.saturating_add(self.further_faults)
    }
}

/// Verifies what is wanted; `watch` hears of every segment.
pub async fn verify(
    reader: &Reader<'_>,
    wanted: &Wanted,
    recordings: &ListRecordingsResponse,
    watch: impl FnMut(&Located),
) -> Result<Verdict> {
    let mut verifier = Verifier::new(wanted.span, watch);
    reader.read(wanted, &mut verifier).await?;
    Ok(verifier.verdict(&recordings.gaps))
}

/// What the head of an object says.
struct Head {
    length: u64,
    /// Segments that the index has not named yet, by their offset behind the head.
    entries: BTreeMap<u64, Entry>,
}

/// Collects the evidence.
struct Verifier<W> {
    wanted: Span,
    watch: W,
    verdict: Verdict,
    /// By object key; `None` where the head is not readable, which is one fault of the object and not
    /// one of each of its segments.
    heads: BTreeMap<String, Option<Head>>,
    continuity: Continuity,
}

impl<W: FnMut(&Located)> Verifier<W> {
    fn new(wanted: Span, watch: W) -> Self {
        Self {
            wanted,
            watch,
            verdict: Verdict::default(),
            heads: BTreeMap::new(),
            continuity: Continuity::default(),
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.verdict.faults.len() < MAX_FAULTS {
            self.verdict.faults.push(fault);
        } else {
            self.verdict.further_faults += 1;
        }
    }

    fn count(&mut self, entry: &Entry) {
        let verdict = &mut self.verdict;
        verdict.segments += 1;
        verdict.bytes = verdict.bytes.saturating_add(entry.length);
        verdict.recorded = verdict.recorded.saturating_add(entry.span.duration());
        let (start, end) = match verdict.span {
            Some(span) => (span.start().min(entry.span.start()), span.end().max(entry.span.end())),
            None => (entry.span.start(), entry.span.end()),
        };
        verdict.span = Span::try_new(start, end);
    }

    /// Takes the head of an object, or what is wrong with it.
    fn head(&mut self, first: &Located, head: Result<bytes::Bytes, Cause>) {
        let (object_key, length) = (first.object_key.clone(), first.head_length());
        let head = match head.and_then(|head| read_head(&object_key, &head)) {
            Ok(entries) => Some(Head { length, entries }),
            Err(cause) => {
                self.fault(Fault { object_key: object_key.clone(), bytes: 0..length, time: None, cause });
                None
            }
        };
        self.heads.insert(object_key, head);
    }

    /// Whether the head of the object says the same about a segment as the index.
    fn head_agrees(&mut self, located: &Located) -> bool {
        let Some(Some(head)) = self.heads.get_mut(&located.object_key) else { return true };
        head.entries.remove(&located.entry.offset).is_some_and(|entry| entry == located.entry)
    }

    fn verdict(mut self, gaps: &[Gap]) -> Verdict {
        let wanted = self.wanted;
        for (object_key, head) in std::mem::take(&mut self.heads) {
            let Some(Head { length, entries }) = head else { continue };
            // A pack may reach beyond what was asked for.
            for entry in entries.into_values().filter(|entry| entry.span.overlaps(wanted)) {
                let first = length.saturating_add(entry.offset);
                let bytes = first..first.saturating_add(entry.length);
                let (object_key, time) = (object_key.clone(), Some(entry.span.start()));
                self.fault(Fault { object_key, bytes, time, cause: Cause::NotIndexed });
            }
        }
        Verdict { missing: self.continuity.missing(gaps), ..self.verdict }
    }
}

impl<W: FnMut(&Located)> Sink for Verifier<W> {
    async fn stretch(&mut self, stretch: &Stretch<'_>) -> Result<()> {
        let mut new: BTreeMap<&str, &Located> = BTreeMap::new();
        for located in stretch.segments {
            if !self.heads.contains_key(&located.object_key) {
                new.entry(&located.object_key).or_insert(located);
            }
        }
        let fetches = new.into_values().map(|located| async move { (located, stretch.head(located).await) });
        let mut heads = stream::iter(fetches).buffered(PARALLEL);
        while let Some((first, head)) = heads.next().await {
            self.head(first, head);
        }
        Ok(())
    }

    fn segment(&mut self, located: &Located, opened: Result<ClearSegment, Cause>) -> Result<()> {
        self.count(&located.entry);
        self.continuity.saw(&located.entry);
        let agrees = self.head_agrees(located);
        match opened.map(|clear| clear.header) {
            Err(cause) => self.fault(located.fault(cause)),
            Ok(_) if !agrees => self.fault(located.fault(Cause::HeadDisagrees)),
            Ok(_) => self.verdict.verified += 1,
        }
        (self.watch)(located);
        Ok(())
    }

    fn malformed(&mut self, fault: Fault) -> Result<()> {
        self.fault(fault);
        Ok(())
    }

    fn examines(&self) -> bool {
        true
    }
}

/// The entries of a head by offset. Its name and its content must agree.
fn read_head(object_key: &str, head: &[u8]) -> Result<BTreeMap<u64, Entry>, Cause> {
    let name = parse_object_key(object_key).map_err(|error| Cause::Head(error.to_string()))?;
    let directory = Directory::decode_head(head).map_err(|error| Cause::Head(error.to_string()))?;
    let swapped = |what, named: String, expected: String| Cause::Swapped { what, named, expected };
    if directory.camera != name.camera {
        return Err(swapped("camera", directory.camera.to_string(), name.camera.to_string()));
    }
    if directory.zone != name.zone {
        return Err(swapped("zone", directory.zone.to_string(), name.zone.to_string()));
    }
    if directory.pack_id != name.pack {
        return Err(swapped("pack", directory.pack_id.to_string(), name.pack.to_string()));
    }
    Ok(directory.entries.into_iter().map(|entry| (entry.offset, entry)).collect())
}
