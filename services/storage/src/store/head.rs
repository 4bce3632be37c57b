//! Heads of packs as the index keeps them: compressed, because each of the segments repeats most of what its
//! neighbours say. What is left is their hashes and times, a third of the bytes.
//!
//! ```text
//! 0x01, then one LZ4 block             head_length is the length of the head
//! "OBSPACK" ...                        as it is in the object: rows from before heads were compressed
//! ```
//!
//! The head that is read is the one that was written, bit for bit: its hash is in the audit log.

use bytes::Bytes;
use obscura_pack::MAX_DIRECTORY_BYTES;

use super::Error;

const LZ4: u8 = 1;
/// Longest head that is unpacked: a row that was changed must not fill the memory.
const MAX_BYTES: usize = MAX_DIRECTORY_BYTES + 64;

/// The head as it is written.
#[must_use]
pub fn stored(head: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::block::compress(head);
    [&[LZ4][..], &packed].concat()
}

/// The head as it was, which has `length` bytes.
pub(super) fn read(stored: &[u8], length: i64) -> Result<Bytes, Error> {
    let corrupt = Error::Corrupt("the head of a pack that cannot be unpacked");
    let Some((LZ4, packed)) = stored.split_first().map(|(first, rest)| (*first, rest)) else {
        return Ok(Bytes::copy_from_slice(stored));
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_BYTES).ok_or(corrupt.clone())?;
    let head = lz4_flex::block::decompress(packed, length).map_err(|_| corrupt.clone())?;
    if head.len() == length { Ok(head.into()) } else { Err(corrupt) }
}

#[cfg(test)]
mod tests {
    use obscura_ids::PackId;
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{pack, row};

    #[test]
    fn a_head_takes_a_part_of_its_bytes_and_comes_back_as_it_was() {
        let segments: Vec<_> = (0..15).map(|number| (number * 4_000, number * 4_000 + 4_000)).collect();
        let head = row(&pack(1, PackId::generate(), &segments)).0.head;
        let (packed, length) = (stored(&head), i64::try_from(head.len()).unwrap());
        assert!(packed.len() * 2 < head.len(), "{} of {}", packed.len(), head.len());
        assert_eq!(read(&packed, length).unwrap(), head);
        assert_eq!(read(&head, length).unwrap(), head, "a row from before");
        for wrong in [-1, 0, length - 1, length + 1, i64::MAX] {
            assert!(matches!(read(&packed, wrong), Err(Error::Corrupt(_))), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_head_survives_and_no_row_makes_reading_panic(
            head in prop::collection::vec(any::<u8>(), 0..300), length in 0..2_000_000_i64, junk: Vec<u8>,
        ) {
            let known = i64::try_from(head.len()).unwrap();
            prop_assert_eq!(&read(&stored(&head), known).unwrap()[..], &head[..]);
            let _ = read(&[&[LZ4][..], &junk].concat(), length);
        }
    }
}
