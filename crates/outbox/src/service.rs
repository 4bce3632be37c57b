//! What every service reports: that it started, that it ended in good order, and alarms.

use std::collections::BTreeMap;

use anyhow::Context as _;
use obscura_daemon::Daemon;
use obscura_proto::audit::v1::{Outcome, ServiceAct, event::Body, service_act::Act};
use tokio::sync::Mutex;

use crate::{AuditLog, Limits, OnOld, Outbox, words};

/// Folder in the data directory.
const FOLDER: &str = "audit-outbox";

/// A service's reports to the audit log.
#[derive(Debug)]
pub struct Reporting {
    outbox: Outbox,
    /// Alarms that stand, by name.
    alarms: Mutex<BTreeMap<&'static str, String>>,
}

impl Reporting {
    /// Opens the outbox in the data directory, sends to the audit log that the configuration names, and
    /// reports that the service started. There is no way to run without.
    ///
    /// # Errors
    /// A directory that cannot be used, or a configuration that does not say where `audit` is.
    pub async fn start(daemon: &Daemon) -> anyhow::Result<Self> {
        Self::start_after(daemon, Box::new(|| Ok(()))).await
    }

    /// The same, and calls `on_old` where the log knows more of the outbox than the data directory does
    /// ([`Outbox::send_to_after`]).
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_after(daemon: &Daemon, on_old: OnOld) -> anyhow::Result<Self> {
        let folder = daemon.config.data_dir.join(FOLDER);
        let outbox = Outbox::open(&folder, Limits::default(), daemon.clock.clone()).await;
        let outbox = outbox.with_context(|| format!("cannot use {}", folder.display()))?;
        outbox.register_metrics(&daemon.metrics);
        outbox.send_to_after(AuditLog::new(daemon.peer("audit")?, daemon.trust.audit), on_old);
        let reporting = Self { outbox, alarms: Mutex::default() };
        reporting.act(Act::Started, "", "");
        Ok(reporting)
    }

    /// Where events go.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Reports an alarm when it begins, when its words change and when it ends. `detail` is in words without
    /// personal data.
    pub async fn alarm(&self, name: &'static str, detail: Option<&str>) {
        let mut alarms = self.alarms.lock().await;
        match detail {
            Some(detail) if alarms.get(name).is_none_or(|before| before != detail) => {
                alarms.insert(name, detail.to_owned());
                self.act(Act::Alarm, name, detail);
            }
            None if alarms.remove(name).is_some() => self.act(Act::AlarmEnded, name, ""),
            _ => {}
        }
    }

    /// Reports the end in good order and waits until everything is on the disk.
    pub async fn finish(&self) {
        self.act(Act::Stopped, "", "");
        self.outbox.close().await;
    }

    fn act(&self, act: Act, alarm: &str, detail: &str) {
        let act = ServiceAct {
            act: act.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            alarm: alarm.to_owned(),
            detail: words(detail),
        };
        self.outbox.record_body_or_drop(Outcome::Success, Body::Service(act));
    }
}
