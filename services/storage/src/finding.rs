//! Something that is not as it should be, with the next step for a person.

use obscura_blob::BlobKey;
use obscura_ids::{CameraId, LayerKeyId};
use obscura_proto::storage::v1::{Finding as Message, FindingKind};

use crate::index::PackRow;

/// What was found about an object, a segment or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The object.
    pub key: Option<BlobKey>,
    /// The layer key.
    pub key_id: Option<LayerKeyId>,
    /// The camera.
    pub camera: Option<CameraId>,
    /// Position of the segment in the pack, from 0.
    pub segment: Option<u32>,
    /// First wrong chunk of the segment, from 0.
    pub chunk: Option<u64>,
    /// In words, with the next step.
    pub words: String,
    /// Whether it was repaired or set aside.
    pub repaired: bool,
}

impl Finding {
    fn new(kind: FindingKind, words: impl Into<String>) -> Self {
        Self {
            kind,
            key: None,
            key_id: None,
            camera: None,
            segment: None,
            chunk: None,
            words: words.into(),
            repaired: false,
        }
    }

    /// About an object that the index knows.
    pub fn of_pack(kind: FindingKind, pack: &PackRow, words: impl Into<String>) -> Self {
        Self { camera: Some(pack.camera), ..Self::of_object(kind, &pack.key, words) }
    }

    /// About an object that the index does not know.
    pub fn of_object(kind: FindingKind, key: &BlobKey, words: impl Into<String>) -> Self {
        Self { key: Some(key.clone()), ..Self::new(kind, words) }
    }

    /// About a layer key.
    pub fn of_key(kind: FindingKind, key: LayerKeyId, words: impl Into<String>) -> Self {
        Self { key_id: Some(key), ..Self::new(kind, words) }
    }

    /// The same, which was put right.
    #[must_use]
    pub fn repaired(self) -> Self {
        Self { repaired: true, ..self }
    }
}

impl From<Finding> for Message {
    fn from(finding: Finding) -> Self {
        Self {
            kind: finding.kind.into(),
            object_key: finding.key.map_or_else(String::new, |key| key.to_string()),
            key_id: finding.key_id.map_or_else(String::new, |id| id.to_string()),
            camera_id: finding.camera.map_or_else(String::new, |id| id.to_string()),
            segment: finding.segment,
            chunk: finding.chunk,
            words: finding.words,
            repaired: finding.repaired,
        }
    }
}
