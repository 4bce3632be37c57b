//! Slots whose keys must be destroyed, and those whose keys are, by the receipts of custody.

use std::{collections::BTreeMap, time::Duration};

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer};
use obscura_proto::keys::v1::{ListShredReceiptsRequest, ShredReceipt, ShreddedKey};
use obscura_seal::{Hour, Slot, SlotRange, SlotSet};
use prost::Message as _;

use crate::{
    problem::{Context as _, Result},
    services::{PROMPT, Services},
};

/// How far refined times of a segment usually lie from the slot it is sealed under.
const REFINED: Duration = Duration::from_secs(4);
const HOUR: Duration = Duration::from_secs(3_600);

/// Slots by camera, layer and hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destroyed(BTreeMap<(CameraId, Layer, u32), SlotSet>);

impl Destroyed {
    /// Adds the slots inside the span of a pack. Those at its ends may be its neighbours'.
    pub fn add_inside(&mut self, camera: CameraId, layer: Layer, span: Span) {
        for (hour, slots) in slots_inside(span) {
            self.add(camera, layer, hour, &slots);
        }
    }

    fn add(&mut self, camera: CameraId, layer: Layer, hour: u32, slots: &SlotSet) {
        let entry = self.0.entry((camera, layer, hour)).or_default();
        *entry = entry.union(slots);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these slots have those inside the span of a pack.
    pub fn covers(&self, camera: CameraId, layer: Layer, span: Span) -> bool {
        slots_inside(span).all(|(hour, slots)| {
            let here = self.0.get(&(camera, layer, hour));
            here.is_some_and(|here| slots.difference(here).is_empty())
        })
    }

    /// Whether anything of an hour is destroyed, of whatever camera.
    pub fn touches_hour_of(&self, at: Timestamp) -> bool {
        let Some((hour, _)) = Hour::of(at) else { return false };
        self.0.keys().any(|(_, _, here)| *here == hour.get() || *here + 1 == hour.get())
    }

    /// Hours of which something is here that `other` has not.
    pub fn beyond(&self, other: &Self) -> Vec<(CameraId, Timestamp)> {
        let lacks = |key: &(CameraId, Layer, u32), slots: &SlotSet| {
            other.0.get(key).is_none_or(|there| !slots.difference(there).is_empty())
        };
        let beyond = self.0.iter().filter(|(key, slots)| lacks(key, slots));
        beyond.map(|((camera, _, hour), _)| (*camera, start_of(*hour))).collect()
    }

    /// What the receipts of custody say is destroyed, as far as `matters`.
    pub async fn read(services: &Services, matters: impl Fn(CameraId, Timestamp) -> bool) -> Result<Self> {
        let (mut destroyed, mut last) = (Self::default(), 0);
        loop {
            let mut keys = services.keys();
            let call = keys.list_shred_receipts(ListShredReceiptsRequest { after_number: last });
            let page = services.ask("keys", "list receipts of destruction", PROMPT, call).await?.receipts;
            let before = last;
            for signed in page {
                let receipt = ShredReceipt::decode(signed.receipt).doing("read a receipt of destruction")?;
                last = last.max(receipt.number);
                receipt.keys.iter().for_each(|key| destroyed.take(key, &matters));
            }
            if last == before {
                return Ok(destroyed);
            }
        }
    }

    fn take(&mut self, key: &ShreddedKey, matters: &impl Fn(CameraId, Timestamp) -> bool) {
        let slot = |number: u32| u16::try_from(number).ok().and_then(|number| Slot::new(number).ok());
        let slots = slot(key.first_slot).zip(slot(key.last_slot));
        let slots = slots.and_then(|(first, last)| SlotRange::new(first, last).ok());
        let layer = u8::try_from(key.layer).ok().and_then(Layer::from_code);
        let camera = key.camera_id.parse::<CameraId>().ok();
        if let (Some(camera), Some(layer), Some(slots)) = (camera, layer, slots)
            && matters(camera, start_of(key.hour))
        {
            self.add(camera, layer, key.hour, &slots.into());
        }
    }
}

fn start_of(hour: u32) -> Timestamp {
    Timestamp::from_unix_nanos(0) + HOUR.saturating_mul(hour)
}

/// The slots of each hour that lie well inside the span; the one in the middle at least.
fn slots_inside(span: Span) -> impl Iterator<Item = (u32, SlotSet)> {
    let margin = REFINED.min(span.duration() / 2);
    let (start, end) = (span.start() + margin, span.end() - margin);
    let inside = Span::try_new(start, end.max(start + Duration::from_nanos(1)));
    let inside = inside.unwrap_or(span);
    let hour_of = |at: Timestamp| Hour::of(at).map(|(hour, _)| hour.get());
    let first = hour_of(inside.start());
    let last = hour_of(inside.end() - Duration::from_nanos(1));
    let hours = first.zip(last).map(|(first, last)| first..=last).into_iter().flatten();
    hours.filter_map(move |number| {
        let slots = Hour::new(number).ok()?.slots_overlapping(inside)?;
        Some((number, slots.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from_s: u64, to_s: u64) -> Span {
        let hour: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let at = |seconds| hour + Duration::from_secs(seconds);
        Span::try_new(at(from_s), at(to_s)).unwrap()
    }

    fn key(camera: CameraId, first_slot: u32, last_slot: u32) -> ShreddedKey {
        let hour = Hour::of(span(0, 1).start()).unwrap().0.get();
        ShreddedKey {
            camera_id: camera.to_string(),
            layer: 1,
            hour,
            first_slot,
            last_slot,
            ..ShreddedKey::default()
        }
    }

    #[test]
    fn a_pack_is_destroyed_only_where_every_slot_inside_it_is() {
        let camera = CameraId::generate();
        let mut destroyed = Destroyed::default();
        destroyed.take(&key(camera, 0, 29), &|_, _| true);
        assert!(destroyed.covers(camera, Layer::Original, span(0, 60)));
        assert!(
            destroyed.covers(camera, Layer::Original, span(0, 62)),
            "a slot at the end may be a neighbour's"
        );
        assert!(!destroyed.covers(camera, Layer::Original, span(30, 90)));
        assert!(!destroyed.covers(CameraId::generate(), Layer::Original, span(0, 60)));
        assert!(!destroyed.covers(camera, Layer::Masked, span(0, 60)));
        assert!(!destroyed.covers(camera, Layer::Original, span(61, 62)), "a short pack has a slot, too");
        assert!(!destroyed.covers(camera, Layer::Original, span(3_590, 3_650)), "nor in the next hour");
        destroyed.take(&key(camera, 30, 1_799), &|_, _| false);
        assert!(!destroyed.covers(camera, Layer::Original, span(30, 90)), "what does not matter is not kept");
    }

    #[test]
    fn hours_whose_destruction_lacks_a_receipt_are_named() {
        let camera = CameraId::generate();
        let (mut claimed, mut destroyed) = (Destroyed::default(), Destroyed::default());
        claimed.add_inside(camera, Layer::Original, span(0, 60));
        assert_eq!(claimed.beyond(&destroyed), [(camera, span(0, 1).start())]);
        destroyed.take(&key(camera, 0, 1_799), &|_, _| true);
        assert!(claimed.beyond(&destroyed).is_empty() && !claimed.is_empty());
        assert!(
            destroyed.touches_hour_of(span(3_700, 3_701).start()),
            "packs are formed after their footage"
        );
        assert!(!destroyed.touches_hour_of(span(7_300, 7_301).start()));
    }
}
