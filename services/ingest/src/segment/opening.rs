//! Payloads of the records that start a segment and keep its tail.

use obscura_clock::Timestamp;
use obscura_proto::registry::v1::SignedPlacement;
use prost::Message as _;

use crate::spool::{Extent, Position};

/// Payload of an `Open` record: `u32` length of the placement, the serialised placement, `i64`
/// start in nanoseconds, and to the end the sealed prefix (header, salt, commitment).
#[derive(Debug, PartialEq)]
pub struct Opening {
    /// Where the footage may rest.
    pub placement: SignedPlacement,
    /// Wall time of the first frame.
    pub start: Timestamp,
    /// The first sealed bytes.
    pub prefix: Vec<u8>,
}

impl Opening {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let placement = self.placement.encode_to_vec();
        let length = u32::try_from(placement.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &placement, &self.start.unix_nanos().to_be_bytes(), &self.prefix].concat()
    }

    /// Reads a payload; `None` where it is not one.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (length, rest) = payload.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (placement, rest) = rest.split_at_checked(length)?;
        let (start, prefix) = rest.split_first_chunk::<8>()?;
        Some(Self {
            placement: SignedPlacement::decode(placement).ok()?,
            start: Timestamp::from_unix_nanos(i64::from_be_bytes(*start)),
            prefix: prefix.to_vec(),
        })
    }
}

/// Payload of a `Tail` record: what is needed to make a segment usable that a crash cut here.
/// `u32` full chunks, `i64` end in nanoseconds, `u64` media nanoseconds, `u32` frames, `u8` damaged,
/// and to the end the separately sealed tail.
#[derive(Debug, PartialEq, Eq)]
pub struct Tail {
    /// Full chunks before the tail.
    pub full_chunks: u32,
    /// Wall time at which the last frame ends.
    pub end: Timestamp,
    /// Duration in the camera's own time, nanoseconds.
    pub media_nanos: u64,
    /// Frames so far.
    pub frames: u32,
    /// Whether packets were lost so far.
    pub damaged: bool,
    /// The sealed tail.
    pub sealed: Vec<u8>,
}

/// Bytes of a [`Tail`] before the sealed ones.
const TAIL_FIELDS: usize = 4 + 8 + 8 + 4 + 1;

impl Tail {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [
            &self.full_chunks.to_be_bytes()[..],
            &self.end.unix_nanos().to_be_bytes(),
            &self.media_nanos.to_be_bytes(),
            &self.frames.to_be_bytes(),
            &[u8::from(self.damaged)],
            &self.sealed,
        ]
        .concat()
    }

    /// Reads a payload; `None` where it is not one.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (full_chunks, rest) = payload.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        let (media_nanos, rest) = rest.split_first_chunk()?;
        let (frames, rest) = rest.split_first_chunk()?;
        let (damaged, sealed) = rest.split_first()?;
        Some(Self {
            full_chunks: u32::from_be_bytes(*full_chunks),
            end: Timestamp::from_unix_nanos(i64::from_be_bytes(*end)),
            media_nanos: u64::from_be_bytes(*media_nanos),
            frames: u32::from_be_bytes(*frames),
            damaged: *damaged != 0,
            sealed: sealed.to_vec(),
        })
    }
}

/// The sealed bytes in the payload of a `Tail` record.
pub fn sealed_part(payload: Extent) -> Extent {
    let fields = u32::try_from(TAIL_FIELDS).unwrap_or(0);
    let start = Position(payload.start.0 + u64::from(fields));
    Extent { start, length: payload.length.saturating_sub(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn payloads_read_back(placement: Vec<u8>, start: i64, prefix: Vec<u8>, numbers: (u32, u64, u32), damaged: bool) {
            let placement = SignedPlacement { placement: placement.into(), signature: vec![1].into() };
            let start = Timestamp::from_unix_nanos(start);
            let opening = Opening { placement, start, prefix: prefix.clone() };
            prop_assert_eq!(Opening::decode(&opening.encode()), Some(opening));
            let (full_chunks, media_nanos, frames) = numbers;
            let tail = Tail { full_chunks, end: start, media_nanos, frames, damaged, sealed: prefix };
            prop_assert_eq!(tail.encode().len(), TAIL_FIELDS + tail.sealed.len());
            prop_assert_eq!(Tail::decode(&tail.encode()), Some(tail));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (Opening::decode(&bytes), Tail::decode(&bytes));
        }
    }
}
