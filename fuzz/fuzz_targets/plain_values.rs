//! Ids, digests, zones, layers, times and names of objects: whatever can be read comes back the same.
#![no_main]

use std::{fmt::Display, str::FromStr};

use libfuzzer_sys::fuzz_target;
use obscura_blob::BlobKey;
use obscura_clock::Timestamp;
use obscura_ids::{CameraId, Digest, GrantId, Layer, ZoneId};

fuzz_target!(|bytes: &[u8]| {
    let _ = Digest::try_from(bytes);
    let Ok(text) = str::from_utf8(bytes) else { return };
    comes_back::<CameraId>(text);
    comes_back::<GrantId>(text);
    comes_back::<Digest>(text);
    comes_back::<Layer>(text);
    comes_back::<ZoneId>(text);
    comes_back::<BlobKey>(text);
    // Times are shown to the millisecond, so only the shown text comes back.
    if let Ok(time) = text.parse::<Timestamp>() {
        let _ = time.to_string().parse::<Timestamp>();
    }
});

fn comes_back<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let again = value.to_string().parse::<T>().ok();
    assert!(again == Some(value), "{text}");
}
