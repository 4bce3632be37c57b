use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{io::BufReader, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;

use crate::{Endpoint, Error, Identity, InvalidSpiffeId, SpiffeId, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A gRPC channel to the service `peer_service` of our own trust domain, over mutual TLS.
///
/// It connects with the first call and again whenever the connection is lost; each connect reads
/// the endpoint anew, shows the certificate of that moment, gives up after 5 s and refuses a
/// server that is not `peer_service`. Deadlines of calls are the caller's.
#[must_use]
pub fn channel(identity: &Identity, peer_service: &str, endpoint: Endpoint) -> Channel {
    let connector = Connector::new(identity, peer_service, Target::Endpoint(endpoint), b"h2");
    // tonic must not see https, or it would put its own TLS around ours; the name is never dialled.
    tonic::transport::Endpoint::from_static("http://peer")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

/// Whom to dial.
#[derive(Clone, Debug)]
pub enum Target {
    /// Always the same peer.
    Endpoint(Endpoint),
    /// The host and port of the request.
    Request,
}

/// Dials, shakes hands, and checks who answered.
#[derive(Clone, Debug)]
pub struct Connector {
    identity: Identity,
    /// A wrong name is reported with the first call, where there is someone to tell.
    peer: Result<SpiffeId, InvalidSpiffeId>,
    target: Target,
    protocol: &'static [u8],
}

impl Connector {
    pub fn new(identity: &Identity, peer_service: &str, target: Target, protocol: &'static [u8]) -> Self {
        let peer = SpiffeId::new(identity.id().trust_domain(), peer_service);
        Self { identity: identity.clone(), peer, target, protocol }
    }

    async fn connect(self, uri: Uri) -> Result<TlsConnection, Error> {
        let peer = self.peer?;
        let address = match self.target {
            Target::Endpoint(endpoint) => endpoint.address()?,
            Target::Request => address_of(&uri)?,
        };
        let config = self.identity.client_config(peer.clone(), self.protocol);
        let unreachable =
            |source| Error::Unreachable { peer: peer.clone(), address: address.clone(), source };
        let handshake = |source| Error::Handshake { peer: peer.clone(), address: address.clone(), source };
        let dial = async {
            let stream = TcpStream::connect(&address).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            let connector =
                TlsConnector::from(Arc::new(config.map_err(io::Error::other).map_err(handshake)?));
            let stream = tls::read_in_large_pieces(stream);
            connector.connect(unused_name(), stream).await.map_err(|error| handshake(tls::in_words(error)))
        };
        let stream = timeout(CONNECT_TIMEOUT, dial)
            .await
            .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))??;
        Ok(TlsConnection(TokioIo::new(stream)))
    }
}

fn address_of(uri: &Uri) -> Result<String, Error> {
    match (uri.scheme_str(), uri.host(), uri.port_u16()) {
        (Some("https"), Some(host), Some(port)) => Ok(format!("{host}:{port}")),
        _ => Err(Error::Url),
    }
}

/// rustls wants a name; ours are checked by the verifier, and nothing is sent (SNI is off).
fn unused_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
}

impl tower::Service<Uri> for Connector {
    type Response = TlsConnection;
    type Error = Error;
    type Future = BoxFuture<'static, Result<TlsConnection, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection to a peer that proved who it is.
#[derive(Debug)]
pub struct TlsConnection(TokioIo<TlsStream<BufReader<TcpStream>>>);

impl Connection for TlsConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
