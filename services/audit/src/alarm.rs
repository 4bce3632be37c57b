//! Alarms of this service in its own log: one event when something begins, one when it is over.

use obscura_proto::audit::v1::{ServiceAct, event::Body, service_act::Act};

use crate::log::Log;

/// Something that a person must look at while it lasts.
#[derive(Debug)]
pub struct Alarm {
    name: &'static str,
    is_on: bool,
}

impl Alarm {
    /// Off.
    pub const fn new(name: &'static str) -> Self {
        Self { name, is_on: false }
    }

    /// It is so; said once until it is over. Where the log cannot be written it is said the next time.
    pub async fn raise(&mut self, log: &Log, detail: &str) {
        if self.is_on {
            return;
        }
        tracing::error!(alarm = self.name, detail, "an alarm");
        self.is_on = log.append_own(act(Act::Alarm, self.name, detail)).await.is_ok();
    }

    /// It is over.
    pub async fn end(&mut self, log: &Log) {
        if self.is_on {
            tracing::info!(alarm = self.name, "an alarm is over");
            self.is_on = log.append_own(act(Act::AlarmEnded, self.name, "")).await.is_err();
        }
    }
}

/// Longest detail, in bytes.
pub const MAX_DETAIL_BYTES: usize = 512;

/// An event about this service.
pub fn act(act: Act, alarm: &str, detail: &str) -> Body {
    let end = detail.floor_char_boundary(MAX_DETAIL_BYTES);
    Body::Service(ServiceAct {
        act: act.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        alarm: alarm.to_owned(),
        detail: detail.get(..end).unwrap_or_default().to_owned(),
    })
}
