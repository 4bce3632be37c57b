//! What may be opened of one layer key, and what each act leaves of it: plain sets of slots.
//!
//! A slot is live while its retention runs, and held while any hold stands that has it. It can be
//! opened as long as it is either. Custody does with keys what this says about slots.

use std::collections::BTreeMap;

use obscura_seal::SlotSet;

use crate::hold::HoldId;

/// What may be opened of one layer key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyLedger {
    live: SlotSet,
    holds: BTreeMap<HoldId, SlotSet>,
}

impl KeyLedger {
    /// A key of which these slots are within their retention and these are held.
    pub const fn new(live: SlotSet, holds: BTreeMap<HoldId, SlotSet>) -> Self {
        Self { live, holds }
    }

    /// Slots within their retention.
    #[cfg(test)]
    pub const fn live(&self) -> &SlotSet {
        &self.live
    }

    /// Slots that any hold has.
    pub fn held(&self) -> SlotSet {
        self.holds.values().fold(SlotSet::EMPTY, |all, one| all.union(one))
    }

    /// Slots that open, for any reason.
    pub fn openable(&self) -> SlotSet {
        self.live.union(&self.held())
    }

    /// Slots that open only because of a hold.
    pub fn only_held(&self) -> SlotSet {
        self.held().difference(&self.live)
    }

    /// Places a hold on those of `wanted` that still open; returns them.
    pub fn hold(&mut self, id: HoldId, wanted: &SlotSet) -> SlotSet {
        let held = wanted.intersection(&self.openable());
        if !held.is_empty() {
            self.holds.insert(id, held.clone());
        }
        held
    }

    /// Ends the retention; returns what no longer opens.
    pub fn expire(&mut self) -> SlotSet {
        let destroyed = self.live.difference(&self.held());
        self.live = SlotSet::EMPTY;
        destroyed
    }

    /// Ends the retention of some slots early; returns what no longer opens.
    pub fn shred(&mut self, wanted: &SlotSet) -> SlotSet {
        let taken = self.live.intersection(wanted);
        self.live = self.live.difference(wanted);
        taken.difference(&self.held())
    }

    /// Ends a hold; returns what no longer opens.
    pub fn release(&mut self, id: HoldId) -> SlotSet {
        let released = self.holds.remove(&id).unwrap_or_default();
        released.difference(&self.openable())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use obscura_seal::{SLOTS_PER_HOUR, Slot, SlotRange};
    use proptest::prelude::*;

    use super::*;

    /// The same, slot by slot.
    #[derive(Default)]
    struct Naive {
        live: BTreeSet<u16>,
        holds: BTreeMap<HoldId, BTreeSet<u16>>,
    }

    impl Naive {
        fn opens(&self, slot: u16) -> bool {
            self.live.contains(&slot) || self.holds.values().any(|held| held.contains(&slot))
        }

        fn openable(&self) -> BTreeSet<u16> {
            (0..SLOTS_PER_HOUR).filter(|slot| self.opens(*slot)).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Hold(usize, u16, u16),
        Shred(u16, u16),
        Release(usize),
        Expire,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let span = (0..SLOTS_PER_HOUR, 0..600_u16)
            .prop_map(|(first, length)| (first, first.saturating_add(length).min(SLOTS_PER_HOUR - 1)));
        let act = prop_oneof![
            3 => (0..4_usize, span.clone()).prop_map(|(id, (first, last))| Act::Hold(id, first, last)),
            3 => span.prop_map(|(first, last)| Act::Shred(first, last)),
            3 => (0..4_usize).prop_map(Act::Release),
            1 => Just(Act::Expire),
        ];
        prop::collection::vec(act, 0..12)
    }

    fn set(first: u16, last: u16) -> SlotSet {
        SlotRange::new(Slot::new(first).unwrap(), Slot::new(last).unwrap()).unwrap().into()
    }

    fn numbers(set: &SlotSet) -> BTreeSet<u16> {
        set.ranges().iter().flat_map(|range| range.first().get()..=range.last().get()).collect()
    }

    proptest! {
        #[test]
        fn the_ledger_says_what_slot_by_slot_bookkeeping_says(acts in acts()) {
            let ids: Vec<HoldId> = (0..4).map(|_| HoldId::generate()).collect();
            let mut ledger = KeyLedger::new(SlotSet::whole_hour(), BTreeMap::new());
            let mut naive = Naive { live: (0..SLOTS_PER_HOUR).collect(), ..Naive::default() };
            let mut dead = BTreeSet::new();
            for act in acts {
                let before = naive.openable();
                let destroyed = match act {
                    Act::Hold(id, first, last) if !naive.holds.contains_key(&ids[id]) => {
                        let held: BTreeSet<u16> = (first..=last).filter(|slot| naive.opens(*slot)).collect();
                        prop_assert_eq!(numbers(&ledger.hold(ids[id], &set(first, last))), held.clone());
                        naive.holds.insert(ids[id], held);
                        SlotSet::EMPTY
                    }
                    Act::Hold(..) => SlotSet::EMPTY,
                    Act::Shred(first, last) => {
                        naive.live.retain(|slot| !(first..=last).contains(slot));
                        ledger.shred(&set(first, last))
                    }
                    Act::Release(id) => {
                        naive.holds.remove(&ids[id]);
                        ledger.release(ids[id])
                    }
                    Act::Expire => {
                        naive.live.clear();
                        ledger.expire()
                    }
                };
                let after = naive.openable();
                prop_assert_eq!(numbers(&ledger.openable()), after.clone());
                prop_assert_eq!(numbers(&destroyed), &before - &after);
                prop_assert_eq!(numbers(&ledger.only_held()), &after - &naive.live);
                prop_assert_eq!(numbers(ledger.live()), naive.live.clone());
                // What is destroyed once is never destroyed again, and never comes back.
                prop_assert!(dead.is_disjoint(&numbers(&destroyed)));
                dead.extend(numbers(&destroyed));
                prop_assert!(dead.is_disjoint(&after));
            }
        }
    }
}
