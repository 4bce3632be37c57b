//! What became of each indexed segment: custody's word and our own marks, taken together.
//!
//! `keys` decides and storage follows, so a segment is only ever called shredded where a signed
//! receipt marked it here or custody says now that its slot no longer opens.

use std::time::Duration;

use obscura_clock::Timestamp;
use obscura_ids::LayerKeyId;
use obscura_pack::Entry;
use obscura_proto::{keys::v1 as keys, storage::v1 as storage};
use obscura_seal::{Slot, SlotRange};

use crate::Error;

/// Custody destroys at most an hour after the promised moment; until then nothing is overdue.
pub const GRACE: Duration = Duration::from_secs(3_600);

/// What became of one segment of a pack that is not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SegmentState {
    /// Opens, within its retention.
    Live,
    /// Opens by a hold alone.
    Held,
    /// Its key is destroyed.
    Shredded,
    /// Opens, beyond its retention and without a hold.
    Overdue,
    /// Its layer key never came into custody.
    Keyless,
    /// Its object is gone though its key is not destroyed.
    Lost,
}

/// What custody says of one layer key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The key.
    pub key: LayerKeyId,
    /// Whether it was ever imported.
    pub known: bool,
    /// Slots that can still be opened.
    pub live: Vec<SlotRange>,
    /// Those of them that live only by a hold.
    pub held: Vec<SlotRange>,
    /// End of retention.
    pub expires: Timestamp,
}

impl KeyState {
    /// Whether nothing of it can be opened.
    #[must_use]
    pub fn is_destroyed(&self) -> bool {
        self.known && self.live.is_empty()
    }
}

/// What became of a segment whose object is there. `marked` says that a receipt covered it.
#[must_use]
pub fn state_of(entry: &Entry, marked: bool, key: &KeyState, now: Timestamp) -> SegmentState {
    let slot = entry.header.slot;
    let holds = |ranges: &[SlotRange]| ranges.iter().any(|range| range.contains(slot));
    match () {
        () if marked => SegmentState::Shredded,
        () if !key.known => SegmentState::Keyless,
        () if holds(&key.held) => SegmentState::Held,
        () if !holds(&key.live) => SegmentState::Shredded,
        () if now > key.expires + GRACE => SegmentState::Overdue,
        () => SegmentState::Live,
    }
}

/// Segments by state, each in exactly one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Within their retention.
    pub live: u64,
    /// Beyond it, kept by a hold.
    pub held: u64,
    /// Key destroyed, object not deleted yet.
    pub shredded: u64,
    /// Key destroyed and object deleted.
    pub deleted: u64,
    /// None of these; each has a finding.
    pub unaccounted: u64,
}

impl Counts {
    /// Adds one segment.
    pub const fn add(&mut self, state: SegmentState) {
        let count = match state {
            SegmentState::Live => &mut self.live,
            SegmentState::Held => &mut self.held,
            SegmentState::Shredded => &mut self.shredded,
            SegmentState::Overdue | SegmentState::Keyless | SegmentState::Lost => &mut self.unaccounted,
        };
        *count = count.saturating_add(1);
    }
}

impl From<Counts> for storage::SegmentCounts {
    fn from(counts: Counts) -> Self {
        let Counts { live, held, shredded, deleted, unaccounted } = counts;
        Self { live, held, shredded, deleted, unaccounted }
    }
}

impl TryFrom<keys::KeyDescription> for KeyState {
    type Error = Error;

    fn try_from(message: keys::KeyDescription) -> Result<Self, Error> {
        Ok(Self {
            key: message.key_id.parse()?,
            known: message.known,
            live: message.live.into_iter().map(slots).collect::<Result<_, _>>()?,
            held: message.held.into_iter().map(slots).collect::<Result<_, _>>()?,
            expires: Timestamp::from_unix_nanos(message.expires_unix_ns),
        })
    }
}

fn slots(range: keys::SlotRange) -> Result<SlotRange, Error> {
    slot_range(range.first, range.last).ok_or(Error::Custody("it names slots that no hour has".to_owned()))
}

/// Slots of an hour as messages carry them; `None` where there are no such slots.
pub fn slot_range(first: u32, last: u32) -> Option<SlotRange> {
    let slot = |number: u32| Slot::new(u16::try_from(number).ok()?).ok();
    SlotRange::new(slot(first)?, slot(last)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{at, pack};

    fn range(first: u32, last: u32) -> SlotRange {
        slot_range(first, last).unwrap()
    }

    fn key(live: &[(u32, u32)], held: &[(u32, u32)], expires: Timestamp) -> KeyState {
        let ranges = |ranges: &[(u32, u32)]| ranges.iter().map(|&(first, last)| range(first, last)).collect();
        let key = LayerKeyId::from_bytes([1; 16]);
        KeyState { key, known: true, live: ranges(live), held: ranges(held), expires }
    }

    /// The segment starts at slot 2 of its hour.
    fn segment() -> Entry {
        pack(1, obscura_ids::PackId::from_bytes([1; 16]), &[(4_000, 8_000)]).entries.remove(0)
    }

    #[test]
    fn a_segment_is_live_until_its_retention_and_an_hour_are_over() {
        let (whole, expires) = (key(&[(0, 1_799)], &[], at(0)), at(0));
        assert_eq!(state_of(&segment(), false, &whole, expires + GRACE), SegmentState::Live);
        let later = expires + GRACE + Duration::from_nanos(1);
        assert_eq!(state_of(&segment(), false, &whole, later), SegmentState::Overdue);
        assert_eq!(state_of(&segment(), true, &whole, later), SegmentState::Shredded, "a receipt said so");
    }

    #[test]
    fn a_hold_keeps_exactly_its_slots() {
        let held = key(&[(2, 5)], &[(2, 5)], at(0));
        assert_eq!(state_of(&segment(), false, &held, at(1_000_000_000)), SegmentState::Held);
        let neighbour = key(&[(3, 5)], &[(3, 5)], at(0));
        assert_eq!(state_of(&segment(), false, &neighbour, at(0)), SegmentState::Shredded);
    }

    #[test]
    fn a_key_that_never_came_is_not_a_destroyed_one() {
        let unknown = KeyState { known: false, ..key(&[], &[], at(0)) };
        assert_eq!(state_of(&segment(), false, &unknown, at(0)), SegmentState::Keyless);
        assert!(!unknown.is_destroyed() && key(&[], &[], at(0)).is_destroyed());
    }

    #[test]
    fn slots_that_no_hour_has_are_refused() {
        for (first, last) in [(0, 1_800), (3, 2), (u32::MAX, u32::MAX)] {
            assert_eq!(slot_range(first, last), None);
        }
    }

    proptest! {
        #[test]
        fn a_segment_is_counted_as_shredded_exactly_where_nothing_opens_it(
            live in prop::collection::vec((0..6_u32, 0..4_u32), 0..3),
            held in any::<bool>(), known in any::<bool>(), marked in any::<bool>(), late in any::<bool>(),
        ) {
            let live: Vec<(u32, u32)> = live.into_iter().map(|(first, more)| (first, first + more)).collect();
            let opens = live.iter().any(|&(first, last)| (first..=last).contains(&2));
            let held = if held { live.clone() } else { Vec::new() };
            let key = KeyState { known, ..key(&live, &held, at(0)) };
            let now = at(if late { 10_000_000 } else { 0 });
            let state = state_of(&segment(), marked, &key, now);
            prop_assert_eq!(state == SegmentState::Shredded, marked || (known && !opens));
            let mut counts = Counts::default();
            counts.add(state);
            prop_assert_eq!(counts.live + counts.held + counts.shredded + counts.unaccounted, 1);
            prop_assert_eq!(counts.unaccounted == 1, !marked && (!known || (opens && late && held.is_empty())));
        }
    }
}
