//! Deletions that storage told the audit log: each event names packs, with the root over what they were.
//!
//! Storage says itself that it deleted a pack, so this proves nothing alone: receipts of custody have to cover the
//! camera and span that the manifest has of it. It shows that the deletion is written down, and after the index
//! was lost it is what is left of a pack.

use std::collections::{BTreeMap, BTreeSet};

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, PackId};
use obscura_proto::storage::v1::PackDescription;
use obscura_tlog::LogVerifier;

use super::{
    APART, Manifests, YOUNG,
    listed::{Deleted, Kind, Known, Manifest, root},
};
use crate::{problem::Result, services::Services};

/// Packs that are told one by one.
const MAX_TOLD: usize = 100;

/// Packs that events of destruction name.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    named: BTreeSet<PackId>,
    troubles: Vec<String>,
}

impl Deletions {
    /// Reads the events that name packs which are gone; none where none is.
    pub async fn read(services: &Services, log: &LogVerifier, manifests: &Manifests) -> Result<Self> {
        let unknown = manifests.unknown.iter().map(|(pack, _)| *pack);
        let gone: BTreeSet<PackId> = manifests.deleted_packs.keys().copied().chain(unknown).collect();
        let mut deletions = Self::default();
        if gone.is_empty() {
            return Ok(deletions);
        }
        let matters = |event: Option<&Manifest>| {
            event.is_some_and(|event| event.packs.iter().any(|pack| gone.contains(pack)))
        };
        let since = manifests.span().start() - APART;
        for index in super::entries(services, Kind::Destruction, since, matters).await? {
            let event = super::proved(services, log, Kind::Destruction, index).await?;
            let told = match &event {
                Ok(event) => super::described(services, event).await?,
                Err(_) => Vec::new(),
            };
            deletions.add(event, &told);
        }
        Ok(deletions)
    }

    /// Takes an event, or why it does not count, and what storage says of its packs. Of packs that storage has
    /// forgotten the root cannot be computed; their names count.
    pub fn add(&mut self, event: std::result::Result<Manifest, String>, told: &[PackDescription]) {
        let event = match event {
            Ok(event) => event,
            Err(why) => return self.trouble(why),
        };
        let known: BTreeMap<PackId, Known> = told.iter().filter_map(Known::of).collect();
        if root(&event.packs, &known).is_some_and(|computed| computed != event.root) {
            return self.trouble(format!(
                "entry {} of the audit log says that {} packs were deleted which were others then: what storage says \
                 of them now does not lead to the root in the log",
                event.entry,
                event.packs.len()
            ));
        }
        self.named.extend(event.packs);
    }

    fn trouble(&mut self, words: String) {
        if self.troubles.len() < MAX_TOLD {
            self.troubles.push(words);
        }
    }

    #[cfg(test)]
    pub fn naming(pack: PackId) -> Self {
        Self { named: BTreeSet::from([pack]), troubles: Vec::new() }
    }

    /// Whether an event names the pack.
    pub fn names(&self, pack: PackId) -> bool {
        self.named.contains(&pack)
    }

    /// Packs of the camera whose deletion is in the log, and those of which it may not be there yet.
    pub fn count(&self, manifests: &Manifests, camera: CameraId, now: Timestamp) -> (u64, u64) {
        let of_camera = manifests.deleted_packs.iter().filter(|(_, deleted)| deleted.camera == camera);
        of_camera.fold((0, 0), |(named, not_yet), (pack, deleted)| match self.names(*pack) {
            true => (named + 1, not_yet),
            false => (named, not_yet + u64::from(deleted.is_young(now))),
        })
    }

    /// What is wrong with events, and packs that storage says it deleted without one, in words.
    pub fn troubles(&self, manifests: &Manifests, now: Timestamp) -> Vec<String> {
        let untold = |(pack, deleted): &(&PackId, &Deleted)| !self.names(**pack) && !deleted.is_young(now);
        let untold: Vec<_> = manifests.deleted_packs.iter().filter(untold).collect();
        let words = untold.iter().take(MAX_TOLD).map(|(pack, Deleted { camera, at })| {
            format!(
                "storage says that it deleted pack {pack} of camera {camera} at {at}, and no event of destruction in \
                 the audit log names it"
            )
        });
        let more = untold.len().saturating_sub(MAX_TOLD);
        let more =
            (more > 0).then(|| format!("and {more} more packs whose deletion is not in the audit log"));
        self.troubles.iter().cloned().chain(words).chain(more).collect()
    }
}

impl Deleted {
    /// Whether its event may still be on its way to the log.
    fn is_young(self, now: Timestamp) -> bool {
        now < self.at + YOUNG && self.at < now + YOUNG
    }
}
