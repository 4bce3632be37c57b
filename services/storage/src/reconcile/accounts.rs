//! Accounting for a page of packs: their objects, their keys, their segments.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use obscura_blob::Error as BlobError;
use obscura_ids::LayerKeyId;
use obscura_pack::Entry;
use obscura_proto::storage::v1::FindingKind;

use super::{Account, Listed};
use crate::{
    Error,
    custody::KEYS,
    finding::Finding,
    index::PackRow,
    marks::Marks,
    report::MAX_FINDINGS,
    state::{GRACE, KeyState, SegmentState, state_of},
};

/// Objects that are looked at at the same time.
const PARALLEL: usize = 16;

/// Whether the object of a pack is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    There(u64),
    Gone,
    /// It was deleted, and its row as well, since the page was read.
    Buried,
}

impl Account<'_> {
    /// Accounts for each segment of these packs.
    pub(super) async fn account_for(&mut self, page: &[Listed]) -> Result<(), Error> {
        let store = &self.reconciler.orphans.store;
        let objects = self.objects(page).await?;
        let marks = store.marks(&page.iter().map(|listed| listed.row.pack).collect::<Vec<_>>()).await?;
        let mut packs = Vec::with_capacity(page.len());
        for (Listed { row, .. }, object) in page.iter().zip(objects) {
            if object != Object::Buried {
                packs.push((row, object, &row.directory.entries));
            }
        }
        let keys = self.describe(packs.iter().flat_map(|(_, _, entries)| *entries)).await?;
        for (row, object, entries) in packs {
            self.account_for_pack(row, object, entries, marks.get(&row.pack), &keys);
        }
        Ok(())
    }

    async fn objects(&self, page: &[Listed]) -> Result<Vec<Object>, Error> {
        let looks: Vec<_> = page.iter().map(|listed| self.object(listed)).collect();
        stream::iter(looks).buffered(PARALLEL).try_collect().await
    }

    /// The object is asked itself only where the listing does not say what the index says.
    async fn object(&self, Listed { row, size }: &Listed) -> Result<Object, Error> {
        if *size == Some(row.bytes) {
            return Ok(Object::There(row.bytes));
        }
        let orphans = &self.reconciler.orphans;
        match orphans.blobs.size(&row.key).await {
            Ok(size) => Ok(Object::There(size)),
            Err(BlobError::NotFound(_)) if orphans.store.pack(row.pack).await?.is_some() => Ok(Object::Gone),
            Err(BlobError::NotFound(_)) => Ok(Object::Buried),
            Err(error) => Err(error.into()),
        }
    }

    /// What custody says of the keys of these segments.
    async fn describe(
        &mut self,
        entries: impl Iterator<Item = &Entry>,
    ) -> Result<BTreeMap<LayerKeyId, KeyState>, Error> {
        let keys: BTreeSet<LayerKeyId> = entries.map(|entry| entry.header.key_id).collect();
        let keys: Vec<LayerKeyId> = keys.into_iter().collect();
        let mut states = BTreeMap::new();
        for keys in keys.chunks(KEYS) {
            keys.iter().for_each(|key| self.window.note(*key));
            let described = self.reconciler.custody.describe(keys).await?;
            states.extend(described.into_iter().map(|state| (state.key, state)));
        }
        Ok(states)
    }

    fn account_for_pack(
        &mut self,
        row: &PackRow,
        object: Object,
        entries: &[Entry],
        marks: Option<&Marks>,
        keys: &BTreeMap<LayerKeyId, KeyState>,
    ) {
        let now = self.reconciler.orphans.clock.wall();
        let mut states = BTreeSet::new();
        for (segment, entry) in (0..).zip(entries) {
            let Some(key) = keys.get(&entry.header.key_id) else { continue };
            let marked = marks.is_some_and(|marks| marks.contains(segment));
            let state = match state_of(entry, marked, key, now) {
                SegmentState::Shredded => SegmentState::Shredded,
                _ if object == Object::Gone => SegmentState::Lost,
                // The key may come into custody after the pack came into the index.
                SegmentState::Keyless if now < row.span.end() + GRACE => SegmentState::Live,
                state => state,
            };
            self.counts.add(state);
            states.insert(state);
            if state == SegmentState::Keyless {
                self.missing_key(row, key.key);
            }
        }
        self.judge(row, object, &states);
    }

    fn judge(&mut self, row: &PackRow, object: Object, states: &BTreeSet<SegmentState>) {
        if states.contains(&SegmentState::Lost) {
            let words =
                "the object is gone though its keys are not destroyed: restore it from a copy of the bucket";
            self.findings.add(Finding::of_pack(FindingKind::ObjectMissing, row, words));
        }
        if states.contains(&SegmentState::Overdue) {
            let words = "the footage is beyond its retention, still opens and is not held: `obscura key status` says \
                         why destruction stands still";
            self.findings.add(Finding::of_pack(FindingKind::Overdue, row, words));
        }
        if let Object::There(size) = object
            && size != row.bytes
        {
            let words = format!(
                "the object has {size} bytes and the index says {}: `obscura storage scrub` names what is wrong",
                row.bytes
            );
            self.findings.add(Finding::of_pack(FindingKind::ObjectWrongSize, row, words));
        }
    }

    /// Tells each missing key once.
    fn missing_key(&mut self, row: &PackRow, key: LayerKeyId) {
        let is_new = (self.missing_keys.len() as u64) < MAX_FINDINGS && self.missing_keys.insert(key);
        if is_new {
            let words = "the layer key never came into custody, so its footage cannot be opened: see whether a \
                         recorder still has it in its spool (`obscura status`), else it is lost";
            let finding = Finding::of_key(FindingKind::KeyMissing, key, words);
            self.findings.add(Finding { camera: Some(row.camera), key: Some(row.key.clone()), ..finding });
        }
    }
}
