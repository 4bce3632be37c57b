//! What was lost with bytes of the log that are not there any more.
//!
//! Segments of a camera are numbered without holes, and each is written within seconds. Where the numbers
//! around lost bytes leave one out, what is missing lay in them: it ended before the next segment began.
//! Numbers that are missing elsewhere left the spool in good order. Of a segment that was being written what came
//! before is whole; what came behind counts where its own length shows that nothing is missing.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, Layer, Sequence, WriterEpoch};
use obscura_pack::Entry;
use obscura_proto::footage::v1::PackEntry;
use obscura_seal::SegmentHeader;
use prost::Message as _;

use crate::{
    segment::{self, Tail},
    spool::{
        Extent, Serial,
        record::{Kind, Record},
    },
};

/// A segment and its last fragment take no longer.
const LONGEST_SEGMENT: Duration = Duration::from_secs(12);
/// So little was written within [`LONGEST_SEGMENT`] by whatever recorded, where it was 43 kbit/s or more. Only of a
/// loss that is no longer it is sure that it lay near the moments around it, where the recorder stood still between.
const SHORT_BYTES: u64 = 64 * 1024;

/// A segment as it was before the disk lost something.
#[derive(Debug)]
pub struct Cut {
    /// `Data` records that came before.
    pub data: usize,
    /// Its last `Tail` record before, and how many `Data` records came before that.
    pub tail: Option<(Extent, usize)>,
    /// Full chunks by the last `Tail` record behind.
    pub full_chunks: Option<u32>,
    /// Up to when there was footage in it, as far as is known.
    pub until: Option<Timestamp>,
    /// Number of the first loss.
    pub spot: usize,
}

impl Cut {
    /// Takes note of what comes behind the loss.
    pub fn follow(&mut self, record: &Record<'_>) {
        let end = match record.kind {
            Kind::Tail => Tail::decode(record.payload).map(|tail| {
                self.full_chunks = Some(tail.full_chunks);
                tail.end
            }),
            Kind::Close => entry(record.payload).map(|entry| entry.span.end()),
            _ => None,
        };
        self.until = self.until.max(end);
    }
}

/// Footage that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Of which camera.
    pub camera: CameraId,
    /// Which run recorded it.
    pub writer_epoch: WriterEpoch,
    /// Since when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// Numbers of the losses that it may lie in.
    spots: Range<usize>,
}

/// Bytes that the disk lost.
#[derive(Debug)]
struct Spot {
    bytes: Range<u64>,
    path: PathBuf,
    /// Number of the file. Every run begins one, so that a file is of one run.
    file: usize,
    /// When the recorder was last alive before,
    before: Option<Moment>,
    /// and first behind.
    after: Option<Moment>,
}

/// A moment that a whole record tells.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Timestamp,
    /// Number of the file that the record lies in.
    file: usize,
}

impl Spot {
    /// Since when and until when segments were recorded that may have lain there, as far as is known; `to` lies behind.
    fn when(&self, to: Moment) -> (Option<Timestamp>, Timestamp) {
        let after = self.after.unwrap_or(to);
        let (mut since, mut until) = (self.before, after);
        if let Some(before) = self.before.filter(|before| before.file != after.file)
            && self.bytes.end.saturating_sub(self.bytes.start) <= SHORT_BYTES
        {
            // Between the two another run may have begun, hours later.
            match self.file {
                file if file == before.file => until = before,
                file if file == after.file => since = Some(after),
                _ => {}
            }
        }
        (since.map(|since| since.at - LONGEST_SEGMENT), until.at + LONGEST_SEGMENT)
    }
}

/// The newest segment of a camera and layer.
#[derive(Debug)]
struct Newest {
    epoch: WriterEpoch,
    sequence: Sequence,
    serial: Serial,
    end: Timestamp,
    closed: bool,
    /// Losses before its last record.
    spots: usize,
}

/// What the disk lost.
#[derive(Debug, Default)]
pub struct Losses {
    spots: Vec<Spot>,
    told: Vec<Range<u64>>,
    /// Files that were begun.
    file: usize,
    alive: Option<Moment>,
    newest: HashMap<(CameraId, Layer), Newest>,
    /// Segments that are being written.
    open: HashMap<Serial, (CameraId, Layer)>,
    holes: Vec<Hole>,
    /// Segments of which the beginning is missing, and that were not freed.
    headless: BTreeMap<Serial, Hole>,
    /// Up to when there was footage in others of the kind.
    nameless: BTreeMap<Serial, Timestamp>,
    /// When segments ended of which the end is missing.
    until: HashMap<Serial, Timestamp>,
}

impl Losses {
    /// What comes now lies in the next file.
    pub fn next_file(&mut self) {
        self.file += 1;
    }

    /// The disk lost these bytes; returns the number of the loss.
    pub fn lose(&mut self, bytes: Range<u64>, path: &Path) -> usize {
        let (path, file) = (path.to_owned(), self.file);
        self.spots.push(Spot { bytes, path, file, before: self.alive, after: None });
        self.spots.len() - 1
    }

    /// Takes note of a whole record.
    pub fn take(&mut self, record: &Record<'_>) {
        match record.kind {
            Kind::Open => self.opened(record),
            Kind::Tail => self.tail(record),
            Kind::Close => self.closed(record),
            Kind::Done => super::record::decode_serials(record.payload).for_each(|serial| {
                self.headless.remove(&serial);
                self.nameless.remove(&serial);
            }),
            Kind::Alive => self.lives(record),
            Kind::Lost => {
                let numbers: Vec<u64> =
                    super::record::decode_serials(record.payload).map(|Serial(number)| number).collect();
                self.told.extend(numbers.as_chunks::<2>().0.iter().map(|[from, to]| *from..*to));
            }
            Kind::Key | Kind::Data | Kind::Gap | Kind::Pack => {}
        }
    }

    fn lives(&mut self, record: &Record<'_>) {
        let Ok(nanos) = record.payload.try_into() else { return };
        let at = Timestamp::from_unix_nanos(i64::from_be_bytes(nanos));
        self.alive = Some(Moment { at, file: self.file });
        for spot in self.spots.iter_mut().rev().take_while(|spot| spot.after.is_none()) {
            spot.after = self.alive;
        }
    }

    fn opened(&mut self, record: &Record<'_>) {
        let Some((header, start)) = segment::opened(record.payload) else { return };
        if self.saw(&header, record.serial, start) {
            self.open.insert(record.serial, (header.camera, header.layer));
        }
    }

    fn tail(&mut self, record: &Record<'_>) {
        let end = || Tail::decode(record.payload).map(|tail| tail.end);
        let spots = self.spots.len();
        match self.open.get(&record.serial).and_then(|key| self.newest.get_mut(key)) {
            Some(newest) if newest.serial == record.serial => {
                newest.end = newest.end.max(end().unwrap_or(newest.end));
                newest.spots = spots;
            }
            None if spots > 0 => self.nameless.extend(end().map(|end| (record.serial, end))),
            _ => {}
        }
    }

    fn closed(&mut self, record: &Record<'_>) {
        let Some(entry) = entry(record.payload) else { return };
        let (header, span) = (&entry.header, entry.span);
        if self.open.remove(&record.serial).is_none() {
            if self.spots.is_empty() || !self.saw(header, record.serial, span.start()) {
                return;
            }
            self.nameless.remove(&record.serial);
            let spots = 0..self.spots.len();
            let (camera, writer_epoch) = (header.camera, header.writer_epoch);
            let hole = Hole { camera, writer_epoch, start: span.start(), end: span.end(), spots };
            self.headless.insert(record.serial, hole);
        }
        let spots = self.spots.len();
        if let Some(newest) = self.newest.get_mut(&(header.camera, header.layer))
            && newest.serial == record.serial
        {
            (newest.end, newest.closed, newest.spots) = (span.end(), true, spots);
        }
    }

    /// Takes note of a segment, and of what is missing before it. False where it is a copy of an older one.
    fn saw(&mut self, header: &SegmentHeader, serial: Serial, start: Timestamp) -> bool {
        let key = (header.camera, header.layer);
        let (epoch, sequence, spots) = (header.writer_epoch, header.sequence, self.spots.len());
        let (before, to) = (self.newest.get(&key), Moment { at: start, file: self.file });
        if before.is_some_and(|before| before.epoch == epoch && before.sequence >= sequence) {
            return false;
        }
        match before {
            Some(before) if before.spots < spots => {
                let follows = before.epoch == epoch && before.sequence.0 + 1 == sequence.0;
                if !follows {
                    let from = Some((before.end, before.epoch));
                    let holes = self.around(header.camera, before.spots..spots, from, (to, epoch));
                    self.holes.extend(holes);
                } else if !before.closed {
                    self.until.insert(before.serial, start);
                }
            }
            None if spots > 0 && sequence.0 > 0 => {
                let holes = self.around(header.camera, 0..spots, None, (to, epoch));
                self.holes.extend(holes);
            }
            _ => {}
        }
        self.newest.insert(key, Newest { epoch, sequence, serial, end: start, closed: false, spots });
        true
    }

    /// What is missing between the end of one segment and the start of the next, around each of these losses: not
    /// what came long before or behind it. Each end is told with the run that it is of.
    fn around(
        &self,
        camera: CameraId,
        spots: Range<usize>,
        from: Option<(Timestamp, WriterEpoch)>,
        (to, epoch): (Moment, WriterEpoch),
    ) -> Vec<Hole> {
        let mut holes: Vec<Hole> = Vec::new();
        for (number, spot) in self.spots.iter().enumerate().skip(spots.start).take(spots.len()) {
            let (earliest, latest) = spot.when(to);
            let start = from.map(|(from, _)| from).max(earliest).unwrap_or(to.at - LONGEST_SEGMENT);
            let end = latest.min(to.at);
            let before = from.filter(|_| spot.file != to.file);
            let writer_epoch = before.map_or(epoch, |(_, epoch)| epoch);
            match holes.last_mut() {
                _ if start >= end => {}
                Some(last) if start <= last.end && writer_epoch == last.writer_epoch => {
                    (last.end, last.spots.end) = (end.max(last.end), number + 1);
                }
                _ => holes.push(Hole { camera, writer_epoch, start, end, spots: number..number + 1 }),
            }
        }
        holes
    }

    /// Everything was read.
    pub fn finish(&mut self) {
        let nameless = self.nameless.values().max().copied();
        let unseen = self.newest.iter().filter(|(_, newest)| newest.spots < self.spots.len());
        let (mut holes, mut until) = (Vec::new(), Vec::new());
        for ((camera, _), newest) in unseen {
            // Nothing of it follows: what is missing lay in the first loss behind it.
            let Some(spot) = self.spots.get(newest.spots) else { continue };
            let last = spot.after.or(spot.before).unwrap_or(Moment { at: newest.end, file: spot.file });
            let to = Moment { at: nameless.max(Some(last.at)).unwrap_or(last.at).max(newest.end), ..last };
            if !newest.closed {
                until.push((newest.serial, spot.when(to).1.min(to.at).max(newest.end)));
            } else if spot.before.is_none_or(|before| newest.end + LONGEST_SEGMENT >= before.at) {
                let spots = newest.spots..newest.spots + 1;
                holes.extend(self.around(
                    *camera,
                    spots,
                    Some((newest.end, newest.epoch)),
                    (to, newest.epoch),
                ));
            }
        }
        self.holes.extend(holes);
        self.until.extend(until);
        let headless = std::mem::take(&mut self.headless).into_values();
        self.holes.extend(headless.filter(|hole| hole.start < hole.end));
        self.holes.sort_by_key(|hole| (hole.camera, hole.start));
    }

    /// What is missing and was not told by an earlier start.
    pub fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.holes.iter().filter(|hole| hole.spots.clone().any(|spot| self.is_news(spot)))
    }

    /// When a segment ended whose end is missing.
    pub fn until(&self, serial: Serial) -> Option<Timestamp> {
        self.until.get(&serial).copied()
    }

    /// Whether an earlier start did not tell this loss.
    pub fn is_news(&self, spot: usize) -> bool {
        self.spots
            .get(spot)
            .is_some_and(|spot| !self.told.iter().any(|told| told.contains(&spot.bytes.start)))
    }

    /// The losses that no earlier start told, and the files in which they lie.
    pub fn news(&self) -> impl Iterator<Item = (&Range<u64>, &Path)> {
        let news = self.spots.iter().enumerate().filter(|(number, _)| self.is_news(*number));
        news.map(|(_, spot)| (&spot.bytes, spot.path.as_path()))
    }
}

fn entry(payload: &[u8]) -> Option<Entry> {
    Entry::try_from(PackEntry::decode(payload).ok()?).ok()
}
