//! Heads of packs: whatever can be read has exactly one encoding, and its offsets are back to back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_pack::{Directory, parse_object_key};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(directory) = Directory::decode_head(bytes) {
        assert_eq!(directory.encode_head(), bytes);
        let mut end = 0;
        for entry in &directory.entries {
            assert_eq!(entry.offset, end);
            end += entry.length;
        }
        assert_eq!(directory.body_length(), end);
    }
    // The fuzzer has a hard time guessing lengths: give it the right one.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let _ = Directory::decode_head(&[b"OBSPACK\x01", &length[..], bytes].concat());
    if let Ok(name) = str::from_utf8(bytes).map_or(Err(()), |text| parse_object_key(text).map_err(drop)) {
        assert_eq!(name.to_string().as_bytes(), bytes);
    }
});
