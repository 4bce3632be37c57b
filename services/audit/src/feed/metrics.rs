//! Metrics of feeds. The names of feeds come from the configuration, never from a request.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeedLabel {
    feed: String,
}

/// What is counted for every feed.
#[derive(Clone, Debug, Default)]
pub struct FeedMetrics {
    next_index: Family<FeedLabel, Gauge>,
    lag: Family<FeedLabel, Gauge>,
    troubled: Family<FeedLabel, Gauge>,
    sent: Family<FeedLabel, Counter>,
    failures: Family<FeedLabel, Counter>,
    lost: Family<FeedLabel, Counter>,
}

impl FeedMetrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names everything for the scrape.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("audit_feed_next_index", "Everything below has arrived", self.next_index.clone());
        registry.register("audit_feed_lag", "Events in the log that have not arrived", self.lag.clone());
        registry.register("audit_feed_troubled", "1 while a feed cannot deliver", self.troubled.clone());
        registry.register("audit_feed_sent", "Events handed over, repeated ones too", self.sent.clone());
        registry.register("audit_feed_failures", "Attempts that ended in trouble", self.failures.clone());
        registry.register("audit_feed_lost", "Entries pruned before they were sent", self.lost.clone());
    }

    /// The metrics of one feed.
    pub(super) fn of(&self, feed: &str) -> OneFeed {
        let label = FeedLabel { feed: feed.to_owned() };
        OneFeed {
            next_index: self.next_index.get_or_create_owned(&label),
            lag: self.lag.get_or_create_owned(&label),
            troubled: self.troubled.get_or_create_owned(&label),
            sent: self.sent.get_or_create_owned(&label),
            failures: self.failures.get_or_create_owned(&label),
            lost: self.lost.get_or_create_owned(&label),
        }
    }
}

/// What is counted for one feed.
#[derive(Clone, Debug)]
pub struct OneFeed {
    next_index: Gauge,
    lag: Gauge,
    troubled: Gauge,
    sent: Counter,
    failures: Counter,
    lost: Counter,
}

impl OneFeed {
    /// It is here, and the log is so long.
    pub fn at(&self, next_index: u64, size: u64) {
        self.next_index.set(gauge(next_index));
        self.lag.set(gauge(size.saturating_sub(next_index)));
    }

    /// So many events were handed over.
    pub fn sent(&self, events: usize) {
        self.sent.inc_by(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// So many entries will never be sent.
    pub fn lost(&self, entries: u64) {
        self.lost.inc_by(entries);
    }

    /// An attempt failed.
    pub fn failed(&self) {
        self.failures.inc();
        self.troubled.set(1);
    }

    /// It delivers.
    pub fn well(&self) {
        self.troubled.set(0);
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_feed_has_its_own_lag_and_trouble() {
        let (metrics, mut registry) = (FeedMetrics::new(), Registry::default());
        metrics.register(&mut registry);
        metrics.of("bus").at(3, 10);
        metrics.of("bus").sent(3);
        metrics.of("siem").failed();
        metrics.of("siem").lost(4);
        metrics.of("bus").well();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"audit_feed_next_index{feed="bus"} 3"#,
            r#"audit_feed_lag{feed="bus"} 7"#,
            r#"audit_feed_sent_total{feed="bus"} 3"#,
            r#"audit_feed_troubled{feed="siem"} 1"#,
            r#"audit_feed_troubled{feed="bus"} 0"#,
            r#"audit_feed_failures_total{feed="siem"} 1"#,
            r#"audit_feed_lost_total{feed="siem"} 4"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
