//! Alarms of the spool, and of what waits in it for a reason of its own.

use std::{sync::Arc, time::Duration};

use obscura_outbox::Reporting;
use tokio_util::sync::CancellationToken;

use crate::{
    outbox::Outbox,
    pressure::{Forecast, Pressure},
};

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// An alarm by its stable name, with its words while it is on.
type Alarm = (&'static str, Option<&'static str>);

/// Tells the audit log of alarms, and of their ends.
pub async fn report(
    pressure: Arc<Pressure>,
    outbox: Arc<Outbox>,
    reporting: Arc<Reporting>,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        for (name, words) in of(pressure.forecast(), &outbox) {
            reporting.alarm(name, words).await;
        }
        let _ = tokio::time::timeout(EVERY, shutdown.cancelled()).await;
    }
}

fn of(forecast: Forecast, outbox: &Outbox) -> [Alarm; 2] {
    let floor = "at the rate of the last minutes the spool is full within 48 hours";
    let key = "keys has not taken a layer key in many tries: its footage waits in the spool, and the log of ingest says why";
    [
        ("spool_floor", forecast.alarm.then_some(floor)),
        ("layer_key_waits", (outbox.failing_keys() > 0).then_some(key)),
    ]
}

#[cfg(test)]
mod tests {
    use obscura_clock::Monotonic;
    use obscura_proto::keys::v1::ImportLayerKeyRequest;

    use super::*;
    use crate::spool::Serial;

    fn is_on(outbox: &Outbox, alarm: &str) -> bool {
        of(Forecast::default(), outbox).iter().any(|(name, words)| *name == alarm && words.is_some())
    }

    #[test]
    fn a_layer_key_that_does_not_go_through_is_an_alarm_until_it_does() {
        let (outbox, now) = (Outbox::default(), Monotonic::from_nanos(0));
        outbox.add_key(Serial(1), ImportLayerKeyRequest::default());
        outbox.key_failed(Serial(1), now, true);
        assert!(!is_on(&outbox, "layer_key_waits"), "one failure is no news");
        (0..7).for_each(|_| drop(outbox.key_failed(Serial(1), now, true)));
        assert!(is_on(&outbox, "layer_key_waits"));
        outbox.key_done(Serial(1));
        assert!(!is_on(&outbox, "layer_key_waits"));
    }
}
