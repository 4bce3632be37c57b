//! Released nodes of a key tree: whatever can be read has exactly one encoding, but for a bare root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_seal::{MAX_SET_NODES, NodeSet};

const ROOT_BYTES: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    let Ok(nodes) = NodeSet::decode(bytes) else { return };
    let encoded = nodes.encode().expect("what was read can be written");
    assert!(bytes.len() == ROOT_BYTES || encoded.as_slice() == bytes);
    assert!(encoded.len() <= 3 + MAX_SET_NODES * (3 + 32));
});
