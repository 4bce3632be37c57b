//! The one metric that warns before mutual TLS stops working.

use obscura_identity::Identity;
use obscura_telemetry::Metrics;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
};

/// Adds `obscura_identity_not_after_seconds`, read at every scrape: a reload changes it.
pub fn register(metrics: &Metrics, identity: &Identity) {
    let collector = Box::new(Expiry(identity.clone()));
    metrics.register(|registry| registry.register_collector(collector));
}

#[derive(Debug)]
struct Expiry(Identity);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(self.0.served_not_after().unix_nanos() / 1_000_000_000);
        let help = "End of validity of the served certificate, seconds since the Unix epoch.";
        let metric =
            encoder.encode_descriptor("identity_not_after_seconds", help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}
