//! The file of an outbox, as bytes.
//!
//! A head of 40 bytes: `OBSOUTBX` with version 1 behind it (`u32`), the id of the outbox (16
//! bytes), the counter up to which everything is done (`u64`), CRC-32C of all that (`u32`). Then
//! records: `OBR\x01`, length of the body (`u32`), its CRC-32C (`u32`), the body: a byte for the kind
//! and what belongs to it. Numbers are big-endian. Whatever is damaged is skipped up to the next
//! record whose checksum is right.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

const MAGIC: &[u8; 8] = b"OBSOUTBX";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 8 + 4 + 16 + 8 + 4;
const MARKER: &[u8; 4] = b"OBR\x01";
const FRAME_BYTES: usize = 4 + 4 + 4;
/// Bytes of a record beside the event in it.
pub const EVENT_OVERHEAD_BYTES: usize = FRAME_BYTES + 1 + 8;

/// What the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Id of the outbox.
    pub outbox: Uuid,
    /// Everything up to this counter is done.
    pub done: u64,
}

impl Head {
    /// The bytes of the head.
    pub fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(self.outbox.as_bytes());
        bytes.extend_from_slice(&self.done.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, checksum) = bytes.get(..HEAD_BYTES)?.split_last_chunk::<4>()?;
        if crc32c::crc32c(head) != u32::from_be_bytes(*checksum) {
            return None;
        }
        let rest = head.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_be_bytes())?;
        let (outbox, done) = rest.split_first_chunk::<16>()?;
        Some(Self { outbox: Uuid::from_bytes(*outbox), done: u64::from_be_bytes(done.try_into().ok()?) })
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An event waits.
    Event {
        /// Its counter.
        counter: u64,
        /// It, serialised.
        bytes: Bytes,
    },
    /// Everything up to this counter is done.
    Done(u64),
    /// Events could not be kept; more may follow.
    Dropped {
        /// Counter of the first.
        first: u64,
        /// Counter of the last so far.
        last: u64,
    },
    /// Stopped in good order: nothing was lost, if nothing follows.
    Stopped,
}

impl Record {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.extend_from_slice(MARKER);
        out.extend_from_slice(&[0; 8]);
        match self {
            Self::Event { counter, bytes } => {
                out.extend_from_slice(&[1]);
                out.extend_from_slice(&counter.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Done(through) => {
                out.extend_from_slice(&[2]);
                out.extend_from_slice(&through.to_be_bytes());
            }
            Self::Dropped { first, last } => {
                out.extend_from_slice(&[3]);
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(&last.to_be_bytes());
            }
            Self::Stopped => out.extend_from_slice(&[4]),
        }
        seal(out, start);
    }

    fn decode(body: &Bytes) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        match (kind, rest.split_first_chunk::<8>()) {
            (1, Some((counter, _))) => {
                Some(Self::Event { counter: u64::from_be_bytes(*counter), bytes: body.slice(9..) })
            }
            (2, Some((through, []))) => Some(Self::Done(u64::from_be_bytes(*through))),
            (3, Some((first, last))) => Some(Self::Dropped {
                first: u64::from_be_bytes(*first),
                last: u64::from_be_bytes(last.try_into().ok()?),
            }),
            (4, None) if rest.is_empty() => Some(Self::Stopped),
            _ => None,
        }
    }
}

/// Puts length and checksum into the frame that starts there.
fn seal(out: &mut BytesMut, start: usize) {
    let Some((frame, body)) =
        out.get_mut(start..).and_then(|record| record.split_at_mut_checked(FRAME_BYTES))
    else {
        return;
    };
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let checksum = crc32c::crc32c(body);
    let numbers = [MARKER.as_slice(), &length.to_be_bytes(), &checksum.to_be_bytes()].concat();
    frame.copy_from_slice(&numbers);
}

/// What is in a file.
#[derive(Debug, Default)]
pub struct Found {
    /// Its head, where that is whole.
    pub head: Option<Head>,
    /// Every whole record, in order.
    pub records: Vec<Record>,
    /// Places where something else than a whole record stood, a torn end not counted.
    pub damaged: u64,
}

/// Reads a file, however damaged.
pub fn read(file: &Bytes) -> Found {
    let mut found = Found { head: Head::decode(file), ..Found::default() };
    let mut at = if found.head.is_some() { HEAD_BYTES } else { 0 };
    while at < file.len() {
        if let Some((record, length)) = record_at(file, at) {
            found.records.push(record);
            at += length;
            continue;
        }
        let Some(next) = (at + 1..file.len()).find(|at| record_at(file, *at).is_some()) else { break };
        found.damaged += 1;
        at = next;
    }
    found
}

/// The whole record that starts there, and its length in bytes.
fn record_at(file: &Bytes, at: usize) -> Option<(Record, usize)> {
    let rest = file.get(at..)?.strip_prefix(MARKER)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if crc32c::crc32c(rest.get(..length)?) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let start = at + FRAME_BYTES;
    Some((Record::decode(&file.slice(start..start + length))?, FRAME_BYTES + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            (any::<u64>(), any::<Vec<u8>>())
                .prop_map(|(counter, bytes)| Record::Event { counter, bytes: bytes.into() }),
            any::<u64>().prop_map(Record::Done),
            any::<(u64, u64)>().prop_map(|(first, last)| Record::Dropped { first, last }),
            Just(Record::Stopped),
        ]
    }

    fn encode(head: &Head, records: &[Record]) -> BytesMut {
        let mut bytes = head.encode();
        records.iter().for_each(|record| record.encode(&mut bytes));
        bytes
    }

    fn head() -> Head {
        Head { outbox: Uuid::from_bytes([7; 16]), done: 3 }
    }

    #[test]
    fn an_empty_file_and_strange_ones_are_read_without_a_panic() {
        for bytes in [&b""[..], b"OBSOUTBX", &[0; 100], b"OBR\x01\xff\xff\xff\xff\0\0\0\0"] {
            let found = read(&Bytes::from_static(bytes));
            assert!(found.head.is_none() && found.records.is_empty());
        }
    }

    proptest! {
        #[test]
        fn records_read_back(records in prop::collection::vec(record(), 0..20)) {
            let found = read(&encode(&head(), &records).freeze());
            prop_assert_eq!((found.head, found.records, found.damaged), (Some(head()), records, 0));
        }

        #[test]
        fn a_torn_end_is_cut(records in prop::collection::vec(record(), 1..20), at: prop::sample::Index) {
            let whole = encode(&head(), &records).freeze();
            let cut = HEAD_BYTES + at.index(whole.len() - HEAD_BYTES);
            let found = read(&whole.slice(..cut));
            prop_assert_eq!(found.damaged, 0);
            prop_assert!(records.starts_with(&found.records) && found.records.len() < records.len());
        }

        #[test]
        fn a_damaged_record_costs_only_itself(
            records in prop::collection::vec(record(), 1..20), at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let mut bytes = encode(&head(), &records);
            let place = HEAD_BYTES + at.index(bytes.len() - HEAD_BYTES);
            bytes[place] ^= 1_u8 << bit;
            let found = read(&bytes.freeze());
            prop_assert_eq!(found.records.len(), records.len() - 1);
            prop_assert!(found.records.iter().all(|record| records.contains(record)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let found = read(&Bytes::from(bytes));
            prop_assert!(found.records.is_empty());
        }
    }
}
