//! Placing, listing and releasing holds. A hold has its own key and under it the cover of exactly the
//! slots that it holds, so that their epochs expire on time around them.

use std::collections::{BTreeMap, BTreeSet};

use obscura_ids::{CameraId, Layer, LayerKeyId};
use obscura_outbox::staged;
use obscura_proto::{
    audit::v1::{Person, hold_act::Act},
    keys::v1::{self as messages, ShredCause},
};
use obscura_seal::{Hour, LayerKeyContext, NodeSet, SlotSet};

use crate::{
    custody::Custody,
    destruction::Decision,
    error::Error,
    expiry_hour::ExpiryHour,
    hold::{Hold, HoldId, Selection, today},
    keyring::Keyring,
    ledger::KeyLedger,
    reports::{hold_event, unread_hold_event},
    row_key::{Place, RowKey},
    store::{
        Writer,
        destroyed_key::{self, DestroyedRow},
        doomed_secret,
        held_key::{self, HeldRow},
        hold::{self, HoldRow},
        kept_key,
    },
};

/// Most holds in one answer: those that stand and as many released ones as fit.
const MAX_LISTED: u64 = 10_000;

/// A hold that was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub hold: Hold,
    /// Layer keys of which it holds slots.
    pub keys: u32,
    /// Slots that it holds, each hour and layer counted once.
    pub slots: u64,
    /// Slots of its span whose keys are destroyed.
    pub lost_slots: u64,
}

/// All that still opens of one layer key, and until when its retention runs.
struct Openable {
    context: LayerKeyContext,
    expiry: ExpiryHour,
    nodes: NodeSet,
}

impl Custody {
    /// Keeps the slots of a span beyond their retention; durable on return.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::SpanTooLong`], [`Error::TooManyHolds`].
    pub async fn place_hold(&self, request: &messages::Hold, actor: Person) -> Result<Placed, Error> {
        let hold = Hold::read(request, &self.parts.limits, self.parts.clock.wall())?;
        let _turn = self.changing.lock().await;
        self.check_not_behind()?;
        self.finish().await?;
        let writer = self.parts.store.write().await?;
        if hold::count(writer.tx()).await? >= self.parts.limits.holds {
            return Err(Error::TooManyHolds(self.parts.limits.holds));
        }
        // Where the rest fails the secret stays behind, unused: erasing it could end a hold whose commit
        // was lost on the way back.
        let (secret, half, key) = self.make_hold_key(hold.id).await?;
        let row = HoldRow { hold: hold.clone(), secret, half: Some(half) };
        hold::put(writer.tx(), &self.parts.zone, &row).await?;
        let placed = self.hold_what_is_there(&writer, hold, &key).await?;
        let event = hold_event(&self.parts.clock, actor, Act::Placed, placed.hold.clone().into());
        staged::stage(writer.tx(), &event).await?;
        writer.commit().await?;
        self.parts.store.staged();
        tracing::info!(hold = %placed.hold.id, keys = placed.keys, slots = placed.slots, "hold placed");
        Ok(placed)
    }

    /// Holds by time of placing. One that cannot be read is missing: [`crate::damage`] names it.
    pub async fn list_holds(&self, camera: &str, released: bool) -> Result<Vec<Hold>, Error> {
        let camera = (!camera.is_empty()).then(|| camera.parse::<CameraId>()).transpose();
        let camera = camera.map_err(|error| Error::malformed("camera", error.to_string()))?;
        let rows =
            hold::list(self.parts.store.reader(), &self.parts.zone, camera, released, MAX_LISTED).await?;
        Ok(self.damage.sift(rows)?.into_iter().map(|row| row.hold).collect())
    }

    /// How many holds stand, and how many may.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hold_quota(&self) -> Result<(u64, u64), Error> {
        Ok((hold::count(self.parts.store.reader()).await?, self.parts.limits.holds))
    }

    /// Standing holds whose review date has passed. They hold on: only a person ends them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reviews_passed(&self) -> Result<u64, Error> {
        let Some(today) = today(self.parts.clock.wall()) else { return Ok(0) };
        Ok(hold::count_reviews_before(self.parts.store.reader(), &today.to_string()).await?)
    }

    /// Ends a hold: its key is destroyed, and a receipt names what no longer opens. Releasing twice is the
    /// same as releasing once. Of a hold whose row cannot be read the answer has the id alone.
    ///
    /// # Errors
    /// [`Error::UnknownHold`].
    pub async fn release_hold(&self, id: &str, actor: Person) -> Result<messages::Hold, Error> {
        let id: HoldId = id.parse()?;
        let _turn = self.changing.lock().await;
        self.check_may_destroy()?;
        self.finish().await?;
        let writer = self.parts.store.write().await?;
        let read = self.damage.readable(hold::get(writer.tx(), id).await)?;
        let is_read = read.is_some();
        let mut hold = match read {
            Some(row) => row.ok_or(Error::UnknownHold(id))?.hold.into(),
            None => messages::Hold { hold_id: id.to_string(), ..messages::Hold::default() },
        };
        let Some(secret) = hold::standing_secret(writer.tx(), id).await? else { return Ok(hold) };
        let decision = self.released(&writer, id).await?;
        let now = self.parts.clock.wall();
        hold.released_unix_ns = now.unix_nanos();
        held_key::delete_of_hold(writer.tx(), id).await?;
        hold::end(writer.tx(), id, now).await?;
        doomed_secret::put(writer.tx(), &secret).await?;
        self.await_receipts(&writer, ShredCause::HoldReleased, None, decision).await?;
        let event = if is_read {
            hold_event(&self.parts.clock, actor, Act::Released, hold.clone())
        } else {
            unread_hold_event(&self.parts.clock, actor, id.to_string())
        };
        staged::stage(writer.tx(), &event).await?;
        writer.commit().await?;
        self.parts.store.staged();
        // It may have stood in for another one.
        self.watch().completed_holds.clear();
        tracing::info!(hold = %id, "hold released");
        self.finish().await?;
        Ok(hold)
    }

    /// Holds what a new layer key has of slots that standing holds want, in the transaction that imports
    /// it.
    pub(crate) async fn hold_new(
        &self,
        writer: &Writer<'_>,
        context: &LayerKeyContext,
        expiry: ExpiryHour,
        nodes: &NodeSet,
    ) -> Result<(), Error> {
        let Some(span) = hour_span(context.hour) else { return Ok(()) };
        let holds = hold::touching(writer.tx(), &self.parts.zone, context.camera, span).await?;
        let (holds, holders) = (self.damage.sift(holds)?, self.holders(writer, context).await?);
        let mut keyring = Keyring::new(self, writer.tx());
        let (mut rows, mut made) = (Vec::new(), Vec::new());
        for HoldRow { hold, .. } in &holds {
            let held = nodes.restrict(&hold.selection().slots(context.hour, context.layer));
            if held.is_empty() {
                continue;
            }
            if let Some(key) = self.damage.readable(keyring.hold(hold.id).await)?.flatten() {
                // What a hold without a key has of it opens nothing: there the stand-in must have it.
                if !holders.contains(&hold.id) {
                    rows.push(held_row(hold.id, &key, context, expiry, &held)?);
                }
            } else if let Some((stand_in, key)) =
                self.make_stand_in(writer, &mut keyring, hold, &holds, &made).await?
            {
                rows.push(held_row(stand_in.id, &key, context, expiry, &held)?);
                made.push(stand_in);
            }
        }
        held_key::insert(writer.tx(), &rows).await
    }

    /// Copies the cover of everything that the hold wants and that still opens, for any reason, and that it does
    /// not have yet.
    async fn hold_what_is_there(
        &self,
        writer: &Writer<'_>,
        hold: Hold,
        key: &RowKey,
    ) -> Result<Placed, Error> {
        let selection = hold.selection();
        let mut counts = Counts::default();
        for gone in
            destroyed_key::of_camera(writer.tx(), &self.parts.zone, hold.camera, selection.hours()).await?
        {
            counts.wanted(gone.key, gone.hour, gone.layer, &selection);
        }
        let known = self.damage.sift(held_key::of_hold(writer.tx(), hold.id).await?)?;
        let known: BTreeSet<_> = known.into_iter().map(|row| row.context.key_id).collect();
        let mut rows = Vec::new();
        for (id, openable) in self.openable(writer, &selection).await? {
            let (hour, layer) = (openable.context.hour, openable.context.layer);
            let wanted = counts.wanted(id, hour, layer, &selection);
            let slots = KeyLedger::new(openable.nodes.slots(), BTreeMap::new()).hold(hold.id, &wanted);
            let held = openable.nodes.restrict(&slots);
            if !held.is_empty() && !known.contains(&id) {
                counts.held(id, hour, layer, &slots);
                rows.push(held_row(hold.id, key, &openable.context, openable.expiry, &held)?);
            }
        }
        held_key::insert(writer.tx(), &rows).await?;
        let keys = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let (slots, lost_slots) = counts.totals();
        Ok(Placed { hold, keys, slots, lost_slots })
    }

    /// Everything that opens of the camera's keys, by their retention or by another hold.
    async fn openable(
        &self,
        writer: &Writer<'_>,
        selection: &Selection,
    ) -> Result<BTreeMap<LayerKeyId, Openable>, Error> {
        let (zone, camera) = (&self.parts.zone, selection.camera);
        let mut keyring = Keyring::new(self, writer.tx());
        let mut found = BTreeMap::new();
        let kept = kept_key::of_camera(writer.tx(), zone, camera, selection.hours()).await?;
        for row in self.damage.sift(kept)? {
            let nodes = self.damage.opened(keyring.kept(&row).await)?;
            found.insert(row.context.key_id, Openable { context: row.context, expiry: row.expiry, nodes });
        }
        let held = held_key::of_camera(writer.tx(), zone, camera, selection.hours()).await?;
        for row in self.damage.sift(held)? {
            let nodes = self.damage.opened(keyring.held(&row).await)?;
            let HeldRow { context, expiry, .. } = row;
            let known = found.remove(&context.key_id).map(|openable| openable.nodes);
            let nodes = known.unwrap_or_else(|| NodeSet::new(Vec::new())).join(&nodes);
            found.insert(context.key_id, Openable { context, expiry, nodes });
        }
        Ok(found)
    }

    /// What no longer opens when this hold ends.
    async fn released(&self, writer: &Writer<'_>, id: HoldId) -> Result<Decision, Error> {
        let mut keyring = Keyring::new(self, writer.tx());
        let rows = self.damage.sift(held_key::of_hold(writer.tx(), id).await?)?;
        let ids: Vec<_> = rows.iter().map(|row| row.context.key_id).collect();
        let mut holds: BTreeMap<LayerKeyId, BTreeMap<HoldId, SlotSet>> = BTreeMap::new();
        for row in self.damage.sift(held_key::of_keys(writer.tx(), &ids).await?)? {
            let slots = self.damage.opened(keyring.held(&row).await)?.slots();
            holds.entry(row.context.key_id).or_default().insert(row.hold, slots);
        }
        let mut decision = Decision::default();
        for row in rows {
            let kept = self.damage.readable(kept_key::get(writer.tx(), row.context.key_id).await)?;
            let live = match kept.flatten() {
                Some(kept) => self.damage.opened(keyring.kept(&kept).await)?.slots(),
                None => SlotSet::EMPTY,
            };
            let holds = holds.remove(&row.context.key_id).unwrap_or_default();
            decision.add(&gone(&row), &KeyLedger::new(live, holds).release(id));
        }
        Ok(decision)
    }
}

/// Slots of a hold, by hour and layer: an hour may have several keys, and each slot counts once.
#[derive(Default)]
struct Counts {
    wanted: BTreeMap<LayerKeyId, ((Hour, Layer), SlotSet)>,
    held: BTreeMap<LayerKeyId, SlotSet>,
}

impl Counts {
    /// What the hold wants of a key.
    fn wanted(&mut self, id: LayerKeyId, hour: Hour, layer: Layer, selection: &Selection) -> SlotSet {
        let slots = selection.slots(hour, layer);
        self.wanted.insert(id, ((hour, layer), slots.clone()));
        slots
    }

    fn held(&mut self, id: LayerKeyId, hour: Hour, layer: Layer, slots: &SlotSet) {
        debug_assert!(self.wanted.get(&id).is_some_and(|(place, _)| *place == (hour, layer)));
        self.held.insert(id, slots.clone());
    }

    /// Slots held, and slots of which a key is lost.
    fn totals(&self) -> (u64, u64) {
        let mut sums: BTreeMap<(Hour, Layer), (SlotSet, SlotSet)> = BTreeMap::new();
        for (id, (place, wanted)) in &self.wanted {
            let held = self.held.get(id).cloned().unwrap_or_default();
            let (all_held, all_lost) = sums.entry(*place).or_default();
            *all_lost = all_lost.union(&wanted.difference(&held));
            *all_held = all_held.union(&held);
        }
        let count = |set: &SlotSet| u64::from(set.len());
        sums.values().fold((0, 0), |(held, lost), (all_held, all_lost)| {
            (held + count(all_held), lost + count(all_lost))
        })
    }
}

fn held_row(
    hold: HoldId,
    key: &RowKey,
    context: &LayerKeyContext,
    expiry: ExpiryHour,
    nodes: &NodeSet,
) -> Result<HeldRow, Error> {
    let sealed = key.seal(Place { hold: Some(hold), expiry, context }, nodes)?;
    Ok(HeldRow { hold, context: context.clone(), expiry, sealed })
}

fn gone(row: &HeldRow) -> DestroyedRow {
    let context = &row.context;
    let (key, camera, layer, hour) = (context.key_id, context.camera, context.layer, context.hour);
    DestroyedRow { key, camera, layer, hour, expiry: row.expiry }
}

/// The whole hour.
pub fn hour_span(hour: Hour) -> Option<obscura_clock::Span> {
    let all = obscura_seal::SlotRange::WHOLE_HOUR;
    let end = hour.slot_start(all.last()) + obscura_seal::SLOT_DURATION;
    obscura_clock::Span::try_new(hour.slot_start(all.first()), end)
}

/// Holds that have slots of the selection.
pub fn layers_touch(hold: &Hold, layers: &BTreeSet<Layer>) -> bool {
    hold.layers.iter().any(|layer| layers.contains(layer))
}

mod stand_in;
#[cfg(test)]
mod tests;
