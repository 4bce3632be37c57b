//! Requests to a witness: whatever can be read is written the same, and what the log did not sign
//! is never cosigned.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use obscura_clock::Timestamp;
use obscura_tlog::{
    AddCheckpoint, LogKey, SignedCheckpoint, WitnessKey,
    witness::{HeadStore, Witness},
};

struct Nothing;

impl HeadStore for Nothing {
    fn load(&mut self, _: &str) -> io::Result<Option<SignedCheckpoint>> {
        Ok(None)
    }

    fn save(&mut self, _: &SignedCheckpoint) -> io::Result<()> {
        panic!("a request that the log did not sign was believed");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (Ok(key), Ok(log)) = (WitnessKey::from_seed("witness", &[1; 32]), LogKey::from_seed("log", &[2; 32]))
    else {
        return;
    };
    let witness = Witness::new(key, vec![log.verifier()], Nothing);
    assert!(witness.add_checkpoint(bytes, Timestamp::from_unix_nanos(0)).is_err());
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(request) = text.parse::<AddCheckpoint>()
    {
        assert_eq!(request.to_string(), text);
    }
});
