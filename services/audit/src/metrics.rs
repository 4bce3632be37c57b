//! Metrics of this service. None has a label that names a camera or a person.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds of the time that a batch takes, in seconds.
const BATCH_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Upper bounds of the entries in a batch.
const BATCH_ENTRIES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];

/// What is counted beside the requests themselves.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    size: Gauge,
    published: Gauge,
    witnessed: Gauge,
    first_kept: Gauge,
    contradicted: Counter,
    failed: Counter,
    seconds: Histogram,
    entries: Histogram,
}

impl Default for AuditMetrics {
    fn default() -> Self {
        Self {
            size: Gauge::default(),
            published: Gauge::default(),
            witnessed: Gauge::default(),
            first_kept: Gauge::default(),
            contradicted: Counter::default(),
            failed: Counter::default(),
            seconds: Histogram::new(BATCH_SECONDS),
            entries: Histogram::new(BATCH_ENTRIES),
        }
    }
}

impl AuditMetrics {
    /// All at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names everything for the scrape.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("audit_log_size", "Leaves in the log", self.size.clone());
        registry.register(
            "audit_published_size",
            "Leaves under the published checkpoint",
            self.published.clone(),
        );
        registry.register(
            "audit_witnessed_size",
            "Leaves under the newest cosigned checkpoint",
            self.witnessed.clone(),
        );
        registry.register(
            "audit_first_kept",
            "Index of the first entry that is kept",
            self.first_kept.clone(),
        );
        registry.register(
            "audit_witness_contradictions",
            "Checkpoints that a witness refused as those of another log, without showing a newer one",
            self.contradicted.clone(),
        );
        registry.register("audit_batches_failed", "Batches that could not be committed", self.failed.clone());
        registry.register(
            "audit_batch_seconds",
            "Time from taking a batch to its answers",
            self.seconds.clone(),
        );
        registry.register("audit_batch_entries", "Entries that were appended together", self.entries.clone());
    }

    /// The log has so many leaves.
    pub fn size(&self, size: u64) {
        self.size.set(gauge(size));
    }

    /// A checkpoint of this size was published.
    pub fn published(&self, size: u64, witnessed: u64) {
        self.published.set(gauge(size));
        self.witnessed.set(gauge(witnessed));
    }

    /// Entries before this index are gone.
    pub fn first_kept(&self, index: u64) {
        self.first_kept.set(gauge(index));
    }

    /// Witnesses were asked; whether one contradicted the log and showed nothing newer.
    pub fn contradicted(&self, contradicted: bool) {
        self.contradicted.inc_by(contradicted.into());
    }

    /// A batch was not committed.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// A batch took so long.
    pub fn batch(&self, entries: usize, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.entries.observe(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)));
    }
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_metric_is_scraped_under_its_name() {
        let (metrics, mut registry) = (AuditMetrics::new(), Registry::default());
        metrics.register(&mut registry);
        metrics.size(9);
        metrics.published(8, 7);
        metrics.first_kept(6);
        metrics.contradicted(false);
        metrics.contradicted(true);
        metrics.failed();
        metrics.batch(3, Duration::from_millis(4));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "audit_log_size 9",
            "audit_published_size 8",
            "audit_witnessed_size 7",
            "audit_first_kept 6",
            "audit_witness_contradictions_total 1",
            "audit_batches_failed_total 1",
            "audit_batch_seconds_count 1",
            "audit_batch_entries_sum 3.0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
