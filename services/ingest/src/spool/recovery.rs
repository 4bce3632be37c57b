//! What an earlier run left in the spool.
//!
//! Whatever the disk lost costs only itself: a record that is not whole, or lies in a sector that cannot be read,
//! is left out, and reading goes on at the next whole one. What was lost with it is found by what is around it
//! ([`losses`]). Only the end of the newest file may be torn without anything being lost: what is not
//! whole there, and has nothing whole behind it, was never acknowledged.

mod image;
pub mod losses;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use obscura_clock::Timestamp;
use obscura_ids::PackId;

use self::{
    image::{Budget, Image},
    losses::{Cut, Losses},
};
use super::{
    Error, Extent, Position, Serial,
    disk::{Disk, sync_dir},
    file::{self, LogFile},
    record::{self, Found, HEADER_BYTES, Kind, MAX_PAYLOAD_BYTES, Record},
    writer::MOST_UNCOMMITTED_BYTES,
};

/// More than this is never written and not committed: what is not whole before it was acknowledged.
const MOST_TORN_BYTES: usize = MOST_UNCOMMITTED_BYTES + 2 * MAX_PAYLOAD_BYTES;
/// Bytes of one file that are looked through for what only looks like a record.
const MOST_CHECKED_BYTES: usize = 1024 * 1024 * 1024;

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Recovered {
    /// End of the log.
    pub end: Position,
    /// Smallest serial that is larger than all found.
    pub next_serial: u64,
    /// When the recorder last committed.
    pub last_alive: Option<Timestamp>,
    /// Segments that are not yet freed, in the order in which they were started.
    pub segments: BTreeMap<Serial, Segment>,
    /// Layer keys that are not yet imported: serialised `ImportLayerKeyRequest`.
    pub keys: BTreeMap<Serial, (Position, Vec<u8>)>,
    /// Gaps that are not yet indexed: serialised `Gap`.
    pub gaps: BTreeMap<Serial, (Position, Vec<u8>)>,
    /// Packs that were formed and whose segments are not yet freed.
    pub packs: Vec<(Serial, Position, PackId, Vec<Serial>)>,
    /// What the disk lost.
    pub losses: Losses,
}

/// A segment that is not yet freed.
#[derive(Debug, Default)]
pub struct Segment {
    /// Payload of its `Open` record.
    pub opening: Vec<u8>,
    /// Its first record.
    pub first: Position,
    /// Sealed bytes, the prefix in the `Open` record not included.
    pub data: Vec<Extent>,
    /// Payload of its last `Tail` record, and how many `Data` records came before it.
    pub tail: Option<(Extent, usize)>,
    /// Serialised `PackEntry`, where the segment was completed.
    pub entry: Option<Vec<u8>>,
    /// What of it came before the disk lost something while it was written: perhaps of it.
    pub cut: Option<Cut>,
}

impl Recovered {
    /// First record of everything that is not yet freed.
    pub fn needed(&self) -> HashMap<Serial, Position> {
        let segments = self.segments.iter().map(|(serial, segment)| (*serial, segment.first));
        let others = self.keys.iter().chain(&self.gaps).map(|(serial, (at, _))| (*serial, *at));
        let packs = self.packs.iter().map(|(serial, at, ..)| (*serial, *at));
        segments.chain(others).chain(packs).collect()
    }

    fn take(&mut self, record: &Record<'_>, payload_at: Position) {
        self.losses.take(record);
        self.next_serial = self.next_serial.max(record.serial.0.saturating_add(1));
        let extent =
            Extent { start: payload_at, length: u32::try_from(record.payload.len()).unwrap_or(u32::MAX) };
        match record.kind {
            Kind::Key => {
                self.keys.insert(record.serial, (payload_at, record.payload.to_vec()));
            }
            Kind::Gap => {
                self.gaps.insert(record.serial, (payload_at, record.payload.to_vec()));
            }
            Kind::Open => {
                let opening = record.payload.to_vec();
                self.segments
                    .insert(record.serial, Segment { opening, first: payload_at, ..Segment::default() });
            }
            Kind::Data | Kind::Tail | Kind::Close => self.continue_segment(record, extent),
            Kind::Done => record::decode_serials(record.payload).for_each(|serial| self.free(serial)),
            Kind::Alive => {
                if let Ok(nanos) = record.payload.try_into() {
                    self.last_alive = Some(Timestamp::from_unix_nanos(i64::from_be_bytes(nanos)));
                }
            }
            Kind::Lost => {}
            Kind::Pack => {
                if let Some((id, serials)) = record.payload.split_first_chunk::<16>() {
                    let serials = record::decode_serials(serials).collect();
                    self.packs.push((record.serial, payload_at, PackId::from_bytes(*id), serials));
                }
            }
        }
    }

    fn continue_segment(&mut self, record: &Record<'_>, extent: Extent) {
        let Some(segment) = self.segments.get_mut(&record.serial) else { return };
        segment.cut.iter_mut().for_each(|cut| cut.follow(record));
        match record.kind {
            Kind::Data => segment.data.push(extent),
            Kind::Tail => segment.tail = Some((extent, segment.data.len())),
            _ => segment.entry = Some(record.payload.to_vec()),
        }
    }

    fn free(&mut self, serial: Serial) {
        self.segments.remove(&serial);
        self.keys.remove(&serial);
        self.gaps.remove(&serial);
        self.packs.retain(|(pack, ..)| *pack != serial);
    }

    /// The disk lost these bytes: whatever is being written may miss some. The serials of records that lay there
    /// are not given again, and more of them than headers fit cannot have been.
    fn lose(&mut self, bytes: Range<u64>, path: &Path) {
        let records = bytes.end.saturating_sub(bytes.start) / HEADER_BYTES as u64;
        self.next_serial = self.next_serial.saturating_add(records);
        let spot = self.losses.lose(bytes, path);
        for segment in self.segments.values_mut().filter(|segment| segment.entry.is_none()) {
            let (data, tail) = (segment.data.len(), segment.tail);
            segment.cut.get_or_insert(Cut { data, tail, full_chunks: None, until: None, spot });
        }
    }
}

/// Reads every log file in `dir`, cuts a torn end, and opens the files for reading. What is read is
/// durable from here on: all files but the last were when the next one was begun.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<(BTreeMap<Position, Arc<LogFile>>, Recovered), Error> {
    let mut files = BTreeMap::new();
    let (mut recovered, mut budget) = (Recovered::default(), Budget::default());
    let paths = log_files(dir)?;
    let mut following = paths.keys().skip(1).copied().collect::<Vec<_>>().into_iter();
    for (start, path) in paths {
        let next = following.next();
        let file = read_file(disk, &path, (start, next), &mut budget, &mut recovered);
        if let Some(file) = file.map_err(|source| Error::Io { path, source })? {
            files.insert(start, file);
        }
    }
    sync_dir(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    recovered.losses.finish();
    Ok((files, recovered))
}

/// Reads one file up to where the next one starts, and opens it where anything of it is needed.
fn read_file(
    disk: &dyn Disk,
    path: &Path,
    (start, next): (Position, Option<Position>),
    budget: &mut Budget,
    recovered: &mut Recovered,
) -> std::io::Result<Option<Arc<LogFile>>> {
    recovered.losses.next_file();
    let Some(Image { bytes, unreadable, reader }) = image::read(disk, path, budget)? else {
        return set_aside(path, start, next, recovered).map(|()| None);
    };
    // What is behind the start of the next one only fills the last block.
    let length = next.map(|next| usize::try_from(next.0 - start.0).unwrap_or(usize::MAX));
    let whole = scan(bytes.get(..length.unwrap_or(bytes.len())).unwrap_or(&bytes), start, path, recovered);
    let end = |length: usize| Position(start.0.saturating_add(length as u64));
    recovered.end = recovered.end.max(end(whole));
    if let Some(length) = length {
        if whole < length {
            recovered.lose(end(whole).0..end(length).0, path);
        }
        recovered.end = recovered.end.max(end(length));
        return Ok(Some(Arc::new(LogFile::new(path.to_owned(), reader))));
    }
    let rest = bytes.len() - whole;
    if rest > MOST_TORN_BYTES || unreadable.iter().any(|bad| bad.end > whole) {
        // What was told of is told by its positions: they are not used again. The file stays as it is until it is
        // freed, so that a start that ends before the loss was told finds it again.
        recovered.lose(end(whole).0..end(bytes.len()).0, path);
        recovered.end = recovered.end.max(end(bytes.len()));
        disk.keep(path, bytes.len() as u64)?;
        return Ok(Some(Arc::new(LogFile::new(path.to_owned(), reader))));
    }
    cut(disk, path, whole, &bytes)?;
    Ok((whole > 0).then(|| Arc::new(LogFile::new(path.to_owned(), reader))))
}

/// A file of which the disk gives back nothing is kept under another name, for a person to examine. The spool never
/// takes it back: it is told as lost, and records about what it holds may be gone with later files.
fn set_aside(
    path: &Path,
    start: Position,
    next: Option<Position>,
    recovered: &mut Recovered,
) -> std::io::Result<()> {
    let length = std::fs::metadata(path).map_or(0, |found| found.len());
    let end = next.unwrap_or(Position(start.0.saturating_add(length.max(1))));
    recovered.lose(start.0..end.0, path);
    recovered.end = recovered.end.max(end);
    let mut aside = path.as_os_str().to_owned();
    aside.push(".unreadable");
    std::fs::rename(path, aside)
}

/// Takes every whole record and returns how many bytes they fill, what was lost between them included.
fn scan(bytes: &[u8], start: Position, path: &Path, recovered: &mut Recovered) -> usize {
    let (mut at, mut left) = (0, MOST_CHECKED_BYTES);
    while let Some(lost) = next_whole(bytes.get(at..).unwrap_or_default(), &mut left) {
        let from = at;
        at += lost;
        if lost > 0 {
            recovered.lose(start.0 + from as u64..start.0 + at as u64, path);
        }
        if let Found::Record(record, length) = record::read(bytes.get(at..).unwrap_or_default()) {
            recovered.take(&record, Position(start.0 + (at + HEADER_BYTES) as u64));
            at += length;
        }
    }
    at
}

/// How many bytes lie before the next whole record. `None` where there is none, or only behind so much that looks
/// like one that looking further would take too long.
fn next_whole(bytes: &[u8], left: &mut usize) -> Option<usize> {
    if matches!(record::read(bytes), Found::Record(..)) {
        return Some(0);
    }
    (1..bytes.len()).find_map(|at| {
        let bytes = bytes.get(at..).filter(|bytes| *left > 0 && record::may_start(bytes))?;
        let length = bytes.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
        *left = left.saturating_sub(HEADER_BYTES + length as usize);
        matches!(record::read(bytes), Found::Record(..)).then_some(at)
    })
}

/// Removes a torn end, so that the next record follows a whole one.
fn cut(disk: &dyn Disk, path: &Path, whole: usize, bytes: &[u8]) -> std::io::Result<()> {
    if whole == 0 {
        return disk.remove(path);
    }
    let rest = bytes.get(whole..).unwrap_or_default();
    // Zeros only fill the last block: nothing was lost with them.
    if rest.iter().any(|byte| *byte != 0) {
        tracing::warn!(file = %path.display(), bytes = rest.len(), "cut a torn record off the end of the spool");
    }
    disk.keep(path, whole as u64)
}

fn log_files(dir: &Path) -> Result<BTreeMap<Position, PathBuf>, Error> {
    let io = |source| Error::Io { path: dir.to_owned(), source };
    let mut paths = BTreeMap::new();
    for item in std::fs::read_dir(dir).map_err(io)? {
        let path = item.map_err(io)?.path();
        if let Some(start) = file::start(&path) {
            paths.insert(start, path);
        }
    }
    Ok(paths)
}
