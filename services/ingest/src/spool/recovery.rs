//! What an earlier run left in the spool.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use obscura_clock::Timestamp;
use obscura_direct_file::DirectReader;
use obscura_ids::PackId;

use super::{
    Error, Extent, Position, Serial,
    disk::{Disk, sync_dir},
    file::{self, LogFile},
    record::{self, Found, HEADER_BYTES, Kind, Record},
};

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
    /// Files in which bytes after an unreadable record were lost.
    pub damaged_files: u32,
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
}

/// Reads every log file in `dir`, cuts a torn end, and opens the files for reading. What is read is
/// durable from here on: all files but the last were when the next one was begun.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<(BTreeMap<Position, Arc<LogFile>>, Recovered), Error> {
    let mut files = BTreeMap::new();
    let mut recovered = Recovered::default();
    let paths = log_files(dir)?;
    let mut following = paths.keys().skip(1).copied().collect::<Vec<_>>().into_iter();
    for (start, path) in paths {
        let next = following.next();
        let io = |source| Error::Io { path: path.clone(), source };
        let bytes = std::fs::read(&path).map_err(io)?;
        let whole = scan(&bytes, start, &mut recovered);
        recovered.end = recovered.end.max(Position(start.0 + whole as u64));
        let Some(next) = next else {
            cut(disk, &path, whole, &bytes).map_err(io)?;
            if whole > 0 {
                files.insert(start, opened(path)?);
            }
            continue;
        };
        // A closed file goes up to the next one; what is behind that only fills its last block.
        if start.0 + (whole as u64) < next.0 {
            recovered.damaged_files += 1;
            recovered.end = recovered.end.max(next);
            tracing::error!(file = %path.display(), at = whole, "a closed spool file is damaged; what follows in it is lost");
        }
        if whole > 0 {
            files.insert(start, opened(path)?);
        }
    }
    sync_dir(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    Ok((files, recovered))
}

fn opened(path: PathBuf) -> Result<Arc<LogFile>, Error> {
    match DirectReader::open(&path) {
        Ok(reader) => Ok(Arc::new(LogFile::new(path, reader))),
        Err(source) => Err(Error::Io { path, source }),
    }
}

/// Takes every whole record and returns how many bytes they fill.
fn scan(bytes: &[u8], start: Position, recovered: &mut Recovered) -> usize {
    let mut at = 0;
    while let Found::Record(record, length) = record::read(bytes.get(at..).unwrap_or_default()) {
        recovered.take(&record, Position(start.0 + (at + HEADER_BYTES) as u64));
        at += length;
    }
    at
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
