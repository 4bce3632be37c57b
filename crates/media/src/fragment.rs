use crate::{boxes::HEADER_BYTES, init::TRACK_ID};

/// Bytes of a `moof` box with one `traf` of our kind and no sample.
const MOOF_BYTES: usize = 88;
/// Bytes that each sample adds: duration, size, flags and composition offset.
const TRUN_ROW_BYTES: usize = 16;
/// `sample_depends_on = 2`: an intra picture (ISO/IEC 14496-12 8.6.4.3 and 8.8.3.1).
pub const RANDOM_ACCESS_FLAGS: u32 = 0x0200_0000;
/// `sample_depends_on = 1` and `sample_is_non_sync_sample`.
pub const DEPENDENT_FLAGS: u32 = 0x0101_0000;

/// One access unit on its way into a fragment. At most 4 GiB less one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Length-prefixed NAL units (see [`nal_units`](crate::nal_units)).
    pub data: &'a [u8],
    /// How long it is shown, in units of [`TIMESCALE`](crate::TIMESCALE).
    pub duration: u32,
    /// Whether decoding can start here.
    pub random_access: bool,
    /// Presentation minus decode time, in units of [`TIMESCALE`](crate::TIMESCALE): not zero only where
    /// the camera sends pictures out of order.
    pub composition_offset: i32,
}

/// `moof` and the header of its `mdat`; the data of the samples must follow, in order.
///
/// Written by hand, unlike the other boxes: it is on the path of every recorded frame, must not fail,
/// and its size must be known before it is written (`trun.data_offset` counts from its first byte).
#[must_use]
pub fn fragment_head(sequence: u32, base_decode_time: u64, samples: &[Sample<'_>]) -> Vec<u8> {
    let moof = MOOF_BYTES + TRUN_ROW_BYTES * samples.len();
    let mdat = mdat_header(samples.iter().map(|sample| saturated_u64(sample.data.len())).sum());
    let mut out = Vec::with_capacity(moof + mdat.len());
    box_header(&mut out, moof, b"moof");
    box_header(&mut out, 16, b"mfhd");
    words(&mut out, &[0, sequence]);
    box_header(&mut out, moof - 24, b"traf");
    box_header(&mut out, 16, b"tfhd");
    words(&mut out, &[0x0002_0000, TRACK_ID]); // default-base-is-moof
    box_header(&mut out, 20, b"tfdt");
    words(&mut out, &[0x0100_0000]); // version 1: 64-bit time
    out.extend_from_slice(&base_decode_time.to_be_bytes());
    box_header(&mut out, moof - 68, b"trun");
    // Version 1 (signed offsets); data-offset, sample-duration, -size, -flags and composition offset are present.
    words(&mut out, &[0x0100_0f01, saturated(samples.len()), saturated(moof + mdat.len())]);
    for sample in samples {
        let flags = if sample.random_access { RANDOM_ACCESS_FLAGS } else { DEPENDENT_FLAGS };
        words(&mut out, &[sample.duration, saturated(sample.data.len()), flags]);
        out.extend_from_slice(&sample.composition_offset.to_be_bytes());
    }
    out.extend_from_slice(&mdat);
    out
}

fn mdat_header(content_bytes: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(16);
    match u32::try_from(content_bytes.saturating_add(8)) {
        Ok(size) => {
            words(&mut header, &[size]);
            header.extend_from_slice(b"mdat");
        }
        Err(_) => {
            words(&mut header, &[1]); // a 64-bit size follows
            header.extend_from_slice(b"mdat");
            header.extend_from_slice(&content_bytes.saturating_add(16).to_be_bytes());
        }
    }
    header
}

fn box_header(out: &mut Vec<u8>, size: usize, kind: &[u8; 4]) {
    words(out, &[saturated(size)]);
    out.extend_from_slice(kind);
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn saturated(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn saturated_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

const _: () = assert!(MOOF_BYTES == 6 * HEADER_BYTES + 8 + 8 + 12 + 12);

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Decode, Header, Moof, TrunEntry};

    #[test]
    fn another_reader_finds_the_samples_where_the_head_says() {
        let samples = [
            Sample { data: b"first", duration: 3600, random_access: true, composition_offset: 0 },
            Sample { data: b"second", duration: 3601, random_access: false, composition_offset: -7 },
        ];
        let head = fragment_head(7, 1 << 40, &samples);
        let mut rest = head.as_slice();
        let moof = Moof::decode(&mut rest).unwrap();
        let offset = usize::try_from(moof.traf[0].trun[0].data_offset.unwrap()).unwrap();
        assert_eq!(Header::decode(&mut rest).unwrap().size, Some(11));
        assert_eq!(offset, head.len());
        assert_eq!(moof.mfhd.sequence_number, 7);
        assert!(moof.traf[0].tfhd.default_base_is_moof);
        assert_eq!(moof.traf[0].tfdt.as_ref().unwrap().base_media_decode_time, 1 << 40);
        let entry = |duration, size, flags, cts| TrunEntry {
            duration: Some(duration),
            size: Some(size),
            flags: Some(flags),
            cts: Some(cts),
        };
        let expected = [entry(3600, 5, RANDOM_ACCESS_FLAGS, 0), entry(3601, 6, DEPENDENT_FLAGS, -7)];
        assert!(moof.traf[0].trun[0].samples.iter().eq(expected));
    }

    #[test]
    fn more_than_4_gib_of_samples_get_a_64_bit_size() {
        let header = mdat_header(1 << 32);
        assert_eq!(Header::decode(&mut header.as_slice()).unwrap().size, Some(1 << 32));
    }
}
