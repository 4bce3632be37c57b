//! Sets of slots of one hour.

use crate::{Error, SLOTS_PER_HOUR, Slot, SlotRange};

/// Any slots of one hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotSet {
    /// In order of time; between two of them at least one slot is missing.
    ranges: Vec<SlotRange>,
}

impl SlotSet {
    /// No slot.
    pub const EMPTY: Self = Self { ranges: Vec::new() };

    /// Every slot of an hour.
    #[must_use]
    pub fn whole_hour() -> Self {
        SlotRange::WHOLE_HOUR.into()
    }

    /// The slots as the fewest ranges, in order of time.
    #[must_use]
    pub fn ranges(&self) -> &[SlotRange] {
        &self.ranges
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> u16 {
        self.ranges.iter().map(|range| range.last().get() - range.first().get() + 1).sum()
    }

    /// Whether there is no slot.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the slot is one of them.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.ranges.iter().any(|range| range.contains(slot))
    }

    /// The slots that are in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| ours || theirs)
    }

    /// The slots that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| ours && theirs)
    }

    /// Our slots without those of the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| ours && !theirs)
    }

    /// Whether every leaf from `first` to `last` is a slot of the set.
    pub(crate) fn holds_all(&self, first: u16, last: u16) -> bool {
        self.ranges.iter().any(|range| range.first().get() <= first && last <= range.last().get())
    }

    /// Whether any leaf from `first` to `last` is a slot of the set.
    pub(crate) fn holds_any(&self, first: u16, last: u16) -> bool {
        self.ranges.iter().any(|range| range.first().get() <= last && first <= range.last().get())
    }

    /// Membership changes only at the ends of ranges, so it is asked there and nowhere else.
    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let mut edges: Vec<u16> = self.edges().chain(other.edges()).collect();
        edges.sort_unstable();
        edges.dedup();
        let (mut ranges, mut open) = (Vec::new(), None);
        for edge in edges {
            let inside = keep(self.holds_any(edge, edge), other.holds_any(edge, edge));
            match (open, inside) {
                (None, true) => open = Some(edge),
                (Some(first), false) => {
                    ranges.extend(range(first, edge - 1));
                    open = None;
                }
                _ => {}
            }
        }
        Self { ranges }
    }

    /// The first slot of each range, and the one behind its last.
    fn edges(&self) -> impl Iterator<Item = u16> {
        self.ranges.iter().flat_map(|range| [range.first().get(), range.last().get() + 1])
    }
}

/// `None` only for what `combine` never asks.
fn range(first: u16, last: u16) -> Option<SlotRange> {
    let last = last.min(SLOTS_PER_HOUR - 1);
    SlotRange::new(Slot::new(first).ok()?, Slot::new(last).ok()?).ok()
}

impl From<SlotRange> for SlotSet {
    fn from(range: SlotRange) -> Self {
        Self { ranges: vec![range] }
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        ranges.into_iter().fold(Self::EMPTY, |set, range| set.union(&range.into()))
    }
}

/// First and last slot of a range as messages carry them.
///
/// # Errors
/// [`Error::Slot`] and [`Error::SlotRange`].
impl TryFrom<(u32, u32)> for SlotRange {
    type Error = Error;

    fn try_from((first, last): (u32, u32)) -> Result<Self, Error> {
        let slot = |number: u32| Slot::new(u16::try_from(number).unwrap_or(u16::MAX));
        Self::new(slot(first)?, slot(last)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A set and the same as plain numbers.
    fn sets() -> impl Strategy<Value = (SlotSet, BTreeSet<u16>)> {
        let range = (0..SLOTS_PER_HOUR, 0..200_u16)
            .prop_map(|(first, length)| (first, first.saturating_add(length).min(SLOTS_PER_HOUR - 1)));
        prop::collection::vec(range, 0..8).prop_map(|ranges| {
            let numbers = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            let ranges = ranges.into_iter().map(|(first, last)| super::range(first, last).unwrap());
            (ranges.collect(), numbers)
        })
    }

    fn numbers(set: &SlotSet) -> BTreeSet<u16> {
        set.ranges().iter().flat_map(|range| range.first().get()..=range.last().get()).collect()
    }

    fn invariant_ranges_are_apart_and_in_order(set: &SlotSet) {
        for pair in set.ranges().windows(2) {
            assert!(pair[0].last().get() + 1 < pair[1].first().get(), "{set:?}");
        }
    }

    #[test]
    fn neighbours_become_one_range() {
        let set: SlotSet = [range(0, 4).unwrap(), range(5, 9).unwrap()].into_iter().collect();
        assert_eq!(set.ranges(), [range(0, 9).unwrap()]);
        assert_eq!(SlotSet::whole_hour().len(), SLOTS_PER_HOUR);
        assert!(SlotRange::try_from((0, 1_800)).is_err() && SlotRange::try_from((2, 1)).is_err());
    }

    proptest! {
        #[test]
        fn sets_of_slots_are_sets((ours, a) in sets(), (theirs, b) in sets()) {
            prop_assert_eq!(numbers(&ours), a.clone());
            prop_assert_eq!(usize::from(ours.len()), a.len());
            let results = [ours.union(&theirs), ours.intersection(&theirs), ours.difference(&theirs)];
            results.iter().for_each(invariant_ranges_are_apart_and_in_order);
            let expected = [&a | &b, &a & &b, &a - &b];
            for (result, expected) in results.iter().zip(expected) {
                prop_assert_eq!(numbers(result), expected.clone());
                prop_assert_eq!(result.is_empty(), expected.is_empty());
            }
            for slot in (0..SLOTS_PER_HOUR).map(|slot| Slot::new(slot).unwrap()) {
                prop_assert_eq!(ours.contains(slot), a.contains(&slot.get()));
            }
        }
    }
}
