//! The `Range` header, RFC 9110 section 14: one range of bytes, no more.

use std::ops::Range;

/// Why a `Range` header is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsatisfiable {
    /// Not of the form `bytes=first-last`, `bytes=first-` or `bytes=-length`.
    #[error("the Range header must be one range like bytes=0-99")]
    Malformed,
    /// More than one range.
    #[error("one range at a time: ask for the others separately")]
    Several,
    /// No byte of the object lies in it.
    #[error("the range lies behind the end of the object")]
    Outside,
}

/// The bytes that a `Range` header asks of an object of `size` bytes, end exclusive, never empty. A
/// range that ends behind the object ends with it (section 14.1.2).
///
/// # Errors
/// Where the header is not one satisfiable range of bytes.
pub fn parse(header: &str, size: u64) -> Result<Range<u64>, Unsatisfiable> {
    let range = header.strip_prefix("bytes=").ok_or(Unsatisfiable::Malformed)?;
    if range.contains(',') {
        return Err(Unsatisfiable::Several);
    }
    let (first, last) = range.trim().split_once('-').ok_or(Unsatisfiable::Malformed)?;
    let range = match (first, last) {
        ("", length) => size.saturating_sub(number(length)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => closed(number(first)?, number(last)?, size)?,
    };
    if range.is_empty() { Err(Unsatisfiable::Outside) } else { Ok(range) }
}

fn closed(first: u64, last: u64, size: u64) -> Result<Range<u64>, Unsatisfiable> {
    if last < first {
        return Err(Unsatisfiable::Malformed);
    }
    Ok(first..last.saturating_add(1).min(size))
}

/// Digits only: Rust would also read a sign.
fn number(text: &str) -> Result<u64, Unsatisfiable> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Unsatisfiable::Malformed);
    }
    text.parse().map_err(|_| Unsatisfiable::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9110_are_read_as_it_says() {
        assert_eq!(parse("bytes=0-499", 10_000), Ok(0..500));
        assert_eq!(parse("bytes=500-999", 10_000), Ok(500..1_000));
        assert_eq!(parse("bytes=-500", 10_000), Ok(9_500..10_000));
        assert_eq!(parse("bytes=9500-", 10_000), Ok(9_500..10_000));
        assert_eq!(parse("bytes=0-0,-1", 10_000), Err(Unsatisfiable::Several));
    }

    #[test]
    fn a_range_is_cut_at_the_end_of_the_object_and_refused_behind_it() {
        assert_eq!(parse("bytes=5-99", 10), Ok(5..10));
        assert_eq!(parse("bytes=-99", 10), Ok(0..10));
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(parse(header, 10), Err(Unsatisfiable::Outside), "{header}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=+1-2",
            "items=0-1",
            "bytes=a-b",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(parse(header, 10), Err(Unsatisfiable::Malformed), "{header}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_lies_within_the_object(header in "bytes=[0-9]{0,20}-[0-9]{0,20}|.{0,40}", size: u64) {
            if let Ok(range) = parse(&header, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn a_range_within_the_object_is_read_exactly(start in 0..1_000_u64, length in 1..1_000_u64, more in 0..1_000_u64) {
            let header = format!("bytes={start}-{}", start + length - 1);
            prop_assert_eq!(parse(&header, start + length + more), Ok(start..start + length));
        }
    }
}
