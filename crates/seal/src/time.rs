//! Hours and their two-second slots: the grid on which keys are made and released.

use std::time::Duration;

use obscura_clock::{Span, Timestamp};

use crate::Error;

/// Number of slots in an hour.
pub const SLOTS_PER_HOUR: u16 = 1_800;
/// Length of a slot.
pub const SLOT_DURATION: Duration = Duration::from_secs(2);

const SLOT_NANOS: i64 = 2_000_000_000;
const HOUR_NANOS: i64 = 3_600_000_000_000;

/// An hour of wall time, counted from the Unix epoch. One layer key serves at most one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(u32);

/// Two seconds of an hour, counted from 0 to 1,799: the smallest span that a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

/// Slots of one hour from `first` to `last`, both inclusive. Never runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotRange {
    first: Slot,
    last: Slot,
}

impl Hour {
    /// The last hour that lies wholly within what a [`Timestamp`] can express, in the year 2262.
    pub const MAX: Self = Self(2_562_046);

    /// The hour with this number.
    ///
    /// # Errors
    /// [`Error::Hour`] after [`Hour::MAX`].
    pub const fn new(number: u32) -> Result<Self, Error> {
        if number > Self::MAX.0 { Err(Error::Hour(number)) } else { Ok(Self(number)) }
    }

    /// Hours since the Unix epoch.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The hour and slot in which the moment lies; `None` before 1970 and after [`Hour::MAX`].
    #[must_use]
    pub fn of(moment: Timestamp) -> Option<(Self, Slot)> {
        let nanos = moment.unix_nanos();
        let hour = Self::new(u32::try_from(nanos.div_euclid(HOUR_NANOS)).ok()?).ok()?;
        let slot = u16::try_from(nanos.rem_euclid(HOUR_NANOS) / SLOT_NANOS).ok()?;
        Some((hour, Slot(slot)))
    }

    /// First moment of the slot.
    #[must_use]
    pub fn slot_start(self, slot: Slot) -> Timestamp {
        Timestamp::from_unix_nanos(self.start_nanos() + i64::from(slot.0) * SLOT_NANOS)
    }

    /// The slots of this hour that have a moment in common with the span; `None` where there are none.
    #[must_use]
    pub fn slots_overlapping(self, span: Span) -> Option<SlotRange> {
        let start = span.start().unix_nanos().max(self.start_nanos());
        let end = span.end().unix_nanos().min(self.start_nanos() + HOUR_NANOS);
        if start >= end {
            return None;
        }
        let slot_at = |nanos: i64| u16::try_from((nanos - self.start_nanos()) / SLOT_NANOS).ok().map(Slot);
        Some(SlotRange { first: slot_at(start)?, last: slot_at(end - 1)? })
    }

    fn start_nanos(self) -> i64 {
        i64::from(self.0) * HOUR_NANOS
    }
}

impl Slot {
    /// The last slot of an hour.
    pub const MAX: Self = Self(SLOTS_PER_HOUR - 1);

    /// The slot with this number.
    ///
    /// # Errors
    /// [`Error::Slot`] from 1,800 on.
    pub const fn new(number: u16) -> Result<Self, Error> {
        if number > Self::MAX.0 { Err(Error::Slot(number)) } else { Ok(Self(number)) }
    }

    /// Number of the slot in its hour, from 0.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl SlotRange {
    /// Every slot of an hour.
    pub const WHOLE_HOUR: Self = Self { first: Slot(0), last: Slot::MAX };

    /// The slots from `first` to `last`, both inclusive.
    ///
    /// # Errors
    /// [`Error::SlotRange`] where it would run backwards.
    pub fn new(first: Slot, last: Slot) -> Result<Self, Error> {
        if first > last {
            return Err(Error::SlotRange { first: first.0, last: last.0 });
        }
        Ok(Self { first, last })
    }

    /// First slot, inclusive.
    #[must_use]
    pub const fn first(self) -> Slot {
        self.first
    }

    /// Last slot, inclusive.
    #[must_use]
    pub const fn last(self) -> Slot {
        self.last
    }

    /// Whether the slot is one of them.
    #[must_use]
    pub fn contains(self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    #[test]
    fn a_moment_before_1970_or_after_the_last_whole_hour_has_no_slot() {
        assert_eq!(Hour::of(at(-1)), None);
        assert_eq!(Hour::of(at(i64::MAX)), None);
        assert_eq!(Hour::of(at(0)), Some((Hour(0), Slot(0))));
    }

    #[test]
    fn the_last_hour_ends_within_the_range_of_a_timestamp() {
        assert!(Hour::MAX.start_nanos().checked_add(HOUR_NANOS).is_some());
        assert!(Hour::new(Hour::MAX.get() + 1).is_err());
    }

    #[test]
    fn a_span_that_ends_where_a_slot_starts_does_not_touch_that_slot() {
        let hour = Hour::new(490_000).unwrap();
        let start = hour.slot_start(Slot(3));
        let span = Span::try_new(start, start + 2 * SLOT_DURATION).unwrap();
        assert_eq!(hour.slots_overlapping(span), Some(SlotRange { first: Slot(3), last: Slot(4) }));
        assert_eq!(hour.slots_overlapping(Span::try_new(start, start).unwrap()), None);
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_the_slot_that_it_maps_to(nanos in 0..Hour::MAX.start_nanos()) {
            let (hour, slot) = Hour::of(at(nanos)).unwrap();
            let start = hour.slot_start(slot);
            prop_assert!(start <= at(nanos) && at(nanos) < start + SLOT_DURATION);
        }

        #[test]
        fn the_slots_of_a_span_are_exactly_those_that_overlap_it(
            number in 0..=Hour::MAX.get(), from in -8_000_000_000_000_i64..8_000_000_000_000, length in 0..8_000_000_000_000_i64
        ) {
            let hour = Hour::new(number).unwrap();
            let start = hour.start_nanos().saturating_add(from);
            let span = Span::try_new(at(start), at(start.saturating_add(length))).unwrap();
            let range = hour.slots_overlapping(span);
            for slot in (0..SLOTS_PER_HOUR).map(Slot) {
                let begin = hour.slot_start(slot);
                let of_slot = Span::try_new(begin, begin + SLOT_DURATION).unwrap();
                let touched = of_slot.overlaps(span) && !span.duration().is_zero();
                prop_assert_eq!(range.is_some_and(|range| range.contains(slot)), touched);
            }
        }

        #[test]
        fn arbitrary_spans_never_overflow(start: i64, end: i64, number in 0..=Hour::MAX.get()) {
            if let Some(span) = Span::try_new(at(start), at(end)) {
                let _ = Hour::new(number).unwrap().slots_overlapping(span);
            }
        }
    }
}
