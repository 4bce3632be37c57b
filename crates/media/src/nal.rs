/// Splits a sample into its NAL units (ISO/IEC 14496-15 5.3.3: each with its length in 4 bytes,
/// big-endian, before it). Stops where a length runs past the end of the sample.
pub fn nal_units(sample: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = sample;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (nal_unit, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(nal_unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_past_the_end_stops_the_split() {
        let sample = b"\0\0\0\x02ab\0\0\0\x09c";
        assert_eq!(nal_units(sample).collect::<Vec<_>>(), [b"ab"]);
    }

    proptest! {
        #[test]
        fn what_was_joined_is_split_again(nal_units: Vec<Vec<u8>>) {
            let mut sample = Vec::new();
            for nal_unit in &nal_units {
                sample.extend_from_slice(&u32::try_from(nal_unit.len()).unwrap().to_be_bytes());
                sample.extend_from_slice(nal_unit);
            }
            prop_assert_eq!(super::nal_units(&sample).collect::<Vec<_>>(), nal_units);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(nal_units(&bytes).count() <= bytes.len());
        }
    }
}
