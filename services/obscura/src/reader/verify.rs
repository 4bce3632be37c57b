//! Proving that everything the index knows of a camera is there, unchanged and readable.
//!
//! For every segment: the SHA-256 of the sealed bytes, the header, the authenticated opening, and
//! strict reading of the media inside. For every object: its head against the index. For every run of
//! the recorder: that no sequence number is missing, unless a recorded gap explains it, and none is given twice.

mod continuity;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use obscura_clock::Span;
use obscura_ids::{Digest, PackId, WriterEpoch};
use obscura_pack::{Directory, Entry, Statement, parse_object_key};
use obscura_proto::{footage::v1::Gap, storage::v1::ListRecordingsResponse};
use obscura_seal::ClearSegment;

use super::{Cause, Fault, Located, Reader, Sink, Stretch, Wanted, sha256};
use crate::problem::Result;
pub use continuity::Missing;
use continuity::{Continuity, Sequences};

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
    /// Runs of recorders that made the segments: every start of a recorder begins another.
    pub recorder_runs: BTreeSet<WriterEpoch>,
    /// Everything that is wrong, the first [`MAX_FAULTS`] with their place.
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub further_faults: u64,
    /// Segments of which a second pack has a copy.
    pub copies: u64,
    /// Sequence numbers that are missing.
    pub missing: Vec<Missing>,
    /// Hashes of the statements of its packs; `None` where a head could not be fetched or is none of it.
    pub statements: BTreeMap<PackId, Option<Digest>>,
}

impl Verdict {
    /// Everything that is wrong or missing, a sentence each.
    pub fn troubles(&self) -> Vec<String> {
        let faults = self.faults.iter().map(ToString::to_string);
        let more = (self.further_faults > 0).then(|| format!("and {} more faults", self.further_faults));
        faults.chain(self.missing.iter().map(ToString::to_string)).chain(more).collect()
    }

    /// Number of things that are wrong. Missing segments that a recorded gap explains are no fault.
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
    let mut verdict = verifier.verdict(&recordings.gaps);
    if recordings.truncated {
        let camera = Some(wanted.camera);
        let ask = async |span| reader.recordings(camera, Some(span)).await.map(|answer| answer.gaps);
        explain(&mut verdict.missing, ask).await?;
    }
    Ok(verdict)
}

/// One answer of the index holds so many gaps and no more: where some were left out, it is asked again about each hole
/// that none of those explains which it told.
async fn explain(missing: &mut [Missing], ask: impl AsyncFn(Span) -> Result<Vec<Gap>>) -> Result<()> {
    for hole in missing.iter_mut().filter(|hole| hole.explained.is_none()) {
        let gaps = ask(hole.reach()).await?;
        hole.explain(&gaps);
    }
    Ok(())
}

/// What the head of an object says. A head that says nothing is one fault of the object, not one of
/// each of its segments.
enum Head {
    Good {
        length: u64,
        /// Segments that the index has not named yet, by their offset behind the head.
        entries: BTreeMap<u64, Entry>,
    },
    /// Its segments may still be there.
    Unreadable,
    /// The whole object is gone, or another one.
    Lost,
}

/// Collects the evidence.
struct Verifier<W> {
    wanted: Span,
    watch: W,
    verdict: Verdict,
    /// By object key.
    heads: BTreeMap<String, Head>,
    /// Segments whose keys are destroyed, by object key and offset behind the head: their bytes stay while
    /// another segment keeps the object.
    shredded: BTreeSet<(String, u64)>,
    continuity: Continuity,
}

impl<W: FnMut(&Located)> Verifier<W> {
    fn new(wanted: Span, watch: W) -> Self {
        Self {
            wanted,
            watch,
            verdict: Verdict::default(),
            heads: BTreeMap::new(),
            shredded: BTreeSet::new(),
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
        verdict.recorder_runs.insert(entry.header.writer_epoch);
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
        let read = head.and_then(|head| Ok((read_head(&object_key, &head)?, sha256(&head))));
        if let Ok(name) = parse_object_key(&object_key) {
            let statement = read.as_ref().ok().map(|(directory, head)| Statement::of(directory, *head));
            self.verdict
                .statements
                .insert(name.pack, statement.map(|statement| sha256(&statement.to_bytes())));
        }
        let head = match read {
            Ok((Directory { entries, .. }, _)) => Head::Good {
                length,
                entries: entries.into_iter().map(|entry| (entry.offset, entry)).collect(),
            },
            Err(cause) => {
                let lost = matches!(cause, Cause::Missing | Cause::Swapped { .. });
                self.fault(Fault { object_key: object_key.clone(), bytes: 0..length, time: None, cause });
                if lost { Head::Lost } else { Head::Unreadable }
            }
        };
        self.heads.insert(object_key, head);
    }

    /// What is wrong with a segment that opened, or did not, in the light of the head of its object.
    /// `Ok` where nothing is wrong with it, `Err(None)` where a fault of the object says it all.
    fn judge(&mut self, located: &Located, opened: Result<ClearSegment, Cause>) -> Result<(), Option<Cause>> {
        match self.heads.get_mut(&located.object_key) {
            Some(Head::Lost) => Err(None),
            Some(Head::Good { entries, .. }) => {
                let listed = entries.remove(&located.entry.offset);
                opened.map_err(Some)?;
                if listed.as_ref() == Some(&located.entry) { Ok(()) } else { Err(Some(Cause::HeadDisagrees)) }
            }
            Some(Head::Unreadable) | None => opened.map(drop).map_err(Some),
        }
    }

    fn verdict(mut self, gaps: &[Gap]) -> Verdict {
        let (wanted, shredded) = (self.wanted, std::mem::take(&mut self.shredded));
        for (object_key, head) in std::mem::take(&mut self.heads) {
            let Head::Good { length, entries } = head else { continue };
            let is_destroyed = |entry: &Entry| shredded.contains(&(object_key.clone(), entry.offset));
            // A pack may reach beyond what was asked for.
            let asked_for = entries.into_values().filter(|entry| entry.span.overlaps(wanted));
            for entry in asked_for.filter(|entry| !is_destroyed(entry)) {
                let first = length.saturating_add(entry.offset);
                let bytes = first..first.saturating_add(entry.length);
                let (object_key, time) = (object_key.clone(), Some(entry.span.start()));
                self.fault(Fault { object_key, bytes, time, cause: Cause::NotIndexed });
            }
        }
        let Sequences { missing, copies, faults } = std::mem::take(&mut self.continuity).finish(gaps);
        faults.into_iter().for_each(|fault| self.fault(fault));
        Verdict { missing, copies, ..self.verdict }
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
        self.continuity.saw(located);
        match self.judge(located, opened) {
            Ok(()) => self.verdict.verified += 1,
            Err(Some(cause)) => self.fault(located.fault(cause)),
            Err(None) => {}
        }
        (self.watch)(located);
        Ok(())
    }

    fn shredded(&mut self, located: &Located) {
        self.continuity.saw(located);
        self.shredded.insert((located.object_key.clone(), located.entry.offset));
    }

    fn malformed(&mut self, fault: Fault) -> Result<()> {
        self.fault(fault);
        Ok(())
    }

    fn examines(&self) -> bool {
        true
    }
}

/// The directory in a head. Its name and its content must agree.
fn read_head(object_key: &str, head: &[u8]) -> Result<Directory, Cause> {
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
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use obscura_ids::CameraId;
    use obscura_pack::object_key;

    use super::*;
    use crate::reader::{
        everything,
        open::{
            open,
            samples::{Keys, keys, located, seal},
        },
    };

    /// A pack of three sealed segments with its rows in the index.
    struct Pack {
        keys: Keys,
        rows: Vec<Located>,
        sealed: Vec<Vec<u8>>,
        head: Vec<u8>,
    }

    fn pack(camera: CameraId) -> Pack {
        let keys = keys();
        let mut rows: Vec<_> = (0..3).map(located).collect();
        for row in &mut rows {
            row.entry.header.camera = camera;
        }
        let sealed = rows.iter_mut().map(|row| seal(&keys, row, b"footage")).collect();
        let (zone, layer, id) = ("eea".parse().unwrap(), obscura_ids::Layer::Original, PackId::generate());
        let entries = rows.iter().map(|row| row.entry.clone()).collect();
        let directory = Directory::lay_out(id, camera, zone, layer, entries).unwrap();
        let head = directory.encode_head();
        for (row, entry) in rows.iter_mut().zip(&directory.entries) {
            row.object_key = object_key(&directory.zone, camera, layer, entry.span.start(), id);
            row.object_offset = u64::try_from(head.len()).unwrap() + entry.offset;
            row.entry = entry.clone();
        }
        Pack { keys, rows, sealed, head }
    }

    /// The verdict where storage gives this head and these sealed bytes for the rows of the index.
    fn judged(rows: &[Located], keys: &Keys, head: Result<&[u8], Cause>, sealed: &[Vec<u8>]) -> Verdict {
        let seen = Cell::new(0);
        let mut verifier = Verifier::new(everything(), |_| seen.set(seen.get() + 1));
        verifier.head(&rows[0], head.map(bytes::Bytes::copy_from_slice));
        for (row, sealed) in rows.iter().zip(sealed) {
            verifier.segment(row, open(sealed, row, &keys.released, false)).unwrap();
        }
        assert_eq!(seen.get(), rows.len());
        verifier.verdict(&[])
    }

    #[test]
    fn what_is_there_and_unchanged_is_verified() {
        let pack = pack(CameraId::generate());
        let verdict = judged(&pack.rows, &pack.keys, Ok(&pack.head), &pack.sealed);
        assert!(verdict.failures() == 0, "{:?}", verdict.troubles());
        assert_eq!((verdict.segments, verdict.verified), (3, 3));
        assert_eq!(verdict.recorded, Duration::from_secs(6));
    }

    #[test]
    fn an_object_of_another_camera_is_one_fault_that_names_that_camera() {
        let (own, other) = (pack(CameraId::generate()), pack(CameraId::from_bytes([9; 16])));
        let verdict = judged(&own.rows, &own.keys, Ok(&other.head), &other.sealed);
        assert_eq!((verdict.failures(), verdict.verified), (1, 0));
        let named = format!("object swapped: the header names camera {}", CameraId::from_bytes([9; 16]));
        assert!(verdict.troubles()[0].contains(&named), "{:?}", verdict.troubles());
    }

    #[test]
    fn another_pack_of_the_same_camera_is_a_swapped_object_too() {
        let camera = CameraId::generate();
        let (own, other) = (pack(camera), pack(camera));
        let verdict = judged(&own.rows, &own.keys, Ok(&other.head), &other.sealed);
        assert!(
            verdict.troubles()[0].contains("object swapped: the header names pack"),
            "{:?}",
            verdict.troubles()
        );
    }

    #[tokio::test]
    async fn a_hole_whose_gap_one_answer_left_out_is_asked_about_by_itself() {
        let pack = pack(CameraId::generate());
        let rows = [pack.rows[0].clone(), pack.rows[2].clone()];
        let sealed = [pack.sealed[0].clone(), pack.sealed[2].clone()];
        let mut verdict = judged(&rows, &pack.keys, Ok(&pack.head), &sealed);
        assert_eq!(verdict.missing.len(), 1);
        let unexplained = verdict.failures();
        let end = verdict.missing[0].between.start().unix_nanos();
        let gap = Gap { start_unix_ns: 1, end_unix_ns: end, reason: 1, ..Gap::default() };
        // As storage finds what overlaps a span.
        let storage = async |span: Span| {
            let found =
                gap.start_unix_ns < span.end().unix_nanos() && gap.end_unix_ns > span.start().unix_nanos();
            Ok(if found { vec![gap.clone()] } else { Vec::new() })
        };
        explain(&mut verdict.missing, storage).await.unwrap();
        assert_eq!(verdict.missing[0].explained, Some(gap.reason()));
        assert_eq!(verdict.failures(), unexplained - 1);
        explain(&mut verdict.missing, async |_| panic!("nothing is left to ask")).await.unwrap();
    }

    #[test]
    fn a_missing_object_is_one_fault() {
        let pack = pack(CameraId::generate());
        let verdict = judged(&pack.rows, &pack.keys, Err(Cause::Missing), &[vec![], vec![], vec![]]);
        assert_eq!((verdict.failures(), verdict.verified), (1, 0));
    }

    #[test]
    fn a_broken_head_does_not_hide_a_broken_segment() {
        let mut pack = pack(CameraId::generate());
        *pack.sealed[1].last_mut().unwrap() ^= 1;
        let verdict = judged(&pack.rows, &pack.keys, Ok(b"no head at all"), &pack.sealed);
        assert_eq!((verdict.failures(), verdict.verified), (2, 2));
    }

    #[test]
    fn a_row_that_the_head_knows_differently_is_found() {
        let mut pack = pack(CameraId::generate());
        pack.rows[2].entry.frames += 1;
        let verdict = judged(&pack.rows, &pack.keys, Ok(&pack.head), &pack.sealed);
        assert_eq!(verdict.faults[0].cause, Cause::HeadDisagrees);
        assert_eq!(verdict.failures(), 1);
    }

    #[test]
    fn a_segment_that_the_index_lost_is_found_and_its_hole_too() {
        let pack = pack(CameraId::generate());
        let rows = [pack.rows[0].clone(), pack.rows[2].clone()];
        let sealed = [pack.sealed[0].clone(), pack.sealed[2].clone()];
        let verdict = judged(&rows, &pack.keys, Ok(&pack.head), &sealed);
        assert_eq!(verdict.faults[0].cause, Cause::NotIndexed);
        assert_eq!(verdict.faults[0].bytes, pack.rows[1].bytes());
        assert_eq!((verdict.missing[0].first, verdict.missing[0].last), (1, 1));
    }

    #[test]
    fn a_segment_that_is_shredded_while_others_keep_its_object_is_no_fault() {
        let pack = pack(CameraId::generate());
        let mut verifier = Verifier::new(everything(), |_| {});
        verifier.head(&pack.rows[0], Ok(bytes::Bytes::copy_from_slice(&pack.head)));
        verifier.shredded(&pack.rows[1]);
        for number in [0, 2] {
            let (row, sealed) = (&pack.rows[number], &pack.sealed[number]);
            verifier.segment(row, open(sealed, row, &pack.keys.released, false)).unwrap();
        }
        let verdict = verifier.verdict(&[]);
        assert!(verdict.failures() == 0, "{:?}", verdict.troubles());
        assert_eq!((verdict.segments, verdict.verified), (2, 2), "what nobody can open is not counted");
    }
}
