use bytes::Bytes;
use mp4_atom::{Avcc, FourCC};

use crate::{
    Error,
    boxes::{Found, box_at, children},
};

/// Bytes of a `VisualSampleEntry` before its boxes (ISO/IEC 14496-12 12.1.3.2), header included.
const VISUAL_SAMPLE_ENTRY_BYTES: usize = 86;
/// Where the width stands in it; the height follows.
const WIDTH_AT: usize = 32;
/// Boxes that may follow in an `avc1` sample entry. None of them has boxes of its own.
const AVC1_CHILDREN: [FourCC; 5] = [
    FourCC::new(b"avcC"),
    FourCC::new(b"btrt"),
    FourCC::new(b"colr"),
    FourCC::new(b"fiel"),
    FourCC::new(b"pasp"),
];

/// What a decoder must know before the first sample. Media time always runs at
/// [`TIMESCALE`](crate::TIMESCALE).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VideoParameters {
    /// The complete `avc1` box with the parameter sets, kept byte for byte.
    pub sample_entry: Bytes,
    /// Cropped width in pixels.
    pub width: u16,
    /// Cropped height in pixels.
    pub height: u16,
    /// The codec as RFC 6381 writes it, for example `avc1.4D001E`.
    pub codec: String,
}

impl VideoParameters {
    /// Reads width, height and codec from a complete `avc1` box.
    ///
    /// # Errors
    /// When the box is of another codec, is not complete, or holds no usable parameter sets.
    pub fn from_sample_entry(sample_entry: Bytes) -> Result<Self, Error> {
        let (width, height, codec) = describe(&sample_entry)?;
        Ok(Self { sample_entry, width, height, codec })
    }
}

fn describe(sample_entry: &[u8]) -> Result<(u16, u16, String), Error> {
    let malformed = |why| Error::Malformed { kind: FourCC::new(b"avc1"), why };
    let Found::Whole(entry) = box_at(sample_entry, 0)? else {
        return Err(malformed("it is not complete"));
    };
    if entry.kind != FourCC::new(b"avc1") {
        return Err(Error::UnsupportedCodec(entry.kind));
    }
    if entry.whole.len() != sample_entry.len() || entry.whole.len() != entry.body.len() + 8 {
        return Err(malformed("its size is not that of the sample entry"));
    }
    let Some((visual, rest)) = entry.whole.split_at_checked(VISUAL_SAMPLE_ENTRY_BYTES) else {
        return Err(malformed("it is too short for a video sample entry"));
    };
    let number = |at: usize| {
        let pair = visual.get(at..).and_then(<[u8]>::first_chunk).copied();
        u16::from_be_bytes(pair.unwrap_or_default())
    };
    Ok((number(WIDTH_AT), number(WIDTH_AT + 2), codec(rest)?))
}

/// Reads the `avcC` box among the children of the sample entry.
fn codec(body: &[u8]) -> Result<String, Error> {
    const AVCC: FourCC = FourCC::new(b"avcC");
    let mut configuration = None;
    for child in children(FourCC::new(b"avc1"), body) {
        let child = child?;
        if !AVC1_CHILDREN.contains(&child.kind) {
            return Err(Error::UnexpectedBox { found: child.kind, at: child.at, expected: "avcC or pasp" });
        }
        if child.kind == AVCC {
            configuration = Some(child.decode::<Avcc>()?);
        }
    }
    let avcc = configuration.ok_or(Error::MissingBox { missing: AVCC })?;
    if avcc.length_size != 4 {
        return Err(Error::Malformed { kind: AVCC, why: "the length before a NAL unit is not 4 bytes" });
    }
    if avcc.sequence_parameter_sets.is_empty() || avcc.picture_parameter_sets.is_empty() {
        return Err(Error::Malformed { kind: AVCC, why: "a parameter set is missing" });
    }
    Ok(format!(
        "avc1.{:02X}{:02X}{:02X}",
        avcc.avc_profile_indication, avcc.profile_compatibility, avcc.avc_level_indication
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A sample entry as `retina` builds it.
    pub(crate) fn sample_entry(width: u16, height: u16, sps: &[u8], pps: &[u8]) -> Bytes {
        let mut avcc = vec![1, sps[1], sps[2], sps[3], 0xff, 0xe1];
        for (count, set) in [(None, sps), (Some(1), pps)] {
            avcc.extend(count);
            avcc.extend(u16::try_from(set.len()).unwrap().to_be_bytes());
            avcc.extend(set);
        }
        let mut body = vec![0; 7];
        body.push(1);
        body.extend([0; 16]);
        body.extend(width.to_be_bytes());
        body.extend(height.to_be_bytes());
        body.extend([0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1]);
        body.extend([0; 32]);
        body.extend([0, 0x18, 0xff, 0xff]);
        body.extend(u32::try_from(avcc.len() + 8).unwrap().to_be_bytes());
        body.extend(b"avcC");
        body.extend(avcc);
        let mut whole = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        whole.extend(b"avc1");
        whole.extend(body);
        whole.into()
    }

    pub(crate) fn parameters() -> VideoParameters {
        let entry = sample_entry(640, 360, &[0x67, 0x4d, 0x00, 0x1e, 0x95], &[0x68, 0xee]);
        VideoParameters::from_sample_entry(entry).unwrap()
    }

    #[test]
    fn the_sample_entry_tells_size_and_codec() {
        let parameters = parameters();
        assert_eq!((parameters.width, parameters.height), (640, 360));
        assert_eq!(parameters.codec, "avc1.4D001E");
    }

    #[test]
    fn another_codec_is_refused_by_name() {
        let mut entry = parameters().sample_entry.to_vec();
        entry[4..8].copy_from_slice(b"hvc1");
        let error = VideoParameters::from_sample_entry(entry.into()).unwrap_err();
        assert!(matches!(error, Error::UnsupportedCodec(kind) if kind == FourCC::new(b"hvc1")));
    }

    #[test]
    fn a_sample_entry_without_parameter_sets_is_refused() {
        let entry = parameters().sample_entry;
        let mut short = entry[..VISUAL_SAMPLE_ENTRY_BYTES].to_vec();
        short[..4].copy_from_slice(&86_u32.to_be_bytes());
        assert!(matches!(VideoParameters::from_sample_entry(short.into()), Err(Error::MissingBox { .. })));
    }

    proptest! {
        #[test]
        fn a_damaged_sample_entry_never_panics(at in 0_usize..110, byte: u8, cut in 0_usize..130) {
            let mut entry = parameters().sample_entry.to_vec();
            if let Some(place) = entry.get_mut(at) {
                *place = byte;
            }
            entry.truncate(cut);
            let _ = VideoParameters::from_sample_entry(entry.into());
        }
    }
}
