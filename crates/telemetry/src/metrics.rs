use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{encoding::text::encode, registry::Registry};

/// Media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// No metrics yet; each will be called `obscura_…` and carry the label `service`.
    #[must_use]
    pub fn new(service: &str) -> Self {
        let label = ("service".into(), service.to_owned().into());
        let registry = Registry::with_prefix_and_labels("obscura", std::iter::once(label));
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Adds metrics. Hand over clones and keep the originals: they share their values.
    pub fn register<R>(&self, add: impl FnOnce(&mut Registry) -> R) -> R {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All values of this moment as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A `String` takes everything; the only other source of errors would be a faulty metric.
        if encode(&mut text, &registry).is_err() {
            tracing::error!("a metric cannot be written as text");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn a_metric_carries_our_prefix_and_the_service() {
        let metrics = Metrics::new("keys");
        let imported = Counter::<u64>::default();
        metrics.register(|registry| registry.register("imported", "Layer keys imported", imported.clone()));
        imported.inc();
        let text = metrics.render();
        assert!(text.contains("obscura_imported_total{service=\"keys\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
