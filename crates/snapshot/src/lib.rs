//! Signed, versioned configuration that consumers cache on disk, and signed placements.
//!
//! The registry's word must hold while the registry is away: it signs each snapshot and each
//! placement with the zone authority's Ed25519 key ([`Authority`]), consumers verify against its
//! public half ([`AuthorityKey`]), keep the newest good snapshot on disk ([`Cache`]) and follow
//! the registry for ever ([`follow`]).

mod authority;
mod backoff;
mod cache;
mod error;
mod file;
mod follow;
mod placement;

pub use authority::{Authority, AuthorityKey};
pub use cache::Cache;
pub use error::Error;
pub use follow::follow;
pub use placement::Placement;

/// Largest serialised snapshot, in bytes: some 20 000 cameras.
pub const MAX_SNAPSHOT_BYTES: usize = 32 * 1024 * 1024;
