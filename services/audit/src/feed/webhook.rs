//! HTTPS webhook: CloudEvents over HTTP, signed as Standard Webhooks (standardwebhooks.com) has it.
//!
//! One event a request (`application/cloudevents+json`) or a batch (`application/cloudevents-batch+json`), in
//! the order of the log, one request at a time: the next goes out when the one before was answered with
//! 2xx. `webhook-id` is the same when a request is repeated, so that it serves as idempotency key;
//! `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`;
//! `obscura-log-index` is the index of the (first) event, the others follow without holes.
//!
//! What the answer means: 2xx received; 408, 425, 429, 5xx and no answer: tried again, ever more rarely
//! or when `retry-after` says so; everything else, redirects too: parked until someone changes
//! something. Nothing is ever skipped.

mod answer;
mod signing;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use obscura_clock::SharedClock;
use reqwest::{Certificate, Client, Identity, RequestBuilder, redirect};
use serde::Deserialize;

use self::signing::Secret;
use super::{
    Entry, pem,
    settings::{Wrong, address, certificate_and_key, path, within},
    sink::{Sink, Start, Trouble},
};

/// Bytes of one request, unless a single event is larger.
const MAX_BODY_BYTES: usize = 1 << 20;

/// A feed to a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to, `https://…`, without credentials. Redirects are not followed.
    pub url: String,
    /// File with the shared secret: base64 of 24 to 64 random bytes, with or without `whsec_` before it.
    pub secret_file: PathBuf,
    /// Roots that the server's certificate is checked against, PEM; the machine's own where unset.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, PEM, where the server wants one.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Most events in one request; with 1 each request is one event, otherwise each is a batch.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// How long an answer may take.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: u32,
}

const fn default_batch() -> usize {
    1
}

const fn default_timeout_seconds() -> u32 {
    15
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        address("url", &self.url, "https")?;
        path("secret_file", &self.secret_file)?;
        certificate_and_key(self.certificate_file.as_deref(), self.key_file.as_deref())?;
        within("batch", &self.batch, &(1..=1_000))?;
        within("timeout_seconds", &self.timeout_seconds, &(1..=300))
    }

    async fn client(&self) -> Result<Client, Trouble> {
        let mut builder = Client::builder()
            .https_only(true)
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(self.timeout_seconds.into()))
            .user_agent("obscura-audit");
        if let Some(ca) = &self.ca_file {
            let roots = Certificate::from_pem_bundle(&pem::read(ca).await?).map_err(unusable("ca_file"))?;
            builder = builder.tls_certs_only(roots);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            let mut both = pem::read(certificate).await?;
            both.extend(pem::read(key).await?);
            builder = builder.identity(Identity::from_pem(&both).map_err(unusable("certificate_file"))?);
        }
        builder.build().map_err(unusable("ca_file or certificate_file"))
    }
}

fn unusable(what: &'static str) -> impl Fn(reqwest::Error) -> Trouble {
    move |error| Trouble::Again(format!("cannot use {what}: {}", error.without_url()))
}

/// A webhook to send to.
#[derive(Debug)]
pub struct Webhook {
    settings: Settings,
    clock: SharedClock,
    connection: Option<(Client, Secret)>,
    next_index: u64,
}

impl Webhook {
    /// Nothing is read or sent yet.
    pub const fn new(settings: Settings, clock: SharedClock) -> Self {
        Self { settings, clock, connection: None, next_index: 0 }
    }

    /// One signed request.
    fn request(&self, first: &Entry, request: Request) -> Result<RequestBuilder, Trouble> {
        let (client, secret) =
            self.connection.as_ref().ok_or_else(|| Trouble::Again("the webhook is not open".into()))?;
        let timestamp = self.clock.wall().unix_nanos() / 1_000_000_000;
        let signature = secret.sign(&request.id, timestamp, &request.body);
        let builder = client.post(&self.settings.url);
        Ok(builder
            .header("content-type", request.content_type)
            .header("webhook-id", request.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .header("obscura-log-index", first.index)
            .body(request.body))
    }
}

#[async_trait]
impl Sink for Webhook {
    /// A webhook cannot be asked what it has: it gets everything from the remembered index on.
    async fn open(&mut self, start: Start<'_>) -> Result<u64, Trouble> {
        if self.connection.is_none() {
            let secret = Secret::read(&self.settings.secret_file).await?;
            self.connection = Some((self.settings.client().await?, secret));
        }
        self.next_index = start.index;
        Ok(start.index)
    }

    async fn send(&mut self, entries: &[Entry]) -> Result<usize, Trouble> {
        let count = fitting(entries, self.settings.batch);
        let Some((first, _)) = entries.split_first() else { return Ok(0) };
        let taken = entries.get(..count).unwrap_or_default();
        let request = Request::of(taken, self.settings.batch > 1)?;
        let answer = self.request(first, request)?.send().await;
        let received = answer::received(answer).await;
        if received.is_err() {
            // Certificates and the secret may be what has to change.
            self.connection = None;
        }
        received?;
        self.next_index = taken.last().map_or(self.next_index, |last| last.index.saturating_add(1));
        Ok(count)
    }

    async fn confirmed(&mut self) -> Result<u64, Trouble> {
        Ok(self.next_index)
    }
}

/// How many of the entries go into one request: at least one.
fn fitting(entries: &[Entry], most: usize) -> usize {
    let mut bytes = 0_usize;
    let fits = |entry: &&Entry| {
        bytes = bytes.saturating_add(entry.leaf.len());
        bytes <= MAX_BODY_BYTES
    };
    entries.iter().take(most).take_while(fits).count().max(1)
}

/// What is sent, before it is signed.
struct Request {
    id: String,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Request {
    /// The leaves byte for byte, in a JSON array where it is a batch.
    fn of(entries: &[Entry], batch: bool) -> Result<Self, Trouble> {
        let id = match entries.first().map(|first| obscura_ocsf::read(&first.leaf)) {
            Some(Ok(leaf)) => leaf.event_id,
            Some(Err(error)) => return Err(Trouble::Again(format!("an entry cannot be read: {error}"))),
            None => String::new(),
        };
        let leaves: Vec<_> = entries.iter().map(|entry| &entry.leaf[..]).collect();
        if !batch {
            return Ok(Self { id, content_type: "application/cloudevents+json", body: leaves.concat() });
        }
        let body = [b"[", leaves.join(&b',').as_slice(), b"]"].concat();
        let id = format!("{id}-{}", entries.len());
        Ok(Self { id, content_type: "application/cloudevents-batch+json", body })
    }
}
