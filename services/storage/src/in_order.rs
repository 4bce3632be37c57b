//! Segments in order of their starts, from packs that come in order of theirs and may overlap.

use std::{cmp::Reverse, collections::BinaryHeap};

use obscura_clock::{Span, Timestamp};

/// A segment on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// From its first to its last frame.
    pub span: Span,
    /// Sealed bytes.
    pub bytes: u64,
    /// Whether it is lost with this step.
    pub is_lost: bool,
}

type Key = (Timestamp, Timestamp, u64, bool);

/// Segments that cannot be told yet: a pack that is still to come may hold an earlier one.
#[derive(Clone, Debug, Default)]
pub struct InOrder {
    waiting: BinaryHeap<Reverse<Key>>,
}

impl InOrder {
    /// Takes a segment of the next pack.
    pub fn push(&mut self, segment: Passing) {
        let Passing { span, bytes, is_lost } = segment;
        self.waiting.push(Reverse((span.start(), span.end(), bytes, is_lost)));
    }

    /// The next segment, if it starts before `bound`: the start of the next pack, `None` after the last.
    pub fn pop_before(&mut self, bound: Option<Timestamp>) -> Option<Passing> {
        let Reverse((start, ..)) = self.waiting.peek()?;
        if bound.is_some_and(|bound| *start >= bound) {
            return None;
        }
        let Reverse((start, end, bytes, is_lost)) = self.waiting.pop()?;
        Some(Passing { span: Span::try_new(start, end)?, bytes, is_lost })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{at, span};

    proptest! {
        #[test]
        fn segments_of_overlapping_packs_come_in_order(
            packs in prop::collection::vec(prop::collection::vec((0..50_i64, 1..9_i64), 1..5), 0..8),
        ) {
            let mut packs = packs;
            packs.sort_by_key(|pack| pack.iter().map(|segment| segment.0).min());
            let (mut order, mut told) = (InOrder::default(), Vec::new());
            for pack in &packs {
                let start = pack.iter().map(|segment| at(segment.0)).min();
                told.extend(std::iter::from_fn(|| order.pop_before(start)));
                for &(start, length) in pack {
                    order.push(Passing { span: span(start, start + length), bytes: 1, is_lost: false });
                }
            }
            told.extend(std::iter::from_fn(|| order.pop_before(None)));
            prop_assert_eq!(told.len(), packs.iter().flatten().count());
            prop_assert!(told.is_sorted_by_key(|segment| segment.span.start()));
        }
    }
}
