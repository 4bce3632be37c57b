//! Sample entries, trailers and NAL units: what cameras and sealed segments say about a picture.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_media::{Trailer, VideoParameters, nal_units};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(parameters) = VideoParameters::from_sample_entry(bytes.to_vec().into()) {
        assert!(parameters.width > 0 && parameters.height > 0 && parameters.codec.starts_with("avc1."));
    }
    if let Ok(trailer) = Trailer::decode(bytes) {
        assert_eq!(trailer.encode(), bytes);
    }
    let units: usize = nal_units(bytes).map(<[u8]>::len).sum();
    assert!(units <= bytes.len());
});
