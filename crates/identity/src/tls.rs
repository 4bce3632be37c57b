//! TLS 1.3 on both ends: chain to our roots first, then the SPIFFE id.
//!
//! Session resumption is off: a resumed session would not look at certificates again.

use std::{io, sync::Arc};

use obscura_clock::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use tokio::{io::BufReader, net::TcpStream};

use crate::{SpiffeId, TrustDomain, certificate::Leaf};

/// The one crypto provider, also where the process has not installed it as its default.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// Bytes that are asked of the kernel at once.
const READ_BYTES: usize = 64 * 1024;

/// rustls reads about 4 KiB at a time, which for footage is ten thousand system calls a second.
pub fn read_in_large_pieces(stream: TcpStream) -> BufReader<TcpStream> {
    BufReader::with_capacity(READ_BYTES, stream)
}

/// Now, as rustls itself sees it when it checks a certificate.
pub fn now() -> Timestamp {
    let seconds = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_unix_nanos(seconds.saturating_mul(1_000_000_000))
}

/// Serves with `own` and accepts every service of `trust_domain` whose certificate one of `roots` signed.
pub fn server_config(
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    trust_domain: TrustDomain,
) -> Result<ServerConfig, Error> {
    let chain = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier { chain, trust_domain }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Connects with `own` and accepts only `expected`, whose certificate one of `roots` signed.
pub fn client_config(
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    expected: SpiffeId,
    protocol: &[u8],
) -> Result<ClientConfig, Error> {
    let verifier =
        ServerVerifier { roots, expected, algorithms: provider().signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    // The name would be a SPIFFE id, which is not a DNS name, and says who speaks to whom in clear.
    config.enable_sni = false;
    Ok(config)
}

/// rustls shows our own refusals in Rust's notation; this says them in their words.
pub fn in_words(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(own)))) = tls else { return error };
    io::Error::new(error.kind(), own.to_string())
}

/// Whether only the time keeps a chain from being good.
pub const fn is_about_time(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

/// Checks that `leaf` chains to `roots` for serving at this moment.
pub fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms.all)
}

#[derive(Debug)]
struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let leaf = Leaf::read(end_entity).map_err(refused)?;
        if *leaf.id.trust_domain() != self.trust_domain {
            return Err(refused(WrongPeer { expected: self.trust_domain.to_string(), found: leaf.id }));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct ServerVerifier {
    roots: Arc<RootCertStore>,
    expected: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_chain(end_entity, intermediates, &self.roots, now, &self.algorithms)?;
        let leaf = Leaf::read(end_entity).map_err(refused)?;
        if leaf.id != self.expected {
            return Err(refused(WrongPeer { expected: self.expected.to_string(), found: leaf.id }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The chain is good, but it is someone else.
#[derive(Debug, thiserror::Error)]
#[error("expected {expected}, but the certificate is that of {found}")]
struct WrongPeer {
    expected: String,
    found: SpiffeId,
}

fn refused(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}
