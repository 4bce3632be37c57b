use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    Identity, Peer, Route,
    authorise::{may_call, refusal},
    certificate::Leaf,
    tls,
};

const MAX_STREAMS: u32 = 256;
const MAX_HEADER_BYTES: u32 = 16 << 10;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; the next ones wait in the kernel's backlog.
    pub connections: usize,
    /// Handshakes at a time: the work that a stranger can cause.
    pub handshakes: usize,
    /// For one handshake.
    pub handshake: Duration,
    /// Age at which a connection is asked to go, so that the peer comes back with the certificate
    /// it has then. One whose certificate ends earlier is asked earlier.
    pub connection_age: Duration,
    /// For the requests that are under way when a connection has to go.
    pub drain: Duration,
}

pub const LIMITS: Limits = Limits {
    connections: 1024,
    handshakes: 64,
    handshake: Duration::from_secs(5),
    connection_age: Duration::from_hours(1),
    drain: Duration::from_secs(10),
};

/// Serves `router` over mutual TLS to the services of our own trust domain until `shutdown`, then
/// lets running requests finish for up to 10 s.
///
/// A request reaches the router only where the generated table of `proto/` or one of `routes` names
/// its peer (`/healthz` and `/metrics` are for every service), and then has a [`Peer`] among its
/// extensions. Others get `PERMISSION_DENIED` (gRPC) or 403. Connections are asked to go after an
/// hour or when the peer's certificate ends.
///
/// # Errors
/// Those of the listener's local address; a failed accept is waited out.
pub async fn serve(
    listener: TcpListener,
    identity: Identity,
    router: Router,
    routes: &'static [Route],
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    serve_within(LIMITS, listener, identity, router, routes, shutdown).await
}

/// [`serve`] with other bounds.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    identity: Identity,
    router: Router,
    routes: &'static [Route],
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, id = %identity.id(), "serving");
    let server = Server { limits, identity, router, routes, stop: CancellationToken::new() };
    let tasks = TaskTracker::new();
    tokio::select! {
        () = server.accept(listener, &tasks) => {}
        () = shutdown => {}
    }
    server.stop.cancel();
    tasks.close();
    tracing::info!(connections = tasks.len(), "draining");
    tasks.wait().await;
    Ok(())
}

#[derive(Clone)]
struct Server {
    limits: Limits,
    identity: Identity,
    router: Router,
    routes: &'static [Route],
    stop: CancellationToken,
}

impl Server {
    /// Accepts for ever. Both permits are taken before the accept, so that what is over a limit
    /// waits in the kernel and costs us nothing.
    async fn accept(&self, listener: TcpListener, tasks: &TaskTracker) {
        let connections = Arc::new(Semaphore::new(self.limits.connections));
        let handshakes = Arc::new(Semaphore::new(self.limits.handshakes));
        loop {
            // The semaphores are never closed.
            let Ok(connection) = Arc::clone(&connections).acquire_owned().await else { return };
            let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tasks.spawn(async move {
                        server.greet(stream, handshake).await;
                        drop(connection);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn greet(self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let acceptor = TlsAcceptor::from(self.identity.server_config());
        let handshake = async {
            stream.set_nodelay(true)?;
            acceptor.accept(tls::read_in_large_pieces(stream)).await
        };
        let shaken = tokio::select! {
            shaken = timeout(self.limits.handshake, handshake) => shaken,
            () = self.stop.cancelled() => return,
        };
        drop(permit);
        match shaken {
            Ok(Ok(stream)) => self.converse(stream).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!("left before the handshake");
            }
            Ok(Err(error)) => tracing::warn!(error = %tls::in_words(error), "handshake refused"),
            Err(_) => tracing::warn!("handshake took too long"),
        }
    }

    async fn converse(self, stream: TlsStream<BufReader<TcpStream>>) {
        // The verifier has read the same certificate during the handshake.
        let Some(peer) = peer_of(&stream) else { return };
        let age = self.limits.connection_age.min(peer.not_after.since(tls::now()));
        let (stop, drain) = (self.stop.clone(), self.limits.drain);
        let service = service_fn(move |request| self.clone().answer(peer.id.clone(), request));
        let builder = http_server();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => return log_end(ended),
            () = stop.cancelled() => {}
            () = sleep(age) => {}
        }
        connection.as_mut().graceful_shutdown();
        match timeout(drain, connection).await {
            Ok(ended) => log_end(ended),
            Err(_) => tracing::info!("closed a connection with requests under way"),
        }
    }

    async fn answer(
        self,
        peer: crate::SpiffeId,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        if !may_call(&peer, path, self.routes) {
            return Ok(refusal(&peer, path, request.headers()));
        }
        request.extensions_mut().insert(Peer(peer));
        self.router.oneshot(request).await
    }
}

fn peer_of(stream: &TlsStream<BufReader<TcpStream>>) -> Option<Leaf> {
    let (_, session) = stream.get_ref();
    Leaf::read(session.peer_certificates()?.first()?).ok()
}

fn http_server() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

fn log_end<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke off");
    }
}
