//! H.264 in Annex B format, cut into RTP packets that wait for their numbers.

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Largest RTP payload, in bytes, such as fits an Ethernet frame.
const MAX_PAYLOAD_BYTES: usize = 1400;
/// Bytes of the interleaved header (RFC 2326 10.12) and the RTP header (RFC 3550 5.1).
const HEADER_BYTES: usize = 16;
/// The dynamic payload type in our SDP.
const PAYLOAD_TYPE: u8 = 96;
const FU_A: u8 = 28;
/// RTP clock of video, in Hz.
const CLOCK: u64 = 90_000;

/// A video, ready to be sent.
#[derive(Debug)]
pub struct Video {
    frames: Vec<Frame>,
    sps: Vec<u8>,
    pps: Vec<u8>,
    fps: u32,
}

/// All packets of an access unit, one behind the other.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    /// Where each packet begins.
    packets: Vec<usize>,
}

/// The numbers of one client's stream.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    pub ssrc: u32,
    /// Interleaved channel of the RTP packets.
    pub channel: u8,
    /// Of the next packet.
    pub sequence: u16,
    /// Of the first frame.
    pub first_timestamp: u32,
    /// Frames sent.
    pub frames: u64,
}

impl Video {
    /// Cuts a stream with at least one picture and its parameter sets into packets.
    pub fn parse(annex_b: &[u8], fps: u32) -> anyhow::Result<Self> {
        let nal_units = split(annex_b);
        let set = |kind| nal_units.iter().copied().find(|unit| kind_of(unit) == kind).map(<[u8]>::to_vec);
        let sps = set(7).context("has no sequence parameter set; is it H.264 in Annex B format?")?;
        let pps = set(8).context("has no picture parameter set")?;
        ensure!(sps.len() >= 4, "has a sequence parameter set that is too short");
        let frames: Vec<_> =
            access_units(&nal_units).iter().map(|access_unit| Frame::new(access_unit)).collect();
        ensure!(!frames.is_empty(), "has no picture");
        Ok(Self { frames, sps, pps, fps })
    }

    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    pub const fn fps(&self) -> u32 {
        self.fps
    }

    /// RTP timestamp of the next frame.
    pub fn timestamp(&self, numbers: &Numbers) -> u32 {
        let elapsed = numbers.frames.wrapping_mul(CLOCK) / u64::from(self.fps);
        // RTP timestamps wrap around.
        let elapsed = u32::try_from(elapsed & u64::from(u32::MAX)).unwrap_or_default();
        numbers.first_timestamp.wrapping_add(elapsed)
    }

    /// Puts the packets of a frame into `out`, with the client's numbers; the video begins again
    /// behind its last frame.
    pub fn write(&self, frame: usize, numbers: &mut Numbers, out: &mut Vec<u8>) {
        out.clear();
        let Some(frame) = self.frames.get(frame % self.frames.len().max(1)) else { return };
        out.extend_from_slice(&frame.bytes);
        let timestamp = self.timestamp(numbers).to_be_bytes();
        for packet in &frame.packets {
            let header = out.get_mut(*packet..).and_then(<[u8]>::first_chunk_mut::<HEADER_BYTES>);
            let Some([_, channel, _, _, _, _, fields @ ..]) = header else { continue };
            *channel = numbers.channel;
            let values = numbers.sequence.to_be_bytes().into_iter().chain(timestamp);
            for (field, value) in fields.iter_mut().zip(values.chain(numbers.ssrc.to_be_bytes())) {
                *field = value;
            }
            numbers.sequence = numbers.sequence.wrapping_add(1);
        }
        numbers.frames += 1;
    }

    /// The session description (RFC 8866, RFC 6184 8.2.1).
    pub fn sdp(&self) -> String {
        let profile = hex::encode(self.sps.get(1..4).unwrap_or_default());
        let (sps, pps) = (STANDARD.encode(&self.sps), STANDARD.encode(&self.pps));
        format!(
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
             m=video 0 RTP/AVP {PAYLOAD_TYPE}\r\na=rtpmap:{PAYLOAD_TYPE} H264/{CLOCK}\r\n\
             a=fmtp:{PAYLOAD_TYPE} packetization-mode=1;profile-level-id={profile};\
             sprop-parameter-sets={sps},{pps}\r\na=framerate:{}\r\na=control:trackID=0\r\n",
            self.fps
        )
    }
}

impl Frame {
    fn new(access_unit: &[&[u8]]) -> Self {
        let mut frame = Self::default();
        for nal_unit in access_unit {
            frame.push_nal_unit(nal_unit);
        }
        frame.mark_last();
        frame
    }

    /// A packet of its own, or fragments (RFC 6184 5.6 and 5.8).
    fn push_nal_unit(&mut self, nal_unit: &[u8]) {
        let Some((header, payload)) = nal_unit.split_first() else { return };
        if nal_unit.len() <= MAX_PAYLOAD_BYTES {
            return self.push(&[*header], payload);
        }
        let mut fragments = payload.chunks(MAX_PAYLOAD_BYTES - 2).peekable();
        let mut start = 0x80;
        while let Some(fragment) = fragments.next() {
            let end = if fragments.peek().is_none() { 0x40 } else { 0 };
            self.push(&[(header & 0xe0) | FU_A, start | end | (header & 0x1f)], fragment);
            start = 0;
        }
    }

    fn push(&mut self, payload_header: &[u8], payload: &[u8]) {
        let length = 12 + payload_header.len() + payload.len();
        let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        self.packets.push(self.bytes.len());
        self.bytes.extend_from_slice(&[b'$', 0, high, low, 0x80, PAYLOAD_TYPE]);
        self.bytes.extend_from_slice(&[0; 10]);
        self.bytes.extend_from_slice(payload_header);
        self.bytes.extend_from_slice(payload);
    }

    /// The marker bit ends the access unit.
    fn mark_last(&mut self) {
        if let Some(byte) = self.packets.last().and_then(|at| self.bytes.get_mut(at + 5)) {
            *byte |= 0x80;
        }
    }
}

fn kind_of(nal_unit: &[u8]) -> u8 {
    nal_unit.first().map_or(0, |header| header & 0x1f)
}

fn is_slice(nal_unit: &[u8]) -> bool {
    matches!(kind_of(nal_unit), 1 | 5)
}

/// The NAL units between start codes (ITU-T H.264 annex B).
fn split(annex_b: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    for (at, window) in annex_b.windows(3).enumerate() {
        if window == [0, 0, 1] {
            starts.push(at);
        }
    }
    let ends = starts.iter().copied().skip(1).chain([annex_b.len()]);
    let unit = |(start, end): (&usize, usize)| annex_b.get(start + 3..end).map(without_trailing_zeros);
    starts.iter().zip(ends).filter_map(unit).filter(|unit| !unit.is_empty()).collect()
}

fn without_trailing_zeros(bytes: &[u8]) -> &[u8] {
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.get(..length).unwrap_or_default()
}

/// Groups NAL units into access units (ITU-T H.264 7.4.1.2.3); delimiters are left out, and so is
/// what belongs to no picture.
fn access_units<'a>(nal_units: &[&'a [u8]]) -> Vec<Vec<&'a [u8]>> {
    let mut units: Vec<Vec<&[u8]>> = Vec::new();
    let mut current: Vec<&[u8]> = Vec::new();
    for &nal_unit in nal_units {
        let first_slice = is_slice(nal_unit) && nal_unit.get(1).is_some_and(|byte| byte & 0x80 != 0);
        let begins = first_slice || matches!(kind_of(nal_unit), 6..=9);
        if begins && current.iter().any(|unit| is_slice(unit)) {
            units.push(std::mem::take(&mut current));
        }
        if kind_of(nal_unit) != 9 {
            current.push(nal_unit);
        }
    }
    units.push(current);
    units.retain(|unit| unit.iter().any(|nal_unit| is_slice(nal_unit)));
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPS: &[u8] = &[0x67, 0x4d, 0x00, 0x1e, 0x95];
    const PPS: &[u8] = &[0x68, 0xee];

    fn annex_b(nal_units: &[&[u8]]) -> Vec<u8> {
        nal_units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    fn numbers() -> Numbers {
        Numbers { ssrc: 0x0102_0304, channel: 2, sequence: u16::MAX, first_timestamp: u32::MAX, frames: 0 }
    }

    #[test]
    fn a_large_picture_is_sent_in_fragments_that_add_up() {
        let slice = [&[0x65, 0x88][..], &[7; 3000]].concat();
        let video = Video::parse(&annex_b(&[SPS, PPS, &slice]), 25).unwrap();
        let (mut numbers, mut out) = (numbers(), Vec::new());
        video.write(0, &mut numbers, &mut out);

        let mut rest = out.as_slice();
        let mut joined = vec![0x65];
        let mut sequences = Vec::new();
        while let [b'$', 2, high, low, packet @ ..] = rest {
            let (packet, behind) = packet.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            rest = behind;
            sequences.push(u16::from_be_bytes([packet[2], packet[3]]));
            assert_eq!(packet[4..12], [0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
            assert_eq!(packet[1] & 0x80 != 0, rest.is_empty(), "the marker ends the picture");
            if packet[12] & 0x1f == FU_A {
                joined.extend(&packet[14..]);
            }
        }
        assert_eq!(joined, slice);
        assert_eq!(sequences, [u16::MAX, 0, 1, 2, 3]);
        assert_eq!(video.timestamp(&numbers), 3599, "timestamps wrap around");
    }

    #[test]
    fn slices_of_one_picture_stay_together_and_delimiters_are_left_out() {
        let (first, second): (&[u8], &[u8]) = (&[0x65, 0x88, 1], &[0x65, 0x10, 1]);
        let stream = annex_b(&[&[9, 0x10], SPS, PPS, first, second, &[9, 0x30], &[0x41, 0x9a, 1]]);
        let units = access_units(&split(&stream)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(units, [4, 1]);
    }

    #[test]
    fn a_file_that_is_no_video_is_refused_in_words() {
        let error = Video::parse(b"not a video", 25).unwrap_err();
        assert!(error.to_string().contains("Annex B"), "{error}");
        assert!(Video::parse(&annex_b(&[SPS, PPS]), 25).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Video::parse(&bytes, 25);
        }
    }
}
