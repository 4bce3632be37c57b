//! Reads the one name that counts in a certificate (SPIFFE X.509-SVID, section 2).

use obscura_clock::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, time::ASN1Time,
};

use crate::{InvalidSpiffeId, SpiffeId, TrustDomain, Validity};

/// The bytes are not a certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// Not an X.509 certificate, or one with faulty extensions.
    #[error("not a well-formed X.509 certificate")]
    Malformed,
    /// More than one URI would let the holder choose who to be.
    #[error("the certificate has {0} URI names: exactly one is allowed")]
    Names(usize),
    /// The URI is not a SPIFFE id of Obscura.
    #[error("the certificate's name is wrong: {0}")]
    Name(#[from] InvalidSpiffeId),
}

/// What a certificate says about its holder. Says nothing about who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// Beginning of its validity, inclusive.
    pub not_before: Timestamp,
    /// End of its validity, inclusive.
    pub not_after: Timestamp,
}

impl Leaf {
    /// Reads the certificate of a service.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let certificate = parse(der)?;
        let id = only_uri(&certificate)?.parse()?;
        let validity = certificate.validity();
        Ok(Self { id, not_before: timestamp(validity.not_before), not_after: timestamp(validity.not_after) })
    }

    /// When it counts.
    pub const fn validity(&self) -> Validity {
        Validity { not_before: self.not_before, not_after: self.not_after }
    }
}

/// What the certificate of a CA says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// For which trust domain it signs.
    pub trust_domain: TrustDomain,
    /// End of its validity, inclusive.
    pub not_after: Timestamp,
}

impl Authority {
    /// Reads the certificate of a CA.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let certificate = parse(der)?;
        let trust_domain = TrustDomain::from_uri(only_uri(&certificate)?)?;
        Ok(Self { trust_domain, not_after: timestamp(certificate.validity().not_after) })
    }
}

/// When a certificate counts, whosever it is.
pub fn validity(der: &CertificateDer<'_>) -> Result<Validity, InvalidCertificate> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok(Validity { not_before: timestamp(validity.not_before), not_after: timestamp(validity.not_after) })
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, InvalidCertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(InvalidCertificate::Malformed),
    }
}

fn only_uri<'a>(certificate: &X509Certificate<'a>) -> Result<&'a str, InvalidCertificate> {
    let names = certificate.subject_alternative_name().map_err(|_| InvalidCertificate::Malformed)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&'a str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => Ok(uri),
        other => Err(InvalidCertificate::Names(other.len())),
    }
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_unix_nanos(time.timestamp().saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["peer.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_leaf_is_read_with_its_name_and_its_end() {
        let leaf = Leaf::read(&certificate(&["spiffe://shop/obscura/keys"])).unwrap();
        assert_eq!(leaf.id.service(), "keys");
        assert_eq!(leaf.not_after, "2030-01-02T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_certificate_without_a_uri_or_with_two_is_refused() {
        assert_eq!(Leaf::read(&certificate(&[])), Err(InvalidCertificate::Names(0)));
        let two = certificate(&["spiffe://shop/obscura/keys", "spiffe://shop/obscura/cli"]);
        assert_eq!(Leaf::read(&two), Err(InvalidCertificate::Names(2)));
    }

    #[test]
    fn a_leaf_is_no_authority_and_an_authority_no_leaf() {
        let leaf = certificate(&["spiffe://shop/obscura/keys"]);
        assert!(matches!(Authority::read(&leaf), Err(InvalidCertificate::Name(_))));
        let authority = certificate(&["spiffe://shop"]);
        assert_eq!(Authority::read(&authority).unwrap().trust_domain.as_str(), "shop");
        assert!(matches!(Leaf::read(&authority), Err(InvalidCertificate::Name(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(Leaf::read(&bytes.into()).is_err());
        }

        #[test]
        fn a_damaged_certificate_is_read_or_refused_without_a_panic(position: prop::sample::Index, value: u8) {
            let mut bytes = certificate(&["spiffe://shop/obscura/keys"]).to_vec();
            let position = position.index(bytes.len());
            bytes[position] = value;
            let _ = Leaf::read(&bytes.into());
        }
    }
}
