//! Spans without footage, with their reasons, as typed values.

use obscura_clock::{Span, Timestamp};
use obscura_gap_journal::Record;
use obscura_ids::{CameraId, GapId, WriterEpoch};
use obscura_proto::footage::v1::{Gap as Message, GapReason};

use crate::Error;

/// Gaps that one request may carry.
pub const MAX_GAPS: usize = 1_000;

/// A span without footage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Id: the same gap reported again replaces itself.
    pub id: GapId,
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

impl Gap {
    /// Of two reports of one gap the one that counts, whichever came first: the rule of the journal, so that an index
    /// that was rebuilt from it says the same.
    #[must_use]
    pub fn settle(self, other: Self) -> Self {
        Record::from(self).settle(other.into()).into()
    }

    /// Whether it has a moment in common with the span.
    #[must_use]
    pub fn overlaps(&self, span: Span) -> bool {
        self.start < span.end() && self.end.is_none_or(|end| span.start() < end)
    }
}

/// Reads the gaps of one request.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::Id`] for what makes no sense.
pub fn read(messages: Vec<Message>) -> Result<Vec<Gap>, Error> {
    if messages.len() > MAX_GAPS {
        return Err(Error::invalid("gaps", format!("at most {MAX_GAPS} at once, got {}", messages.len())));
    }
    messages.into_iter().map(Gap::try_from).collect()
}

impl TryFrom<Message> for Gap {
    type Error = Error;

    fn try_from(message: Message) -> Result<Self, Error> {
        let start = Timestamp::from_unix_nanos(message.start_unix_ns);
        let end = (message.end_unix_ns != 0).then(|| Timestamp::from_unix_nanos(message.end_unix_ns));
        if end.is_some_and(|end| end < start) {
            return Err(Error::invalid("gap", "it ends before it starts"));
        }
        let reason = match message.reason() {
            GapReason::Unspecified => {
                return Err(Error::invalid("gap", "it has no reason that is known here"));
            }
            reason => reason,
        };
        if i64::try_from(message.writer_epoch).is_err() {
            return Err(Error::invalid("gap", "no recorder has such a writer epoch"));
        }
        let writer = (message.writer_epoch != 0).then_some(WriterEpoch(message.writer_epoch));
        Ok(Self {
            id: message.gap_id.parse()?,
            camera: message.camera_id.parse()?,
            start,
            end,
            reason,
            writer,
        })
    }
}

impl From<Gap> for Message {
    fn from(gap: Gap) -> Self {
        Self {
            camera_id: gap.camera.to_string(),
            gap_id: gap.id.to_string(),
            start_unix_ns: gap.start.unix_nanos(),
            end_unix_ns: gap.end.map_or(0, Timestamp::unix_nanos),
            reason: gap.reason.into(),
            writer_epoch: gap.writer.map_or(0, |writer| writer.0),
        }
    }
}

impl From<Gap> for Record {
    fn from(gap: Gap) -> Self {
        let Gap { id, camera, start, end, reason, writer } = gap;
        Self { gap: id, camera, start, end, reason, writer }
    }
}

impl From<Record> for Gap {
    fn from(record: Record) -> Self {
        let Record { gap, camera, start, end, reason, writer } = record;
        Self { id: gap, camera, start, end, reason, writer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(start: i64, end: i64) -> Message {
        Message {
            camera_id: CameraId::from_bytes([1; 16]).to_string(),
            gap_id: GapId::from_bytes([2; 16]).to_string(),
            start_unix_ns: start,
            end_unix_ns: end,
            reason: GapReason::FrameTimeout.into(),
            writer_epoch: 7,
        }
    }

    fn span(start: i64, end: i64) -> Span {
        Span::try_new(Timestamp::from_unix_nanos(start), Timestamp::from_unix_nanos(end)).unwrap()
    }

    #[test]
    fn a_gap_reads_back_open_or_closed() {
        for message in [message(10, 20), message(10, 0), Message { writer_epoch: 0, ..message(10, 20) }] {
            assert_eq!(Message::from(Gap::try_from(message.clone()).unwrap()), message);
        }
    }

    #[test]
    fn a_gap_that_makes_no_sense_is_refused() {
        let wrong = [
            message(10, 9),
            Message { reason: 0, ..message(1, 2) },
            Message { reason: 99, ..message(1, 2) },
            Message { camera_id: "door".into(), ..message(1, 2) },
            Message { gap_id: String::new(), ..message(1, 2) },
            Message { writer_epoch: u64::MAX, ..message(1, 2) },
        ];
        for message in wrong {
            assert!(Gap::try_from(message.clone()).is_err(), "{message:?}");
        }
        assert!(read(vec![message(1, 2); MAX_GAPS + 1]).is_err());
    }

    #[test]
    fn an_open_gap_overlaps_everything_after_its_start() {
        let open = Gap::try_from(message(10, 0)).unwrap();
        assert!(
            open.overlaps(span(1_000, 2_000)) && open.overlaps(span(0, 11)) && !open.overlaps(span(0, 10))
        );
        let closed = Gap::try_from(message(10, 20)).unwrap();
        assert!(closed.overlaps(span(19, 30)) && !closed.overlaps(span(20, 30)));
    }
}
