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

fn of(forecast: Forecast, outbox: &Outbox) -> [Alarm; 4] {
    let floor = "at the rate of the last minutes the spool is full within 48 hours";
    let key = "keys has not taken a layer key in many tries: its footage waits in the spool, and the log of ingest says why";
    let gap = "storage refuses a gap: it waits in the spool, and the log of ingest says why";
    let unreadable =
        "an earlier run left a layer key or a gap in the spool that cannot be read, and it was dropped";
    [
        ("spool_floor", forecast.alarm.then_some(floor)),
        ("gap_refused", (outbox.refused_gaps() > 0).then_some(gap)),
        ("spool_unreadable", (outbox.unreadable() > 0).then_some(unreadable)),
        ("layer_key_waits", (outbox.failing_keys() > 0).then_some(key)),
    ]
}

#[cfg(test)]
mod tests {
    use obscura_clock::Monotonic;
    use obscura_proto::{footage::v1::Gap, keys::v1::ImportLayerKeyRequest};

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
        for _ in 0..7 {
            let _ = outbox.key_failed(Serial(1), now, true);
        }
        assert!(is_on(&outbox, "layer_key_waits"));
        outbox.key_done(Serial(1));
        assert!(!is_on(&outbox, "layer_key_waits"));
    }
    #[test]
    fn a_gap_that_storage_refuses_is_an_alarm_until_it_is_taken() {
        let (outbox, now) = (Outbox::default(), Monotonic::from_nanos(0));
        outbox.add_gap(Serial(1), Gap::default());
        assert!(!is_on(&outbox, "gap_refused"));
        for _ in 0..8 {
            let _ = outbox.gaps_refused(&[Serial(1)], now);
        }
        assert!(is_on(&outbox, "gap_refused"));
        outbox.gaps_done(&[Serial(1)]);
        assert!(!is_on(&outbox, "gap_refused"));
    }

    #[test]
    fn what_an_earlier_run_left_and_nobody_can_read_is_an_alarm() {
        let outbox = Outbox::default();
        assert!(!is_on(&outbox, "spool_unreadable"));
        outbox.note_unreadable();
        assert!(is_on(&outbox, "spool_unreadable"));
    }
}
