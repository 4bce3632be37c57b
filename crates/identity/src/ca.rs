use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use obscura_clock::{Clock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::{Error, SpiffeId, TrustDomain, certificate::Authority, files, tls};

/// The longest a certificate may live: a stolen key is of use until then, as nothing is revoked.
pub const MAX_VALIDITY: Duration = Duration::from_hours(7 * 24);

const CA_VALIDITY: Duration = Duration::from_hours(10 * 365 * 24);
/// Machines whose clocks are this far apart still accept a fresh certificate.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// The embedded certificate authority of one installation: `ca.pem` and `ca.key` in a folder.
///
/// Whoever reads `ca.key` can be any service. It is for one machine, or where no better issuer
/// exists; the services themselves never see it.
#[derive(Debug)]
pub struct Ca {
    folder: PathBuf,
    authority: Authority,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA for `trust_domain`, valid for ten years, and keeps it in `dir`.
    ///
    /// # Errors
    /// [`Error::CaExists`] where `dir` has one already; the file system's errors. A crash leaves
    /// the whole CA or none.
    pub fn create(dir: &Path, trust_domain: &TrustDomain, clock: &dyn Clock) -> Result<Self, Error> {
        if dir.join(CA_CERTIFICATE).exists() || dir.join(CA_KEY).exists() {
            return Err(Error::CaExists(dir.to_owned()));
        }
        let key = KeyPair::generate()?;
        let mut params = ca_params();
        params.subject_alt_names = vec![uri(&trust_domain.uri())?];
        set_validity(&mut params, clock.wall(), clock.wall() + CA_VALIDITY);
        let certificate = params.self_signed(&key)?;
        let set = [
            (CA_CERTIFICATE, certificate.pem().into_bytes(), 0o644),
            (CA_KEY, key.serialize_pem().into_bytes(), 0o600),
        ];
        install(dir, &set)?;
        Self::open(dir)
    }

    /// Opens the CA in `dir`.
    ///
    /// # Errors
    /// Where a file is missing or damaged, or the key does not belong to the certificate.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let certificate_path = dir.join(CA_CERTIFICATE);
        let key_path = dir.join(CA_KEY);
        let certificate_pem = read(&certificate_path)?;
        let key_pem = read(&key_path)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| Error::invalid(&certificate_path, error))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| Error::invalid(&key_path, error))?;
        let authority =
            Authority::read(&certificate).map_err(|error| Error::invalid(&certificate_path, error))?;
        CertifiedKey::from_der(vec![certificate], key, &tls::provider())
            .map_err(|error| Error::invalid(&key_path, error))?;
        let issuer = Issuer::new(ca_params(), KeyPair::from_pem(&key_pem)?);
        Ok(Self { folder: dir.to_owned(), authority, certificate_pem, issuer })
    }

    /// For whom it signs.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.authority.trust_domain
    }

    /// Makes a key and a certificate for `service`, valid from a minute ago until `valid_for` from
    /// now, and puts `cert.pem`, `key.pem` (mode 0600) and `ca.pem` into `into_dir`, all at once.
    ///
    /// # Errors
    /// Where `service` is no service name, `valid_for` is under a second or over [`MAX_VALIDITY`],
    /// the CA has expired, or the file system refuses; `into_dir` then still has what it had.
    pub fn issue(
        &self,
        service: &str,
        into_dir: &Path,
        valid_for: Duration,
        clock: &dyn Clock,
    ) -> Result<(), Error> {
        let id = SpiffeId::new(self.trust_domain(), service)?;
        let now = clock.wall();
        let not_after = self.end_of_validity(now, valid_for)?;
        let key = KeyPair::generate()?;
        let mut params = leaf_params(&id)?;
        set_validity(&mut params, now - CLOCK_SKEW, not_after);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let set = [
            ("cert.pem", certificate.pem().into_bytes(), 0o644),
            ("key.pem", key.serialize_pem().into_bytes(), 0o600),
            (CA_CERTIFICATE, self.certificate_pem.clone().into_bytes(), 0o644),
        ];
        install(into_dir, &set)
    }

    fn end_of_validity(&self, now: Timestamp, valid_for: Duration) -> Result<Timestamp, Error> {
        if valid_for < Duration::from_secs(1) || valid_for > MAX_VALIDITY {
            return Err(Error::Validity { asked: valid_for, limit: MAX_VALIDITY });
        }
        if now >= self.authority.not_after {
            return Err(Error::CaExpired(self.folder.clone()));
        }
        Ok((now + valid_for).min(self.authority.not_after))
    }
}

/// What certificate and issuer have in common: chains are built by this name, so it must never
/// change for CAs that exist.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Obscura CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(id: &SpiffeId) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(id.service());
    params.subject_alt_names = vec![uri(&id.to_string())?];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
    names
}

fn uri(text: &str) -> Result<SanType, Error> {
    Ok(SanType::URI(text.try_into()?))
}

fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |moment: Timestamp| moment.since(Timestamp::from_unix_nanos(0));
    params.not_before = epoch + since_epoch(not_before);
    params.not_after = epoch + since_epoch(not_after);
}

fn install(folder: &Path, set: &[(&str, Vec<u8>, u32)]) -> Result<(), Error> {
    let set: Vec<_> = set.iter().map(|(name, bytes, mode)| (*name, bytes.as_slice(), *mode)).collect();
    files::install(folder, &set).map_err(Error::file("write certificates into", folder))
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Leaf;
    use obscura_clock::{SimulatedClock, SystemClock};
    use std::os::unix::fs::PermissionsExt as _;
    use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

    const DAY: Duration = Duration::from_hours(24);

    fn ca(folder: &Path) -> Ca {
        Ca::create(folder, &"shop.example".parse().unwrap(), &*SystemClock::shared()).unwrap()
    }

    fn leaf_of(folder: &Path) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_certificate_has_exactly_one_uri_name_and_serves_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("keys");
        ca(&folder.path().join("ca")).issue("keys", &into, DAY, &*SystemClock::shared()).unwrap();
        let der = leaf_of(&into);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names.as_slice(), [GeneralName::URI("spiffe://shop.example/obscura/keys")]);
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth && !usage.any && usage.other.is_empty());
        assert!(!certificate.is_ca());
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let (of_ca, into) = (folder.path().join("ca"), folder.path().join("keys"));
        ca(&of_ca).issue("keys", &into, DAY, &*SystemClock::shared()).unwrap();
        assert_eq!((mode(&of_ca.join("ca.key")), mode(&into.join("key.pem"))), (0o600, 0o600));
        assert_eq!((mode(&of_ca), mode(&into)), (0o700, 0o700));
    }

    #[test]
    fn a_certificate_ends_when_asked_but_never_after_its_ca() {
        let folder = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap());
        let ca = Ca::create(&folder.path().join("ca"), &"shop".parse().unwrap(), &*clock).unwrap();
        let into = folder.path().join("keys");
        ca.issue("keys", &into, DAY, &*clock).unwrap();
        assert_eq!(Leaf::read(&leaf_of(&into)).unwrap().not_after, "2026-11-24T10:00:00Z".parse().unwrap());
        clock.advance(CA_VALIDITY - Duration::from_hours(1));
        ca.issue("keys", &into, DAY, &*clock).unwrap();
        assert_eq!(Leaf::read(&leaf_of(&into)).unwrap().not_after, ca.authority.not_after);
        clock.advance(Duration::from_hours(1));
        assert!(matches!(ca.issue("keys", &into, DAY, &*clock), Err(Error::CaExpired(_))));
    }

    #[test]
    fn a_long_life_and_a_wrong_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, clock) = (ca(&folder.path().join("ca")), SystemClock::shared());
        for valid_for in [Duration::ZERO, MAX_VALIDITY + Duration::from_secs(1)] {
            let refused = ca.issue("keys", folder.path(), valid_for, &*clock);
            assert!(matches!(refused, Err(Error::Validity { .. })));
        }
        assert!(matches!(ca.issue("../keys", folder.path(), DAY, &*clock), Err(Error::Name(_))));
    }

    #[test]
    fn a_ca_is_never_overwritten_and_opens_with_its_trust_domain() {
        let folder = tempfile::tempdir().unwrap();
        ca(folder.path());
        let again = Ca::create(folder.path(), &"other".parse().unwrap(), &*SystemClock::shared());
        assert!(matches!(again, Err(Error::CaExists(_))));
        assert_eq!(Ca::open(folder.path()).unwrap().trust_domain().as_str(), "shop.example");
    }

    #[test]
    fn a_ca_with_the_key_of_another_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        ca(&one);
        ca(&other);
        fs::copy(other.join(CA_KEY), one.join(CA_KEY)).unwrap();
        let error = Ca::open(&one).unwrap_err().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }
}
