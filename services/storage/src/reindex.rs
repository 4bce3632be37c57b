//! Rebuilding the index from the heads of the objects in the bucket.
//!
//! Walks the bucket in the order of its keys and indexes what is not indexed. Where it stands is kept, so
//! that it goes on there after a crash; doing it twice changes nothing. Runs do not depend on the order
//! in which packs come, so they are those of before; nor do gaps, which come back from the pages of their journal.
//! What cannot be rebuilt from a bucket are the tombstones of what was deleted. What was
//! shredded and not yet deleted is marked again when receipts are followed from the first one.

#[cfg(test)]
mod tests;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use obscura_blob::BlobKey;
use obscura_proto::storage::v1::ReindexResponse;

use crate::{
    Error,
    gap_journal::GapJournal,
    orphan::{Fate, Orphans},
    report::{Findings, Reporter},
};

/// Keys that are listed together, after which the place is kept.
const PAGE: usize = 500;
/// Heads that are read at the same time.
const PARALLEL: usize = 8;

/// How far it is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Objects looked at.
    pub objects: u64,
    /// Objects that were not in the index and are now.
    pub indexed: u64,
    /// What could not be indexed.
    pub findings: Findings,
}

/// Looks at the objects behind the place that is kept, and reports every page.
///
/// # Errors
/// [`Error::Blob`], [`Error::Store`], [`Error::GoneAway`]; it goes on from there the next time.
pub async fn reindex(orphans: &Orphans, reporter: &Reporter<ReindexResponse>) -> Result<Progress, Error> {
    let mut progress = Progress::default();
    let mut after = orphans.store.reindex_cursor().await?;
    loop {
        let page = orphans.blobs.list("", after.as_ref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        look_at(orphans, &page, &mut progress).await?;
        after = page.last().cloned().or(after);
        orphans.store.set_reindex_cursor(after.as_ref().filter(|_| !is_last)).await?;
        reporter.send(progress.message(is_last)).await?;
        if is_last {
            return Ok(progress);
        }
    }
}

impl Progress {
    fn message(&mut self, is_last: bool) -> ReindexResponse {
        ReindexResponse {
            objects: self.objects,
            indexed: self.indexed,
            findings: if is_last { self.findings.take_last() } else { self.findings.take() },
        }
    }
}

async fn look_at(orphans: &Orphans, page: &[BlobKey], progress: &mut Progress) -> Result<(), Error> {
    progress.objects = progress.objects.saturating_add(page.len() as u64);
    for key in page {
        if let Some(name) = GapJournal::name_of(key) {
            orphans
                .look_at_page(key, name, true)
                .await?
                .into_iter()
                .for_each(|found| progress.findings.add(found));
        }
    }
    let keys = page.iter().filter(|key| !Orphans::is_own(key));
    let looks: Vec<_> = keys.map(|key| orphans.look(key, true)).collect();
    let mut fates = stream::iter(looks).buffer_unordered(PARALLEL);
    while let Some(fate) = fates.try_next().await? {
        match fate {
            Fate::Known => {}
            Fate::Indexed(_) => progress.indexed = progress.indexed.saturating_add(1),
            Fate::Found(finding) => progress.findings.add(finding),
        }
    }
    Ok(())
}
