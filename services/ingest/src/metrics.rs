//! Metrics of the recorder: names, units and labels in one place. Cameras are counted, not named.

use std::sync::Arc;

use obscura_proto::ingest::v1::CameraState;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::{cameras::Cameras, outbox::Outbox, spool::Spool};

/// Reads the recorder when metrics are asked for: nothing is counted twice.
pub struct Recording {
    /// What is recorded.
    pub cameras: Arc<Cameras>,
    /// What waits.
    pub outbox: Arc<Outbox>,
    /// Where it waits.
    pub spool: Arc<Spool>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recording")
    }
}

impl Collector for Recording {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let committed = *self.spool.committed().borrow();
        let cameras: Vec<_> = self.cameras.gauges().iter().map(|gauge| gauge.status(committed)).collect();
        let recording = cameras.iter().filter(|camera| camera.state() == CameraState::Recording).count();
        let sum =
            |of: fn(&obscura_proto::ingest::v1::CameraStatus) -> u64| cameras.iter().map(of).sum::<u64>();
        let gauges: [(&str, &str, Option<&Unit>, u64); 7] = [
            ("ingest_cameras", "Cameras that should be recorded", None, cameras.len() as u64),
            ("ingest_cameras_recording", "Cameras that are being recorded", None, recording as u64),
            ("ingest_spool", "Size of the spool", Some(&Unit::Bytes), self.spool.used_bytes()),
            ("ingest_spool_limit", "Bound of the spool", Some(&Unit::Bytes), self.spool.limit_bytes()),
            (
                "ingest_segments_waiting",
                "Segments not yet stored",
                None,
                self.outbox.waiting_segments(None) as u64,
            ),
            ("ingest_gaps_waiting", "Gap events not yet indexed", None, self.outbox.waiting_gaps() as u64),
            (
                "ingest_layer_keys_waiting",
                "Layer keys not yet imported",
                None,
                self.outbox.waiting_keys() as u64,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)?;
        }
        let counters: [(&str, &str, u64); 4] = [
            ("ingest_frames", "Frames received", sum(|camera| camera.frames)),
            ("ingest_segments", "Segments sealed", sum(|camera| camera.segments)),
            ("ingest_sealed_bytes", "Sealed bytes", sum(|camera| camera.bytes)),
            ("ingest_packets_lost", "RTP packets lost", sum(|camera| camera.packets_lost)),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
