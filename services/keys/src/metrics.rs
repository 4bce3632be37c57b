//! Metrics of this service. None has a label that names a camera, a key or a person.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::{expiry::Destroyed, rotation::Progress};

/// What is counted beside the requests themselves.
#[derive(Clone, Debug, Default)]
pub struct KeyMetrics {
    imported: Counter,
    released: Counter,
    refused: Counter,
    rewrapped: Gauge,
    key_version: Gauge,
    destroyed: Counter,
    destruction_stopped: Gauge,
    receipts: Gauge,
    holds: Gauge,
    damaged: Gauge,
    keyless: Gauge,
    renewed: Gauge,
}

impl KeyMetrics {
    /// All at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names everything for the scrape.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("keys_imported", "Layer keys taken into custody", self.imported.clone());
        registry.register("keys_released", "Layer keys of which nodes were released", self.released.clone());
        registry.register("keys_release_refused", "Release requests refused", self.refused.clone());
        registry.register("keys_rewrapped", "Rows moved by the newest rotation", self.rewrapped.clone());
        registry.register("keys_encryption_version", "Newest key-encryption key", self.key_version.clone());
        registry.register("keys_destroyed", "Layer keys destroyed by expiry", self.destroyed.clone());
        registry.register(
            "keys_destruction_stopped",
            "1 while expired keys are not destroyed: an alarm",
            self.destruction_stopped.clone(),
        );
        registry.register("keys_shred_receipts", "Receipts of destruction", self.receipts.clone());
        registry.register("keys_holds", "Holds that stand", self.holds.clone());
        registry.register(
            "keys_damaged_rows",
            "Rows that did not open since the start: an alarm",
            self.damaged.clone(),
        );
        registry.register(
            "keys_holds_without_key",
            "Standing holds whose key is gone: an alarm",
            self.keyless.clone(),
        );
        registry.register(
            "keys_epochs_renewed",
            "Epochs whose secret was gone and that got another since the start: an alarm",
            self.renewed.clone(),
        );
    }

    /// A key was imported.
    pub fn imported(&self) {
        self.imported.inc();
    }

    /// So many keys were released.
    pub fn released(&self, keys: usize) {
        self.released.inc_by(u64::try_from(keys).unwrap_or(u64::MAX));
    }

    /// A release was refused.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// A round of expiry is over.
    pub fn expired(&self, outcome: Option<Destroyed>) {
        self.destruction_stopped.set(i64::from(outcome.is_none()));
        self.destroyed.inc_by(outcome.unwrap_or_default().layer_keys);
    }

    /// So much is kept.
    pub fn counted(&self, receipts: u64, holds: u64) {
        self.receipts.set(i64::try_from(receipts).unwrap_or(i64::MAX));
        self.holds.set(i64::try_from(holds).unwrap_or(i64::MAX));
    }

    /// So many standing holds have lost their keys.
    pub fn keyless(&self, holds: usize) {
        self.keyless.set(i64::try_from(holds).unwrap_or(i64::MAX));
    }

    /// So many epochs got a new secret since the start.
    pub fn renewed(&self, epochs: usize) {
        self.renewed.set(i64::try_from(epochs).unwrap_or(i64::MAX));
    }

    /// So many rows were met that do not open.
    pub fn damaged(&self, rows: u64) {
        self.damaged.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// A rotation got this far.
    pub fn rotating(&self, progress: Progress) {
        self.key_version.set(progress.version.0.into());
        self.rewrapped.set(i64::try_from(progress.rewrapped).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::key_encryption::KeyVersion;

    #[test]
    fn every_metric_is_scraped_under_its_name() {
        let (metrics, mut registry) = (KeyMetrics::new(), Registry::default());
        metrics.register(&mut registry);
        metrics.imported();
        metrics.released(3);
        metrics.refused();
        metrics.rotating(Progress { version: KeyVersion(4), rewrapped: 5, total: 9 });
        metrics.expired(Some(Destroyed { epochs: 1, layer_keys: 6 }));
        metrics.expired(None);
        metrics.counted(7, 8);
        metrics.damaged(9);
        metrics.keyless(10);
        metrics.renewed(11);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "keys_imported_total 1",
            "keys_released_total 3",
            "keys_release_refused_total 1",
            "keys_rewrapped 5",
            "keys_encryption_version 4",
            "keys_destroyed_total 6",
            "keys_destruction_stopped 1",
            "keys_shred_receipts 7",
            "keys_holds 8",
            "keys_damaged_rows 9",
            "keys_holds_without_key 10",
            "keys_epochs_renewed 11",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
