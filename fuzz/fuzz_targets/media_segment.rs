//! Clear segments from storage: every sample that is reported lies within the segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_media::{nal_units, read_segment};

fuzz_target!(|bytes: &[u8]| {
    let Ok(segment) = read_segment(bytes) else { return };
    for sample in &segment.samples {
        let data = bytes.get(sample.range.clone()).expect("a sample lies within the segment");
        let units: usize = nal_units(data).map(<[u8]>::len).sum();
        assert!(units <= data.len());
    }
});
