//! What the index knows of a pack: one row, with the head of its object as it was uploaded.

use bytes::Bytes;
use obscura_blob::BlobKey;
use obscura_clock::Span;
use obscura_ids::{CameraId, Layer, PackId, ZoneId};
use obscura_pack::{Directory, Statement};

use crate::{
    Error,
    inspection::sha256,
    run::{Run, runs_of},
};

/// A pack in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub pack: PackId,
    /// Camera of its segments.
    pub camera: CameraId,
    /// Layer of its segments.
    pub layer: Layer,
    /// Zone in which it rests.
    pub zone: ZoneId,
    /// Its object.
    pub key: BlobKey,
    /// From the first frame to the end of the last one.
    pub span: Span,
    /// Number of segments.
    pub segments: u32,
    /// Bytes of the object, head included.
    pub bytes: u64,
    /// Head of the object: magic, length, directory.
    pub head: Bytes,
}

impl PackRow {
    /// The row of a pack whose object was inspected, and the runs that its segments form.
    #[must_use]
    pub fn of(directory: &Directory, key: BlobKey, head: Bytes, bytes: u64) -> (Self, Vec<Run>) {
        let row = Self {
            pack: directory.pack_id,
            camera: directory.camera,
            layer: directory.layer,
            zone: directory.zone.clone(),
            key,
            span: directory.span(),
            segments: u32::try_from(directory.entries.len()).unwrap_or(u32::MAX),
            bytes,
            head,
        };
        (row, runs_of(directory.entries.iter().map(|entry| (entry.span, entry.length))))
    }

    /// What the audit log vouches for.
    #[must_use]
    pub fn statement(&self) -> Statement {
        let Self { pack, camera, layer, span, .. } = *self;
        Statement { pack, camera, layer, span, head: sha256(&self.head) }
    }

    /// The directory in the head.
    ///
    /// # Errors
    /// [`Error::Lying`] where the index was damaged: it takes only heads that can be read.
    pub fn directory(&self) -> Result<Directory, Error> {
        let lying =
            |error: obscura_pack::Error| Error::Lying { key: self.key.clone(), why: error.to_string() };
        Directory::decode_head(&self.head).map_err(lying)
    }
}
