//! `.tlog-proof` files: whatever can be read is written the same, and convinces nobody of a leaf
//! that the log has not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_tlog::{Hash, LogProof, verify_consistency, verify_inclusion};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for text in [text.to_owned(), format!("c2sp.org/tlog-proof@v1\n{text}")] {
        let Ok(proof) = text.parse::<LogProof>() else { continue };
        assert_eq!(proof.to_string(), text);
        let tree = proof.checkpoint.checkpoint();
        let leaf = Hash::from_bytes([7; 32]);
        // Nobody finds a preimage: the root would have to follow from the leaf.
        if tree.size > 1 {
            assert!(verify_inclusion(&leaf, proof.index, tree.size, &tree.root, &proof.hashes).is_err());
        }
        let _ = verify_consistency(proof.index, &leaf, tree.size, &tree.root, &proof.hashes);
    }
});
