//! Metrics of this service. None has a label that names a camera, a key or a person.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::rotation::Progress;

/// What is counted beside the requests themselves.
#[derive(Clone, Debug, Default)]
pub struct KeyMetrics {
    imported: Counter,
    released: Counter,
    refused: Counter,
    rewrapped: Gauge,
    key_version: Gauge,
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
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "keys_imported_total 1",
            "keys_released_total 3",
            "keys_release_refused_total 1",
            "keys_rewrapped 5",
            "keys_encryption_version 4",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
