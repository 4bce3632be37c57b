//! Sealing footage: layer keys, the clear header, chunked encryption, key wrapping.
//!
//! A recorder makes a random [`LayerKey`] for every camera, layer and hour. The key is the root of
//! a tree ([`LayerKey::leaf`], [`LayerKey::cover`]) whose leaves are the hour's two-second
//! [`Slot`]s, so that custody can release any span of an hour and nothing beside it. A segment is
//! sealed under the leaf of its slot:
//!
//! ```text
//! u16 BE length of the header | header | salt 24 | commitment 32 | chunks
//!                               `-----'  `---------------------------'
//!                               context   C2SP chunked encryption, "Cobblestone-256"
//! ```
//!
//! The header is readable by everybody and part of the key derivation: a segment that was moved
//! to another camera, zone, layer, slot or position fails at the commitment, before anything is
//! decrypted. Layer keys travel to custody under HPKE ([`wrap`](fn@wrap), [`LayerKeyContext`]).
//!
//! The fixed vectors in `tests/vectors/` are opened there by an implementation that is not ours.

mod chunked;
mod clear;
mod error;
mod header;
mod open;
mod segment;
mod slots;
mod time;
mod tree;
mod wrap;

pub use chunked::{CHUNK_BYTES, PREFIX_BYTES as COBBLESTONE_PREFIX_BYTES, TAG_BYTES};
pub use clear::Clear;
pub use error::Error;
pub use header::SegmentHeader;
pub use open::{ChunkReader, ClearSegment};
pub use segment::{Cobblestone256, SegmentCipher, SegmentSealer, is_possible_length, prefix_length};
pub use slots::SlotSet;
pub use time::{Hour, SLOT_DURATION, SLOTS_PER_HOUR, Slot, SlotRange};
pub use tree::{LayerKey, LeafKey, MAX_COVER_NODES, MAX_SET_NODES, Node, NodeSet, TREE_DEPTH};
pub use wrap::{
    LAYER_KEY_INFO, LayerKeyContext, RecipientKeyPair, RecipientPublicKey, SOURCE_INFO, Wrapped, unwrap, wrap,
};
