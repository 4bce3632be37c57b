mod table;

use std::{
    io::{Seek, SeekFrom, Write},
    time::Duration,
};

use obscura_clock::Timestamp;
use table::{MAX_SAMPLES, SampleTable};

use crate::{
    Error, Segment, TIMESCALE, VideoParameters,
    boxes::write_atom,
    init::{Movie, ftyp},
    read_segment,
};

/// Most different sample entries (changes of the camera's parameters) in one clip.
const MAX_SAMPLE_ENTRIES: usize = 256;
/// Bytes of an `mdat` header with a 64-bit size.
const MDAT_HEADER_BYTES: u64 = 16;
/// Jitter of the start times of segments that is not called a gap.
const GAP_TOLERANCE: Duration = Duration::from_millis(500);
/// Seconds from 1904, where ISO base media time starts, to 1970.
const EPOCH_1904: i64 = 2_082_844_800;

/// Joins segments into one progressive MP4 that browsers, VLC and FFmpeg play: the samples first, byte
/// for byte, the index behind them. Memory grows only with the index, about 8 bytes a frame.
///
/// Time between segments is left out, not stretched: a clip is as long as what was recorded in it.
#[derive(Debug)]
pub struct ClipWriter<W> {
    out: W,
    /// Where the file begins in `out`, and where its next byte goes, once it is begun.
    file: Option<FilePosition>,
    entries: Vec<VideoParameters>,
    table: SampleTable,
    /// Start of the first segment.
    first_start: Option<Timestamp>,
    /// Start and end of the newest segment.
    newest: Option<(Timestamp, Timestamp)>,
    skipped_gaps: u32,
}

#[derive(Clone, Copy, Debug)]
struct FilePosition {
    /// Position in the output.
    begin: u64,
    /// From the beginning of the file.
    mdat: u64,
    /// From the beginning of the file.
    next: u64,
}

/// What a finished clip holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipSummary {
    /// Frames written.
    pub frames: u64,
    /// How long the clip plays.
    pub duration: Duration,
    /// Places where recorded time is missing between two segments and was left out.
    pub skipped_gaps: u32,
    /// Different sample entries: 1 where the camera's parameters never changed.
    pub sample_entries: usize,
}

impl<W: Write + Seek> ClipWriter<W> {
    /// A clip that begins where `out` stands, which should be the start of an empty file. Give a
    /// buffered writer: every sample is one write.
    pub fn new(out: W) -> Self {
        Self {
            out,
            file: None,
            entries: Vec::new(),
            table: SampleTable::default(),
            first_start: None,
            newest: None,
            skipped_gaps: 0,
        }
    }

    /// Appends a clear segment whose first frame was filmed at `start`. After an error the clip is of
    /// no use.
    ///
    /// # Errors
    /// When the segment cannot be read, starts before the one before it, would make the clip larger
    /// than its index can be, or cannot be written.
    pub fn add(&mut self, clear: &[u8], start: Timestamp) -> Result<(), Error> {
        let segment = read_segment(clear)?;
        if segment.samples.is_empty() {
            return Ok(());
        }
        self.note_time(start, &segment)?;
        let mut file = self.begin()?;
        let entry = self.entry(&segment.parameters)?;
        self.table.add_chunk(file.next, entry, &segment.samples)?;
        for sample in &segment.samples {
            let data = clear.get(sample.range.clone()).unwrap_or_default();
            self.out.write_all(data)?;
            file.next += u64::try_from(data.len()).unwrap_or(u64::MAX);
        }
        self.file = Some(file);
        Ok(())
    }

    /// Writes the index and completes the file.
    ///
    /// # Errors
    /// When there was no frame, or the file cannot be written.
    pub fn finish(mut self) -> Result<ClipSummary, Error> {
        let file = self.file.ok_or(Error::Empty)?;
        let movie = Movie {
            creation_time: self.creation_time(),
            duration: self.table.duration(),
            entries: &self.entries,
            fragmented: false,
        };
        let mut moov = Vec::new();
        movie.write(&mut moov, |out| self.table.write(out))?;
        self.out.write_all(&moov)?;
        self.out.seek(SeekFrom::Start(file.begin + file.mdat + 8))?;
        self.out.write_all(&(file.next - file.mdat).to_be_bytes())?;
        self.out.seek(SeekFrom::End(0))?;
        self.out.flush()?;
        Ok(self.summary())
    }

    fn summary(&self) -> ClipSummary {
        ClipSummary {
            frames: u64::from(self.table.samples()),
            duration: media_duration(self.table.duration()),
            skipped_gaps: self.skipped_gaps,
            sample_entries: self.entries.len(),
        }
    }

    /// Writes what stands before the first sample, once.
    fn begin(&mut self) -> Result<FilePosition, Error> {
        if let Some(file) = self.file {
            return Ok(file);
        }
        let mut head = Vec::new();
        write_atom(&mut head, &ftyp(b"isom", &[b"isom", b"iso2", b"avc1", b"mp41"]))?;
        let mdat = u64::try_from(head.len()).unwrap_or(u64::MAX);
        // The 64-bit size is filled in at the end.
        head.extend_from_slice(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\0");
        let begin = self.out.stream_position()?;
        self.out.write_all(&head)?;
        let file = FilePosition { begin, mdat, next: mdat + MDAT_HEADER_BYTES };
        self.file = Some(file);
        Ok(file)
    }

    /// Index of the sample entry, from 1.
    fn entry(&mut self, parameters: &VideoParameters) -> Result<u32, Error> {
        let known = self.entries.iter().position(|known| known.sample_entry == parameters.sample_entry);
        let index = known.unwrap_or_else(|| {
            self.entries.push(parameters.clone());
            self.entries.len() - 1
        });
        if index >= MAX_SAMPLE_ENTRIES {
            return Err(Error::TooMany {
                what: "changes of video parameters in a clip",
                limit: MAX_SAMPLE_ENTRIES,
            });
        }
        Ok(u32::try_from(index + 1).unwrap_or(u32::MAX))
    }

    fn note_time(&mut self, start: Timestamp, segment: &Segment) -> Result<(), Error> {
        if let Some((previous, end)) = self.newest {
            if start < previous {
                return Err(Error::OutOfOrder { start, previous });
            }
            self.skipped_gaps += u32::from(start.since(end) > GAP_TOLERANCE);
        }
        self.first_start.get_or_insert(start);
        self.newest = Some((start, start + duration_on_the_wall(segment)));
        Ok(())
    }

    /// Wall time of the first frame, as `mvhd` wants it; 0 (not known) before 1904.
    fn creation_time(&self) -> u64 {
        let seconds = self.first_start.map_or(0, |start| start.unix_nanos().div_euclid(1_000_000_000));
        u64::try_from(seconds.saturating_add(EPOCH_1904)).unwrap_or(0)
    }
}

/// The recorder's own measure, or, where the end is cut off, the camera's.
fn duration_on_the_wall(segment: &Segment) -> Duration {
    match &segment.trailer {
        Some(trailer) => trailer.wall_duration,
        None => media_duration(segment.samples.iter().map(|sample| u64::from(sample.duration)).sum()),
    }
}

fn media_duration(units: u64) -> Duration {
    let timescale = u64::from(TIMESCALE);
    Duration::from_secs(units / timescale)
        + Duration::from_nanos(units % timescale * 1_000_000_000 / timescale)
}

const _: () = assert!(MAX_SAMPLES as u64 <= u32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use mp4_atom::{Decode, Ftyp, Header, Moov, StszSamples};
    use std::io::Cursor;

    fn two_frames() -> Vec<u8> {
        segment(&[vec![(b"key".to_vec(), 45_000, true)], vec![(b"delta".to_vec(), 45_000, false)]], None)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn another_reader_finds_every_sample_through_the_index() {
        let mut out = Cursor::new(Vec::new());
        let mut clip = ClipWriter::new(&mut out);
        clip.add(&two_frames(), at(0)).unwrap();
        clip.add(&two_frames(), at(1)).unwrap();
        let summary = clip.finish().unwrap();
        assert_eq!(
            summary,
            ClipSummary { frames: 4, duration: Duration::from_secs(2), skipped_gaps: 0, sample_entries: 1 }
        );

        let file = out.into_inner();
        let mut rest = file.as_slice();
        Ftyp::decode(&mut rest).unwrap();
        let mdat = Header::decode(&mut rest).unwrap();
        rest = &rest[mdat.size.unwrap()..];
        let stbl = Moov::decode(&mut rest).unwrap().trak.remove(0).mdia.minf.stbl;
        let offsets = stbl.co64.unwrap().entries;
        assert_eq!(stbl.stsz.samples, StszSamples::Different { sizes: vec![3, 5, 3, 5] });
        assert_eq!(stbl.stss.unwrap().entries, [1, 3]);
        assert_eq!(offsets.len(), 2);
        for offset in offsets {
            let offset = usize::try_from(offset).unwrap();
            assert_eq!(&file[offset..offset + 8], b"keydelta");
        }
    }

    #[test]
    fn a_gap_is_counted_and_not_stretched() {
        let mut out = Cursor::new(Vec::new());
        let mut clip = ClipWriter::new(&mut out);
        for start in [0, 1, 60, 61] {
            clip.add(&two_frames(), at(start)).unwrap();
        }
        let summary = clip.finish().unwrap();
        assert_eq!((summary.skipped_gaps, summary.duration), (1, Duration::from_secs(4)));
    }

    #[test]
    fn a_segment_from_the_past_is_refused() {
        let mut clip = ClipWriter::new(Cursor::new(Vec::new()));
        clip.add(&two_frames(), at(10)).unwrap();
        assert!(matches!(clip.add(&two_frames(), at(9)), Err(Error::OutOfOrder { .. })));
    }

    #[test]
    fn a_clip_without_a_frame_says_so() {
        let mut clip = ClipWriter::new(Cursor::new(Vec::new()));
        clip.add(&segment(&[], None), at(0)).unwrap();
        assert!(matches!(clip.finish(), Err(Error::Empty)));
    }

    #[test]
    fn media_time_becomes_wall_time_without_overflow() {
        assert_eq!(media_duration(90_001), Duration::new(1, 11_111));
        assert!(media_duration(u64::MAX) > Duration::from_secs(1));
    }
}
