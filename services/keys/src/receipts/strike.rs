//! Receipts that wait for their number, and those that custody made of the same before it was put back from a
//! backup.

use obscura_proto::keys::v1::{ShredReceipt, ShreddedKey};
use obscura_seal::{SlotRange, SlotSet};
use prost::Message as _;

use super::replay::Named;
use crate::{
    custody::Custody,
    error::Error,
    store::{Writer, pending_receipt},
};

impl Custody {
    /// Takes what a replayed receipt names out of those that wait: the custody that went on has numbered it. What
    /// only this copy destroyed stays, and gets its number behind the last of those that are replayed.
    pub(super) async fn strike(
        &self,
        writer: &Writer<'_>,
        receipt: &ShredReceipt,
        named: &Named,
    ) -> Result<(), Error> {
        for pending in pending_receipt::all(writer.tx()).await? {
            if !pending.signature.is_empty() {
                continue;
            }
            let damaged = |_| Error::Damaged { row: format!("pending receipt {}", pending.id) };
            let waiting = ShredReceipt::decode(pending.receipt.as_slice()).map_err(damaged)?;
            let mut left = waiting.clone();
            left.keys = waiting.keys.iter().flat_map(|key| without(key, named)).collect();
            left.spans.retain(|span| !receipt.spans.contains(span));
            if left.keys.is_empty() && left.spans.is_empty() {
                pending_receipt::delete(writer.tx(), pending.id).await?;
            } else if left != waiting {
                pending_receipt::set_receipt(writer.tx(), pending.id, left.encode_to_vec()).await?;
            }
        }
        Ok(())
    }
}

/// What is left of an entry, as entries.
fn without(key: &ShreddedKey, named: &Named) -> Vec<ShreddedKey> {
    let range = SlotRange::try_from((key.first_slot, key.last_slot)).ok();
    let id = key.key_id.parse().ok();
    let Some((range, (_, struck))) = range.zip(id.and_then(|id| named.get(&id))) else {
        return vec![key.clone()];
    };
    let left = SlotSet::from(range).difference(struck);
    let entry = |range: &SlotRange| ShreddedKey {
        first_slot: range.first().get().into(),
        last_slot: range.last().get().into(),
        ..key.clone()
    };
    left.ranges().iter().map(entry).collect()
}
