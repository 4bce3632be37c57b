//! What the audit log vouches for of a pack.

use obscura_clock::Span;
use obscura_ids::{CameraId, Digest, Layer, PackId};

use crate::Directory;

/// A pack by everything that must not be claimed otherwise once its object is gone: whose it is, of when, and the
/// hash of its head. Manifests of new packs and events of destruction have Merkle roots over these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The pack.
    pub pack: PackId,
    /// Camera of its segments.
    pub camera: CameraId,
    /// Layer of its segments.
    pub layer: Layer,
    /// From the first frame to the end of the last one.
    pub span: Span,
    /// SHA-256 of its head.
    pub head: Digest,
}

impl Statement {
    /// That of a pack with this directory, whose head has this hash.
    #[must_use]
    pub fn of(directory: &Directory, head: Digest) -> Self {
        let Directory { pack_id, camera, layer, .. } = directory;
        Self { pack: *pack_id, camera: *camera, layer: *layer, span: directory.span(), head }
    }

    /// The 81 bytes whose SHA-256 is a leaf of a root: id of the pack, id of the camera, code of the layer, start
    /// and end in nanoseconds since the Unix epoch (signed, highest byte first), hash of the head.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            &self.pack.as_bytes()[..],
            self.camera.as_bytes(),
            &[self.layer.code()],
            &self.span.start().unix_nanos().to_be_bytes(),
            &self.span.end().unix_nanos().to_be_bytes(),
            self.head.as_bytes(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use obscura_clock::Timestamp;

    use super::*;

    #[test]
    fn another_pack_camera_layer_span_or_head_is_another_statement() {
        let at = Timestamp::from_unix_nanos;
        let span = |start, end| Span::try_new(at(start), at(end)).unwrap();
        let one = Statement {
            pack: PackId::from_bytes([1; 16]),
            camera: CameraId::from_bytes([2; 16]),
            layer: Layer::Original,
            span: span(3, 4),
            head: Digest::from_bytes([5; 32]),
        };
        let others = [
            Statement { pack: PackId::from_bytes([9; 16]), ..one },
            Statement { camera: CameraId::from_bytes([9; 16]), ..one },
            Statement { layer: Layer::Masked, ..one },
            Statement { span: span(2, 4), ..one },
            Statement { span: Span::try_new(at(3), at(4) + Duration::from_secs(1)).unwrap(), ..one },
            Statement { head: Digest::from_bytes([9; 32]), ..one },
        ];
        assert_eq!(one.to_bytes().len(), 81);
        for other in others {
            assert_eq!(other.to_bytes().len(), 81);
            assert_ne!(other.to_bytes(), one.to_bytes(), "{other:?}");
        }
    }
}
