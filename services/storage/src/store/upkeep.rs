//! Following custody: receipts are remembered, packs marked, runs shrunk, deleted packs buried.
//!
//! Each step is one transaction that moves the place from which the next goes on, so a crash between
//! two leaves what the next start takes up:
//!
//! 1. a receipt and the keys it destroyed, with its number;
//! 2. for each destroyed key the marks of its packs, and what is left of the runs;
//! 3. (the object is deleted in between, which is harmless to repeat);
//! 4. a tombstone in place of the row of the pack, and the notice for the audit log.

use std::{collections::BTreeMap, time::Duration};

use obscura_clock::{Span, Timestamp};
use obscura_database::create_table;
use obscura_ids::PackId;
use obscura_pack::Entry;
use obscura_proto::keys::v1::SignedShredReceipt;
use obscura_seal::SLOT_DURATION;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{
    Error, ReceiptRow, Shredded, Slice, Store, Tombstone, damage, fact, fact::Fact, mark, notice, pack,
    quarantine, receipt, run, tombstone,
};
use crate::{
    expiry::receipt::{Receipt, ShreddedKey},
    in_order::{InOrder, Passing},
    index::PackRow,
    marks::Marks,
    run::Run,
    shrinking::Shrinking,
};

/// Packs that are read together.
const PACKS: u16 = 64;
/// How far the refined time of a segment may lie from the slot under which it is sealed.
const MARGIN: Duration = Duration::from_secs(600);

/// A segment by its place.
type Place = (PackId, u32);

impl Store {
    /// Number of the last receipt that is remembered.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn receipt_number(&self) -> Result<u64, Error> {
        fact::number(self.database.readers(), Fact::ReceiptNumber).await
    }

    /// Public key of custody: the one that was met first, which is now `met` where there was none.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn pin_receipt_key(&self, met: [u8; 32]) -> Result<[u8; 32], Error> {
        if let Some(pinned) = self.receipt_key().await? {
            return Ok(pinned);
        }
        let write = self.database.write().await?;
        let before = fact::get(&*write, Fact::ReceiptKey).await?;
        if before.is_none() {
            fact::set(&*write, Fact::ReceiptKey, met.to_vec()).await?;
        }
        write.commit().await?;
        Ok(self.receipt_key().await?.unwrap_or(met))
    }

    /// Public key of custody, if it was met.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn receipt_key(&self) -> Result<Option<[u8; 32]>, Error> {
        let pinned = fact::get(self.database.readers(), Fact::ReceiptKey).await?;
        let key = |key: Vec<u8>| key.try_into().map_err(|_| Error::Corrupt("a public key that is none"));
        pinned.map(key).transpose()
    }

    /// Remembers the receipt behind the last one; any other changes nothing.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn remember(&self, receipt: &Receipt) -> Result<(), Error> {
        let write = self.database.write().await?;
        if fact::number(&*write, Fact::ReceiptNumber).await?.saturating_add(1) != receipt.number {
            return Ok(());
        }
        receipt::insert(&*write, receipt).await?;
        fact::set_number(&*write, Fact::ReceiptNumber, receipt.number).await?;
        Ok(write.commit().await?)
    }

    /// A receipt that is remembered.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn receipt(&self, number: u64) -> Result<Option<ReceiptRow>, Error> {
        receipt::find(self.database.readers(), number).await
    }

    /// Receipts with a greater number, in order: at most `limit`, and no more than fit `bytes` but for the
    /// first.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn receipts_after(
        &self,
        number: u64,
        limit: u64,
        bytes: u64,
    ) -> Result<Vec<SignedShredReceipt>, Error> {
        receipt::after(self.database.readers(), number, limit, bytes).await
    }

    /// The next part of a layer key whose packs are not marked yet.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn next_unmarked(&self) -> Result<Option<Shredded>, Error> {
        next_unmarked(self.database.readers()).await
    }

    /// Marks the segments of a destroyed part, shrinks the runs, and goes on behind it. Returns how many
    /// segments were marked; none where somebody else was faster.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`]; nothing is changed then.
    pub async fn mark(&self, shredded: &Shredded) -> Result<u64, Error> {
        let write = self.database.write().await?;
        if next_unmarked(&*write).await?.as_ref() != Some(shredded) {
            return Ok(0);
        }
        let lost = mark_packs(&*write, shredded).await?;
        shrink_runs(&*write, &shredded.key, &lost).await?;
        fact::set_number(&*write, Fact::MarkedReceipt, shredded.receipt).await?;
        fact::set_number(&*write, Fact::MarkedKeys, shredded.position.saturating_add(1)).await?;
        write.commit().await?;
        Ok(lost.len() as u64)
    }

    /// Which segments of these packs are shredded; packs of which none is are absent.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn marks(&self, packs: &[PackId]) -> Result<BTreeMap<PackId, Marks>, Error> {
        mark::of(self.database.readers(), packs).await
    }

    /// Packs of which nothing can be opened, each with the number of the last receipt about it. Their
    /// objects wait for deletion.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn deletable(&self, limit: u64) -> Result<Vec<(PackId, u64)>, Error> {
        mark::complete(self.database.readers(), limit).await
    }

    /// Puts tombstones in the place of packs whose objects are deleted.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`]; nothing is changed then.
    pub async fn bury(&self, packs: &[(PackId, u64)], now: Timestamp) -> Result<(), Error> {
        if packs.is_empty() {
            return Ok(());
        }
        let write = self.database.write().await?;
        for &(id, receipt) in packs {
            if let Some(row) = pack::by_id(&*write, id).await? {
                let stone = Tombstone::of(&row, receipt, now);
                tombstone::insert(&*write, &stone).await?;
                notice::add_deletion(&*write, &stone).await?;
                pack::remove(&*write, id).await?;
            }
            mark::remove(&*write, id).await?;
            damage::forget(&*write, id).await?;
        }
        Ok(write.commit().await?)
    }

    /// Since when the newest receipt is effective; `None` where nothing was ever destroyed.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn newest_receipt(&self) -> Result<Option<Timestamp>, Error> {
        receipt::newest(self.database.readers()).await
    }

    /// Forgets receipts that were effective before a moment, and the tombstones of what they destroyed.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn prune(&self, before: Timestamp) -> Result<(), Error> {
        let write = self.database.write().await?;
        let receipts = receipt::prune(&*write, before.unix_nanos()).await?;
        tombstone::prune(&*write, &receipts).await?;
        Ok(write.commit().await?)
    }
}

/// The tables of this page and of [`super::housekeeping`].
pub(super) fn tables(backend: DbBackend) -> Vec<Statement> {
    [
        create_table(backend, fact::Entity),
        create_table(backend, receipt::Entity),
        create_table(backend, receipt::shredded_key::Entity),
        create_table(backend, mark::Entity),
        create_table(backend, tombstone::Entity),
        create_table(backend, notice::Entity),
        create_table(backend, damage::Entity),
        create_table(backend, damage::chunk_sums::Entity),
        create_table(backend, quarantine::Entity),
    ]
    .concat()
}

async fn next_unmarked(database: &impl ConnectionTrait) -> Result<Option<Shredded>, Error> {
    let receipt = fact::number(database, Fact::MarkedReceipt).await?;
    let position = fact::number(database, Fact::MarkedKeys).await?;
    receipt::from_place(database, receipt, position).await
}

/// Marks what earlier receipts (`shredded`, those about its keys are among them) destroyed of a pack that comes
/// only now. Returns the marks, `None` where
/// nothing of it is destroyed.
pub(super) async fn mark_late(
    database: &impl ConnectionTrait,
    row: &PackRow,
    shredded: &[Shredded],
) -> Result<Option<Marks>, Error> {
    let entries = &row.directory.entries;
    let of_pack = |shredded: &&Shredded| entries.iter().any(|entry| entry.header.key_id == shredded.key.key);
    let shredded: Vec<&Shredded> = shredded.iter().filter(of_pack).collect();
    let mut marks = Marks::none(row.segments);
    for (segment, entry) in (0..).zip(entries) {
        if shredded.iter().any(|shredded| shredded.key.covers(entry)) {
            marks.insert(segment);
        }
    }
    let Some(last) = shredded.iter().map(|shredded| shredded.receipt).max() else { return Ok(None) };
    if marks.is_empty() {
        return Ok(None);
    }
    mark::put(database, row, &marks, last).await?;
    Ok(Some(marks))
}

/// Marks the segments under the destroyed part. Returns those that were not marked before.
async fn mark_packs(
    database: &impl ConnectionTrait,
    shredded: &Shredded,
) -> Result<BTreeMap<Place, Span>, Error> {
    let ShreddedKey { camera, layer, hour, slots, .. } = shredded.key;
    let from = hour.slot_start(slots.first()) - MARGIN;
    let to = hour.slot_start(slots.last()) + SLOT_DURATION + MARGIN;
    let mut slice = Slice { camera, layer, from, to, after: None, limit: PACKS };
    let mut lost = BTreeMap::new();
    loop {
        let rows = pack::slice(database, &slice).await?;
        let ids: Vec<PackId> = rows.iter().map(|row| row.pack).collect();
        let mut before = mark::of(database, &ids).await?;
        for row in &rows {
            let mut marks = before.remove(&row.pack).unwrap_or_else(|| Marks::none(row.segments));
            let new = newly_marked(row, &mut marks, &shredded.key);
            if !new.is_empty() {
                mark::put(database, row, &marks, shredded.receipt).await?;
                lost.extend(new);
            }
        }
        match slice.behind(&rows) {
            Some(next) => slice = next,
            None => return Ok(lost),
        }
    }
}

fn newly_marked(row: &PackRow, marks: &mut Marks, key: &ShreddedKey) -> Vec<(Place, Span)> {
    let covered = (0..).zip(&row.directory.entries).filter(|(_, entry)| key.covers(entry));
    let new = covered.filter(|(segment, _)| marks.insert(*segment));
    new.map(|(segment, entry)| ((row.pack, segment), entry.span)).collect()
}

/// Takes lost segments out of the runs of their camera and layer.
async fn shrink_runs(
    database: &impl ConnectionTrait,
    key: &ShreddedKey,
    lost: &BTreeMap<Place, Span>,
) -> Result<(), Error> {
    let start = lost.values().map(|span| span.start()).min();
    let end = lost.values().map(|span| span.end()).max();
    let Some(hull) = start.zip(end).and_then(|(start, end)| Span::try_new(start, end)) else { return Ok(()) };
    for run in run::touching(database, key.camera, key.layer, hull).await? {
        let within = lost.values().filter(|span| run.holds(**span));
        if let Some(last) = within.map(|span| span.end()).max() {
            let left = shrink(database, key, run, last, lost).await?;
            run::replace(database, key.camera, key.layer, &run, &left).await?;
        }
    }
    Ok(())
}

async fn shrink(
    database: &impl ConnectionTrait,
    key: &ShreddedKey,
    run: Run,
    last_loss: Timestamp,
    lost: &BTreeMap<Place, Span>,
) -> Result<Vec<Run>, Error> {
    let mut shrinking = Shrinking::new(run, last_loss);
    let mut order = InOrder::default();
    let to = run.span.end() + Duration::from_nanos(1);
    let (camera, layer) = (key.camera, key.layer);
    let mut slice = Slice { camera, layer, from: run.span.start(), to, after: None, limit: PACKS };
    loop {
        let rows = pack::slice(database, &slice).await?;
        let marks = mark::of(database, &rows.iter().map(|row| row.pack).collect::<Vec<_>>()).await?;
        for row in &rows {
            if walk(&mut shrinking, &mut order, Some(row.span.start())) {
                return Ok(shrinking.finish());
            }
            of_run(row, marks.get(&row.pack), &run, lost).into_iter().for_each(|segment| order.push(segment));
        }
        let Some(next) = slice.behind(&rows) else {
            walk(&mut shrinking, &mut order, None);
            return Ok(shrinking.finish());
        };
        slice = next;
    }
}

/// The segments of a pack that made up the run until now.
fn of_run(row: &PackRow, marks: Option<&Marks>, run: &Run, lost: &BTreeMap<Place, Span>) -> Vec<Passing> {
    let passing = |(segment, entry): (u32, &Entry)| {
        let is_lost = lost.contains_key(&(row.pack, segment));
        let was_lost = !is_lost && marks.is_some_and(|marks| marks.contains(segment));
        let passing = Passing { span: entry.span, bytes: entry.length, is_lost };
        (!was_lost && run.holds(entry.span)).then_some(passing)
    };
    (0..).zip(&row.directory.entries).filter_map(passing).collect()
}

/// Tells segments that start before `bound`; returns whether the rest is known.
fn walk(shrinking: &mut Shrinking, order: &mut InOrder, bound: Option<Timestamp>) -> bool {
    while let Some(segment) = order.pop_before(bound) {
        if shrinking.walk(segment.span, segment.bytes, segment.is_lost) {
            return true;
        }
    }
    false
}
