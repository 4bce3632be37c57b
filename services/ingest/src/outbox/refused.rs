//! What waits only because it is refused, or because custody cannot take its layer key while it takes
//! others. It may wait for long, and must not keep the spool from
//! freeing what lies behind it.

use std::collections::HashSet;

use obscura_clock::Monotonic;
use obscura_ids::LayerKeyId;
use obscura_proto::{footage::v1::Gap, keys::v1::ImportLayerKeyRequest};

use super::{Formed, MOST_REFUSALS, Outbox, State, key_id, keys::Key};
use crate::spool::Serial;

/// Refused gaps that are moved together: each is about a hundred bytes.
const MOST_GAPS: usize = 1_000;

/// Something that is refused.
#[derive(Debug)]
pub enum Refused {
    /// A layer key that was set aside, or that fails again and again while others go through.
    Key(ImportLayerKeyRequest),
    /// Gaps that storage refuses again and again: this one and newer ones.
    Gaps(Vec<(Serial, Gap)>),
    /// A pack that is refused again and again itself, or whose layer key is such a one.
    Pack(Formed),
}

impl Outbox {
    /// What this record belongs to, where that is refused.
    #[must_use]
    pub fn refused_at(&self, serial: Serial) -> Option<Refused> {
        let state = self.lock();
        if let Some(key) = state.keys.get(serial) {
            return key.is_aside().then(|| Refused::Key(key.request.clone()));
        }
        if let Some(gaps) = state.gaps.refused_with(serial, MOST_GAPS) {
            return Some(Refused::Gaps(gaps));
        }
        let pack = state.packs.waiting().find(|pack| pack.holds(serial))?;
        state.is_refused(&state.set_aside(), pack).then(|| Refused::Pack(pack.clone()))
    }

    /// Sealed bytes that are refused.
    #[must_use]
    pub fn refused_bytes(&self) -> u64 {
        let state = self.lock();
        let aside = state.set_aside();
        state.packs.waiting().filter(|pack| state.is_refused(&aside, pack)).map(Formed::bytes).sum()
    }

    /// Whether a pack is refused while others are not, where a pack arrived last at that moment. What refuses
    /// all is an outage, and when it ends the first that gets through proves nothing about those that wait
    /// for their next try: a pack must have been refused again after another arrived. Where its layer key
    /// is refused, another key and a pack must have gone through since.
    #[must_use]
    pub fn is_singled_out(&self, pack: &Formed, last_arrival: Monotonic) -> bool {
        let state = self.lock();
        let of_pack = |key: &&Key| key_id(&key.request).is_some_and(|id| pack.is_under(id));
        let others_go = |key: &Key| state.keys.others_went_since(key) && key.since() < Some(last_arrival);
        (pack.refusals < MOST_REFUSALS || pack.passed_over)
            && state.keys.aside().filter(of_pack).all(others_go)
    }

    #[cfg(test)]
    pub fn waiting_packs(&self) -> Vec<Formed> {
        self.lock().packs.waiting().cloned().collect()
    }

    /// A key has another record in the spool.
    pub fn key_moved(&self, from: Serial, to: Serial) {
        self.lock().keys.moved(from, to);
    }

    /// A gap has another record in the spool.
    pub fn gap_moved(&self, from: Serial, to: Serial) {
        self.lock().gaps.moved(from, to);
    }

    /// A pack that waits has other records in the spool, or none any more.
    pub fn pack_moved(&self, from: &Formed, to: Option<Formed>) {
        let packs = &mut self.lock().packs;
        packs.remove(from);
        to.into_iter().for_each(|pack| packs.add(pack));
    }
}

impl State {
    pub(super) fn set_aside(&self) -> HashSet<LayerKeyId> {
        self.keys.aside().filter_map(|key| key_id(&key.request)).collect()
    }

    pub(super) fn is_refused(&self, set_aside: &HashSet<LayerKeyId>, pack: &Formed) -> bool {
        pack.refusals >= MOST_REFUSALS
            || pack.segments.iter().any(|sealed| set_aside.contains(&sealed.entry.header.key_id))
    }
}
