//! Objects that the index does not know: indexed where their head proves what they are, set aside else.

use std::sync::Arc;

use obscura_blob::{BlobKey, BlobStore};
use obscura_clock::SharedClock;
use obscura_gap_journal::PageName;
use obscura_ids::ZoneId;
use obscura_pack::{ObjectName, parse_object_key};
use obscura_proto::storage::v1::FindingKind;

use crate::{
    Error,
    finding::Finding,
    gap_journal::GapJournal,
    index::PackRow,
    inspection::inspect,
    store::{Inserted, Store},
};

/// What became of an object that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The index has it, or it is gone: somebody was faster.
    Known,
    /// It is in the index now.
    Indexed(BlobKey),
    /// It stays outside.
    Found(Finding),
}

/// Looks at objects that the index does not know.
#[derive(Clone, Debug)]
pub struct Orphans {
    /// The index.
    pub store: Store,
    /// The objects.
    pub blobs: Arc<dyn BlobStore>,
    /// Zone whose footage may rest here.
    pub zone: ZoneId,
    /// What time it is.
    pub clock: SharedClock,
}

impl Orphans {
    /// Whether the key is that of an object which the service itself put there: by a self-test, or as a page of the
    /// journal of gaps.
    #[must_use]
    pub fn is_own(key: &BlobKey) -> bool {
        key.as_str().starts_with("self-test/") || GapJournal::name_of(key).is_some()
    }

    /// The journal of gaps in the same bucket.
    #[must_use]
    pub fn gap_journal(&self) -> GapJournal {
        GapJournal { store: self.store.clone(), blobs: Arc::clone(&self.blobs) }
    }

    /// What is wrong with a page of the journal; `None` where nothing is, or where it is gone. The gaps of a page
    /// that can be read are restored with `repair`.
    ///
    /// # Errors
    /// [`Error::Blob`], [`Error::Store`].
    pub async fn look_at_page(
        &self,
        key: &BlobKey,
        name: PageName,
        repair: bool,
    ) -> Result<Option<Finding>, Error> {
        let journal = self.gap_journal();
        let outcome = if repair {
            journal.restore(name).await?
        } else {
            journal.read(name).await?.map(|page| page.map(drop))
        };
        let Some(Err(why)) = outcome else { return Ok(None) };
        let words = format!(
            "{why}. What the index has of its gaps is written anew within hours; restore the object from a copy, or \
             remove it by hand"
        );
        Ok(Some(Finding::of_object(FindingKind::BytesChanged, key, words)))
    }

    /// Looks at one object, and with `repair` indexes it or sets it aside.
    ///
    /// # Errors
    /// [`Error::Blob`], [`Error::Store`]. What is wrong with the object is a finding.
    pub async fn look(&self, key: &BlobKey, repair: bool) -> Result<Fate, Error> {
        let Ok(name) = parse_object_key(key.as_str()) else {
            return self.set_aside(key, "its name is not that of a pack", repair).await;
        };
        if let Some(fate) = self.look_up(key, &name, repair).await? {
            return Ok(fate);
        }
        if name.zone != self.zone {
            let why = format!("it is of zone {}, and this bucket keeps zone {}", name.zone, self.zone);
            return self.set_aside(key, &why, repair).await;
        }
        match inspect(&*self.blobs, key, &name, None).await {
            Err(Error::NotUploaded(_)) => Ok(Fate::Known),
            Err(Error::Lying { why, .. }) => self.set_aside(key, &why, repair).await,
            Err(error) => Err(error),
            Ok(_) if !repair => Ok(Fate::Found(Finding::of_object(
                FindingKind::ObjectOrphaned,
                key,
                "the object is a good pack that the index does not know: `obscura storage reconcile --repair` \
                 indexes it (an upload under way looks like this for some seconds)",
            ))),
            Ok(inspected) => {
                let (row, runs) = PackRow::of(inspected.directory, key.clone(), inspected.size);
                let inserted = self.store.restore_pack(&row, &runs).await?;
                Ok(if inserted == Inserted::New { Fate::Indexed(key.clone()) } else { Fate::Known })
            }
        }
    }

    /// What the index says of the pack after whom the object is named.
    async fn look_up(&self, key: &BlobKey, name: &ObjectName, repair: bool) -> Result<Option<Fate>, Error> {
        if let Some(row) = self.store.pack(name.pack).await? {
            if row.key == *key {
                return Ok(Some(Fate::Known));
            }
            return Ok(Some(
                self.set_aside(key, "the index knows its pack under another key", repair).await?,
            ));
        }
        if self.store.tombstone(name.pack).await?.is_none() {
            return Ok(None);
        }
        let words = "the keys of the object are destroyed and it was deleted, yet it is there: a backup brought \
                     it back, or the object store only said that it was deleted";
        let finding = Finding::of_object(FindingKind::ObjectOrphaned, key, words);
        if !repair {
            return Ok(Some(Fate::Found(finding)));
        }
        self.blobs.delete(key).await?;
        Ok(Some(Fate::Found(finding.repaired())))
    }

    async fn set_aside(&self, key: &BlobKey, why: &str, repair: bool) -> Result<Fate, Error> {
        let is_aside = self.store.quarantined(key).await?.is_some();
        if repair && !is_aside {
            self.store.quarantine(key, why, self.clock.wall()).await?;
        }
        let words = format!("the object belongs to nothing: {why}. Look at it and remove it by hand");
        let finding = Finding::of_object(FindingKind::ObjectOrphaned, key, words);
        Ok(Fate::Found(if repair || is_aside { finding.repaired() } else { finding }))
    }
}
