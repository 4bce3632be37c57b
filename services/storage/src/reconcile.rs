//! Accounting for every segment of the index, every object of the bucket and every key of custody.
//!
//! The bucket and the index are walked side by side in the order of their keys; a listing gives sizes too, so
//! that only an object that seems to be missing or of another length is looked at. Custody is asked about
//! the keys that the packs name, and then about those that none names. Nothing is ever deleted here but
//! an object that has its tombstone already. Memory holds a page of each listing, the descriptions of the
//! keys of a page, a window of key ids and the findings that were not sent yet.

mod accounts;
mod key_window;
mod keys;
mod merge;
#[cfg(test)]
mod tests;

use obscura_blob::BlobKey;
use obscura_ids::LayerKeyId;
use obscura_proto::storage::v1::{FindingKind, ReconcileResponse};
use std::collections::BTreeSet;

use self::{
    key_window::{KeyWindow, WINDOW},
    merge::{Merge, Next, Step},
};
use crate::{
    Error,
    custody::Custody,
    finding::Finding,
    gap_journal::GapJournal,
    index::PackRow,
    orphan::{Fate, Orphans},
    report::{Findings, Reporter},
    state::Counts,
    store::{Fact, Walk, moment},
};

/// Keys of the bucket that are listed together.
const BUCKET_PAGE: usize = 1_000;
/// Packs that are accounted for together.
const INDEX_PAGE: u16 = 250;
/// Objects that the index does not know and that are looked at together, some time after they were seen: a
/// recorder may have committed them by then.
const CANDIDATES: usize = 1_000;

/// Reconciles index, bucket and custody.
#[derive(Clone, Debug)]
pub struct Reconciler {
    /// Index, bucket and what to do with objects that only the bucket knows.
    pub orphans: Orphans,
    /// The custody of the zone.
    pub custody: Custody,
}

/// A pack of the index and the bytes of its object, where the listing of the bucket says them.
#[derive(Debug)]
struct Listed {
    row: PackRow,
    size: Option<u64>,
}

/// One reconciliation under way.
struct Account<'a> {
    reconciler: &'a Reconciler,
    reporter: &'a Reporter<ReconcileResponse>,
    repair: bool,
    done: u64,
    total: u64,
    counts: Counts,
    findings: Findings,
    window: KeyWindow,
    /// Keys that were told to be missing.
    missing_keys: BTreeSet<LayerKeyId>,
    candidates: Vec<BlobKey>,
}

impl Reconciler {
    /// Accounts for everything and reports progress, findings and at last the counts. With `repair`
    /// objects that nobody knows are indexed or set aside, and gaps that only their journal knows are indexed.
    ///
    /// # Errors
    /// [`Error::CustodyAway`], [`Error::Blob`], [`Error::Store`], [`Error::GoneAway`]: the account is not
    /// finished then, and what was repaired stays.
    pub async fn run(&self, repair: bool, reporter: &Reporter<ReconcileResponse>) -> Result<Counts, Error> {
        self.run_within(repair, reporter, WINDOW).await
    }

    async fn run_within(
        &self,
        repair: bool,
        reporter: &Reporter<ReconcileResponse>,
        window: usize,
    ) -> Result<Counts, Error> {
        // Better to fail now than after an hour of work.
        self.custody.receipt_key().await?;
        let store = &self.orphans.store;
        let mut account = Account {
            reconciler: self,
            reporter,
            repair,
            done: 0,
            total: store.totals().await?.packs,
            counts: Counts::default(),
            findings: Findings::default(),
            window: KeyWindow::first(window),
            missing_keys: BTreeSet::new(),
            candidates: Vec::new(),
        };
        account.walk().await?;
        account.look_at_candidates().await?;
        account.look_at_keys().await?;
        account.counts.deleted = store.totals().await?.deleted_segments;
        store.set_number(Fact::ReconcileFindings, account.findings.total()).await?;
        store.set_number(Fact::Reconciled, moment(self.orphans.clock.wall())).await?;
        reporter.send(account.last_message()).await?;
        Ok(account.counts)
    }
}

impl Account<'_> {
    /// Walks over bucket and index side by side.
    async fn walk(&mut self) -> Result<(), Error> {
        let orphans = &self.reconciler.orphans;
        let mut merge = Merge::default();
        let mut page = Vec::new();
        loop {
            match merge.next() {
                Next::ReadBucket(after) => {
                    let found = orphans.blobs.walk("", after.as_ref(), BUCKET_PAGE).await?;
                    merge.feed_bucket(found, BUCKET_PAGE);
                }
                Next::ReadIndex(after) => {
                    let walk = Walk { after, limit: INDEX_PAGE, ..Walk::default() };
                    merge.feed_index(orphans.store.walk(&walk).await?, INDEX_PAGE.into());
                }
                Next::Step(Step::Bucket(key)) => self.candidate(key).await?,
                Next::Step(Step::Both(row, size)) => page.push(Listed { row: *row, size }),
                Next::Step(Step::Index(row)) => page.push(Listed { row: *row, size: None }),
                Next::End => return self.account_for_page(page).await,
            }
            if page.len() >= usize::from(INDEX_PAGE) {
                self.account_for_page(std::mem::take(&mut page)).await?;
            }
        }
    }

    async fn account_for_page(&mut self, page: Vec<Listed>) -> Result<(), Error> {
        self.account_for(&page).await?;
        self.done = self.done.saturating_add(page.len() as u64);
        self.send().await
    }

    async fn candidate(&mut self, key: BlobKey) -> Result<(), Error> {
        if let Some(name) = GapJournal::name_of(&key) {
            let found = self.reconciler.orphans.look_at_page(&key, name, self.repair).await?;
            found.into_iter().for_each(|finding| self.findings.add(finding));
        }
        if Orphans::is_own(&key) {
            return Ok(());
        }
        self.candidates.push(key);
        if self.candidates.len() < CANDIDATES {
            return Ok(());
        }
        self.look_at_candidates().await
    }

    async fn look_at_candidates(&mut self) -> Result<(), Error> {
        for key in std::mem::take(&mut self.candidates) {
            match self.reconciler.orphans.look(&key, self.repair).await? {
                Fate::Known => {}
                Fate::Found(finding) => self.findings.add(finding),
                Fate::Indexed(key) => {
                    let words = "the object was not in the index and is now";
                    let finding = Finding::of_object(FindingKind::ObjectOrphaned, &key, words);
                    self.findings.add(finding.repaired());
                    self.account_for_indexed(&key).await?;
                }
            }
        }
        self.send().await
    }

    /// A pack that came into the index behind the walk.
    async fn account_for_indexed(&mut self, key: &BlobKey) -> Result<(), Error> {
        let Ok(name) = obscura_pack::parse_object_key(key.as_str()) else { return Ok(()) };
        let row = self.reconciler.orphans.store.pack(name.pack).await?;
        let listed: Vec<Listed> = row.into_iter().map(|row| Listed { row, size: None }).collect();
        self.account_for(&listed).await
    }

    async fn send(&mut self) -> Result<(), Error> {
        self.total = self.total.max(self.done);
        let (done, total, findings) = (self.done, self.total, self.findings.take());
        self.reporter.send(ReconcileResponse { done, total, findings, counts: None }).await
    }

    fn last_message(&mut self) -> ReconcileResponse {
        ReconcileResponse {
            done: self.total,
            total: self.total,
            findings: self.findings.take_last(),
            counts: Some(self.counts.into()),
        }
    }
}
