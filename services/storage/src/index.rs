//! What the index knows of a pack: one row, with the directory of its object.

use obscura_blob::BlobKey;
use obscura_clock::Span;
use obscura_ids::{CameraId, Layer, PackId, ZoneId};
use obscura_pack::{Directory, Statement};

use crate::{
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
    /// What lies in it: the head of the object follows from it, byte for byte.
    pub directory: Directory,
}

impl PackRow {
    /// The row of a pack whose object, under its own key, was inspected, and the runs that its segments form.
    #[must_use]
    pub fn of(directory: Directory, key: BlobKey, bytes: u64) -> (Self, Vec<Run>) {
        let runs = runs_of(directory.entries.iter().map(|entry| (entry.span, entry.length)));
        let row = Self {
            pack: directory.pack_id,
            camera: directory.camera,
            layer: directory.layer,
            zone: directory.zone.clone(),
            key,
            span: directory.span(),
            segments: u32::try_from(directory.entries.len()).unwrap_or(u32::MAX),
            bytes,
            directory,
        };
        (row, runs)
    }

    /// The head of the object: magic, length, directory.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        self.directory.encode_head()
    }

    /// Bytes of the head.
    #[must_use]
    pub fn head_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.directory.body_length())
    }

    /// What the audit log vouches for.
    #[must_use]
    pub fn statement(&self) -> Statement {
        let Self { pack, camera, layer, span, .. } = *self;
        Statement { pack, camera, layer, span, head: sha256(&self.head()) }
    }
}
