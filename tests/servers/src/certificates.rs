//! Certificates for the servers and for those who speak to them, from an authority of the test's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// An authority, and the folder in which everything it made lies.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key and the root above it, PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The root.
    pub ca: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// An authority whose root is `ca.pem` in the folder.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// A certificate for a server on this machine: `localhost` and `127.0.0.1`.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn server(&self, name: &str) -> Result<Certificate> {
        let names = [SanType::DnsName("localhost".try_into()?), SanType::IpAddress([127, 0, 0, 1].into())];
        self.issue(name, names.into())
    }

    /// A certificate that carries a SPIFFE id and nothing else.
    ///
    /// # Errors
    /// Where the id is no URI or the folder cannot be written.
    pub fn service(&self, name: &str, spiffe_id: &str) -> Result<Certificate> {
        self.issue(name, vec![SanType::URI(spiffe_id.try_into()?)])
    }

    fn issue(&self, name: &str, names: Vec<SanType>) -> Result<Certificate> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let paths = Certificate {
            ca: self.folder.join("ca.pem"),
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        fs::write(&paths.certificate, certificate.pem())?;
        fs::write(&paths.key, key.serialize_pem())?;
        Ok(paths)
    }
}
