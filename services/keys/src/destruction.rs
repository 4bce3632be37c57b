//! How destruction is done, so that a crash at any step leaves it undone or finishes it.
//!
//! 1. One transaction decides it: rows are taken out or punctured, their epochs are marked stale (or
//!    taken out as well where nothing is left), secrets are marked doomed, and the receipt waits
//!    without number and time. A crash before leaves everything as it was. From here on nothing that was
//!    decided is released, and every start goes on at 2.
//! 2. Each stale epoch gets a new secret (durable before anything is under it) and its survivors are
//!    sealed anew in one transaction, which dooms the old secret. A crash before leaves a stray secret
//!    that no row uses and that goes with its epoch.
//! 3. Each doomed secret is erased ([`crate::secrets`]) and then struck off. A crash in between erases
//!    it again, which is harmless. From here on no copy of the database opens what was destroyed.
//! 4. The receipt gets its number and the time, is signed and stored, and the mark outside the database
//!    goes up. A crash before the mark leaves it one behind, which the next start puts right.
//!
//! Nothing in it touches footage: the cost is that of the rows of the epochs concerned.

use obscura_proto::keys::v1::{ShredCause, ShredReceipt, ShreddedKey, SignedShredReceipt};
use obscura_seal::SlotSet;
use prost::Message as _;
use sea_orm::ConnectionTrait;

use crate::{
    custody::Custody,
    error::Error,
    expiry_hour::ExpiryHour,
    keyring::Keyring,
    row_key::Place,
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
        self.keys.is_empty()
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
    /// last of them.
    pub(crate) async fn await_receipts(
        &self,
        writer: &Writer<'_>,
        cause: ShredCause,
        epoch: Option<ExpiryHour>,
        decision: Decision,
    ) -> Result<(), Error> {
        let Decision { keys, requested_by, approved_by, reason } = decision;
        let mut chunks = keys.chunks(MAX_RECEIPT_KEYS).peekable();
        while let Some(keys) = chunks.next() {
            let epochs = epoch.filter(|_| chunks.peek().is_none()).map(ExpiryHour::number);
            let receipt = ShredReceipt {
                number: 0,
                zone: self.parts.zone.to_string(),
                cause: cause.into(),
                keys: keys.to_vec(),
                epochs: epochs.into_iter().collect(),
                effective_unix_ns: 0,
                reason: reason.clone(),
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

    /// Takes slots out of a layer key and marks its epoch. The last of a key takes its row along and
    /// leaves a note that it is gone.
    pub(crate) async fn puncture<C: ConnectionTrait>(
        &self,
        writer: &Writer<'_>,
        keyring: &mut Keyring<'_, C>,
        row: &KeptRow,
        slots: &SlotSet,
    ) -> Result<(), Error> {
        let left = keyring.kept(row).await?.puncture(slots);
        let key = keyring.epoch(row.expiry).await?;
        match key.filter(|_| !left.is_empty()) {
            Some(key) => {
                let place = Place { hold: None, expiry: row.expiry, context: &row.context };
                let sealed = key.seal(place, &left)?;
                kept_key::put(writer.tx(), &[KeptRow { sealed, ..row.clone() }]).await?;
            }
            None => {
                kept_key::delete(writer.tx(), &[row.context.key_id]).await?;
                destroyed_key::put(writer.tx(), &self.parts.zone, &[row.into()]).await?;
            }
        }
        epoch::set_stale(writer.tx(), &self.parts.zone, row.expiry, true).await
    }

    /// Goes through steps 2 to 4 with everything that is decided; returns the receipts. Call it with
    /// `changing` in hand.
    pub(crate) async fn finish(&self) -> Result<Vec<SignedShredReceipt>, Error> {
        for hour in epoch::stale(self.parts.store.reader(), &self.parts.zone).await? {
            self.rekey(hour).await?;
        }
        for name in doomed_secret::all(self.parts.store.reader()).await? {
            self.erase(&name).await?;
        }
        let mut receipts = Vec::new();
        for pending in pending_receipt::all(self.parts.store.reader()).await? {
            receipts.push(self.conclude(pending).await?);
        }
        Ok(receipts)
    }

    /// Step 2. Releases wait meanwhile, so that none reads a row and another key.
    async fn rekey(&self, hour: ExpiryHour) -> Result<(), Error> {
        let _alone = self.serving.write().await;
        let writer = self.parts.store.write().await?;
        let zone = &self.parts.zone;
        let Some(old) = epoch::get(writer.tx(), zone, hour).await? else { return Ok(()) };
        let rows = kept_key::of_epoch(writer.tx(), zone, hour).await?;
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
        let mut keyring = Keyring::new(self, writer.tx());
        if keyring.epoch(hour).await?.is_none() {
            return Ok(false);
        }
        let (epoch, key) = self.make_epoch(hour).await?;
        let mut resealed = Vec::with_capacity(rows.len());
        for row in rows {
            match keyring.kept(&row).await {
                Ok(nodes) => {
                    let place = Place { hold: None, expiry: row.expiry, context: &row.context };
                    resealed.push(KeptRow { sealed: key.seal(place, &nodes)?, ..row });
                }
                Err(damaged @ Error::Damaged { .. }) => {
                    tracing::error!(error = %damaged, "a layer key cannot move under a new epoch key");
                }
                Err(error) => return Err(error),
            }
        }
        kept_key::put(writer.tx(), &resealed).await?;
        epoch::put(writer.tx(), &self.parts.zone, &epoch).await?;
        Ok(true)
    }

    /// Step 3.
    async fn erase(&self, name: &str) -> Result<(), Error> {
        let _alone = self.serving.write().await;
        self.parts.secrets.erase(name)?;
        let writer = self.parts.store.write().await?;
        doomed_secret::delete(writer.tx(), name).await?;
        Ok(writer.commit().await?)
    }
}

#[cfg(test)]
mod tests;
