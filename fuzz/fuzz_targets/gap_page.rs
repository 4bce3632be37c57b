//! Pages of gaps: whatever can be read has exactly one encoding, and its gaps are told the same once more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_gap_journal::{Page, PageName, pages};

/// The fuzzer has a hard time guessing lengths: give it whole records.
const RECORD_BYTES: usize = 59;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let whole = bytes.len() / RECORD_BYTES * RECORD_BYTES;
    check(&[b"OBSGAPS\x01", &bytes[..whole]].concat());
    if let Ok(name) = str::from_utf8(bytes).map_or(Err(()), |text| text.parse::<PageName>().map_err(drop)) {
        assert_eq!(name.to_string().as_bytes(), bytes);
    }
});

fn check(bytes: &[u8]) {
    let Ok(page) = Page::decode(bytes) else { return };
    assert_eq!(page.encode(), bytes);
    assert_eq!(Page::open(page.name(bytes), bytes).as_ref(), Ok(&page));
    // One gap twice in a page has two places there, and only one when it is written again.
    let again = pages(page.records().to_vec());
    assert_eq!(again.len(), 1);
    assert!(again[0].records().len() <= page.records().len());
}
