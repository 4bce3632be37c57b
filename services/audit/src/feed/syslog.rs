//! Syslog: RFC 5424 messages over TLS (RFC 5425), with a client certificate.
//!
//! Syslog has no acknowledgement, so that nobody can know what a receiver wrote down. What comes nearest:
//!
//! - TCP acknowledges bytes: the kernel says how many of ours the other kernel does not have yet;
//! - a receiver that dies takes its connection with it, and we notice.
//!
//! An event counts as arrived once the other kernel has it and the connection has stood for
//! `settle_seconds` after that: time for the receiver to read it and pass it on. When the connection
//! breaks before, everything that is younger is sent again from the log on the next one. So a receiver
//! may get an event twice, under the same index and event id, and loses one only where it read it, kept
//! it to itself for longer than `settle_seconds`, and died. Receivers with a queue of their own should
//! keep it on disk.
//!
//! With TLS 1.3 a server refuses our certificate only after we consider the handshake done: the alert
//! is read before the first event is sent, and as long as the connection stands.
//!
//! The message is the leaf, byte for byte, up to 65,535 bytes and the header: the receiver must be told
//! to take that much (rsyslog: `global(maxMessageSize="128k")`), because syslog receivers cut what is
//! longer than they expect.

mod connection;
mod message;
mod window;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use obscura_clock::SharedClock;
use serde::Deserialize;

use self::{connection::Connection, window::Window};
use super::{
    Entry,
    settings::{Wrong, path, within},
    sink::{Sink, Start, Trouble},
};

const MAX_HOST_BYTES: usize = 255;

/// A feed to a syslog receiver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to, `host:port`; the port of RFC 5425 is 6514.
    pub address: String,
    /// Name in the receiver's certificate; the host of the address where unset.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Roots that the receiver's certificate is checked against, PEM.
    pub ca_file: PathBuf,
    /// Our own certificate, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// `HOSTNAME` of the messages; `-` where unset.
    #[serde(default = "default_hostname")]
    pub hostname: String,
    /// How long the connection must stand after an event before it counts as arrived.
    #[serde(default = "default_settle_seconds")]
    pub settle_seconds: u32,
}

fn default_hostname() -> String {
    "-".into()
}

const fn default_settle_seconds() -> u32 {
    10
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let (host, port) = self.host_and_port().ok_or_else(|| Wrong::new("address", "expected host:port"))?;
        if host.is_empty() || host.len() > MAX_HOST_BYTES || port.parse::<u16>().is_err() {
            return Err(Wrong::new("address", "expected host:port"));
        }
        let hostname = &self.hostname;
        if !(1..=MAX_HOST_BYTES).contains(&hostname.len())
            || !hostname.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Wrong::new("hostname", "expected a host name, or - for none"));
        }
        path("ca_file", &self.ca_file)?;
        path("certificate_file", &self.certificate_file)?;
        path("key_file", &self.key_file)?;
        within("settle_seconds", &self.settle_seconds, &(1..=3_600))
    }

    fn host_and_port(&self) -> Option<(&str, &str)> {
        let (host, port) = self.address.rsplit_once(':')?;
        // IPv6 addresses stand in brackets.
        Some((host.trim_start_matches('[').trim_end_matches(']'), port))
    }

    fn server_name(&self) -> &str {
        let host = || self.host_and_port().map_or("", |(host, _)| host);
        self.server_name.as_deref().unwrap_or_else(host)
    }
}

/// A receiver of syslog.
#[derive(Debug)]
pub struct Syslog {
    settings: Settings,
    clock: SharedClock,
    connection: Option<Connection>,
    window: Window,
}

impl Syslog {
    /// Not connected yet.
    pub fn new(settings: Settings, clock: SharedClock) -> Self {
        let window = Window::new(0, settle(&settings));
        Self { settings, clock, connection: None, window }
    }

    fn connection(&mut self) -> Result<&mut Connection, Trouble> {
        self.connection.as_mut().ok_or_else(|| Trouble::Again("not connected to the syslog receiver".into()))
    }
}

fn settle(settings: &Settings) -> Duration {
    Duration::from_secs(settings.settle_seconds.into())
}

#[async_trait]
impl Sink for Syslog {
    async fn open(&mut self, start: Start<'_>) -> Result<u64, Trouble> {
        self.connection = None;
        self.window = Window::new(start.index, settle(&self.settings));
        self.connection = Some(Connection::open(&self.settings).await?);
        Ok(start.index)
    }

    async fn send(&mut self, entries: &[Entry]) -> Result<usize, Trouble> {
        let mut frames = Vec::new();
        for entry in entries {
            message::append_frame(&mut frames, entry, &self.settings.hostname)?;
        }
        self.connection()?.write(&frames).await?;
        let through = entries.last().map_or(0, |last| last.index.saturating_add(1));
        self.window.sent(through, self.clock.monotonic());
        Ok(entries.len())
    }

    async fn confirmed(&mut self) -> Result<u64, Trouble> {
        let now = self.clock.monotonic();
        let all_acknowledged = self.connection()?.look()?;
        if all_acknowledged {
            self.window.acknowledged(now);
        }
        if self.window.is_stuck(now) {
            return Err(Trouble::Again("the syslog receiver has taken nothing for half a minute".into()));
        }
        Ok(self.window.settled(now))
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}
