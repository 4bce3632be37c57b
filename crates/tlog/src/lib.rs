//! The tamper-evident log as plain data: C2SP tlog-tiles, tlog-checkpoint, signed-note,
//! tlog-cosignature, tlog-proof and the core of tlog-witness.
//!
//! Nothing here fetches or stores, except [`DirectoryCopy`] and [`witness::FileStore`]: a
//! sequencer hands leaf hashes to a [`RightEdge`] and stores the tiles that come back; whoever
//! wants a proof asks it which tiles it needs, fetches them and has it made. What a stranger needs
//! to check a copy of a log is [`verify_copy`] and public keys.
//!
//! The recursion of proofs, the text of checkpoints and the syntax of notes are those of the crates
//! `tlog_tiles` and `signed_note` (ports of Go's own, which hash with RustCrypto). Leaves and tiles
//! are hashed with aws-lc-rs: it is the provider of everything else here, and these are the hashes
//! of which a log of a million entries needs two million. Signatures are aws-lc-rs's too.
//! Paths of tiles are parsed here, since `tlog_tiles` 0.2 panics on `tile/8/64/000` and on a
//! width of 0.

mod bundle;
mod checkpoint;
mod copy;
mod cosignature;
mod decimal;
mod edge;
mod hash;
mod key;
mod proof;
mod proof_file;
#[cfg(test)]
mod test_support;
mod tile;
#[cfg(test)]
mod vectors;
pub mod witness;

pub use bundle::{BundleError, BundleId, MAX_BUNDLE_BYTES, MAX_LEAF_BYTES, decode_bundle, encode_bundle};
pub use checkpoint::{CHECKPOINT_PATH, Checkpoint, CheckpointError, MAX_CHECKPOINT_BYTES, SignedCheckpoint};
pub use copy::{
    Copied, DirectoryCopy, Expectations, MAX_PROBLEMS, Problem, Progress, Pruned, Report, verify_copy,
};
pub use cosignature::{Cosigned, Policy, PolicyError, WitnessKey, WitnessVerifier};
pub use edge::{EdgeError, RightEdge};
pub use hash::{Hash, InvalidHash, leaf_hash, node_hash, tree_hash};
pub use key::{KeyError, LogKey, LogVerifier};
pub use proof::{Consistency, Inclusion, ProofError, Root, verify_consistency, verify_inclusion};
pub use proof_file::{AddCheckpoint, FileError, LogProof, MAX_PROOF_HASHES, VerifyError};
pub use tile::{InvalidPath, MAX_SIZE, TILE_WIDTH, Tile, TileError, TileId, Tiles};
