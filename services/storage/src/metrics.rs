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
    /// Segments that were marked because their keys are destroyed.
    pub shredded_segments: Counter,
    /// Objects that were deleted because their keys are destroyed.
    pub deleted_objects: Counter,
    /// Deletions that failed and will be tried again.
    pub failed_deletions: Counter,
    /// Rounds in which custody was away or not believed.
    pub failed_rounds: Counter,
    /// Packs that moved to the table of their day.
    pub settled_packs: Counter,
    /// Rounds of moving them that failed and are tried again.
    pub failed_settlings: Counter,
    /// Objects that the scrub read.
    pub scrubbed_packs: Counter,
    /// Bytes that the scrub read.
    pub scrubbed_bytes: Counter,
    /// Objects in which it found something, each time that it did.
    pub damage_found: Counter,
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
            ("shredded_segments", "Segments whose keys are destroyed", &metrics.shredded_segments),
            ("deleted_objects", "Objects deleted after their keys", &metrics.deleted_objects),
            ("failed_deletions", "Deletions that will be tried again", &metrics.failed_deletions),
            ("failed_rounds", "Rounds in which custody was away or not believed", &metrics.failed_rounds),
            ("settled_packs", "Packs moved to the table of their day", &metrics.settled_packs),
            ("failed_settlings", "Rounds of moving packs that are tried again", &metrics.failed_settlings),
            ("scrubbed_packs", "Objects that the scrub read", &metrics.scrubbed_packs),
            ("scrubbed_bytes", "Bytes that the scrub read", &metrics.scrubbed_bytes),
            ("damage_found", "Times that the scrub found damage", &metrics.damage_found),
        ];
        registry.register(|registry| {
            for (name, help, counter) in counters {
                registry.register(format!("storage_{name}"), help, counter.clone());
            }
        });
        metrics
    }
}
