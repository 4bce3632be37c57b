//! The clear header of a sealed segment: whatever can be read has exactly one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_seal::SegmentHeader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(header.encode(), bytes);
        assert_eq!(header.encoded_length(), bytes.len());
    }
});
