//! Metrics of the recorder: names, units and labels in one place. Cameras are counted, not named.

use std::sync::Arc;

use obscura_proto::ingest::v1::CameraState;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::{cameras::Cameras, outbox::Outbox, pressure::Pressure, spool::Spool};

/// Reads the recorder when metrics are asked for: nothing is counted twice.
pub struct Recording {
    /// What is recorded.
    pub cameras: Arc<Cameras>,
    /// What waits.
    pub outbox: Arc<Outbox>,
    /// Where it waits.
    pub spool: Arc<Spool>,
    /// How full that is.
    pub pressure: Arc<Pressure>,
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
        let forecast = self.pressure.forecast();
        let gauges: [(&str, &str, Option<&Unit>, u64); 16] = [
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
                "ingest_gaps_refused",
                "Gap events that storage refuses again and again",
                None,
                self.outbox.refused_gaps() as u64,
            ),
            (
                "ingest_spool_unreadable",
                "Layer keys and gaps of an earlier run that could not be read and were dropped",
                None,
                self.outbox.unreadable() as u64,
            ),
            (
                "ingest_layer_keys_waiting",
                "Layer keys not yet imported",
                None,
                self.outbox.waiting_keys() as u64,
            ),
            (
                "ingest_layer_keys_refused",
                "Layer keys that custody refuses for good",
                None,
                self.outbox.refused_keys() as u64,
            ),
            (
                "ingest_layer_keys_failing",
                "Layer keys that custody has not taken in many tries, and does not refuse for good",
                None,
                self.outbox.failing_keys() as u64,
            ),
            (
                "ingest_cameras_paused",
                "Cameras that are paused because the spool is full",
                None,
                self.cameras.paused().len() as u64,
            ),
            (
                "ingest_oldest_waiting",
                "How long the oldest segment waits",
                Some(&Unit::Seconds),
                forecast.oldest.as_secs(),
            ),
            (
                "ingest_spool_alarm",
                "1 where the spool will be full within 48 h, or nearly is",
                None,
                forecast.alarm.into(),
            ),
            (
                "ingest_spool_disk_full",
                "1 where the disk of the spool has no room",
                None,
                self.spool.disk_is_full().into(),
            ),
            (
                "ingest_spool_damaged_files",
                "Files of the spool of which the disk lost part, since the start",
                None,
                self.spool.damage().files(),
            ),
        ];
        if let Some(full_in) = forecast.full_in {
            let (name, help) =
                ("ingest_spool_full_in", "Time until the spool is full at the rate of the last minutes");
            let gauge = ConstGauge::new(i64::try_from(full_in.as_secs()).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(
                name,
                help,
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?)?;
        }
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
