//! Which layer keys the packs use, in bounded memory.
//!
//! A window remembers the lowest so many keys of the index that lie behind its start. Where there were
//! more, the index is walked once more for the window behind it: a million keys are a thousand cameras
//! for forty days, so nearly always one walk is enough.

use std::collections::BTreeSet;

use obscura_ids::LayerKeyId;

/// Keys in one window: 16 bytes each.
pub const WINDOW: usize = 1_000_000;

/// A part of the space of keys, and those in it that packs use.
#[derive(Clone, Debug)]
pub struct KeyWindow {
    after: Option<LayerKeyId>,
    used: BTreeSet<LayerKeyId>,
    limit: usize,
    is_cut: bool,
}

impl KeyWindow {
    /// The first window, of at most `limit` keys.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { after: None, used: BTreeSet::new(), limit, is_cut: false }
    }

    /// Notes that a pack uses this key.
    pub fn note(&mut self, key: LayerKeyId) {
        if Some(key) <= self.after || (self.is_cut && Some(&key) > self.used.last()) {
            return;
        }
        self.used.insert(key);
        if self.used.len() > self.limit {
            self.used.pop_last();
            self.is_cut = true;
        }
    }

    /// Whether some pack uses this key; `None` where it lies outside the window.
    #[must_use]
    pub fn uses(&self, key: LayerKeyId) -> Option<bool> {
        let inside = Some(key) > self.after && (!self.is_cut || Some(&key) <= self.used.last());
        inside.then(|| self.used.contains(&key))
    }

    /// The key behind which this window starts.
    #[must_use]
    pub const fn after(&self) -> Option<LayerKeyId> {
        self.after
    }

    /// The window behind this one; `None` where this one reaches to the end.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.is_cut.then(|| Self { after: self.used.last().copied(), ..Self::first(self.limit) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> LayerKeyId {
        LayerKeyId::from_bytes([number; 16])
    }

    proptest! {
        #[test]
        fn the_windows_together_know_every_key_once(
            used in prop::collection::vec(0..60_u8, 0..80), limit in 1..9_usize,
        ) {
            let (mut window, mut told) = (Some(KeyWindow::first(limit)), vec![None; 64]);
            while let Some(mut open) = window {
                used.iter().for_each(|&number| open.note(key(number)));
                prop_assert!(open.used.len() <= limit);
                for number in 0..64_u8 {
                    if let Some(uses) = open.uses(key(number)) {
                        prop_assert_eq!(told[usize::from(number)].replace(uses), None);
                    }
                }
                window = open.next();
            }
            for number in 0..64_u8 {
                prop_assert_eq!(told[usize::from(number)], Some(used.contains(&number)));
            }
        }
    }
}
