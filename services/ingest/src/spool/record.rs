//! Records of the spool.
//!
//! A record is `u32` payload length, `u32` CRC-32C, `u8` kind, `u64` serial, payload; numbers are
//! big-endian and the CRC covers kind, serial and payload.

use super::Serial;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 17;
/// Longest payload. A fragment of half a second stays far below.
pub const MAX_PAYLOAD_BYTES: usize = 24 * 1024 * 1024;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A wrapped layer key: serialised `ImportLayerKeyRequest`.
    Key = 1,
    /// A segment starts: see [`crate::segment::Opening`].
    Open = 2,
    /// Sealed bytes of a segment.
    Data = 3,
    /// The separately sealed tail of a segment that is not complete: see [`crate::segment::Tail`].
    Tail = 4,
    /// A segment is complete: serialised `PackEntry`.
    Close = 5,
    /// A gap: serialised `Gap`.
    Gap = 6,
    /// The serials in the payload (`u64` each) are no longer needed.
    Done = 7,
    /// The recorder was alive: wall time in nanoseconds (`i64`).
    Alive = 8,
    /// A pack was formed: 16 bytes of its id, then the serials of its segments (`u64` each).
    Pack = 9,
    /// What the disk lost of the log was told: where it began and ended, as positions (`u64` each), in pairs.
    Lost = 10,
}

impl Kind {
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Key,
            2 => Self::Open,
            3 => Self::Data,
            4 => Self::Tail,
            5 => Self::Close,
            6 => Self::Gap,
            7 => Self::Done,
            8 => Self::Alive,
            9 => Self::Pack,
            10 => Self::Lost,
            _ => return None,
        })
    }
}

/// A record to append or as found.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it is about.
    pub kind: Kind,
    /// Whom it belongs to.
    pub serial: Serial,
    /// Its content.
    pub payload: &'a [u8],
}

/// What stands at some place in a log file.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole record, and the number of bytes it takes.
    Record(Record<'a>, usize),
    /// Nothing more.
    End,
    /// Not a whole, undamaged record.
    Bad,
}

impl Record<'_> {
    /// What stands before the payload.
    #[must_use]
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let checksum = checksum(self.kind as u8, self.serial, self.payload);
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&checksum.to_be_bytes());
        header[8] = self.kind as u8;
        header[9..].copy_from_slice(&self.serial.0.to_be_bytes());
        header
    }

    /// Appends the record to `out`.
    #[cfg(test)]
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header());
        out.extend_from_slice(self.payload);
    }

    /// Whether it ends or frees something.
    #[must_use]
    pub fn finishes(&self) -> bool {
        matches!(self.kind, Kind::Close | Kind::Gap | Kind::Done | Kind::Pack | Kind::Lost)
    }

    /// Whether it may be refused when the spool is full: footage may, what frees space may not.
    #[must_use]
    pub fn takes_space(&self) -> bool {
        matches!(self.kind, Kind::Open | Kind::Key)
    }
}

/// Reads the record at the start of `bytes`.
#[must_use]
pub fn read(bytes: &[u8]) -> Found<'_> {
    if bytes.is_empty() {
        return Found::End;
    }
    match parse(bytes) {
        Some((record, length)) => Found::Record(record, length),
        None => Found::Bad,
    }
}

/// No recorder comes to have a serial as large as this: a hundred a second for 89,000 years.
const SERIALS: u64 = 1 << 48;

/// Whether a record may start here, by its header alone: the checksum of everything that could be one would take
/// too long.
#[must_use]
pub fn may_start(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return false };
    let [a, b, c, d, _, _, _, _, code, serial @ ..] = header;
    let length = u64::from(u32::from_be_bytes([*a, *b, *c, *d]));
    Kind::from_code(*code).is_some()
        && u64::from_be_bytes(*serial) < SERIALS
        && length <= MAX_PAYLOAD_BYTES as u64
        && length <= (bytes.len() - HEADER_BYTES) as u64
}

fn parse(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (length, after) = header.split_first_chunk::<4>()?;
    let (crc, after) = after.split_first_chunk::<4>()?;
    let (code, serial) = after.split_first()?;
    let length =
        usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= MAX_PAYLOAD_BYTES)?;
    let serial = Serial(u64::from_be_bytes(serial.try_into().ok()?));
    let payload = rest.get(..length)?;
    let kind = Kind::from_code(*code)?;
    (checksum(*code, serial, payload) == u32::from_be_bytes(*crc))
        .then_some((Record { kind, serial, payload }, HEADER_BYTES + length))
}

fn checksum(code: u8, serial: Serial, payload: &[u8]) -> u32 {
    let mut head = [0; 9];
    head[0] = code;
    head[1..].copy_from_slice(&serial.0.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// Serials as the payload of a `Done` record.
#[must_use]
pub fn encode_serials(serials: &[Serial]) -> Vec<u8> {
    serials.iter().flat_map(|serial| serial.0.to_be_bytes()).collect()
}

/// Serials from the payload of a `Done` record; a remainder of less than eight bytes is ignored.
pub fn decode_serials(payload: &[u8]) -> impl Iterator<Item = Serial> + '_ {
    payload.as_chunks::<8>().0.iter().map(|bytes| Serial(u64::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back(serial: u64, payload: Vec<u8>, rest: Vec<u8>) {
            let mut bytes = Vec::new();
            Record { kind: Kind::Data, serial: Serial(serial), payload: &payload }.encode(&mut bytes);
            let whole = bytes.len();
            bytes.extend(rest);
            let Found::Record(record, length) = read(&bytes) else { panic!("not found") };
            prop_assert_eq!((record.serial, record.payload, length), (Serial(serial), &payload[..], whole));
        }

        #[test]
        fn a_cut_or_flipped_record_is_bad(payload: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = Vec::new();
            Record { kind: Kind::Tail, serial: Serial(7), payload: &payload }.encode(&mut bytes);
            let cut = at.index(bytes.len());
            if cut > 0 {
                prop_assert!(matches!(read(&bytes[..cut]), Found::Bad));
            }
            bytes[cut] ^= 1 << bit;
            prop_assert!(matches!(read(&bytes), Found::Bad));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn serials_read_back() {
        let serials = [Serial(1), Serial(u64::MAX)];
        assert!(decode_serials(&encode_serials(&serials)).eq(serials));
    }
}
