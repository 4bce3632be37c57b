//! Printed shares as somebody typed them: what is read prints the same again, and no set of made-up shares
//! does more than fail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_shares::{Root, Share};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(share) = Share::parse(text) {
        let printed = share.to_text();
        let again = Share::parse(&printed).expect("what is printed can be read");
        assert_eq!(again.to_text(), printed);
    }
    let lines: Vec<&str> = text.lines().collect();
    if let Ok(shares) = Share::parse_all(&lines) {
        let _ = Root::restore(&shares);
    }
});
