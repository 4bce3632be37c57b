use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use crate::{
    Error, Identity,
    connect::{Connector, Target},
};

/// Idle connections that are kept for the next request, and how long.
const MAX_IDLE: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A request body.
pub type BoxBody = http_body_util::combinators::BoxBody<Bytes, io::Error>;

/// Plain HTTP/1.1 to a service of our own trust domain, over mutual TLS: for objects, which need
/// neither messages nor HTTP/2's flow control. Clones share the connections.
#[derive(Clone, Debug)]
pub struct HttpClient(Client<Connector, BoxBody>);

impl HttpClient {
    /// A client that speaks to servers that are `peer_service`, and to no others.
    #[must_use]
    pub fn new(identity: &Identity, peer_service: &str) -> Self {
        let connector = Connector::new(identity, peer_service, Target::Request, b"http/1.1");
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Self(client)
    }

    /// Sends a request to the `https://host:port/…` it names. Connecting gives up after 5 s; how
    /// long the answer may take is the caller's.
    ///
    /// # Errors
    /// [`Error::Http`], whose source says whether the peer was unreachable or not the expected one.
    pub async fn send(&self, request: Request<BoxBody>) -> Result<Response<Incoming>, Error> {
        Ok(self.0.request(request).await?)
    }
}
