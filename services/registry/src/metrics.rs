//! What the registry counts: names, units and label values, all here.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Cameras that are not removed.
    pub cameras: Gauge,
    /// Version of the newest snapshot.
    pub snapshot_version: Gauge<u64, AtomicU64>,
    /// Size of the newest snapshot, in bytes.
    pub snapshot_bytes: Gauge<u64, AtomicU64>,
    /// Streams of snapshots that are open.
    pub watchers: Gauge,
    refused_places: Family<RefusedPlace, Counter>,
}

/// Why a camera got no zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedPlace {
    /// `outside`, `at_sea`, `edge_of_the_sea`, `border`, `disputed` or `decision`.
    reason: &'static str,
}

impl Metrics {
    /// Adds the metrics to the registry of the process.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("registry");
        registry.register("cameras", "Cameras that are not removed", self.cameras.clone());
        registry.register(
            "snapshot_version",
            "Version of the newest snapshot",
            self.snapshot_version.clone(),
        );
        registry.register("snapshot_bytes", "Size of the newest snapshot", self.snapshot_bytes.clone());
        registry.register("watchers", "Open streams of snapshots", self.watchers.clone());
        registry.register(
            "refused_places",
            "Cameras that were refused because their place has no clear zone",
            self.refused_places.clone(),
        );
    }

    /// Counts a camera that got no zone.
    pub fn place_refused(&self, error: &crate::zone::Error) {
        use crate::zone::Error;

        let reason = match error {
            Error::Outside(_) => "outside",
            Error::Unclear { unclear, .. } => unclear.label(),
            Error::Overruled { .. }
            | Error::NoSuchZone(_)
            | Error::NotInZone { .. }
            | Error::Implausible { .. } => "decision",
        };
        self.refused_places.get_or_create(&RefusedPlace { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_under_the_names_that_alerts_use() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.snapshot_version.set(7);
        metrics.place_refused(&crate::zone::Error::Outside("SJ".parse().unwrap()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("registry_snapshot_version 7"), "{text}");
        assert!(text.contains("registry_refused_places_total{reason=\"outside\"} 1"), "{text}");
    }
}
