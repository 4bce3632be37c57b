//! Keys of custody that no pack uses.

use std::time::Duration;

use obscura_clock::Timestamp;
use obscura_ids::LayerKeyId;
use obscura_proto::storage::v1::FindingKind;

use super::Account;
use crate::{Error, custody::KEYS, finding::Finding, store::Walk};

/// A key is only missed by packs once it is older: until then they may wait in a spool.
const YOUNG: Duration = Duration::from_hours(48);
/// Packs that are read together.
const PAGE: u16 = 500;

impl Account<'_> {
    /// Looks at the keys of custody, a window of the space of keys at a time.
    pub(super) async fn look_at_keys(&mut self) -> Result<(), Error> {
        loop {
            self.look_at_window().await?;
            let Some(next) = self.window.clone().next() else { return Ok(()) };
            self.window = next;
            self.note_used().await?;
        }
    }

    async fn look_at_window(&mut self) -> Result<(), Error> {
        let mut after = self.window.after();
        loop {
            let keys = self.reconciler.custody.keys(after).await?;
            let Some(last) = keys.last().copied() else { return Ok(()) };
            let now = self.reconciler.orphans.clock.wall();
            let is_orphan = |key: &LayerKeyId| self.window.uses(*key) == Some(false) && !is_young(*key, now);
            let orphans: Vec<LayerKeyId> = keys.into_iter().filter(is_orphan).collect();
            self.tell(&orphans).await?;
            if self.window.uses(last).is_none() {
                return Ok(());
            }
            after = Some(last);
        }
    }

    /// Tells those that still open anything. A key of which a part was destroyed had packs, and what is
    /// left of it may well be time in which nothing was recorded.
    async fn tell(&mut self, orphans: &[LayerKeyId]) -> Result<(), Error> {
        for keys in orphans.chunks(KEYS) {
            let touched = self.reconciler.orphans.store.touched_keys(keys).await?;
            for key in self.reconciler.custody.describe(keys).await? {
                if key.known && !key.is_destroyed() && !touched.contains(&key.key) {
                    let words = "no pack uses the layer key: its footage may wait in a spool, or its packs left the \
                                 index; `obscura storage reindex` looks for them. It dies at the end of its retention";
                    self.findings.add(Finding::of_key(FindingKind::KeyOrphaned, key.key, words));
                }
            }
        }
        self.send().await
    }

    /// Walks over the index once more, for the keys of this window.
    async fn note_used(&mut self) -> Result<(), Error> {
        let mut walk = Walk { limit: PAGE, ..Walk::default() };
        loop {
            let rows = self.reconciler.orphans.store.walk(&walk).await?;
            for row in &rows {
                row.directory.entries.iter().for_each(|entry| self.window.note(entry.header.key_id));
            }
            match walk.behind(&rows) {
                Some(next) => walk = next,
                None => return Ok(()),
            }
        }
    }
}

/// Recorders number keys by UUID version 7, which starts with milliseconds since the Unix epoch.
fn is_young(key: LayerKeyId, now: Timestamp) -> bool {
    let bytes = key.as_bytes();
    let millis = bytes.iter().take(6).fold(0_i64, |millis, byte| millis << 8 | i64::from(*byte));
    let is_version_7 = bytes.get(6).is_some_and(|byte| byte >> 4 == 7);
    is_version_7 && now < Timestamp::from_unix_nanos(millis.saturating_mul(1_000_000)) + YOUNG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_young_for_two_days() {
        let key = LayerKeyId::generate();
        let millis = key.as_bytes()[..6].iter().fold(0_i64, |millis, byte| millis << 8 | i64::from(*byte));
        let made = Timestamp::from_unix_nanos(millis * 1_000_000);
        assert!(is_young(key, made) && is_young(key, made + YOUNG - Duration::from_nanos(1)));
        assert!(!is_young(key, made + YOUNG));
        assert!(
            !is_young(LayerKeyId::from_bytes([1; 16]), made),
            "another kind of id says nothing of its age"
        );
    }
}
