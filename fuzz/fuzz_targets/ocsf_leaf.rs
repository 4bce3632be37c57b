//! Leaves of the audit log: whatever is read names its kind as the leaf does, and the rest is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The fuzzer has a hard time guessing the outer members: give them to it.
    let inside = String::from_utf8_lossy(bytes);
    let framed = format!(
        r#"{{"specversion":"1.0","type":"eu.obscura.access.v1","time":"2026-11-23T10:00:00Z",{inside}}}"#
    );
    for leaf in [bytes, framed.as_bytes()] {
        if let Ok(entry) = obscura_ocsf::read(leaf) {
            assert!(leaf.len() > entry.kind.len());
        }
    }
});
