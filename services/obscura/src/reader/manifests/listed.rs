//! Packs that manifests name, once what storage says of them leads to the roots.

use std::collections::{BTreeMap, BTreeSet};

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, PackId};
use obscura_pack::Statement;
use obscura_proto::storage::v1::PackDescription;
use obscura_tlog::{Hash, leaf_hash, tree_hash};
use serde_json::Value;

use super::{Destroyed, formed_at};
use crate::{
    problem::{Problem, Result},
    reader::sha256,
};

/// Packs that are kept in memory.
const MAX_PACKS: usize = 5_000_000;
/// Troubles that are told one by one.
const MAX_TROUBLES: usize = 100;

/// What an entry says of the packs that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// That they came.
    Manifest,
    /// That they were deleted.
    Destruction,
}

impl Kind {
    /// Name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Destruction => "destruction",
        }
    }
}

/// Packs with their root as they stand in the log: a manifest, or the deletion of packs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Index of the entry.
    pub entry: u64,
    /// RFC 6962 tree hash over the hashes of the packs' statements.
    pub root: Hash,
    /// The packs, in the order of the leaves.
    pub packs: Vec<PackId>,
}

/// A pack that the log vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its camera.
    pub camera: CameraId,
    /// Its layer.
    pub layer: Layer,
    /// From the first frame to the end of the last one, as storage says.
    pub span: Span,
    /// Hash of its statement, as the log says.
    pub leaf: Digest,
    /// Index of the entry that says so.
    pub entry: u64,
}

/// A pack that the log vouches for and whose object storage deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its camera.
    pub camera: CameraId,
    /// When, as storage says.
    pub at: Timestamp,
}

/// What the manifests say.
#[derive(Clone, Debug)]
pub struct Manifests {
    cameras: BTreeSet<CameraId>,
    span: Span,
    /// Manifests that were proved and whose root is that of the packs.
    pub proved: u64,
    /// Packs of the wanted cameras and span that are in the index.
    pub packs: BTreeMap<PackId, Listed>,
    /// What custody must have destroyed, because storage says that it deleted the objects.
    pub deleted: Destroyed,
    /// Packs that storage deleted, as far as they are of the wanted cameras and span.
    pub deleted_packs: BTreeMap<PackId, Deleted>,
    /// Packs that storage does not know, by the entry that names them.
    pub unknown: Vec<(PackId, u64)>,
    /// Packs whose manifest cannot be computed, because storage does not know its neighbours.
    pub unproved: BTreeSet<PackId>,
    /// What is wrong with manifests, in words.
    pub troubles: Vec<String>,
}

impl Manifest {
    /// The packs in a leaf of this kind; `None` where it holds none.
    pub fn parse(kind: Kind, entry: u64, leaf: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(leaf).ok()?;
        let root = hex::decode(event.pointer("/data/unmapped/root")?.as_str()?).ok()?;
        let packs = event.pointer("/data/unmapped/pack_ids")?.as_array()?;
        let packs = packs.iter().map(|id| id.as_str()?.parse().ok()).collect::<Option<_>>()?;
        let kinds = event.get("type")?.as_str()?.strip_prefix("eu.obscura.")?.split('.');
        let is_kind = kinds.into_iter().next() == Some(kind.name());
        is_kind.then_some(Self { entry, root: Hash::from_bytes(root.try_into().ok()?), packs })
    }
}

impl Manifests {
    /// Of no manifest yet.
    pub fn new(cameras: BTreeSet<CameraId>, span: Span) -> Self {
        Self {
            cameras,
            span,
            proved: 0,
            packs: BTreeMap::new(),
            deleted: Destroyed::default(),
            deleted_packs: BTreeMap::new(),
            unknown: Vec::new(),
            unproved: BTreeSet::new(),
            troubles: Vec::new(),
        }
    }

    /// The span that is verified.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// Takes a manifest, or why it does not count, and what storage says of its packs.
    pub fn add(&mut self, manifest: Result<Manifest, String>, told: &[PackDescription]) -> Result<()> {
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(why) => {
                self.trouble(why);
                return Ok(());
            }
        };
        let known: BTreeMap<PackId, Known> = told.iter().filter_map(Known::of).collect();
        let Some(computed) = root(&manifest.packs, &known) else {
            let unknown = manifest.packs.iter().filter(|pack| !known.contains_key(pack));
            self.unknown.extend(unknown.map(|pack| (*pack, manifest.entry)));
            self.unproved.extend(known.into_keys());
            return self.check_room();
        };
        if computed != manifest.root {
            self.trouble(format!(
                "entry {} of the audit log names {} packs that were others then: what storage says of them now \
                 (head, camera, span) does not lead to the root in the log, so at least one was changed or replaced",
                manifest.entry,
                manifest.packs.len()
            ));
            self.unproved.extend(known.into_keys());
            return self.check_room();
        }
        self.proved += 1;
        for (pack, known) in known {
            self.take(pack, &known, manifest.entry);
        }
        self.check_room()
    }

    fn take(&mut self, pack: PackId, known: &Known, entry: u64) {
        let Known { statement: Statement { camera, layer, span, .. }, leaf, deleted } = *known;
        if !self.cameras.contains(&camera) || !span.overlaps(self.span) {
            return;
        }
        if let Some(at) = deleted {
            self.deleted_packs.insert(pack, Deleted { camera, at });
            self.deleted.add_inside(camera, layer, span);
        } else {
            self.packs.insert(pack, Listed { camera, layer, span, leaf, entry });
        }
    }

    /// Packs that storage does not know and that were formed while the footage was recorded.
    pub fn unknown_within(&self) -> impl Iterator<Item = (PackId, u64, Timestamp)> {
        let formed = super::formed_within(self.span);
        let dated = self.unknown.iter().map(|(pack, entry)| (*pack, *entry, formed_at(*pack)));
        dated.filter(move |(_, _, at)| formed.contains(at))
    }

    fn trouble(&mut self, words: String) {
        if self.troubles.len() < MAX_TROUBLES {
            self.troubles.push(words);
        }
    }

    fn check_room(&self) -> Result<()> {
        if self.packs.len() + self.deleted_packs.len() + self.unknown.len() + self.unproved.len() > MAX_PACKS
        {
            return Err(Problem::new("cannot compare with the audit log: it names too many packs at once")
                .next("verify one camera at a time, or a shorter span with --from and --to"));
        }
        Ok(())
    }
}

/// What storage says of a pack, where it makes sense.
pub(super) struct Known {
    pub statement: Statement,
    /// Hash of the statement.
    pub leaf: Digest,
    /// When its object was deleted, where it was.
    pub deleted: Option<Timestamp>,
}

impl Known {
    pub(super) fn of(told: &PackDescription) -> Option<(PackId, Self)> {
        let span = told.span?;
        let at = Timestamp::from_unix_nanos;
        let pack = told.pack_id.parse().ok()?;
        let statement = Statement {
            pack,
            camera: told.camera_id.parse().ok()?,
            layer: u8::try_from(told.layer).ok().and_then(Layer::from_code)?,
            span: Span::try_new(at(span.start_unix_ns), at(span.end_unix_ns))?,
            head: Digest::try_from(&*told.head_sha256).ok()?,
        };
        let deleted = (told.deleted_by_receipt != 0).then(|| at(told.deleted_unix_ns));
        Some((pack, Self { statement, leaf: sha256(&statement.to_bytes()), deleted }))
    }
}

/// Root over these packs by what storage says of them; `None` where it does not know them all.
pub(super) fn root(packs: &[PackId], known: &BTreeMap<PackId, Known>) -> Option<Hash> {
    let leaf = |pack: &PackId| Some(leaf_hash(known.get(pack)?.leaf.as_bytes()));
    let leaves: Vec<Hash> = packs.iter().map(leaf).collect::<Option<_>>()?;
    Some(tree_hash(&leaves))
}
