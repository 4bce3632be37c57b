//! Entry bundles, tiles, their paths and the state of a sequencer: each has exactly one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_tlog::{BundleId, RightEdge, TileId, decode_bundle, encode_bundle};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(leaves) = decode_bundle(bytes) {
        assert_eq!(encode_bundle(&leaves).as_deref(), Ok(bytes));
    }
    if let Ok(edge) = RightEdge::from_bytes(bytes) {
        assert_eq!(edge.to_bytes(), bytes);
        let _ = edge.root();
    }
    let Ok(path) = str::from_utf8(bytes) else { return };
    for path in [path.to_owned(), format!("tile/{path}"), format!("tile/entries/{path}")] {
        if let Ok(id) = path.parse::<TileId>() {
            assert_eq!(id.to_string(), path);
        }
        if let Ok(id) = path.parse::<BundleId>() {
            assert_eq!(id.to_string(), path);
        }
    }
});
