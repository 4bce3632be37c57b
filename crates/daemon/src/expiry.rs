//! The metrics that warn before mutual TLS stops working.

use obscura_identity::Identity;
use obscura_telemetry::Metrics;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
};

/// Adds `obscura_identity_not_after_seconds` and `obscura_identity_authority_not_after_seconds`, read at every
/// scrape: a reload changes them.
pub fn register(metrics: &Metrics, identity: &Identity) {
    let collector = Box::new(Expiry(identity.clone()));
    metrics.register(|registry| registry.register_collector(collector));
}

#[derive(Debug)]
struct Expiry(Identity);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let authority = self.0.authority_validity().not_after;
        for (name, help, end) in [
            (
                "identity_not_after_seconds",
                "End of validity of the served certificate, seconds since the Unix epoch.",
                self.0.served_not_after(),
            ),
            (
                "identity_authority_not_after_seconds",
                "End of validity of the authority that signed it, seconds since the Unix epoch.",
                authority,
            ),
        ] {
            let gauge = ConstGauge::new(end.unix_nanos() / 1_000_000_000);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
