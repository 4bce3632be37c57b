//! What became of layer keys: for reconciliation. Nothing is released here.

use std::collections::{BTreeMap, BTreeSet};

use obscura_ids::LayerKeyId;
use obscura_proto::keys::v1::{KeyDescription, SlotRange as Range};
use obscura_seal::SlotSet;

use crate::{
    custody::Custody,
    error::Error,
    expiry_hour::ExpiryHour,
    hold::HoldId,
    keyring::Keyring,
    ledger::KeyLedger,
    release::MAX_KEYS,
    store::{destroyed_key, held_key, kept_key},
};

/// Ids in one page.
const PAGE: usize = 1_000;

/// What is known of one key.
#[derive(Default)]
struct Known {
    live: SlotSet,
    holds: BTreeMap<HoldId, SlotSet>,
    expiry: Option<ExpiryHour>,
}

impl Custody {
    /// What became of each of these keys, in their order.
    pub async fn describe(&self, ids: &[String]) -> Result<Vec<KeyDescription>, Error> {
        if ids.len() > MAX_KEYS {
            return Err(Error::TooManyKeys(ids.len()));
        }
        let parse = |id: &String| {
            id.parse().map_err(|error: obscura_ids::InvalidId| Error::malformed("request", error.to_string()))
        };
        let ids = ids.iter().map(parse).collect::<Result<Vec<LayerKeyId>, _>>()?;
        let known = self.known(&ids).await?;
        Ok(ids.iter().map(|id| description(*id, known.get(id))).collect())
    }

    /// Ids of keys of which anything opens, behind `after`; a page.
    pub async fn list_keys(&self, after: &str) -> Result<Vec<String>, Error> {
        let (reader, zone) = (self.parts.store.reader(), &self.parts.zone);
        let limit = u64::try_from(PAGE).unwrap_or(u64::MAX);
        let mut ids: BTreeSet<String> =
            kept_key::ids_after(reader, zone, after, limit).await?.into_iter().collect();
        ids.extend(held_key::ids_after(reader, zone, after, limit).await?);
        Ok(ids.into_iter().take(PAGE).collect())
    }

    async fn known(&self, ids: &[LayerKeyId]) -> Result<BTreeMap<LayerKeyId, Known>, Error> {
        let _serving = self.serving().await;
        let reader = self.parts.store.reader();
        // Damaged rows open nothing, and reconciliation is there to find that.
        let mut keyring = Keyring::new(self, reader);
        let mut known: BTreeMap<LayerKeyId, Known> = BTreeMap::new();
        for row in destroyed_key::of_ids(reader, ids).await? {
            known.entry(row.key).or_default().expiry = Some(row.expiry);
        }
        for row in self.damage.sift(held_key::of_keys(reader, ids).await?)? {
            let slots = self.damage.opened(keyring.held(&row).await)?.slots();
            let key = known.entry(row.context.key_id).or_default();
            key.holds.insert(row.hold, slots);
            key.expiry = Some(row.expiry);
        }
        for row in self.damage.sift(kept_key::of_ids(reader, ids).await?)? {
            let slots = self.damage.opened(keyring.kept(&row).await)?.slots();
            let key = known.entry(row.context.key_id).or_default();
            (key.live, key.expiry) = (slots, Some(row.expiry));
        }
        Ok(known)
    }
}

fn description(id: LayerKeyId, known: Option<&Known>) -> KeyDescription {
    let ledger =
        known.map(|known| KeyLedger::new(known.live.clone(), known.holds.clone())).unwrap_or_default();
    let expires = known.and_then(|known| known.expiry).map(|expiry| expiry.end().unix_nanos());
    KeyDescription {
        key_id: id.to_string(),
        known: known.is_some(),
        live: ranges(&ledger.openable()),
        held: ranges(&ledger.only_held()),
        expires_unix_ns: expires.unwrap_or_default(),
    }
}

fn ranges(slots: &SlotSet) -> Vec<Range> {
    let range = |range: &obscura_seal::SlotRange| Range {
        first: range.first().get().into(),
        last: range.last().get().into(),
    };
    slots.ranges().iter().map(range).collect()
}

#[cfg(test)]
mod tests;
