//! Checkpoints: whatever can be read is written the same, and only its own log can have signed it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_tlog::{LogVerifier, SignedCheckpoint, WitnessVerifier};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(signed) = text.parse::<SignedCheckpoint>() {
        assert_eq!(signed.to_string(), text);
        let stranger = LogVerifier::new(&signed.checkpoint().origin, &[9; 32]);
        assert!(stranger.is_err() || stranger.is_ok_and(|log| log.check(&signed).is_err()));
    }
    // The fuzzer has a hard time guessing the hash of a root: give it one.
    let framed = format!("log\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n{text}");
    if let Ok(mut signed) = framed.parse::<SignedCheckpoint>() {
        assert_eq!(signed.to_string(), framed);
        assert_eq!(signed.add_cosignatures(text, &[]), 0);
    }
    if let Ok(log) = text.parse::<LogVerifier>() {
        assert_eq!(log.to_string(), text);
    }
    if let Ok(witness) = text.parse::<WitnessVerifier>() {
        assert_eq!(witness.to_string(), text);
    }
});
