//! Columns of numbers: one byte-saving way to write many of them that differ little.
//!
//! ```text
//! column of zeros      nothing, and its bit in the mask is 0
//! any other            smallest number (zigzag, LEB128) | u8 width | each number above the smallest in `width` bits,
//!                      lowest bits first, the last byte filled up with zeros
//! ```

use crate::Error;

/// Most columns: bits of the mask.
const MASK_BYTES: usize = 2;

/// Writes a mask and the columns and bytes behind it.
#[derive(Debug, Default)]
pub struct Writer {
    columns: u32,
    mask: u16,
    body: Vec<u8>,
}

impl Writer {
    /// One column.
    pub fn numbers(&mut self, values: &[i64]) {
        let smallest = values.iter().min().copied().unwrap_or(0);
        let largest = values.iter().max().copied().unwrap_or(0);
        if smallest != 0 || largest != 0 {
            self.mask |= 1 << self.columns;
            let width = u64::BITS - above(largest, smallest).leading_zeros();
            self.varint(zigzag(smallest));
            self.body.push(u8::try_from(width).unwrap_or(u8::MAX)); // at most 64
            self.bits(values.iter().map(|value| above(*value, smallest)), width);
        }
        self.columns += 1;
    }

    /// A number that is no column.
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.body.push(low_byte(number) | 0x80);
            number >>= 7;
        }
        self.body.push(low_byte(number));
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    /// The mask and what is behind it.
    pub fn finish(self) -> Vec<u8> {
        [&self.mask.to_be_bytes()[..], &self.body].concat()
    }

    fn bits(&mut self, numbers: impl Iterator<Item = u64>, width: u32) {
        let (mut waiting, mut count) = (0_u128, 0);
        for number in numbers {
            waiting |= u128::from(number) << count;
            count += width;
            while count >= 8 {
                self.body.push(low_byte_of(waiting));
                waiting >>= 8;
                count -= 8;
            }
        }
        if count > 0 {
            self.body.push(low_byte_of(waiting));
        }
    }
}

/// Reads what a [`Writer`] wrote. That there is one way to write it is for the caller to check, by writing it again.
#[derive(Debug)]
pub struct Reader<'a> {
    mask: u16,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the mask.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let (mask, rest) = bytes.split_first_chunk::<MASK_BYTES>().ok_or(ENDS)?;
        Ok(Self { mask: u16::from_be_bytes(*mask), rest })
    }

    /// The next column, which has so many numbers.
    pub fn numbers(&mut self, count: usize) -> Result<Vec<i64>, Error> {
        let is_there = self.mask & 1 == 1;
        self.mask >>= 1;
        if !is_there {
            return Ok(vec![0; count]);
        }
        let smallest = unzigzag(self.varint()?);
        let [width] = self.array()?;
        let width = usize::from(width);
        if width > 64 {
            return Err(Error::Compact("a number of more than 64 bits"));
        }
        let packed = self.take((count * width).div_ceil(8))?;
        Ok(unpack(packed, width, count).map(|above| smallest.wrapping_add(above.cast_signed())).collect())
    }

    /// The next number that is no column.
    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Error::Compact("a number of more than 64 bits"))
    }

    /// The next bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(ENDS)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ENDS)?;
        self.rest = rest;
        Ok(bytes)
    }
}

const ENDS: Error = Error::Compact("it ends too early");

fn unpack(packed: &[u8], width: usize, count: usize) -> impl Iterator<Item = u64> {
    let (mut bytes, mut waiting, mut bits) = (packed.iter(), 0_u128, 0);
    (0..count).map(move |_| {
        while bits < width {
            waiting |= u128::from(bytes.next().copied().unwrap_or(0)) << bits;
            bits += 8;
        }
        let number = waiting & ((1 << width) - 1);
        waiting >>= width;
        bits -= width;
        u64::try_from(number).unwrap_or(u64::MAX) // of at most 64 bits
    })
}

/// How far a number lies above the smallest one, which may be more than an `i64` can say.
const fn above(number: i64, smallest: i64) -> u64 {
    number.wrapping_sub(smallest).cast_unsigned()
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

const fn low_byte(number: u64) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}

const fn low_byte_of(number: u128) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(columns: &[Vec<i64>]) -> Vec<u8> {
        let mut writer = Writer::default();
        columns.iter().for_each(|column| writer.numbers(column));
        writer.finish()
    }

    #[test]
    fn zeros_cost_nothing_and_equal_numbers_are_written_once() {
        assert_eq!(written(&[vec![0; 1_000]]), [0, 0]);
        assert_eq!(written(&[vec![0; 9], vec![-2; 1_000]]), [0, 2, 3, 0]);
        assert_eq!(written(&[vec![7, 8, 10]]), [0, 1, 14, 2, 0b11_01_00]);
    }

    #[test]
    fn what_ends_too_early_or_is_wider_than_a_number_is_refused() {
        let bytes = written(&[vec![i64::MIN, 0, i64::MAX]]);
        for length in 0..bytes.len() {
            let read = Reader::new(&bytes[..length]).and_then(|mut reader| reader.numbers(3));
            assert_eq!(read, Err(ENDS), "cut to {length}");
        }
        let refused = |bytes: &[u8]| Reader::new(bytes).unwrap().numbers(1).is_err();
        assert!(refused(&[0, 1, 0, 65, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(refused(&[0, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0]));
    }

    proptest! {
        #[test]
        fn columns_read_back(
            columns in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<i64>(), 0..20),
                    prop::collection::vec(-300_i64..300, 0..20),
                    prop::collection::vec(Just(0_i64), 0..20),
                ],
                0..16,
            ),
            number: u64,
        ) {
            let mut writer = Writer::default();
            columns.iter().for_each(|column| writer.numbers(column));
            writer.varint(number);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes).unwrap();
            for column in &columns {
                prop_assert_eq!(&reader.numbers(column.len()).unwrap(), column);
            }
            prop_assert_eq!(reader.varint(), Ok(number));
            prop_assert!(reader.array::<1>().is_err(), "nothing is left");
        }
    }
}
