//! How destruction is done, so that a crash at any step leaves it undone or finishes it.
//!
//! 1. One transaction decides it. Rows are taken out or punctured. An epoch that loses some of its rows gets a
//!    new secret without their leaves ([`crate::epoch_key`]; durable before anything is under it), and rows that
//!    share those leaves are sealed anew; one that loses all is taken out as well. The old secrets are marked
//!    doomed, and the receipt waits without number and time. A crash before leaves everything as it was,
//!    perhaps with a stray secret that no row uses and that goes with its epoch. From here on nothing that was
//!    decided is released, and every start goes on behind.
//! 2. An epoch whose leaves are used up, or that has rows without, is marked stale instead; now it gets a new
//!    tree and all its rows are sealed anew, in one transaction, which dooms the old secret. A crash before
//!    leaves a stray secret.
//! 3. The doomed secrets are erased ([`crate::secrets`]). A crash in between erases them again, which is
//!    harmless. From here on no copy of the database opens what was destroyed.
//! 4. One transaction strikes the secrets off, and the receipts get their numbers and the time, are signed and
//!    stored, with what the audit log hears of them. Then the mark outside the database goes up. A crash
//!    before the mark leaves it behind, which the next start puts right.
//!
//! Nothing in it touches footage, and step 1 touches one in 1,800 rows of an epoch: the cost is that of eight
//! waits for the disk, and of two more for each further hour.

use std::collections::{BTreeMap, BTreeSet};

use obscura_proto::keys::v1::{ShredCause, ShredReceipt, ShreddedKey, ShreddedSpan, SignedShredReceipt};
use obscura_seal::{NodeSet, Slot, SlotSet};
use prost::Message as _;
use sea_orm::ConnectionTrait;

use crate::{
    custody::Custody,
    epoch_key::EpochKey,
    error::Error,
    expiry_hour::ExpiryHour,
    keyring::Keyring,
    store::{
        Writer,
        destroyed_key::{self, DestroyedRow},
        doomed_secret, epoch,
        kept_key::{self, KeptRow},
        pending_receipt,
    },
};

/// Most entries of one receipt: with the longest reason it still fits into one event of the audit log.
pub const MAX_RECEIPT_KEYS: usize = 80;

/// What is to be destroyed, for the receipt.
#[derive(Debug, Default)]
pub struct Decision {
    pub keys: Vec<ShreddedKey>,
    /// What was asked for and is remembered for keys that come later ([`crate::late`]).
    pub spans: Vec<ShreddedSpan>,
    /// Who asked, and who approved; empty unless it is early.
    pub requested_by: String,
    pub approved_by: String,
    pub reason: String,
}

impl Decision {
    /// Adds slots of a layer key.
    pub fn add(&mut self, key: &DestroyedRow, slots: &SlotSet) {
        self.keys.extend(slots.ranges().iter().map(|range| ShreddedKey {
            key_id: key.key.to_string(),
            camera_id: key.camera.to_string(),
            layer: key.layer.code().into(),
            hour: key.hour.get(),
            first_slot: range.first().get().into(),
            last_slot: range.last().get().into(),
        }));
    }

    /// Whether there is nothing to write a receipt about.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.spans.is_empty()
    }
}

/// Rows of which slots are taken out, by their epoch, with what is left of each.
#[derive(Default)]
pub struct Punctures(BTreeMap<ExpiryHour, Vec<(KeptRow, NodeSet)>>);

impl Punctures {
    /// Nothing of this row is left in its epoch.
    pub fn gone(&mut self, row: KeptRow) {
        self.push(row, NodeSet::new(Vec::new()));
    }

    fn push(&mut self, row: KeptRow, left: NodeSet) {
        self.0.entry(row.expiry).or_default().push((row, left));
    }
}

impl From<&KeptRow> for DestroyedRow {
    fn from(row: &KeptRow) -> Self {
        let context = &row.context;
        let (key, camera, layer, hour) = (context.key_id, context.camera, context.layer, context.hour);
        Self { key, camera, layer, hour, expiry: row.expiry }
    }
}

impl Custody {
    /// Writes down the receipts of a decision, to be numbered when it is done. `epoch` is named by the
    /// last of them, spans by the first.
    pub(crate) async fn await_receipts(
        &self,
        writer: &Writer<'_>,
        cause: ShredCause,
        epoch: Option<ExpiryHour>,
        decision: Decision,
    ) -> Result<(), Error> {
        let Decision { keys, mut spans, requested_by, approved_by, reason } = decision;
        let mut parts: Vec<Vec<ShreddedKey>> = keys.chunks(MAX_RECEIPT_KEYS).map(<[_]>::to_vec).collect();
        if parts.is_empty() && !spans.is_empty() {
            // Nothing of it has come yet.
            parts.push(Vec::new());
        }
        let mut parts = parts.into_iter().peekable();
        while let Some(keys) = parts.next() {
            let epochs = epoch.filter(|_| parts.peek().is_none()).map(ExpiryHour::number);
            let receipt = ShredReceipt {
                number: 0,
                zone: self.parts.zone.to_string(),
                cause: cause.into(),
                keys,
                epochs: epochs.into_iter().collect(),
                effective_unix_ns: 0,
                reason: reason.clone(),
                spans: std::mem::take(&mut spans),
            };
            let pending = pending_receipt::Model {
                id: 0,
                receipt: receipt.encode_to_vec(),
                signature: Vec::new(),
                requested_by: requested_by.clone(),
                approved_by: approved_by.clone(),
            };
            pending_receipt::push(writer.tx(), pending).await?;
        }
        Ok(())
    }

    /// Takes slots out of a layer key. The last of a key take its row along and leave a note that it is gone.
    /// Nothing is sealed anew before [`Custody::exchange_epochs`].
    pub(crate) async fn puncture<C: ConnectionTrait>(
        &self,
        writer: &Writer<'_>,
        keyring: &mut Keyring<'_, C>,
        row: KeptRow,
        slots: &SlotSet,
        punctures: &mut Punctures,
    ) -> Result<(), Error> {
        let left = keyring.kept(&row).await?.puncture(slots);
        if left.is_empty() {
            kept_key::delete(writer.tx(), &[row.context.key_id]).await?;
            destroyed_key::put(writer.tx(), &self.parts.zone, &[(&row).into()]).await?;
        }
        punctures.push(row, left);
        Ok(())
    }

    /// Exchanges the keys of the epochs concerned, so that nothing opens what was taken out. Call it with
    /// `serving` held alone until the commit: nobody may read a row and another key.
    pub(crate) async fn exchange_epochs(
        &self,
        writer: &Writer<'_>,
        punctures: Punctures,
    ) -> Result<(), Error> {
        let zone = &self.parts.zone;
        for (hour, punctured) in punctures.0 {
            let Some(old) = epoch::get(writer.tx(), zone, hour).await? else { continue };
            if !kept_key::has_any(writer.tx(), zone, hour).await? {
                epoch::delete(writer.tx(), zone, hour).await?;
                doomed_secret::put(writer.tx(), &old.secret).await?;
                continue;
            }
            // Where the secret is gone there is nothing to exchange: a restored database.
            let Some(key) = self.stored_epoch(writer.tx(), hour).await? else { continue };
            match self.thinned(writer, hour, &key, &punctured).await? {
                Some((leaves, tree)) => {
                    let (row, thin) = self.thin_epoch(hour, tree, key.half()).await?;
                    let rows = kept_key::of_leaves(writer.tx(), zone, hour, &leaves).await?;
                    let rows = self.damage.sift(rows)?;
                    self.move_rows(writer, rows, punctured, &key, &thin).await?;
                    epoch::put(writer.tx(), zone, &row).await?;
                    doomed_secret::put(writer.tx(), &old.secret).await?;
                }
                None => {
                    let rows = punctured.iter().map(|(row, _)| row.context.key_id).collect::<Vec<_>>();
                    let mut here = self.damage.sift(kept_key::of_ids(writer.tx(), &rows).await?)?;
                    here.retain(|row| row.expiry == hour);
                    self.move_rows(writer, here, punctured, &key, &key).await?;
                    epoch::set_stale(writer.tx(), zone, hour, true).await?;
                }
            }
        }
        Ok(())
    }

    /// The leaves of these rows and the tree without them; `None` where the whole epoch must be sealed anew.
    async fn thinned(
        &self,
        writer: &Writer<'_>,
        hour: ExpiryHour,
        key: &EpochKey,
        punctured: &[(KeptRow, NodeSet)],
    ) -> Result<Option<(BTreeSet<Slot>, NodeSet)>, Error> {
        let leaves: Option<BTreeSet<Slot>> = punctured.iter().map(|(row, _)| row.leaf).collect();
        if leaves.is_none() || kept_key::has_leafless(writer.tx(), &self.parts.zone, hour).await? {
            return Ok(None);
        }
        Ok(leaves.and_then(|leaves| key.without(&leaves).map(|tree| (leaves, tree))))
    }

    /// Seals rows of an epoch anew; of those that are punctured what is left.
    async fn move_rows(
        &self,
        writer: &Writer<'_>,
        rows: Vec<KeptRow>,
        punctured: Vec<(KeptRow, NodeSet)>,
        old: &EpochKey,
        new: &EpochKey,
    ) -> Result<(), Error> {
        let mut left: BTreeMap<_, _> =
            punctured.into_iter().map(|(row, left)| (row.context.key_id, left)).collect();
        let mut moved = Vec::with_capacity(rows.len());
        for row in rows {
            let opened = match left.remove(&row.context.key_id) {
                Some(left) => Ok(left),
                None => old.open(row.place(), row.leaf, &row.sealed),
            };
            moved.extend(sealed_anew(row, opened, new)?);
        }
        kept_key::put(writer.tx(), &moved).await
    }

    /// Goes through steps 2 to 4 with everything that is decided; returns the receipts. Call it with
    /// `changing` in hand.
    pub(crate) async fn finish(&self) -> Result<Vec<SignedShredReceipt>, Error> {
        let reader = self.parts.store.reader();
        for hour in epoch::stale(reader, &self.parts.zone).await? {
            self.rekey(hour).await?;
        }
        let doomed = doomed_secret::all(reader).await?;
        if doomed.is_empty() && pending_receipt::all(reader).await?.is_empty() {
            // A mark that could not be written before is tried again.
            let receipts = self.watch().receipts;
            self.parts.secrets.raise_mark(receipts, &self.receipt_key.public_key())?;
            return Ok(Vec::new());
        }
        {
            let _alone = self.alone().await;
            self.parts.secrets.erase(&doomed)?;
        }
        self.conclude(&doomed).await
    }

    /// Step 2. Releases wait meanwhile, so that none reads a row and another key.
    async fn rekey(&self, hour: ExpiryHour) -> Result<(), Error> {
        let _alone = self.alone().await;
        let writer = self.parts.store.write().await?;
        let zone = &self.parts.zone;
        let Some(old) = epoch::get(writer.tx(), zone, hour).await? else { return Ok(()) };
        let rows = self.damage.sift(kept_key::of_epoch(writer.tx(), zone, hour).await?)?;
        if rows.is_empty() {
            epoch::delete(writer.tx(), zone, hour).await?;
        } else if !self.reseal(&writer, hour, rows).await? {
            // A restored database: what is left of this epoch lives under a secret that it does not know.
            tracing::error!(%hour, "the secret of an epoch is gone, and with it its layer keys");
            epoch::set_stale(writer.tx(), zone, hour, false).await?;
            return Ok(writer.commit().await?);
        }
        doomed_secret::put(writer.tx(), &old.secret).await?;
        Ok(writer.commit().await?)
    }

    /// Seals rows under a new key of their epoch; `false` where there is no old one to open them with.
    async fn reseal(&self, writer: &Writer<'_>, hour: ExpiryHour, rows: Vec<KeptRow>) -> Result<bool, Error> {
        let old = self.damage.readable(self.stored_epoch(writer.tx(), hour).await)?;
        let Some(old) = old.flatten() else { return Ok(false) };
        let (epoch, new) = self.make_epoch(hour).await?;
        self.move_rows(writer, rows, Vec::new(), &old, &new).await?;
        epoch::put(writer.tx(), &self.parts.zone, &epoch).await?;
        Ok(true)
    }
}

/// A row under another key of its epoch; `None` for one that does not open and stays as it is.
fn sealed_anew(
    row: KeptRow,
    opened: Result<NodeSet, Error>,
    key: &EpochKey,
) -> Result<Option<KeptRow>, Error> {
    match opened {
        Ok(nodes) => {
            let (leaf, sealed) = key.seal(row.place(), &nodes)?;
            Ok(Some(KeptRow { leaf: Some(leaf), sealed, ..row }))
        }
        Err(damaged @ Error::Damaged { .. }) => {
            tracing::error!(error = %damaged, "a layer key cannot move under a new epoch key");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
