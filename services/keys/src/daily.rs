//! Epochs used to be days. What an older version stored moves under hourly epochs at the first start.
//!
//! A daily epoch expired at the start of its day, so its keys move to the hour that ends there. Its key
//! had no half outside the database: copies of the database from before the move open with the
//! key-encryption key of that time, until a rotation has destroyed that.

use obscura_ids::ZoneId;
use obscura_row_cipher::{self as row_cipher, Key};
use obscura_seal::{LayerKeyContext, NodeSet};

use crate::{
    custody::Custody,
    error::Error,
    expiry_hour::ExpiryHour,
    key_encryption::{RowKind, WrappedSecret},
    row_key::Place,
    store::{
        Writer, epoch_key,
        kept_key::{self, KeptRow},
        layer_key,
    },
};

const DAY_HOURS: u32 = 24;
const ROW_DOMAIN: &[u8] = b"obscura layer key row v1\0";

impl Custody {
    /// Moves what daily tables still hold, a day in one transaction. A day that does not open whole stays
    /// where it is and is tried again at the next start.
    pub(crate) async fn move_daily_epochs(&self) -> Result<(), Error> {
        for (day, wrapped) in epoch_key::all(self.parts.store.reader(), &self.parts.zone).await? {
            match self.move_day(day, &wrapped).await {
                Ok(keys) => {
                    tracing::info!(day, keys, "moved layer keys of a daily epoch under an hourly one");
                }
                Err(damaged @ Error::Damaged { .. }) => {
                    tracing::error!(error = %damaged, day, "a daily epoch cannot move under an hourly one");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn move_day(&self, day: u32, wrapped: &WrappedSecret) -> Result<usize, Error> {
        let name = || format!("epoch key {}/{day}", self.parts.zone);
        let bytes = self.unwrap(RowKind::EpochKey, &day.to_string(), wrapped, name).await?;
        let old = row_cipher::key_from(&bytes).ok_or_else(|| Error::Damaged { row: name() })?;
        let writer = self.parts.store.write().await?;
        let moved = self.moved(&writer, day, &old).await?;
        kept_key::put(writer.tx(), &moved).await?;
        layer_key::delete_of_day(writer.tx(), &self.parts.zone, day).await?;
        epoch_key::delete(writer.tx(), &self.parts.zone, day).await?;
        writer.commit().await?;
        Ok(moved.len())
    }

    async fn moved(&self, writer: &Writer<'_>, day: u32, old: &Key) -> Result<Vec<KeptRow>, Error> {
        let zone: &ZoneId = &self.parts.zone;
        let expiry = ExpiryHour::from_number(day.saturating_mul(DAY_HOURS).saturating_sub(1));
        let rows = layer_key::of_day(writer.tx(), zone, day).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let key = self.epoch_for(writer, expiry).await?;
        let mut moved = Vec::with_capacity(rows.len());
        for row in rows {
            let damaged = || Error::Damaged { row: format!("layer key {}", row.context.key_id) };
            let opened =
                row_cipher::open(old, &daily_aad(day, &row.context), &row.sealed).ok_or_else(damaged)?;
            let nodes = NodeSet::decode(&opened).map_err(|_| damaged())?;
            let (leaf, sealed) = key.seal(Place { hold: None, expiry, context: &row.context }, &nodes)?;
            moved.push(KeptRow {
                context: row.context,
                expiry,
                leaf: Some(leaf),
                sealed,
                imported: row.imported,
            });
        }
        Ok(moved)
    }
}

/// Domain, u32 BE day, then the context, whose encoding is unique.
fn daily_aad(day: u32, context: &LayerKeyContext) -> Vec<u8> {
    [ROW_DOMAIN, &day.to_be_bytes(), &context.aad()].concat()
}

#[cfg(test)]
mod tests;
