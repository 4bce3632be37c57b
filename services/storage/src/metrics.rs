//! What this service counts. No label carries an id of a camera or a person.

use obscura_telemetry::Metrics as Registry;
use prometheus_client::metrics::counter::Counter;

/// The counters of the service.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Objects stored.
    pub uploads: Counter,
    /// Bytes of objects stored.
    pub uploaded_bytes: Counter,
    /// Uploads that were refused or broke off.
    pub failed_uploads: Counter,
    /// Bytes of objects handed out.
    pub downloaded_bytes: Counter,
    /// Packs that entered the index.
    pub committed_packs: Counter,
    /// Commits refused because the object was not the announced pack.
    pub lying_objects: Counter,
    /// Gaps recorded, those that were replaced included.
    pub gaps: Counter,
}

impl Metrics {
    /// Counters that the service's metrics page shows.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self::default();
        let counters = [
            ("uploads", "Objects stored", &metrics.uploads),
            ("uploaded_bytes", "Bytes of objects stored", &metrics.uploaded_bytes),
            ("failed_uploads", "Uploads that were refused or broke off", &metrics.failed_uploads),
            ("downloaded_bytes", "Bytes of objects handed out", &metrics.downloaded_bytes),
            ("committed_packs", "Packs that entered the index", &metrics.committed_packs),
            ("lying_objects", "Commits of objects that were not the announced pack", &metrics.lying_objects),
            ("gaps", "Gaps recorded", &metrics.gaps),
        ];
        registry.register(|registry| {
            for (name, help, counter) in counters {
                registry.register(format!("storage_{name}"), help, counter.clone());
            }
        });
        metrics
    }
}
