//! The crate as its users see it: real sockets, real handshakes, a generated service.

mod bounds;
mod calls;
mod handshakes;
mod keys;
mod reload;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use obscura_clock::SystemClock;
use obscura_proto::keys::v1::keys_service_client::KeysServiceClient;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    BoxBody, Ca, Endpoint, Error, HttpClient, Identity, Route, channel,
    serve::{LIMITS, Limits, serve_within},
    tls,
};

const HOUR: Duration = Duration::from_hours(1);
const ROUTES: &[Route] = &[Route { prefix: "/objects", callers: &["ingest"] }];

/// A CA and the identities it issued.
struct Installation {
    folder: TempDir,
    ca: Ca,
}

impl Installation {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let ca = Ca::create(&folder.path().join("ca"), &"shop.example".parse().unwrap(), &*clock).unwrap();
        Self { folder, ca }
    }

    fn folder_of(&self, service: &str) -> PathBuf {
        self.folder.path().join(service)
    }

    fn issue(&self, service: &str, into: &str) {
        self.ca.issue(service, &self.folder_of(into), HOUR, &*SystemClock::shared()).unwrap();
    }

    fn identity(&self, service: &str) -> Identity {
        self.issue(service, service);
        Identity::load(&self.folder_of(service)).unwrap()
    }
}

/// A server in a task.
struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Served {
    async fn keys(identity: Identity) -> Self {
        Self::within(LIMITS, identity, keys::router()).await
    }

    async fn within(limits: Limits, identity: Identity, router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().cancelled_owned();
        let router = router.route("/objects/{name}", get(async || "object")).fallback(async || "fallback");
        let task = tokio::spawn(serve_within(limits, listener, identity, router, ROUTES, stop));
        Self { address, shutdown, task }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Address(self.address.to_string())
    }

    fn channel(&self, identity: &Identity) -> Channel {
        channel(identity, "keys", self.endpoint())
    }

    fn client(&self, identity: &Identity) -> KeysServiceClient<Channel> {
        KeysServiceClient::new(self.channel(identity))
    }

    async fn get(&self, identity: &Identity, path: &str) -> Result<Response<Incoming>, Error> {
        let request = Request::get(format!("https://{}{path}", self.address)).body(nothing()).unwrap();
        HttpClient::new(identity, "keys").send(request).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn nothing() -> BoxBody {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}

/// The certificate that a server shows to anyone who asks.
async fn served_leaf(address: SocketAddr) -> CertificateDer<'static> {
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("any").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// Accepts every server, as no client of ours would.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Everything an error and its causes say.
fn story(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(|error| format!("{error}; ")).collect()
}
