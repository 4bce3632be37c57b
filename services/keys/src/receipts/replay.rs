//! Destroying again what receipts say is destroyed.

use std::collections::BTreeMap;

use obscura_ids::LayerKeyId;
use obscura_proto::keys::v1::{ShredCause, ShredReceipt, ShreddedKey, SignedShredReceipt};
use obscura_seal::{Hour, SlotRange, SlotSet};
use prost::Message as _;

use super::{MAX_RECEIPTS, key::verifies};
use crate::{
    custody::Custody,
    destruction::Punctures,
    error::Error,
    expiry_hour::ExpiryHour,
    hold::{HoldId, Selection},
    keyring::Keyring,
    late::{late_decision, read_span},
    row_key::Place,
    store::{
        Writer,
        destroyed_key::{self, DestroyedRow},
        doomed_secret,
        held_key::{self, HeldRow},
        hold::{self, HoldRow},
        kept_key, pending_receipt, shred_receipt, shredded_span,
    },
};

/// Longest receipt: [`crate::destruction::MAX_RECEIPT_KEYS`] entries and some room.
const MAX_RECEIPT_BYTES: usize = 2 << 20;

impl Custody {
    /// Destroys again what these receipts name, and stores those that are not here. Returns how many keys
    /// or parts of keys were found alive.
    ///
    /// # Errors
    /// [`Error::Receipt`] for one that custody did not sign, that is of another zone, that contradicts
    /// the one with its number, or behind a gap. Those before it are done then.
    pub async fn replay(&self, receipts: &[SignedShredReceipt]) -> Result<u64, Error> {
        if receipts.len() > MAX_RECEIPTS {
            return Err(Error::malformed("request", "it has more than 100 receipts"));
        }
        let _turn = self.changing.lock().await;
        // What is decided gets its receipts first, so that numbers do not cross.
        self.finish().await?;
        let signers = self.signers()?;
        let mut destroyed_again = 0_u64;
        for signed in receipts {
            let receipt = self.verified(signed, &signers)?;
            destroyed_again = destroyed_again.saturating_add(self.replay_one(signed, &receipt).await?);
        }
        // What only this copy destroyed meanwhile gets its receipts behind the last of those.
        self.finish().await?;
        if self.check_may_number().is_ok() {
            self.watch().heard.settled = true;
        }
        tracing::info!(receipts = receipts.len(), destroyed_again, "replayed receipts of destruction");
        Ok(destroyed_again)
    }

    /// Our own key and those that custody had before its database was lost.
    fn signers(&self) -> Result<Vec<Vec<u8>>, Error> {
        let before = self.parts.secrets.mark()?.public_keys;
        let before = before.iter().filter_map(|key| hex::decode(key).ok());
        Ok(before.chain([self.receipt_key.public_key()]).collect())
    }

    /// Whether this custody signed it, or the one before it whose database was lost.
    pub(crate) fn has_signed(&self, signed: &SignedShredReceipt) -> Result<bool, Error> {
        Ok(verifies(signed, &self.signers()?))
    }

    fn verified(&self, signed: &SignedShredReceipt, signers: &[Vec<u8>]) -> Result<ShredReceipt, Error> {
        let refused = |number: u64, why: &'static str| Error::Receipt { number, why };
        if signed.receipt.len() > MAX_RECEIPT_BYTES || !verifies(signed, signers) {
            return Err(refused(0, "the custody of this zone did not sign it"));
        }
        let receipt =
            ShredReceipt::decode(signed.receipt.clone()).map_err(|_| refused(0, "it is malformed"))?;
        if receipt.zone != self.parts.zone.as_str() {
            return Err(refused(receipt.number, "it is of another zone"));
        }
        Ok(receipt)
    }

    async fn replay_one(&self, signed: &SignedShredReceipt, receipt: &ShredReceipt) -> Result<u64, Error> {
        let refused = |why: &'static str| Error::Receipt { number: receipt.number, why };
        let newest = shred_receipt::newest(self.parts.store.reader()).await?;
        if receipt.number > newest.saturating_add(1) || receipt.number == 0 {
            return Err(refused("those before it are missing: send them first"));
        }
        let stored = shred_receipt::get(self.parts.store.reader(), receipt.number).await?;
        if stored.as_ref().is_some_and(|stored| stored.receipt != signed.receipt) {
            return Err(refused("another receipt has its number: this custody went on from an old copy"));
        }
        let named = named(receipt).ok_or_else(|| refused("it names slots that do not exist"))?;
        let spans = receipt.spans.iter().map(read_span).collect::<Option<Vec<_>>>();
        let spans = spans.ok_or_else(|| refused("it names a span that does not exist"))?;
        let alone = self.alone().await;
        let writer = self.parts.store.write().await?;
        self.strike(&writer, receipt, &named).await?;
        for span in &spans {
            shredded_span::put(writer.tx(), span).await?;
        }
        let mut destroyed_again = self.destroy_named(&writer, &named).await?;
        for span in &spans {
            destroyed_again = destroyed_again.saturating_add(self.destroy_span(&writer, span).await?);
        }
        if stored.is_none() {
            pending_receipt::push(writer.tx(), pending(signed)).await?;
        }
        writer.commit().await?;
        drop(alone);
        self.finish().await?;
        Ok(destroyed_again)
    }

    /// Takes the named slots out of everything that has them; counts the keys that had some.
    async fn destroy_named(&self, writer: &Writer<'_>, named: &Named) -> Result<u64, Error> {
        let ids: Vec<LayerKeyId> = named.keys().copied().collect();
        let mut keyring = Keyring::new(self, writer.tx());
        let mut alive = std::collections::BTreeSet::new();
        let (mut unknown, mut left) = (named.clone(), Punctures::default());
        for chunk in ids.chunks(256) {
            for row in self.damage.sift(kept_key::of_ids(writer.tx(), chunk).await?)? {
                let Some((_, slots)) = unknown.remove(&row.context.key_id) else { continue };
                let opens = self.damage.opened(keyring.kept(&row).await)?.slots();
                if !opens.intersection(&slots).is_empty() {
                    alive.insert(row.context.key_id);
                    self.puncture(writer, &mut keyring, row, &slots, &mut left).await?;
                }
            }
        }
        self.exchange_epochs(writer, left).await?;
        // A key that came after the backup must not come back whole by a late import. Of one that was destroyed by a
        // span which is remembered the rest may.
        let mut gone = Vec::new();
        for (row, slots) in unknown.into_values() {
            let is_whole = slots == SlotSet::whole_hour();
            if is_whole || !slots.difference(&self.destroyed_before(writer, &row).await?).is_empty() {
                gone.push(row);
            }
        }
        destroyed_key::put(writer.tx(), &self.parts.zone, &gone).await?;
        alive.extend(self.destroy_held(writer, &mut keyring, &ids, named).await?);
        Ok(u64::try_from(alive.len()).unwrap_or(u64::MAX))
    }

    /// Takes a span out of keys that came before its receipt did. Returns how many.
    async fn destroy_span(&self, writer: &Writer<'_>, span: &Selection) -> Result<u64, Error> {
        let decision = self.take_out(writer, span, late_decision()).await?;
        let receipt = ShredReceipt { keys: decision.keys.clone(), ..ShredReceipt::default() };
        let late = named(&receipt).unwrap_or_default();
        let ids: Vec<LayerKeyId> = late.keys().copied().collect();
        self.destroy_held(writer, &mut Keyring::new(self, writer.tx()), &ids, &late).await?;
        self.await_receipts(writer, ShredCause::Early, None, decision).await?;
        Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
    }

    /// Holds that the backup still has lose the named slots as well, and get a new key for the rest.
    async fn destroy_held(
        &self,
        writer: &Writer<'_>,
        keyring: &mut Keyring<'_, sea_orm::DatabaseTransaction>,
        ids: &[LayerKeyId],
        named: &Named,
    ) -> Result<Vec<LayerKeyId>, Error> {
        let mut touched = BTreeMap::new();
        for row in self.damage.sift(held_key::of_keys(writer.tx(), ids).await?)? {
            let Some((_, slots)) = named.get(&row.context.key_id) else { continue };
            let opens = self.damage.opened(keyring.held(&row).await)?.slots();
            if !opens.intersection(slots).is_empty() {
                touched.entry(row.hold).or_insert_with(Vec::new).push(row.context.key_id);
            }
        }
        for hold in touched.keys() {
            self.rekey_hold(writer, keyring, *hold, named).await?;
        }
        Ok(touched.into_values().flatten().collect())
    }

    async fn rekey_hold(
        &self,
        writer: &Writer<'_>,
        keyring: &mut Keyring<'_, sea_orm::DatabaseTransaction>,
        id: HoldId,
        named: &Named,
    ) -> Result<(), Error> {
        let damaged = || Error::Damaged { row: format!("hold {id}") };
        let old = hold::get(writer.tx(), id).await?.ok_or_else(damaged)?;
        let (secret, half, key) = self.make_hold_key(id).await?;
        let mut resealed = Vec::new();
        for row in self.damage.sift(held_key::of_hold(writer.tx(), id).await?)? {
            let slots = named.get(&row.context.key_id).map(|(_, slots)| slots.clone()).unwrap_or_default();
            let left = self.damage.opened(keyring.held(&row).await)?.puncture(&slots);
            if !left.is_empty() {
                let place = Place { hold: Some(id), expiry: row.expiry, context: &row.context };
                resealed.push(HeldRow { sealed: key.seal(place, &left)?, ..row });
            }
        }
        held_key::delete_of_hold(writer.tx(), id).await?;
        held_key::insert(writer.tx(), &resealed).await?;
        doomed_secret::put(writer.tx(), &old.secret).await?;
        hold::put(writer.tx(), &self.parts.zone, &HoldRow { secret, half: Some(half), ..old }).await
    }
}

/// Slots by layer key, with what is known of the key.
pub(super) type Named = BTreeMap<LayerKeyId, (DestroyedRow, SlotSet)>;

/// What the receipt names; `None` where that cannot be.
fn named(receipt: &ShredReceipt) -> Option<Named> {
    let mut named = Named::new();
    for shredded in &receipt.keys {
        let row = destroyed_row(receipt, shredded)?;
        let range = SlotRange::try_from((shredded.first_slot, shredded.last_slot)).ok()?;
        let (_, slots) = named.entry(row.key).or_insert((row, SlotSet::EMPTY));
        *slots = slots.union(&range.into());
    }
    Some(named)
}

fn destroyed_row(receipt: &ShredReceipt, shredded: &ShreddedKey) -> Option<DestroyedRow> {
    let expiry = receipt.epochs.first().copied().unwrap_or(shredded.hour);
    Some(DestroyedRow {
        key: shredded.key_id.parse().ok()?,
        camera: shredded.camera_id.parse().ok()?,
        layer: u8::try_from(shredded.layer).ok().and_then(obscura_ids::Layer::from_code)?,
        hour: Hour::new(shredded.hour).ok()?,
        expiry: ExpiryHour::from_number(expiry),
    })
}

fn pending(signed: &SignedShredReceipt) -> pending_receipt::Model {
    pending_receipt::Model {
        id: 0,
        receipt: signed.receipt.to_vec(),
        signature: signed.signature.to_vec(),
        requested_by: String::new(),
        approved_by: String::new(),
    }
}
