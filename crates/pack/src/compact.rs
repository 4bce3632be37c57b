//! Directories as an index keeps them: by columns, without what is said elsewhere.
//!
//! A head says for each segment what its neighbours say too: 230 bytes, of which 32 are the hash that nobody can
//! guess. Here what the packs of a camera have in common is left to the caller ([`Stream`]), like the id and the
//! start of the pack, and of the rest only differences to what is expected are kept:
//!
//! ```text
//! u8 format, 1 | LEB128 number of segments | u16 BE mask of the columns that are not all zero | columns and bytes:
//!
//!   flags         dependent, damaged, torn (bits 0 to 2), code of the clock quality from bit 3 on
//!   key           number of the layer key among those of this pack; then the ids, 16 bytes each
//!   init hash     0 for that of the stream, else number among the others; then those, 32 bytes each
//!   mask-set hash 0 for none, else number among the others; then those, 32 bytes each
//!   writer epoch  minus that of the stream
//!   sequence      minus the one that follows the segment before it, or minus 0 in another writer epoch
//!   slot          number since 1970, minus that in which the segment starts
//!   start         minus the end of the segment before it; the first one: minus the start of the pack
//!   media         duration in the camera's own time, nanoseconds: of most cameras the same again and again
//!   duration      by the wall, minus that in the camera's time
//!   frames
//!   length        sealed bytes
//!   torn after    full chunks, of torn segments alone
//!   sha256        32 bytes each
//! ```
//!
//! Columns are written as [`columns`] says. The same directory gives the same bytes, and reading refuses any others,
//! so that what is read has the head that was written, byte for byte.

mod columns;

use std::{collections::HashMap, hash::Hash, time::Duration};

use obscura_clock::{ClockQuality, Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, PackId, Sequence, WriterEpoch, ZoneId};
use obscura_seal::{Hour, SLOTS_PER_HOUR, SegmentHeader, Slot};

use self::columns::{Reader, Writer};
use crate::{Directory, Entry, Error, MAX_ENTRIES};

const FORMAT: u8 = 1;
const DEPENDENT: i64 = 1;
const DAMAGED: i64 = 2;
const TORN: i64 = 4;
const QUALITY_SHIFT: u32 = 3;

/// What packs of a camera have in common for as long as neither its parameter sets nor its recorder change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Zone in which they rest.
    pub zone: ZoneId,
    /// Camera of their segments.
    pub camera: CameraId,
    /// Layer of their segments.
    pub layer: Layer,
    /// SHA-256 of the initialisation segment of most of them.
    pub init_hash: Digest,
    /// First writer epoch of the recorder of most of them.
    pub writer: WriterEpoch,
}

impl Stream {
    /// The stream that makes this directory shortest.
    #[must_use]
    pub fn of(directory: &Directory) -> Self {
        let Directory { zone, camera, layer, entries, .. } = directory;
        let first = entries.first().map(|entry| &entry.header);
        Self {
            zone: zone.clone(),
            camera: *camera,
            layer: *layer,
            init_hash: first.map_or(Digest::ZERO, |header| header.init_hash),
            writer: first.map_or(WriterEpoch(0), |header| header.writer_epoch.first_of_directory()),
        }
    }
}

impl Directory {
    /// The compact form beside a stream of the same zone, camera and layer, which has to be kept along with the id
    /// and the start of the pack. Of a directory without segments there is none.
    #[must_use]
    pub fn to_compact(&self, stream: &Stream) -> Vec<u8> {
        let mut writer = Writer::default();
        let column = |number: fn(&Entry) -> i64| self.entries.iter().map(number).collect::<Vec<_>>();
        writer.numbers(&column(flags));
        let (keys, ids) = dictionary(self.entries.iter().map(|entry| *entry.header.key_id.as_bytes()), None);
        writer.numbers(&keys);
        ids.iter().for_each(|id| writer.bytes(id));
        self.write_hashes(&mut writer, stream.init_hash, |header| header.init_hash);
        self.write_hashes(&mut writer, Digest::ZERO, |header| header.mask_set_hash);
        let epoch = |entry: &Entry| entry.header.writer_epoch.0.wrapping_sub(stream.writer.0).cast_signed();
        writer.numbers(&self.entries.iter().map(epoch).collect::<Vec<_>>());
        self.write_sequences(&mut writer);
        self.write_times(&mut writer);
        writer.numbers(&column(|entry| entry.frames.into()));
        writer.numbers(&column(|entry| entry.length.cast_signed()));
        let torn = self.entries.iter().filter_map(|entry| entry.torn_after_chunks);
        writer.numbers(&torn.map(i64::from).collect::<Vec<_>>());
        self.entries.iter().for_each(|entry| writer.bytes(entry.sha256.as_bytes()));
        [&[FORMAT][..], &count(self.entries.len()), &writer.finish()].concat()
    }

    /// Reads the compact form of the pack with this id and start beside the stream.
    ///
    /// # Errors
    /// [`Error::Compact`], [`Error::Entry`] for anything that [`Directory::to_compact`] does not write for a directory
    /// that has a head.
    pub fn from_compact(
        pack_id: PackId,
        start: Timestamp,
        stream: &Stream,
        bytes: &[u8],
    ) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(&[FORMAT]).ok_or(Error::Compact("its format is unknown"))?;
        let (count, rest) = read_count(rest)?;
        let entries = Reading { reader: Reader::new(rest)?, stream, start, count }.entries()?;
        let Stream { zone, camera, layer, .. } = stream;
        let read = Self { pack_id, camera: *camera, zone: zone.clone(), layer: *layer, entries };
        read.check()?;
        if read.span().start() != start {
            return Err(Error::Compact("it is that of a pack with another start"));
        }
        if read.to_compact(stream) != bytes {
            return Err(Error::Compact("it is not written in the one way there is"));
        }
        Ok(read)
    }

    fn write_hashes(&self, writer: &mut Writer, known: Digest, hash: fn(&SegmentHeader) -> Digest) {
        let hashes = self.entries.iter().map(|entry| *hash(&entry.header).as_bytes());
        let (numbers, others) = dictionary(hashes, Some(*known.as_bytes()));
        writer.numbers(&numbers);
        others.iter().for_each(|hash| writer.bytes(hash));
    }

    /// The first one is written by itself, because it is large.
    fn write_sequences(&self, writer: &mut Writer) {
        let positions =
            || self.entries.iter().map(|entry| (entry.header.writer_epoch, entry.header.sequence.0));
        writer.varint(positions().next().map_or(0, |(_, first)| first));
        let steps = positions().zip(positions().skip(1)).map(|(before, (epoch, sequence))| {
            sequence.wrapping_sub(expected_sequence(before, epoch)).cast_signed()
        });
        writer.numbers(&steps.collect::<Vec<_>>());
    }

    fn write_times(&self, writer: &mut Writer) {
        let mut expected = self.span().start().unix_nanos();
        let (mut slots, mut starts, mut walls, mut medias) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for entry in &self.entries {
            let (start, end) = (entry.span.start().unix_nanos(), entry.span.end().unix_nanos());
            let wall = end.wrapping_sub(start);
            let media = i64::try_from(entry.media_duration.as_nanos()).unwrap_or(i64::MAX); // as in the head
            slots.push(slot_number(entry.header.hour, entry.header.slot) - expected_slot(entry.span.start()));
            starts.push(start.wrapping_sub(expected));
            medias.push(media);
            walls.push(wall.wrapping_sub(media));
            expected = end;
        }
        [slots, starts, medias, walls].iter().for_each(|column| writer.numbers(column));
    }
}

/// One compact form under the eyes of [`Directory::from_compact`].
struct Reading<'a> {
    reader: Reader<'a>,
    stream: &'a Stream,
    start: Timestamp,
    count: usize,
}

impl Reading<'_> {
    fn entries(mut self) -> Result<Vec<Entry>, Error> {
        let flags = self.column()?;
        let keys: Vec<[u8; 16]> = self.dictionary(None)?;
        let inits: Vec<[u8; 32]> = self.dictionary(Some(*self.stream.init_hash.as_bytes()))?;
        let masks: Vec<[u8; 32]> = self.dictionary(Some(*Digest::ZERO.as_bytes()))?;
        let epochs = self.epochs()?;
        let sequences = self.sequences(&epochs)?;
        let (slots, starts, medias, walls) = (self.column()?, self.column()?, self.column()?, self.column()?);
        let (frames, lengths) = (self.column()?, self.column()?);
        let torn_count = flags.iter().filter(|flags| *flags & TORN != 0).count();
        let mut torn = self.reader.numbers(torn_count)?.into_iter();
        let (mut expected, mut offset) = (self.start.unix_nanos(), 0_u64);
        let rows = flags.into_iter().zip(keys).zip(inits).zip(masks).zip(epochs).zip(sequences);
        let times = slots.into_iter().zip(starts).zip(medias).zip(walls);
        let mut entries = Vec::with_capacity(self.count);
        for ((row, times), (frames, length)) in rows.zip(times).zip(frames.into_iter().zip(lengths)) {
            let (((((flags, key), init), masks), writer_epoch), sequence) = row;
            let (((slot, start), media), wall) = times;
            let start = expected.wrapping_add(start);
            expected = start.wrapping_add(media).wrapping_add(wall);
            let span = Span::try_new(Timestamp::from_unix_nanos(start), Timestamp::from_unix_nanos(expected));
            let (hour, slot) =
                read_slot(slot.wrapping_add(expected_slot(Timestamp::from_unix_nanos(start))))?;
            let torn = if flags & TORN == 0 { None } else { torn.next() };
            let header = SegmentHeader {
                key_id: LayerKeyId::from_bytes(key),
                hour,
                slot,
                zone: self.stream.zone.clone(),
                camera: self.stream.camera,
                layer: self.stream.layer,
                dependent: flags & DEPENDENT != 0,
                writer_epoch,
                sequence,
                init_hash: Digest::from_bytes(init),
                mask_set_hash: Digest::from_bytes(masks),
            };
            let length = length.cast_unsigned();
            entries.push(Entry {
                header,
                offset,
                length,
                sha256: Digest::ZERO,
                span: span.ok_or(Error::Compact("a segment that runs backwards"))?,
                media_duration: Duration::from_nanos(unsigned(media)?),
                frames: u32::try_from(frames).map_err(|_| BEYOND)?,
                damaged: flags & DAMAGED != 0,
                torn_after_chunks: torn.map(u32::try_from).transpose().map_err(|_| BEYOND)?,
                clock_quality: quality(flags)?,
            });
            offset = offset.saturating_add(length);
        }
        for entry in &mut entries {
            entry.sha256 = Digest::from_bytes(self.reader.array()?);
        }
        Ok(entries)
    }

    fn column(&mut self) -> Result<Vec<i64>, Error> {
        self.reader.numbers(self.count)
    }

    /// A column of numbers of values, and the values where they are not known.
    fn dictionary<const N: usize>(&mut self, known: Option<[u8; N]>) -> Result<Vec<[u8; N]>, Error> {
        let numbers = self.column()?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
        let numbers = numbers.map_err(|_| BEYOND)?;
        let last = numbers.iter().max().copied().unwrap_or(0);
        if last > self.count {
            return Err(BEYOND);
        }
        let mut values: Vec<[u8; N]> = known.into_iter().collect();
        while values.len() <= last {
            values.push(self.reader.array()?);
        }
        numbers.into_iter().map(|number| values.get(number).copied().ok_or(BEYOND)).collect()
    }

    fn epochs(&mut self) -> Result<Vec<WriterEpoch>, Error> {
        let base = self.stream.writer.0;
        let epochs = self.column()?.into_iter();
        Ok(epochs.map(|step| WriterEpoch(base.wrapping_add(step.cast_unsigned()))).collect())
    }

    fn sequences(&mut self, epochs: &[WriterEpoch]) -> Result<Vec<Sequence>, Error> {
        let mut sequences = vec![self.reader.varint()?];
        let steps = self.reader.numbers(self.count.saturating_sub(1))?;
        for ((step, before), epoch) in steps.into_iter().zip(epochs).zip(epochs.iter().skip(1)) {
            let last = sequences.last().copied().unwrap_or(0);
            sequences.push(expected_sequence((*before, last), *epoch).wrapping_add(step.cast_unsigned()));
        }
        Ok(sequences.into_iter().map(Sequence).collect())
    }
}

const BEYOND: Error = Error::Compact("a number that its field cannot have");

fn flags(entry: &Entry) -> i64 {
    let flag = |is_set: bool, flag: i64| if is_set { flag } else { 0 };
    flag(entry.header.dependent, DEPENDENT)
        | flag(entry.damaged, DAMAGED)
        | flag(entry.torn_after_chunks.is_some(), TORN)
        | i64::from(entry.clock_quality.code()) << QUALITY_SHIFT
}

fn quality(flags: i64) -> Result<ClockQuality, Error> {
    let code = u8::try_from(flags >> QUALITY_SHIFT).ok();
    code.and_then(ClockQuality::from_code).ok_or(Error::Compact("a clock quality that is unknown"))
}

/// Numbers of values in the order in which they come first, and those values but for the known one, number 0.
fn dictionary<T: Copy + Eq + Hash>(values: impl Iterator<Item = T>, known: Option<T>) -> (Vec<i64>, Vec<T>) {
    let mut places: HashMap<T, i64> = known.into_iter().map(|known| (known, 0)).collect();
    let (mut numbers, mut others) = (Vec::new(), Vec::new());
    for value in values {
        let next = i64::try_from(places.len()).unwrap_or(i64::MAX);
        numbers.push(*places.entry(value).or_insert_with(|| {
            others.push(value);
            next
        }));
    }
    (numbers, others)
}

fn expected_sequence((before, last): (WriterEpoch, u64), epoch: WriterEpoch) -> u64 {
    if before == epoch { last.wrapping_add(1) } else { 0 }
}

fn slot_number(hour: Hour, slot: Slot) -> i64 {
    i64::from(hour.get()) * i64::from(SLOTS_PER_HOUR) + i64::from(slot.get())
}

/// The slot in which the moment lies; 0 where it lies in none.
fn expected_slot(moment: Timestamp) -> i64 {
    Hour::of(moment).map_or(0, |(hour, slot)| slot_number(hour, slot))
}

fn read_slot(number: i64) -> Result<(Hour, Slot), Error> {
    let slots = i64::from(SLOTS_PER_HOUR);
    let hour = u32::try_from(number.div_euclid(slots)).ok().and_then(|hour| Hour::new(hour).ok());
    let slot = u16::try_from(number.rem_euclid(slots)).ok().and_then(|slot| Slot::new(slot).ok());
    hour.zip(slot).ok_or(BEYOND)
}

fn unsigned(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| BEYOND)
}

/// The number of segments, in LEB128 of at most two bytes.
fn count(entries: usize) -> Vec<u8> {
    let [high, low] = u16::try_from(entries).unwrap_or(u16::MAX).to_be_bytes();
    let upper = high << 1 | low >> 7;
    if upper == 0 { vec![low] } else { vec![low | 0x80, upper] }
}

fn read_count(bytes: &[u8]) -> Result<(usize, &[u8]), Error> {
    let (count, rest) = match bytes {
        [low, upper, rest @ ..] if *low & 0x80 != 0 => {
            (usize::from(low & 0x7f) | usize::from(*upper) << 7, rest)
        }
        [low, rest @ ..] => (usize::from(*low), rest),
        [] => return Err(Error::Compact("it ends too early")),
    };
    let is_possible = (1..=MAX_ENTRIES).contains(&count);
    if is_possible {
        Ok((count, rest))
    } else {
        Err(Error::Compact("it has no segments, or more than 4,096"))
    }
}
