//! One gap, in 59 bytes.

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, GapId, WriterEpoch};
use obscura_pack::Day;
use obscura_proto::footage::v1::GapReason;

/// Bytes of a record.
pub(crate) const BYTES: usize = 59;
/// Flag: the gap has ended.
const ENDED: u8 = 1;
/// Flag: the recorder is known.
const HAS_WRITER: u8 = 2;

/// A span without footage, as its recorder told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Id of the gap.
    pub gap: GapId,
    /// The camera.
    pub camera: CameraId,
    /// Its first moment.
    pub start: Timestamp,
    /// Its end, exclusive; `None` while it lasts.
    pub end: Option<Timestamp>,
    /// Why.
    pub reason: GapReason,
    /// The recorder that reported it; `None` where it is not known.
    pub writer: Option<WriterEpoch>,
}

impl Record {
    /// Of two reports of one gap the one that counts, whichever came first. A recorder tells a gap again when it
    /// ends, when it turns out to be longer, or when it learns a better reason than that the connection broke.
    #[must_use]
    pub fn settle(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Different for records that differ, so that the order of reports does not matter.
    fn rank(&self) -> impl Ord + use<> {
        let explains = self.reason != GapReason::ConnectionLost;
        (self.end, explains, self.reason as i32, self.start, self.writer.map(|writer| writer.0), self.camera)
    }

    /// The day whose page has it. What claims to be older than 1970 is with the first day.
    #[must_use]
    pub fn day(&self) -> Day {
        Day::of(self.start.max(Timestamp::from_unix_nanos(0)))
    }

    /// Where it stands in a page.
    pub(crate) fn place(&self) -> (Timestamp, GapId) {
        (self.start, self.gap)
    }

    pub(crate) fn encode(&self, page: &mut Vec<u8>) {
        let flags =
            if self.end.is_some() { ENDED } else { 0 } | if self.writer.is_some() { HAS_WRITER } else { 0 };
        let (end, writer) =
            (self.end.map_or(0, Timestamp::unix_nanos), self.writer.map_or(0, |writer| writer.0));
        // The build of the protos has 13 reasons; a number that no page can hold cannot come about.
        let reason = u16::try_from(self.reason as i32).unwrap_or(0);
        page.extend_from_slice(self.gap.as_bytes());
        page.extend_from_slice(self.camera.as_bytes());
        page.push(flags);
        page.extend_from_slice(&self.start.unix_nanos().to_be_bytes());
        page.extend_from_slice(&end.to_be_bytes());
        page.extend_from_slice(&reason.to_be_bytes());
        page.extend_from_slice(&writer.to_be_bytes());
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = &mut bytes;
        let (gap, camera) = (GapId::from_bytes(take(bytes)?), CameraId::from_bytes(take(bytes)?));
        let [flags] = take(bytes)?;
        let start = Timestamp::from_unix_nanos(i64::from_be_bytes(take(bytes)?));
        let end = i64::from_be_bytes(take(bytes)?);
        let reason = u16::from_be_bytes(take(bytes)?);
        let writer = u64::from_be_bytes(take(bytes)?);
        if flags & !(ENDED | HAS_WRITER) != 0 {
            return Err("it has flags that are unknown here");
        }
        let (has_ended, has_writer) = (flags & ENDED != 0, flags & HAS_WRITER != 0);
        if (!has_ended && end != 0) || (!has_writer && writer != 0) {
            return Err("what is absent in it is not zero");
        }
        if i64::try_from(writer).is_err() {
            return Err("no recorder has such a writer epoch");
        }
        let end = has_ended.then(|| Timestamp::from_unix_nanos(end));
        if end.is_some_and(|end| end < start) {
            return Err("it ends before it starts");
        }
        let reason = match GapReason::try_from(i32::from(reason)) {
            Err(_) | Ok(GapReason::Unspecified) => return Err("it has no reason that is known here"),
            Ok(reason) => reason,
        };
        Ok(Self { gap, camera, start, end, reason, writer: has_writer.then_some(WriterEpoch(writer)) })
    }
}

/// Takes the next bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, rest) = bytes.split_first_chunk().ok_or("it is cut")?;
    *bytes = rest;
    Ok(*taken)
}
