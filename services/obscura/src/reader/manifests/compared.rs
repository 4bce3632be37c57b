//! The packs of one camera held against the manifests.

use std::collections::BTreeMap;

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Digest, PackId};

use super::{Destroyed, Listed, Manifests, YOUNG, formed_at};
use crate::reader::{Cause, Fault};

/// What came of comparing.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Packs whose heads are those that the log vouches for.
    pub same: u64,
    /// Packs that are gone together with their keys, by receipts of destruction.
    pub destroyed: u64,
    /// Packs that are too young to be in a manifest.
    pub not_yet: u64,
    /// Older packs that no manifest names.
    pub unlisted: u64,
    /// Packs whose manifest cannot be computed any more.
    pub unproved: u64,
    /// Packs that are not what the log says.
    pub faults: Vec<Fault>,
}

impl Compared {
    /// Compares the packs of one camera; `seen` has the hashes of the statements of heads that were fetched,
    /// `None` where one could not be or is none, which is a fault of its own already.
    pub fn new(
        manifests: &Manifests,
        camera: CameraId,
        span: Span,
        seen: &BTreeMap<PackId, Option<Digest>>,
        destroyed: &Destroyed,
        now: Timestamp,
    ) -> Self {
        let mut compared = Self::default();
        for (pack, leaf) in seen {
            match (manifests.packs.get(pack), leaf) {
                (Some(listed), Some(leaf)) if listed.leaf != *leaf => {
                    compared.faults.push(listed.fault(*pack, Cause::NotAsLogged { entry: listed.entry }));
                }
                (Some(_), Some(_)) => compared.same += 1,
                (Some(_), None) => {}
                (None, _) if manifests.unproved.contains(pack) => compared.unproved += 1,
                (None, _) if formed_at(*pack) + YOUNG > now => compared.not_yet += 1,
                (None, _) => compared.unlisted += 1,
            }
        }
        for (pack, listed) in missing(manifests, camera, span, seen) {
            if destroyed.covers(listed.camera, listed.layer, listed.span) {
                compared.destroyed += 1;
            } else {
                compared.faults.push(listed.fault(pack, Cause::Dropped { entry: listed.entry }));
            }
        }
        compared
    }
}

/// Packs of the camera that the log names and that were not seen. Of one that reaches beyond the span no
/// segment need be inside.
pub fn missing<'a>(
    manifests: &'a Manifests,
    camera: CameraId,
    span: Span,
    seen: &'a BTreeMap<PackId, Option<Digest>>,
) -> impl Iterator<Item = (PackId, &'a Listed)> {
    let of_camera = manifests.packs.iter().filter(move |(_, listed)| listed.camera == camera);
    let inside = of_camera
        .filter(move |(_, listed)| span.start() <= listed.span.start() && listed.span.end() <= span.end());
    inside.filter(|(pack, _)| !seen.contains_key(pack)).map(|(pack, listed)| (*pack, listed))
}

impl Listed {
    fn fault(&self, pack: PackId, cause: Cause) -> Fault {
        Fault { object_key: format!("of pack {pack}"), bytes: 0..0, time: Some(self.span.start()), cause }
    }
}
