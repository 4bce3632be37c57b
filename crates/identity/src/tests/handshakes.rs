use std::path::Path;

use obscura_clock::SimulatedClock;
use obscura_proto::keys::v1::GetIntakeKeyRequest;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    RootCertStore,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::{Concern, SpiffeId, write_atomically};

async fn refused(server: &Served, identity: &Identity) -> String {
    story(&server.client(identity).get_intake_key(GetIntakeKeyRequest {}).await.unwrap_err())
}

async fn accepted(server: &Served, identity: &Identity) -> bool {
    server.client(identity).get_intake_key(GetIntakeKeyRequest {}).await.is_ok()
}

/// Shakes hands and waits for the server's last word: in TLS 1.3 a client learns only then that
/// its certificate was refused.
async fn last_word(server: &Served, config: ClientConfig) -> io::Result<usize> {
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("any").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.read(&mut [0; 64]).await
}

/// Certificates that `Ca` would never make.
fn forge(root: &Issuer<'_, KeyPair>, root_pem: &str, uri: &str, into: &Path) -> Identity {
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, root).unwrap();
    std::fs::create_dir(into).unwrap();
    write_atomically(&into.join("cert.pem"), certificate.pem().as_bytes(), 0o644).unwrap();
    write_atomically(&into.join("key.pem"), key.serialize_pem().as_bytes(), 0o600).unwrap();
    write_atomically(&into.join("ca.pem"), root_pem.as_bytes(), 0o644).unwrap();
    Identity::load(into).unwrap()
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_in_the_handshake() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let error = last_word(&server, config).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert!(accepted(&server, &shop.identity("ingest")).await);
}

#[tokio::test]
async fn a_client_of_a_foreign_ca_is_refused_even_with_our_names() {
    let (shop, thief) = (Installation::new(), Installation::new());
    let server = Served::keys(shop.identity("keys")).await;
    // The thief trusts our roots, so that only the server can refuse.
    thief.issue("ingest", "ingest");
    let folder = thief.folder_of("ingest");
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()];
    let own = CertifiedKey::from_der(chain, key, &tls::provider()).unwrap();
    let error = last_word(&server, client_config(own, &shop)).await.unwrap_err();
    assert!(error.to_string().contains("UnknownCA") || error.to_string().contains("DecryptError"), "{error}");
    assert!(accepted(&server, &shop.identity("ingest")).await);
}

#[tokio::test]
async fn an_expired_client_is_refused() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let yesterday = SimulatedClock::at(SystemClock::shared().wall() - HOUR * 24);
    let folder = shop.folder_of("late");
    shop.ca.issue("ingest", &folder, HOUR, &*yesterday).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()];
    let own = CertifiedKey::from_der(chain, key, &tls::provider()).unwrap();
    let error = last_word(&server, client_config(own, &shop)).await.unwrap_err();
    assert!(error.to_string().contains("CertificateExpired"), "{error}");
}

#[tokio::test]
async fn an_expired_identity_loads_with_a_warning_and_serves_nobody() {
    let shop = Installation::new();
    let now = SystemClock::shared().wall();
    for (moment, concern) in [(now - HOUR * 24, Concern::Ended), (now + HOUR * 24, Concern::NotYetValid)] {
        let issue = |service: &str| {
            let folder = shop.folder_of(&format!("{service} {concern:?}"));
            shop.ca.issue(service, &folder, HOUR, &*SimulatedClock::at(moment)).unwrap();
            Identity::load(&folder).unwrap()
        };
        let (keys, ingest) = (issue("keys"), issue("ingest"));
        assert_eq!((keys.concern(), ingest.concern()), (Some(concern), Some(concern)));
        let (lapsed, good) = (Served::keys(keys).await, Served::keys(shop.identity("keys")).await);
        assert!(!accepted(&lapsed, &shop.identity("ingest")).await, "a good client meets {concern:?}");
        assert!(!accepted(&good, &ingest).await, "a good server meets {concern:?}");
        assert!(accepted(&good, &shop.identity("ingest")).await);
    }
}

#[test]
fn a_chain_of_a_stranger_is_refused_also_when_it_is_expired() {
    let (shop, thief) = (Installation::new(), Installation::new());
    let now = SystemClock::shared().wall();
    for moment in [now, now - HOUR * 24, now + HOUR * 24] {
        let folder = shop.folder_of("keys");
        thief.ca.issue("keys", &folder, HOUR, &*SimulatedClock::at(moment)).unwrap();
        let ours = std::fs::read(shop.folder_of("ca").join("ca.pem")).unwrap();
        write_atomically(&folder.join("ca.pem"), &ours, 0o644).unwrap();
        let error = Identity::load(&folder).unwrap_err().to_string();
        assert!(error.contains("cert.pem") && !error.contains("expired"), "{error}");
    }
}

fn client_config(own: CertifiedKey, trusted: &Installation) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted.folder_of("ca").join("ca.pem")).unwrap()).unwrap();
    let keys = SpiffeId::new(trusted.ca.trust_domain(), "keys").unwrap();
    tls::client_config(Arc::new(own), Arc::new(roots), keys, b"h2").unwrap()
}

#[tokio::test]
async fn a_client_does_not_speak_to_another_service_than_it_asked_for() {
    let shop = Installation::new();
    let imposter = Served::keys(shop.identity("storage")).await;
    let words = refused(&imposter, &shop.identity("ingest")).await;
    assert!(words.contains("expected spiffe://shop.example/obscura/keys"), "{words}");
    assert!(words.contains("spiffe://shop.example/obscura/storage"), "{words}");
    let error = imposter.get(&shop.identity("ingest"), "/objects/a").await.unwrap_err();
    assert!(story(&error).contains("the certificate is that of"), "{}", story(&error));
}

#[tokio::test]
async fn a_client_does_not_speak_to_a_server_of_a_foreign_ca() {
    let (shop, thief) = (Installation::new(), Installation::new());
    let imposter = Served::keys(thief.identity("keys")).await;
    let words = refused(&imposter, &shop.identity("ingest")).await;
    assert!(words.contains("is not spiffe://shop.example/obscura/keys"), "{words}");
}

#[tokio::test]
async fn another_trust_domain_is_refused_even_under_a_common_root() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let root = Issuer::new(params, key);
    let of = |uri: &str, name: &str| forge(&root, &pem, uri, &folder.path().join(name));
    let keys = of("spiffe://shop.example/obscura/keys", "keys");
    let ours = of("spiffe://shop.example/obscura/ingest", "ours");
    let theirs = of("spiffe://mall.example/obscura/ingest", "theirs");

    let server = Served::keys(keys.clone()).await;
    assert!(accepted(&server, &ours).await);
    let own = theirs.client_config(keys.id().clone(), b"h2").unwrap();
    assert!(last_word(&server, own).await.is_err());
    let words = refused(&server, &theirs).await;
    assert!(words.contains("expected spiffe://mall.example/obscura/keys"), "{words}");
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_named_with_its_address() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let (address, client) = (server.address.to_string(), server.client(&shop.identity("ingest")));
    server.stop().await;
    let error = client.clone().get_intake_key(GetIntakeKeyRequest {}).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert!(story(&error).contains(&address), "{}", story(&error));
}

#[tokio::test]
async fn a_peer_name_that_is_none_is_reported_with_the_first_call() {
    let identity = Installation::new().identity("ingest");
    let channel = channel(&identity, "no such service", "127.0.0.1:1".parse().unwrap());
    let error = KeysServiceClient::new(channel).get_intake_key(GetIntakeKeyRequest {}).await.unwrap_err();
    assert!(story(&error).contains("`no such service` is not a service"), "{}", story(&error));
}
