//! NATS JetStream: one stream, written by nobody else, that can be rebuilt from the log at any time.
//!
//! The stream itself says how far it is: its last message carries the index, so that after every
//! connect the feed goes on behind it, whatever was acknowledged or remembered before. A stream that
//! lost its end, was purged or is new is refilled from the log. Messages carry their index as
//! `Nats-Msg-Id` (the server drops repetitions within the duplicate window; a repetition of what was
//! purged meanwhile gets an id of its own) and the sequence that
//! must precede them, so that two writers, a message out of order or a stream that was swapped
//! underneath show at once as an error instead of a hole.
//!
//! JetStream acknowledges before it syncs unless it is started with `sync_interval: always`. The feed
//! demands that: it asks the server, through a service import of `$SYS.REQ.SERVER.PING.JSZ` into our
//! account, and sends nothing while the answer is another one. (A projection that lost acknowledged
//! messages is refilled at the next connect, but consumers would have read what is no longer there.)
//! The answer covers the servers that gave one within a second; a server that joins later is asked
//! when the feed connects the next time.
//!
//! Our user needs to publish to `<subject>.>`, `$JS.API.STREAM.INFO.<stream>`,
//! `$JS.API.STREAM.CREATE.<stream>`, `$JS.API.STREAM.MSG.GET.<stream>` and the import, and to
//! subscribe to `_INBOX.>`. It should not be allowed more: `deny_delete` keeps messages from being
//! deleted one by one, but only permissions keep a stream from being deleted whole.

mod looking;
mod publishing;
mod stream;
mod synchronous;

use std::{path::PathBuf, time::Duration};

use async_nats::{
    ConnectOptions,
    jetstream::{self, context::ContextBuilder},
};
use async_trait::async_trait;
use obscura_clock::SharedClock;
use serde::Deserialize;

use self::{looking::Looked, publishing::Publisher};
use super::{
    Entry,
    settings::{Wrong, address, path, within},
    sink::{Sink, Start, Trouble},
};

/// For each request and each acknowledgement.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_SERVERS: usize = 16;
const MAX_NAME_BYTES: usize = 128;

/// A feed to NATS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Addresses, `tls://host:port`; the first that answers is used.
    pub servers: Vec<String>,
    /// Roots that the server's certificate is checked against, PEM.
    pub ca_file: PathBuf,
    /// Our own certificate, PEM: its SPIFFE id is the NATS user (`verify_and_map`).
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Stream; made where it does not exist.
    #[serde(default = "default_stream")]
    pub stream: String,
    /// Subjects are this, a dot, and the kind of event.
    #[serde(default = "default_subject")]
    pub subject: String,
    /// Copies of a stream that is made.
    #[serde(default = "default_replicas")]
    pub replicas: usize,
    /// How long a stream that is made keeps messages, and how far back an empty one is refilled.
    #[serde(default = "default_keep_hours")]
    pub keep_hours: u32,
    /// Where `$SYS.REQ.SERVER.PING.JSZ` of the system account is imported.
    #[serde(default = "default_sync_subject")]
    pub sync_subject: String,
    /// Set where the import is not possible and someone has read `sync_interval: always` in the
    /// configuration of every server: nothing is asked then.
    #[serde(default)]
    pub sync_interval_always_was_checked: bool,
}

fn default_stream() -> String {
    "OBSCURA_AUDIT".into()
}

fn default_subject() -> String {
    "obscura.audit".into()
}

const fn default_replicas() -> usize {
    1
}

const fn default_keep_hours() -> u32 {
    7 * 24
}

fn default_sync_subject() -> String {
    "obscura.bus.jsz".into()
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        within("servers", &self.servers.len(), &(1..=MAX_SERVERS))?;
        self.servers.iter().try_for_each(|server| address("servers", server, "tls"))?;
        path("ca_file", &self.ca_file)?;
        path("certificate_file", &self.certificate_file)?;
        path("key_file", &self.key_file)?;
        name("stream", &self.stream, false)?;
        name("subject", &self.subject, true)?;
        name("sync_subject", &self.sync_subject, true)?;
        within("replicas", &self.replicas, &(1..=5))?;
        within("keep_hours", &self.keep_hours, &(1..=24 * 366))
    }

    fn keep(&self) -> Duration {
        Duration::from_hours(self.keep_hours.into())
    }
}

/// Names are put into subjects, where dots, stars and arrows mean something.
fn name(field: &str, text: &str, dots: bool) -> Result<(), Wrong> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let part = |part: &str| !part.is_empty() && part.bytes().all(allowed);
    let good = text.len() <= MAX_NAME_BYTES && if dots { text.split('.').all(part) } else { part(text) };
    if good {
        Ok(())
    } else {
        Err(Wrong::new(field, "expected A-Z, a-z, 0-9, _ and -, in subjects parted by dots"))
    }
}

/// A stream to write to.
#[derive(Debug)]
pub struct Nats {
    settings: Settings,
    clock: SharedClock,
    publisher: Option<Publisher>,
    /// The last look at the stream, also over connections.
    looked: Option<Looked>,
    /// What the stream says it has, at the last connect.
    arrived: Option<u64>,
    warning: Option<String>,
}

impl Nats {
    /// Not connected yet.
    pub const fn new(settings: Settings, clock: SharedClock) -> Self {
        Self { settings, clock, publisher: None, looked: None, arrived: None, warning: None }
    }

    async fn connect(&self) -> Result<async_nats::Client, Trouble> {
        let options = ConnectOptions::new()
            .name("obscura-audit")
            .require_tls(true)
            .add_root_certificates(self.settings.ca_file.clone())
            .add_client_certificate(self.settings.certificate_file.clone(), self.settings.key_file.clone())
            .connection_timeout(TIMEOUT)
            .request_timeout(Some(TIMEOUT))
            // A lost connection is our trouble to handle: what the stream has must be looked at again.
            .max_reconnects(1);
        options.connect(self.settings.servers.clone()).await.map_err(again("cannot connect to NATS"))
    }
}

#[async_trait]
impl Sink for Nats {
    async fn open(&mut self, start: Start<'_>) -> Result<u64, Trouble> {
        (self.publisher, self.arrived) = (None, None);
        let client = self.connect().await?;
        if !self.settings.sync_interval_always_was_checked {
            synchronous::demand(&client, &self.settings.sync_subject).await?;
        }
        let context: jetstream::Context =
            ContextBuilder::new().timeout(TIMEOUT).ack_timeout(TIMEOUT).build(client);
        let stream = stream::open(&context, &self.settings).await?;
        self.warning = stream::warning(&stream.cached_info().config);
        let state = stream.cached_info().state.clone();
        let now = self.clock.monotonic();
        let purged = self.looked.as_ref().is_some_and(|looked| looked.was_purged_since(&state, now));
        let next = stream::next_index(&stream, &self.settings, start, purged, self.clock.wall()).await?;
        self.looked = Some(Looked::now(&state, now));
        let subject = self.settings.subject.clone();
        self.publisher = Some(Publisher::new(context, subject, &state, next.index, start.size));
        self.arrived = next.arrived;
        Ok(next.index)
    }

    async fn send(&mut self, entries: &[Entry]) -> Result<usize, Trouble> {
        self.publisher()?.publish(entries).await?;
        Ok(entries.len())
    }

    async fn confirmed(&mut self) -> Result<u64, Trouble> {
        self.look_at_stream().await?;
        Ok(self.publisher()?.next_index())
    }

    fn arrived(&self) -> Option<u64> {
        self.arrived
    }

    fn warning(&self) -> Option<String> {
        self.warning.clone()
    }
}

impl Nats {
    fn publisher(&mut self) -> Result<&mut Publisher, Trouble> {
        self.publisher.as_mut().ok_or_else(|| Trouble::Again("not connected to NATS".into()))
    }

    /// Looks at the stream now and then: one that was purged, replaced or changed is opened anew.
    async fn look_at_stream(&mut self) -> Result<(), Trouble> {
        let now = self.clock.monotonic();
        if self.looked.as_ref().is_some_and(|looked| looked.is_recent(now)) {
            return Ok(());
        }
        let name = self.settings.stream.clone();
        let publisher = self.publisher()?;
        let expected = publisher.last_sequence();
        let stream =
            publisher.context().get_stream(name).await.map_err(again("cannot look at the stream"))?;
        // Somebody may have set a limit meanwhile.
        let config = &stream.cached_info().config;
        stream::check(config, &self.settings)?;
        self.warning = stream::warning(config);
        let state = &stream.cached_info().state;
        if state.last_sequence != expected {
            return Err(Trouble::Again("the stream is not as it was left; it is looked at again".into()));
        }
        if self.looked.as_ref().is_some_and(|looked| looked.was_purged_since(state, now)) {
            return Err(Trouble::Again("the stream was purged; it is filled again".into()));
        }
        self.looked = Some(Looked::now(state, now));
        Ok(())
    }
}

/// What went wrong, in NATS's words, which name addresses and subjects and nothing else.
fn again<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Trouble {
    move |error| Trouble::Again(format!("{what}: {error}"))
}
