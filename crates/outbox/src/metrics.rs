//! What an outbox counts.

use std::sync::atomic::AtomicU64;

use obscura_telemetry::Metrics as Process;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Events that wait.
    pub queued: Gauge<u64, AtomicU64>,
    /// Bytes of the events that wait.
    pub queued_bytes: Gauge<u64, AtomicU64>,
    /// Events that were dropped.
    pub dropped: Counter,
    /// Events that are in the log.
    pub sent: Counter,
}

impl Metrics {
    /// Adds the metrics to those of the process.
    pub fn register(&self, process: &Process) {
        process.register(|registry| {
            let registry = registry.sub_registry_with_prefix("outbox");
            registry.register("queued", "Audit events that wait to be sent", self.queued.clone());
            registry.register(
                "queued_bytes",
                "Bytes of the audit events that wait",
                self.queued_bytes.clone(),
            );
            registry.register("dropped", "Audit events that were dropped", self.dropped.clone());
            registry.register("sent", "Audit events that the log acknowledged", self.sent.clone());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_under_the_names_that_alerts_use() {
        let (metrics, process) = (Metrics::default(), Process::new("keys"));
        metrics.register(&process);
        metrics.dropped.inc();
        let text = process.render();
        assert!(text.contains("obscura_outbox_dropped_total{service=\"keys\"} 1"), "{text}");
    }
}
