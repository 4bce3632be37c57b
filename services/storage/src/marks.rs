//! Which segments of a pack are shredded.

/// One bit for each segment, in the order of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    segments: u32,
    bits: Vec<u8>,
}

impl Marks {
    /// No segment of so many.
    #[must_use]
    pub fn none(segments: u32) -> Self {
        Self { segments, bits: vec![0; bytes_for(segments)] }
    }

    /// Reads [`Marks::as_bytes`] back; `None` where they are not those of so many segments.
    #[must_use]
    pub fn from_bytes(segments: u32, bits: Vec<u8>) -> Option<Self> {
        let marks = Self { segments, bits };
        let beyond = (segments..segments.next_multiple_of(8)).any(|segment| marks.bit(segment));
        (marks.bits.len() == bytes_for(segments) && !beyond).then_some(marks)
    }

    /// The bits, lowest first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Whether this segment is shredded.
    #[must_use]
    pub fn contains(&self, segment: u32) -> bool {
        segment < self.segments && self.bit(segment)
    }

    /// Marks a segment; `true` where it was not marked.
    pub fn insert(&mut self, segment: u32) -> bool {
        if segment >= self.segments || self.bit(segment) {
            return false;
        }
        if let Some(byte) = self.bits.get_mut(place(segment).0) {
            *byte |= place(segment).1;
        }
        true
    }

    /// How many are shredded.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether nothing of the pack can be opened.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.count() >= self.segments
    }

    fn bit(&self, segment: u32) -> bool {
        let (byte, bit) = place(segment);
        self.bits.get(byte).is_some_and(|byte| byte & bit != 0)
    }
}

fn bytes_for(segments: u32) -> usize {
    usize::try_from(segments.div_ceil(8)).unwrap_or(usize::MAX)
}

fn place(segment: u32) -> (usize, u8) {
    (usize::try_from(segment / 8).unwrap_or(usize::MAX), 1 << (segment % 8))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_are_a_set_of_segments(segments in 0..70_u32, inserted in prop::collection::vec(0..80_u32, 0..40)) {
            let (mut marks, mut set) = (Marks::none(segments), BTreeSet::new());
            for segment in inserted {
                prop_assert_eq!(marks.insert(segment), segment < segments && set.insert(segment));
            }
            prop_assert_eq!(marks.count() as usize, set.len());
            prop_assert_eq!(marks.is_all(), set.len() == segments as usize);
            prop_assert!((0..90).all(|segment| marks.contains(segment) == set.contains(&segment)));
            prop_assert_eq!(Marks::from_bytes(segments, marks.as_bytes().to_vec()), Some(marks));
        }

        #[test]
        fn bytes_of_another_number_of_segments_are_refused(segments in 1..64_u32, bits in prop::collection::vec(any::<u8>(), 0..9)) {
            if let Some(marks) = Marks::from_bytes(segments, bits.clone()) {
                prop_assert_eq!(bits.len(), bytes_for(segments));
                prop_assert!(marks.count() <= segments);
            }
        }
    }
}
