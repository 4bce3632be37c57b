use std::{
    fs, io,
    net::Ipv4Addr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering},
};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, verify};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use obscura_test_servers::certificates::{Authority, Certificate};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const SECRET: &[u8; 32] = b"the webhook and we know this key";

/// A real HTTPS server that takes events, and how it behaves.
pub struct Receiver {
    folder: TempDir,
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requests: AtomicU32,
    /// Every second request fails: without taking the events, or without saying that it took them.
    fails_half: AtomicBool,
    /// Answers this instead, while it is not 0.
    always: AtomicU16,
    received: Mutex<Vec<(u64, Vec<u8>)>>,
    ids: Mutex<Vec<String>>,
    headers: Mutex<Vec<String>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let certificate = Authority::new(folder.path()).unwrap().server("server").unwrap();
        fs::write(folder.path().join("secret"), format!("whsec_{}\n", STANDARD.encode(SECRET))).unwrap();
        let acceptor = acceptor(&certificate);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        tokio::spawn(serve(listener, acceptor, state.clone()));
        Self { folder, port, state }
    }

    pub fn settings(&self, more: &str) -> Settings {
        let path = |name: &str| self.folder.path().join(name);
        let (port, ca, secret) = (self.port, path("ca.pem"), path("secret"));
        let text = format!(
            "kind = \"webhook\"\nurl = \"https://localhost:{port}/hook\"\nca_file = {ca:?}\nsecret_file = {secret:?}\n{more}"
        );
        toml::from_str(&text).unwrap()
    }

    /// Headers and body of each request that it took.
    pub fn everything(&self) -> Vec<String> {
        let (headers, received) = (self.state.headers.lock().unwrap(), self.received());
        let texts = received.into_iter().map(|(_, body)| String::from_utf8(body).unwrap());
        headers.iter().zip(texts).map(|(headers, text)| format!("{headers} {text}")).collect()
    }

    fn received(&self) -> Vec<(u64, Vec<u8>)> {
        self.state.received.lock().unwrap().clone()
    }
}

fn acceptor(certificate: &Certificate) -> TlsAcceptor {
    let pem = |path: &Path| fs::read(path).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem(&certificate.certificate)).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem(&certificate.key)).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| answer(request, &state));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> Result<Response<Full<Bytes>>, io::Error> {
    let status = |code: u16| {
        let code = StatusCode::from_u16(code).unwrap();
        Ok(Response::builder().status(code).body(Full::default()).unwrap())
    };
    let number = state.requests.fetch_add(1, Ordering::Relaxed);
    let always = state.always.load(Ordering::Relaxed);
    if always != 0 {
        return status(always);
    }
    let fails = state.fails_half.load(Ordering::Relaxed) && number % 2 == 1;
    if fails && number % 4 == 1 {
        return status(503);
    }
    take(request, state).await;
    if fails { Err(io::Error::other("the connection breaks before the answer")) } else { status(200) }
}

/// Checks the signature and writes the events down.
async fn take(request: Request<Incoming>, state: &State) {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).unwrap().to_str().unwrap().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let message =
        [format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes(), &body].concat();
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    verify(&Key::new(HMAC_SHA256, SECRET), &message, &signature).unwrap();
    let index: u64 = header("obscura-log-index").parse().unwrap();
    let events: Vec<Vec<u8>> = match header("content-type").as_str() {
        "application/cloudevents+json" => vec![body.to_vec()],
        "application/cloudevents-batch+json" => {
            let events: Vec<&serde_json::value::RawValue> = serde_json::from_slice(&body).unwrap();
            events.into_iter().map(|event| event.get().as_bytes().to_vec()).collect()
        }
        other => panic!("{other}"),
    };
    state.ids.lock().unwrap().push(header("webhook-id"));
    state.headers.lock().unwrap().push(format!("{:?}", parts.headers));
    state.received.lock().unwrap().extend((index..).zip(events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_half_the_time_has_every_event_once_by_id_in_the_end() {
    for batch in ["", "batch = 7"] {
        let (receiver, log) = (Receiver::start().await, MemoryLog::with(20));
        receiver.state.fails_half.store(true, Ordering::Relaxed);
        let running = Running::start(&log, "hook", receiver.settings(batch));
        log.append(10);
        running.delivered(&log).await;
        running.stop().await;
        let received = receiver.received();
        assert_each_once_by_id(&log, &received);
        assert!(received.len() > 30, "some came twice, because their answer was lost");
        let mut indexes: Vec<_> = received.iter().map(|(index, _)| *index).collect();
        indexes.dedup();
        assert!(!batch.is_empty() || indexes.is_sorted(), "{indexes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_works_gets_each_event_once_and_each_request_its_own_id() {
    let (receiver, log) = (Receiver::start().await, MemoryLog::with(50));
    let running = Running::start(&log, "hook", receiver.settings(""));
    running.delivered(&log).await;
    running.stop().await;
    assert_eq!(receiver.received().len(), 50);
    assert_each_once_by_id(&log, &receiver.received());
    let ids = receiver.state.ids.lock().unwrap().clone();
    let of_events: Vec<_> =
        log.all().iter().map(|entry| obscura_ocsf::read(&entry.leaf).unwrap().event_id).collect();
    assert_eq!(ids, of_events);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_refuses_parks_its_feed_which_skips_nothing_and_can_be_sent_on() {
    for code in [400, 307] {
        let (receiver, log) = (Receiver::start().await, MemoryLog::with(3));
        let running = Running::start(&log, "hook", receiver.settings(""));
        running.delivered(&log).await;
        receiver.state.always.store(code, Ordering::Relaxed);
        log.append(3);
        let status = running.troubled(&format!("answered {code}")).await;
        assert_eq!(status.next_index, 3);
        let asked = receiver.state.requests.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(receiver.state.requests.load(Ordering::Relaxed), asked, "it is parked");
        receiver.state.always.store(0, Ordering::Relaxed);
        running.feeds.replay("hook", 3).await.unwrap();
        running.delivered(&log).await;
        running.stop().await;
        assert_each_once_by_id(&log, &receiver.received());
        assert_eq!(receiver.received().len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_certificate_of_someone_else_gets_nothing() {
    let (receiver, log) = (Receiver::start().await, MemoryLog::with(3));
    let other = tempfile::tempdir().unwrap();
    Authority::new(other.path()).unwrap();
    fs::copy(other.path().join("ca.pem"), receiver.folder.path().join("ca.pem")).unwrap();
    let running = Running::start(&log, "hook", receiver.settings(""));
    running.troubled("certificate").await;
    running.stop().await;
    assert!(receiver.received().is_empty());
}
