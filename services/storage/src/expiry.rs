//! Following custody: what it destroyed is marked, and objects of which nothing is left are deleted.
//!
//! `keys` alone decides when footage dies. Storage believes only its signed receipts, in order and
//! without a gap, and does nothing while custody is away. The steps and what a crash between them leaves
//! are in `store/upkeep.rs`; a deletion that was cut short is done again in the next round, and one that
//! the object store only pretended to do is found by reconciliation.

pub mod receipt;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use obscura_blob::BlobStore;
use obscura_clock::{SharedClock, Timestamp};
use obscura_ids::{PackId, ZoneId};

use self::receipt::ReceiptTrust;
use crate::{Error, custody::Custody, metrics::Metrics, store::Store};

/// Pages of receipts in one round.
const PAGES: usize = 100;
/// Parts of layer keys that are marked in one round.
const PARTS: usize = 5_000;
/// Objects that are deleted before their rows go.
const BATCH: u64 = 256;
/// Batches in one round.
const BATCHES: usize = 16;
/// Objects that are deleted at the same time.
const PARALLEL: usize = 8;
/// How long it is remembered what was destroyed: longer than the audit log keeps its entries.
const KEPT: Duration = Duration::from_hours(24 * 400);

/// Follows the custody of a zone.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The index.
    pub store: Store,
    /// The objects.
    pub blobs: Arc<dyn BlobStore>,
    /// Whom it follows.
    pub custody: Custody,
    /// The zone.
    pub zone: ZoneId,
    /// What time it is.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
}

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Receipts that were new.
    pub receipts: u64,
    /// Segments that were marked.
    pub segments: u64,
    /// Objects that were deleted.
    pub objects: u64,
    /// Objects that could not be deleted; the next round tries again.
    pub failed: u64,
    /// Whether a bound cut the round short, so that the next should follow at once.
    pub is_cut: bool,
}

/// Before which moment everything is forgotten: [`KEPT`] before the newest receipt. That receipt is of custody, which
/// distrusts its clock; ours alone, a year ahead, would forget what a restored custody has to be told. `None` where
/// nothing was ever destroyed.
///
/// # Errors
/// [`Error::Store`].
pub async fn horizon(store: &Store, clock: &SharedClock) -> Result<Option<Timestamp>, Error> {
    let newest = store.newest_receipt().await?;
    Ok(newest.map(|newest| newest.min(clock.wall()) - KEPT))
}

impl Follower {
    /// Remembers new receipts, marks what they destroyed, deletes what is left of nothing.
    ///
    /// # Errors
    /// [`Error::CustodyAway`] and [`Error::Unbelievable`], and then nothing was deleted;
    /// [`Error::Store`].
    pub async fn round(&self) -> Result<Round, Error> {
        let mut round = Round::default();
        self.follow(&mut round).await?;
        self.mark(&mut round).await?;
        self.delete(&mut round).await?;
        self.prune().await?;
        Ok(round)
    }

    /// Forgets what is older than [`KEPT`].
    async fn prune(&self) -> Result<(), Error> {
        match horizon(&self.store, &self.clock).await? {
            Some(before) => Ok(self.store.prune(before).await?),
            None => Ok(()),
        }
    }

    /// As many rounds as it takes.
    ///
    /// # Errors
    /// As [`Follower::round`].
    pub async fn catch_up(&self) -> Result<(), Error> {
        while self.round().await?.is_cut {}
        Ok(())
    }

    /// Whether custody has no receipt that is not here. Asking tells custody how far receipts had come: one that was
    /// put back from a backup learns that it lacks some.
    ///
    /// # Errors
    /// [`Error::CustodyAway`], [`Error::Store`].
    pub async fn has_all(&self) -> Result<bool, Error> {
        Ok(self.custody.receipts(self.store.receipt_number().await?).await?.is_empty())
    }

    async fn follow(&self, round: &mut Round) -> Result<(), Error> {
        let key = self.store.pin_receipt_key(self.custody.receipt_key().await?).await?;
        let trust = ReceiptTrust { zone: self.zone.clone(), key };
        let mut number = self.store.receipt_number().await?;
        for _ in 0..PAGES {
            let page = self.custody.receipts(number).await?;
            if page.is_empty() {
                return Ok(());
            }
            for signed in &page {
                number = number.saturating_add(1);
                self.store.remember(&trust.read(signed, number)?).await?;
                round.receipts = round.receipts.saturating_add(1);
            }
        }
        round.is_cut = true;
        Ok(())
    }

    async fn mark(&self, round: &mut Round) -> Result<(), Error> {
        for _ in 0..PARTS {
            let Some(shredded) = self.store.next_unmarked().await? else { return Ok(()) };
            let segments = self.store.mark(&shredded).await?;
            self.metrics.shredded_segments.inc_by(segments);
            round.segments = round.segments.saturating_add(segments);
        }
        round.is_cut = true;
        Ok(())
    }

    async fn delete(&self, round: &mut Round) -> Result<(), Error> {
        for _ in 0..BATCHES {
            let packs = self.store.deletable(BATCH).await?;
            let deleted = self.delete_objects(&packs).await?;
            self.store.bury(&deleted, self.clock.wall()).await?;
            self.metrics.deleted_objects.inc_by(deleted.len() as u64);
            round.objects = round.objects.saturating_add(deleted.len() as u64);
            round.failed = (packs.len() as u64).saturating_sub(deleted.len() as u64);
            if round.failed > 0 || (packs.len() as u64) < BATCH {
                return Ok(());
            }
        }
        round.is_cut = true;
        Ok(())
    }

    /// Deletes the objects of these packs; returns those whose objects are gone.
    async fn delete_objects(&self, packs: &[(PackId, u64)]) -> Result<Vec<(PackId, u64)>, Error> {
        let deletions: Vec<_> = packs.iter().map(|pack| self.delete_object(*pack)).collect();
        let mut deletions = stream::iter(deletions).buffer_unordered(PARALLEL);
        let mut deleted = Vec::new();
        while let Some((pack, outcome)) = deletions.next().await {
            match outcome {
                Ok(()) => deleted.push(pack),
                Err(Error::Blob(error)) => {
                    self.metrics.failed_deletions.inc();
                    tracing::warn!(pack = %pack.0, %error, "an object whose keys are destroyed cannot be deleted yet");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    async fn delete_object(&self, pack: (PackId, u64)) -> ((PackId, u64), Result<(), Error>) {
        let delete = async {
            match self.store.pack(pack.0).await? {
                Some(row) => Ok(self.blobs.delete(&row.key).await?),
                None => Ok(()),
            }
        };
        (pack, delete.await)
    }
}
