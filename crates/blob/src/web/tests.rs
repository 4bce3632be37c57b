use http::StatusCode;
use http_body_util::{BodyExt as _, Empty};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

async fn send(trust: &WebTrust, url: &str) -> Result<Response<Incoming>, WebError> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    WebClient::new(trust).unwrap().send(Request::get(url).body(body).unwrap()).await
}

async fn refused(trust: &WebTrust, url: &str) -> WebError {
    send(trust, url).await.unwrap_err()
}

fn over_http() -> WebTrust {
    WebTrust { allow_http: true, ..WebTrust::default() }
}

#[tokio::test]
async fn http_is_for_this_machine_only_and_only_where_allowed() {
    let allowed = over_http();
    assert!(matches!(refused(&allowed, "http://192.0.2.1/x").await, WebError::Url(_)));
    assert!(matches!(refused(&allowed, "http://localhost.example/x").await, WebError::Url(_)));
    assert!(matches!(refused(&WebTrust::default(), "http://127.0.0.1:1/x").await, WebError::Url(_)));
    for url in ["http://127.0.0.1:1/x", "http://localhost:1/x"] {
        assert!(matches!(refused(&allowed, url).await, WebError::Connect(_)), "{url}");
    }
}

#[tokio::test]
async fn an_error_does_not_tell_the_url() {
    let error = refused(&over_http(), "http://127.0.0.1:1/x?X-Amz-Signature=secret").await;
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    for pem in ["", "not pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let trust = WebTrust { ca: Some(pem.into()), allow_http: false };
        assert!(matches!(WebClient::new(&trust), Err(WebError::Roots(_))), "{pem:?}");
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trust(&self) -> WebTrust {
        WebTrust { ca: Some(self.0.pem().into_bytes()), allow_http: false }
    }

    /// A server with a certificate for `name` that gives the same answer to everyone; its port.
    async fn serve(&self, name: &str, answer: &'static str) -> u16 {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        port
    }
}

const FINE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn only_a_server_that_the_private_authority_vouches_for_is_believed() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let port = ours.serve("localhost", FINE).await;
    let url = format!("https://localhost:{port}/x");
    assert_eq!(send(&ours.trust(), &url).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert!(matches!(refused(&theirs.trust(), &url).await, WebError::Connect(_)));
    let under_another_name = format!("https://127.0.0.1:{port}/x");
    assert!(matches!(refused(&ours.trust(), &under_another_name).await, WebError::Connect(_)));
}

#[tokio::test]
async fn a_redirect_is_answered_and_not_followed() {
    let authority = Authority::new();
    let elsewhere =
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
    let port = authority.serve("localhost", elsewhere).await;
    let answer = send(&authority.trust(), &format!("https://localhost:{port}/x")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn a_server_that_ends_in_the_middle_of_its_answer_is_no_refusal() {
    let authority = Authority::new();
    let port = authority.serve("localhost", "HTTP/1.1 20").await;
    let broken = refused(&authority.trust(), &format!("https://localhost:{port}/x")).await;
    assert!(matches!(broken, WebError::Broken(_)), "{broken}");
}
