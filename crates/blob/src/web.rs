//! HTTP to an object store: plain TLS with the roots of the machine or of a file, no redirects.

use std::{error::Error as _, fmt, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::sync::OnceCell;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Idle connections that are kept for the next request, and how long.
const MAX_IDLE: usize = 8;
const IDLE: Duration = Duration::from_secs(30);

/// The body of a request.
pub type WebBody = UnsyncBoxBody<Bytes, io::Error>;

/// Whom to believe.
#[derive(Clone, Debug, Default)]
pub struct WebTrust {
    /// Certificates (PEM) of the only authorities that count; those of the machine where `None`.
    pub ca: Option<Vec<u8>>,
    /// Whether `http://` is fine, which it is on the loopback interface only.
    pub allow_http: bool,
}

/// Why a request did not get an answer. Never contains the URL, which may be signed.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The certificates of authorities cannot be used.
    #[error("cannot use the certificates of authorities: {0}")]
    Roots(String),
    /// Not a URL that may be asked.
    #[error("{0}")]
    Url(&'static str),
    /// Nobody there, or not the right one; the request was not sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The exchange broke off.
    #[error("the exchange broke off: {0}")]
    Broken(String),
}

/// Sends requests to object stores. Clones share the connections.
#[derive(Clone)]
pub struct WebClient {
    inner: Arc<Inner>,
}

struct Inner {
    roots: Option<RootCertStore>,
    allow_http: bool,
    /// Made with the first request: the roots of the machine are many, and not everyone needs them.
    client: OnceCell<Client<HttpsConnector<HttpConnector>, WebBody>>,
}

impl WebClient {
    /// A client that believes these authorities.
    ///
    /// # Errors
    /// [`WebError::Roots`] where there is no certificate in `ca`, or one that cannot be used.
    pub fn new(trust: &WebTrust) -> Result<Self, WebError> {
        let roots = trust.ca.as_deref().map(roots).transpose()?;
        let inner = Inner { roots, allow_http: trust.allow_http, client: OnceCell::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends a request. Answers with whatever the server says, redirects included: nobody follows
    /// them. Connecting gives up after 5 s; how long the rest may take is the caller's.
    ///
    /// # Errors
    /// [`WebError::Connect`] where nothing was sent; [`WebError::Broken`] where that is not known.
    pub async fn send(&self, request: Request<WebBody>) -> Result<Response<Incoming>, WebError> {
        self.inner.check(request.uri())?;
        let client = self.inner.client.get_or_try_init(|| async { self.inner.client() }).await?;
        client.request(request).await.map_err(|error| {
            if error.is_connect() {
                WebError::Connect(cause(&error))
            } else {
                WebError::Broken(cause(&error))
            }
        })
    }
}

impl fmt::Debug for WebClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebClient").field("allow_http", &self.inner.allow_http).finish_non_exhaustive()
    }
}

impl Inner {
    fn check(&self, url: &Uri) -> Result<(), WebError> {
        match url.scheme_str() {
            Some("http") if !self.allow_http => {
                Err(WebError::Url("http is not allowed: use https, or allow it for a store on this machine"))
            }
            Some("http") if !is_loopback(url.host().unwrap_or_default()) => {
                Err(WebError::Url("http is for a store on this machine only: use https"))
            }
            Some("http" | "https") => Ok(()),
            _ => Err(WebError::Url("the URL of an object starts with https://")),
        }
    }

    fn client(&self) -> Result<Client<HttpsConnector<HttpConnector>, WebBody>, WebError> {
        let unusable = |error: &dyn fmt::Display| WebError::Roots(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let config = match &self.roots {
            Some(roots) => config.with_root_certificates(roots.clone()),
            // Without roots nothing but http works; whoever needs no more should not need a package of roots.
            None => config.clone().with_native_roots().unwrap_or_else(|error| {
                tracing::warn!(%error, "no certificates of authorities: https to an object store will fail");
                config.with_root_certificates(RootCertStore::empty())
            }),
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, WebError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| WebError::Roots(error.to_string()))?;
        roots.add(certificate).map_err(|error| WebError::Roots(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(WebError::Roots("there is none in the file: it should hold PEM".into()));
    }
    Ok(roots)
}

/// Whether a host is this machine, by its own word: names are not looked up.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The causes behind an error; the outermost says only that there was one.
fn cause(error: &hyper_util::client::legacy::Error) -> String {
    let mut words = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

#[cfg(test)]
mod tests;
