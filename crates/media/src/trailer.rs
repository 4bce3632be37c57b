use std::time::Duration;

use mp4_atom::FourCC;
use obscura_clock::{ClockQuality, Timestamp};

use crate::{
    Error,
    boxes::{Found, box_at},
};

/// Type of our `uuid` box. A four-character code of our own would break players (MSE in Chromium).
const EXTENDED_TYPE: [u8; 16] =
    [0x7c, 0x37, 0x79, 0xff, 0x09, 0xc3, 0x4f, 0xa8, 0xa2, 0xc7, 0xc2, 0xbc, 0x56, 0x93, 0x72, 0xd8];
const VERSION: u8 = 1;
const DEPENDENT: u8 = 1;
const SENDER_REPORT: u8 = 2;

/// What the recorder knew when a segment was complete; closes the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Wall time of the first frame, refined: the least delayed frame of the segment tells it.
    pub start: Timestamp,
    /// How long the segment lasted on the recorder's clock. Whole nanoseconds, at most 584 years.
    pub wall_duration: Duration,
    /// How long it lasts by the camera's own timestamps, in units of [`TIMESCALE`](crate::TIMESCALE).
    pub media_duration_90k: u64,
    /// Number of frames in it.
    pub frames: u32,
    /// RTP packets known to be lost in it.
    pub lost_packets: u32,
    /// Whether it cannot be decoded without the segment before it.
    pub dependent: bool,
    /// How well the recorder knew the wall time.
    pub clock_quality: ClockQuality,
    /// The newest RTCP sender report of the camera, where it sends them.
    pub rtcp_sender_report: Option<SenderReport>,
    /// How much faster the camera's clock runs than the recorder's, in parts per million.
    pub drift_ppm: i32,
}

/// The camera's own statement of the time (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The camera's wall time in NTP format: seconds since 1900 times 2^32.
    pub ntp: u64,
    /// The RTP timestamp of the same moment.
    pub rtp: u32,
    /// When the report arrived, on the recorder's clock.
    pub received: Timestamp,
}

impl Trailer {
    /// The trailer as a complete `uuid` box. All numbers are big-endian, in the order of
    /// [`Trailer::decode`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let content = self.content();
        let size = u32::try_from(content.len() + 24).unwrap_or(u32::MAX);
        [&size.to_be_bytes()[..], b"uuid", &EXTENDED_TYPE, &content].concat()
    }

    fn content(&self) -> Vec<u8> {
        let mut flags = 0;
        flags |= if self.dependent { DEPENDENT } else { 0 };
        flags |= if self.rtcp_sender_report.is_some() { SENDER_REPORT } else { 0 };
        let wall_duration = u64::try_from(self.wall_duration.as_nanos()).unwrap_or(u64::MAX);
        let mut out = vec![VERSION, flags, self.clock_quality.code()];
        out.extend_from_slice(&self.start.unix_nanos().to_be_bytes());
        out.extend_from_slice(&wall_duration.to_be_bytes());
        out.extend_from_slice(&self.media_duration_90k.to_be_bytes());
        out.extend_from_slice(&self.frames.to_be_bytes());
        out.extend_from_slice(&self.lost_packets.to_be_bytes());
        out.extend_from_slice(&self.drift_ppm.to_be_bytes());
        if let Some(report) = &self.rtcp_sender_report {
            out.extend_from_slice(&report.ntp.to_be_bytes());
            out.extend_from_slice(&report.rtp.to_be_bytes());
            out.extend_from_slice(&report.received.unix_nanos().to_be_bytes());
        }
        out
    }

    /// Reads a complete `uuid` box.
    ///
    /// # Errors
    /// When it is another box, a version that is not known, or longer or shorter than it must be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |why| Error::Malformed { kind: FourCC::new(b"uuid"), why };
        let Found::Whole(found) = box_at(bytes, 0)? else {
            return Err(malformed("the trailer is cut off"));
        };
        if found.kind != FourCC::new(b"uuid") {
            return Err(Error::UnexpectedBox { found: found.kind, at: 0, expected: "the trailer" });
        }
        if found.whole.len() != bytes.len() {
            return Err(malformed("something follows the trailer"));
        }
        let content =
            found.body.strip_prefix(&EXTENDED_TYPE).ok_or(malformed("it is not a trailer of a segment"))?;
        read_content(content).ok_or(malformed("the trailer has another version, length or code"))
    }
}

fn read_content(mut rest: &[u8]) -> Option<Trailer> {
    let rest = &mut rest;
    let [version, flags, quality] = take(rest)?;
    if version != VERSION || flags & !(DEPENDENT | SENDER_REPORT) != 0 {
        return None;
    }
    let trailer = Trailer {
        start: Timestamp::from_unix_nanos(i64::from_be_bytes(take(rest)?)),
        wall_duration: Duration::from_nanos(u64::from_be_bytes(take(rest)?)),
        media_duration_90k: u64::from_be_bytes(take(rest)?),
        frames: u32::from_be_bytes(take(rest)?),
        lost_packets: u32::from_be_bytes(take(rest)?),
        dependent: flags & DEPENDENT != 0,
        clock_quality: ClockQuality::from_code(quality)?,
        drift_ppm: i32::from_be_bytes(take(rest)?),
        rtcp_sender_report: if flags & SENDER_REPORT == 0 { None } else { Some(read_report(rest)?) },
    };
    rest.is_empty().then_some(trailer)
}

fn read_report(rest: &mut &[u8]) -> Option<SenderReport> {
    Some(SenderReport {
        ntp: u64::from_be_bytes(take(rest)?),
        rtp: u32::from_be_bytes(take(rest)?),
        received: Timestamp::from_unix_nanos(i64::from_be_bytes(take(rest)?)),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_report()(ntp: u64, rtp: u32, received: i64) -> SenderReport {
            SenderReport { ntp, rtp, received: Timestamp::from_unix_nanos(received) }
        }
    }

    prop_compose! {
        pub(crate) fn any_trailer()(
            start: i64,
            numbers: (u64, u64, u32, u32, i32),
            dependent: bool,
            quality in 1_u8..=3,
            report in proptest::option::of(any_report()),
        ) -> Trailer {
            Trailer {
                start: Timestamp::from_unix_nanos(start),
                wall_duration: Duration::from_nanos(numbers.0),
                media_duration_90k: numbers.1,
                frames: numbers.2,
                lost_packets: numbers.3,
                dependent,
                clock_quality: ClockQuality::from_code(quality).unwrap(),
                rtcp_sender_report: report,
                drift_ppm: numbers.4,
            }
        }
    }

    proptest! {
        #[test]
        fn a_trailer_reads_back(trailer in any_trailer()) {
            prop_assert_eq!(Trailer::decode(&trailer.encode()).unwrap(), trailer);
        }

        #[test]
        fn a_trailer_that_is_cut_or_lengthened_is_refused(trailer in any_trailer(), cut in 0_usize..60) {
            let whole = trailer.encode();
            prop_assert!(Trailer::decode(&whole[..cut.min(whole.len() - 1)]).is_err());
            prop_assert!(Trailer::decode(&[&whole[..], &[0]].concat()).is_err());
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(content in proptest::collection::vec(any::<u8>(), 0..70)) {
            let size = u32::try_from(content.len() + 24).unwrap();
            let bytes = [&size.to_be_bytes()[..], b"uuid", &EXTENDED_TYPE, &content].concat();
            if let Ok(trailer) = Trailer::decode(&bytes) {
                prop_assert_eq!(trailer.encode(), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Trailer::decode(&bytes);
        }
    }

    #[test]
    fn the_layout_stays_as_it_is() {
        let trailer = Trailer {
            start: Timestamp::from_unix_nanos(1),
            wall_duration: Duration::from_nanos(2),
            media_duration_90k: 3,
            frames: 4,
            lost_packets: 5,
            dependent: true,
            clock_quality: ClockQuality::FreeRunning,
            rtcp_sender_report: Some(SenderReport {
                ntp: 7,
                rtp: 8,
                received: Timestamp::from_unix_nanos(9),
            }),
            drift_ppm: -6,
        };
        let expected = [
            &b"\0\0\0\x53uuid"[..],
            &EXTENDED_TYPE,
            &[1, 3, 2],
            &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3],
            &[0, 0, 0, 4, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xfa],
            &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9],
        ]
        .concat();
        assert_eq!(trailer.encode(), expected);
    }
}
