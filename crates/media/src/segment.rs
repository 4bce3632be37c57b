use std::ops::Range;

use bytes::Bytes;
use mp4_atom::{FourCC, Ftyp, Mdhd, Tfdt, Tfhd, Trun, TrunEntry};

use crate::{
    Error, TIMESCALE, Trailer, VideoParameters,
    boxes::{Found, RawBox, box_at, children, only_child},
    fragment::{DEPENDENT_FLAGS, RANDOM_ACCESS_FLAGS},
    init::TRACK_ID,
};

/// Most samples that a segment may hold: 10 minutes at 100 frames a second.
pub const MAX_SAMPLES_PER_SEGMENT: usize = 60_000;

const FTYP: FourCC = FourCC::new(b"ftyp");
const MOOV: FourCC = FourCC::new(b"moov");
const MOOF: FourCC = FourCC::new(b"moof");
const MDAT: FourCC = FourCC::new(b"mdat");
const UUID: FourCC = FourCC::new(b"uuid");
const TRUN: FourCC = FourCC::new(b"trun");

/// What is in a segment. Samples point into the bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What a decoder must know.
    pub parameters: VideoParameters,
    /// In order.
    pub samples: Vec<StoredSample>,
    /// Missing where the end of the segment is cut off.
    pub trailer: Option<Trailer>,
}

/// One access unit of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSample {
    /// Where its length-prefixed NAL units are in the segment's bytes.
    pub range: Range<usize>,
    /// In units of [`TIMESCALE`].
    pub decode_time: u64,
    /// In units of [`TIMESCALE`].
    pub duration: u32,
    /// Whether decoding can start here.
    pub random_access: bool,
    /// Presentation minus decode time, in units of [`TIMESCALE`].
    pub composition_offset: i32,
}

/// Takes a clear segment apart.
///
/// Strict: only what [`init_segment`](crate::init_segment), [`fragment_head`](crate::fragment_head)
/// and [`Trailer::encode`] write is accepted, in that order. A segment whose end is cut off gives
/// the fragments that are whole, and no trailer.
///
/// # Errors
/// When a box is malformed or stands in the wrong place, or the cut is before the first fragment.
pub fn read_segment(clear: &[u8]) -> Result<Segment, Error> {
    let ftyp = whole(clear, 0, FTYP)?;
    ftyp.decode::<Ftyp>()?;
    let moov = whole(clear, ftyp.end(), MOOV)?;
    let mut segment = Segment { parameters: read_moov(&moov)?, samples: Vec::new(), trailer: None };
    let mut at = moov.end();
    while let Found::Whole(next) = box_at(clear, at)? {
        if next.kind == UUID {
            segment.trailer = Some(Trailer::decode(clear.get(at..).unwrap_or_default())?);
            break;
        }
        let Found::Whole(mdat) = box_at(clear, next.end())? else { break };
        segment.read_fragment(&next, &mdat)?;
        at = mdat.end();
    }
    Ok(segment)
}

impl Segment {
    fn read_fragment(&mut self, moof: &RawBox<'_>, mdat: &RawBox<'_>) -> Result<(), Error> {
        expect(moof, MOOF, "a fragment or the trailer")?;
        expect(mdat, MDAT, "mdat")?;
        let fragment = Fragment::read(moof)?;
        let data_at = mdat.end() - mdat.body.len();
        if usize::try_from(fragment.data_offset).ok() != Some(data_at - moof.at) {
            return Err(Error::Malformed { kind: TRUN, why: "its data is not that of the fragment" });
        }
        let earliest = self.samples.last().map_or(0, StoredSample::end_time);
        if fragment.decode_time < earliest {
            return Err(Error::Malformed { kind: MOOF, why: "it begins before the fragment before it ends" });
        }
        if self.samples.len().saturating_add(fragment.rows.len()) > MAX_SAMPLES_PER_SEGMENT {
            return Err(Error::TooMany { what: "samples in a segment", limit: MAX_SAMPLES_PER_SEGMENT });
        }
        self.place_samples(&fragment, data_at..mdat.end())
    }

    /// Lays the rows of a fragment over the bytes of its `mdat`, which they must cover exactly.
    fn place_samples(&mut self, fragment: &Fragment, data: Range<usize>) -> Result<(), Error> {
        let wrong_size = || Error::Malformed { kind: TRUN, why: "its samples do not fill the fragment" };
        let mut at = data.start;
        let mut decode_time = fragment.decode_time;
        for row in &fragment.rows {
            let end = at.checked_add(row.size).filter(|end| *end <= data.end).ok_or_else(wrong_size)?;
            let sample = StoredSample {
                range: at..end,
                decode_time,
                duration: row.duration,
                random_access: row.random_access,
                composition_offset: row.composition_offset,
            };
            at = end;
            decode_time = sample.end_time();
            self.samples.push(sample);
        }
        if at == data.end { Ok(()) } else { Err(wrong_size()) }
    }
}

impl StoredSample {
    fn end_time(&self) -> u64 {
        self.decode_time.saturating_add(self.duration.into())
    }
}

/// What a `moof` box says.
struct Fragment {
    decode_time: u64,
    data_offset: i32,
    rows: Vec<Row>,
}

struct Row {
    size: usize,
    duration: u32,
    random_access: bool,
    composition_offset: i32,
}

impl Fragment {
    fn read(moof: &RawBox<'_>) -> Result<Self, Error> {
        let traf = only_child(moof, FourCC::new(b"traf"))?;
        let tfhd: Tfhd = only_child(&traf, FourCC::new(b"tfhd"))?.decode()?;
        if tfhd.track_id != TRACK_ID || !tfhd.default_base_is_moof || tfhd.base_data_offset.is_some() {
            return Err(Error::Malformed { kind: FourCC::new(b"tfhd"), why: "it is not of our one track" });
        }
        let tfdt: Tfdt = only_child(&traf, FourCC::new(b"tfdt"))?.decode()?;
        let trun: Trun = only_child(&traf, TRUN)?.decode()?;
        let data_offset = trun
            .data_offset
            .ok_or(Error::Malformed { kind: TRUN, why: "it does not say where its data is" })?;
        let rows = trun.samples.iter().map(|entry| Row::read(&entry)).collect::<Option<_>>();
        let rows = rows
            .ok_or(Error::Malformed { kind: TRUN, why: "a sample lacks size, duration, flags or offset" })?;
        Ok(Self { decode_time: tfdt.base_media_decode_time, data_offset, rows })
    }
}

impl Row {
    fn read(entry: &TrunEntry) -> Option<Self> {
        let random_access = match entry.flags? {
            RANDOM_ACCESS_FLAGS => true,
            DEPENDENT_FLAGS => false,
            _ => return None,
        };
        let size = usize::try_from(entry.size?).ok()?;
        let composition_offset = i32::try_from(entry.cts?).ok()?;
        Some(Self { size, duration: entry.duration?, random_access, composition_offset })
    }
}

/// The box at this place, which must be whole and of this kind.
fn whole(clear: &[u8], at: usize, kind: FourCC) -> Result<RawBox<'_>, Error> {
    match box_at(clear, at)? {
        Found::Whole(found) if found.kind == kind => Ok(found),
        Found::Whole(found) => Err(Error::UnexpectedBox { found: found.kind, at, expected: "ftyp and moov" }),
        Found::End | Found::Cut => Err(Error::Cut(kind)),
    }
}

fn expect(found: &RawBox<'_>, kind: FourCC, expected: &'static str) -> Result<(), Error> {
    if found.kind == kind {
        return Ok(());
    }
    Err(Error::UnexpectedBox { found: found.kind, at: found.at, expected })
}

/// The parameters of the one track in a `moov` box.
fn read_moov(moov: &RawBox<'_>) -> Result<VideoParameters, Error> {
    let trak = only_child(moov, FourCC::new(b"trak"))?;
    let mdia = only_child(&trak, FourCC::new(b"mdia"))?;
    let mdhd: Mdhd = only_child(&mdia, FourCC::new(b"mdhd"))?.decode()?;
    if mdhd.timescale != TIMESCALE {
        return Err(Error::Malformed { kind: FourCC::new(b"mdhd"), why: "the timescale is not 90000" });
    }
    let minf = only_child(&mdia, FourCC::new(b"minf"))?;
    let stbl = only_child(&minf, FourCC::new(b"stbl"))?;
    let stsd = only_child(&stbl, FourCC::new(b"stsd"))?;
    let one_entry = stsd.body.strip_prefix(&[0, 0, 0, 0, 0, 0, 0, 1]);
    let entry = one_entry.ok_or(Error::Malformed { kind: stsd.kind, why: "it has not exactly one entry" })?;
    children(stsd.kind, entry).next().ok_or(Error::MissingBox { missing: FourCC::new(b"avc1") })??;
    VideoParameters::from_sample_entry(Bytes::copy_from_slice(entry))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        Sample, fragment_head, init_segment, parameters::tests::parameters, trailer::tests::any_trailer,
    };
    use proptest::{collection::vec, prelude::*};

    type Frame = (Vec<u8>, u32, bool);

    /// Some offset that differs from sample to sample.
    fn offset(duration: u32) -> i32 {
        i32::try_from(duration / 2).unwrap() - 1_000
    }

    /// A segment with these fragments, each with the decode time at which the one before it ends.
    pub(crate) fn segment(fragments: &[Vec<Frame>], trailer: Option<&Trailer>) -> Vec<u8> {
        let mut out = init_segment(&parameters()).unwrap();
        let mut decode_time = 0;
        for (number, frames) in (1..).zip(fragments) {
            let samples: Vec<_> = frames
                .iter()
                .map(|(data, duration, random_access)| Sample {
                    data,
                    duration: *duration,
                    random_access: *random_access,
                    composition_offset: offset(*duration),
                })
                .collect();
            out.extend(fragment_head(number, decode_time, &samples));
            for sample in samples {
                out.extend_from_slice(sample.data);
                decode_time += u64::from(sample.duration);
            }
        }
        out.extend(trailer.map(Trailer::encode).unwrap_or_default());
        out
    }

    fn any_fragments() -> impl Strategy<Value = Vec<Vec<Frame>>> {
        let frame = (vec(any::<u8>(), 0..50), any::<u32>(), any::<bool>());
        vec(vec(frame, 0..6), 0..4)
    }

    fn contents(clear: &[u8], segment: &Segment) -> Vec<Frame> {
        let frame = |sample: &StoredSample| {
            assert_eq!(sample.composition_offset, offset(sample.duration));
            (clear[sample.range.clone()].to_vec(), sample.duration, sample.random_access)
        };
        segment.samples.iter().map(frame).collect()
    }

    proptest! {
        #[test]
        fn a_segment_reads_back(fragments in any_fragments(), trailer in proptest::option::of(any_trailer())) {
            let clear = segment(&fragments, trailer.as_ref());
            let read = read_segment(&clear).unwrap();
            prop_assert_eq!(contents(&clear, &read), fragments.concat());
            prop_assert_eq!(read.trailer, trailer);
            prop_assert_eq!(read.parameters, parameters());
        }

        #[test]
        fn a_cut_segment_gives_its_whole_fragments_or_an_error(
            fragments in any_fragments(),
            trailer in any_trailer(),
            cut: prop::sample::Index,
        ) {
            let clear = segment(&fragments, Some(&trailer));
            let init = init_segment(&parameters()).unwrap().len();
            let cut = cut.index(clear.len());
            match read_segment(&clear[..cut]) {
                Ok(read) => {
                    prop_assert!(cut >= init);
                    prop_assert!(read.trailer.is_none());
                    let found = contents(&clear, &read);
                    prop_assert!((0..=fragments.len()).any(|whole| fragments[..whole].concat() == found));
                }
                Err(error) => prop_assert!(cut < init && matches!(error, Error::Cut(_)), "{}", error),
            }
        }

        #[test]
        fn a_damaged_segment_never_panics(
            fragments in any_fragments(),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut clear = segment(&fragments, None);
            for (at, byte) in damage {
                let at = at.index(clear.len());
                clear[at] = byte;
            }
            if let Ok(read) = read_segment(&clear) {
                prop_assert!(read.samples.iter().all(|sample| sample.range.end <= clear.len()));
            }
        }

        #[test]
        fn bytes_behind_the_trailer_are_refused(trailer in any_trailer(), behind in vec(any::<u8>(), 1..20)) {
            let clear = [segment(&[], Some(&trailer)), behind].concat();
            prop_assert!(read_segment(&clear).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000)) {
            let _ = read_segment(&bytes);
        }

        #[test]
        fn arbitrary_boxes_never_panic(bodies in vec((prop::sample::select(KINDS), vec(any::<u8>(), 0..60)), 0..9)) {
            let mut bytes = init_segment(&parameters()).unwrap();
            for (kind, body) in bodies {
                bytes.extend(u32::try_from(body.len() + 8).unwrap().to_be_bytes());
                bytes.extend(kind);
                bytes.extend(body);
            }
            let _ = read_segment(&bytes);
        }
    }

    const KINDS: &[&[u8; 4]] = &[b"moof", b"mdat", b"uuid", b"traf", b"free", b"moov"];

    #[test]
    fn boxes_nested_a_hundred_thousand_deep_cost_no_stack() {
        let ftyp_bytes = 28;
        let mut clear = init_segment(&parameters()).unwrap()[..ftyp_bytes].to_vec();
        for depth in (1..=100_000_u32).rev() {
            clear.extend((depth * 8).to_be_bytes());
            clear.extend(b"moov");
        }
        assert!(matches!(read_segment(&clear), Err(Error::MissingBox { .. })));
    }

    #[test]
    fn a_run_that_claims_samples_without_sizes_is_refused() {
        let mut clear = segment(&[vec![(b"data".to_vec(), 1, true)]], None);
        let trun = clear.windows(4).position(|window| window == b"trun").unwrap();
        clear[trun + 4..trun + 8].copy_from_slice(&1_u32.to_be_bytes());
        clear[trun + 8..trun + 12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(read_segment(&clear).is_err());
    }

    #[test]
    fn a_box_that_is_not_ours_is_named() {
        let mut clear = segment(&[], None);
        clear.extend(b"\0\0\0\x08free\0\0\0\x08mdat");
        let error = read_segment(&clear).unwrap_err();
        assert!(error.to_string().contains("`free`"), "{error}");
    }
}
