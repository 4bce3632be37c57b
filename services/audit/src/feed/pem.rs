//! Certificates and keys from files, read anew for each connection, so that rotation needs no restart.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::sink::Trouble;

/// Chains and roots are a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The bytes of a file, with a complaint that names it.
pub async fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    let unreadable = |error| Trouble::Again(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).await.map_err(unreadable)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).await.map_err(unreadable)?;
    Ok(bytes)
}

/// TLS with our own certificate, trusting only the roots in a file.
pub async fn client_config(ca: &Path, certificate: &Path, key: &Path) -> Result<ClientConfig, Trouble> {
    let mut roots = RootCertStore::empty();
    for root in certificates(ca, &read(ca).await?)? {
        roots.add(root).map_err(|error| invalid(ca, &error))?;
    }
    let chain = certificates(certificate, &read(certificate).await?)?;
    let key_der = PrivateKeyDer::from_pem_slice(&read(key).await?).map_err(|error| invalid(key, &error))?;
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(certificate, &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key_der)
        .map_err(|error| invalid(certificate, &error))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| invalid(path, &error))?;
    if found.is_empty() {
        return Err(invalid(path, &"there is no certificate in it"));
    }
    Ok(found)
}

fn invalid(path: &Path, why: &dyn std::fmt::Display) -> Trouble {
    Trouble::Again(format!("cannot use {}: {why}", path.display()))
}
