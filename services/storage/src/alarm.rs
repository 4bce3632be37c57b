//! What a person must look at, told in the log and through the audit log.

use obscura_outbox::Outbox;
use obscura_proto::audit::v1::{Outcome, ServiceAct, event::Body, service_act::Act};

/// Tells it once; whoever calls knows whether it was told before.
pub fn raise(outbox: Option<&Outbox>, alarm: &str, detail: &str) {
    tracing::error!(alarm, detail, "somebody has to look at this");
    record(outbox, Act::Alarm, alarm, detail);
}

/// It is over.
pub fn end(outbox: Option<&Outbox>, alarm: &str) {
    tracing::info!(alarm, "the alarm is over");
    record(outbox, Act::AlarmEnded, alarm, "");
}

fn record(outbox: Option<&Outbox>, act: Act, alarm: &str, detail: &str) {
    let body = ServiceAct {
        act: act.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        alarm: alarm.to_owned(),
        detail: obscura_outbox::words(detail),
    };
    if let Some(outbox) = outbox {
        outbox.record_body_or_drop(Outcome::Success, Body::Service(body));
    }
}
