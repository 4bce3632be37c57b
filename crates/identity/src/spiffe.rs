use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

const SCHEME: &str = "spiffe://";
const FOLDER: &str = "/obscura/";

/// The text is not a SPIFFE id or trust domain that Obscura uses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {why}")]
pub struct InvalidSpiffeId {
    /// What was expected.
    pub kind: &'static str,
    /// What came, at most 64 characters of it.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl InvalidSpiffeId {
    fn new(kind: &'static str, text: &str, why: &'static str) -> Self {
        Self { kind, text: text.chars().take(64).collect(), why }
    }
}

/// Who vouches for identities: 1 to 255 characters of `a` to `z`, `0` to `9`, `.`, `-` and `_`
/// (SPIFFE-ID, section 2.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trust domain itself, which its CA certificate carries: no path.
    pub(crate) fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// Reads what [`TrustDomain::uri`] writes.
    pub(crate) fn from_uri(uri: &str) -> Result<Self, InvalidSpiffeId> {
        let scheme = || InvalidSpiffeId::new("trust domain id", uri, "expected spiffe://<trust-domain>");
        uri.strip_prefix(SCHEME).ok_or_else(scheme)?.parse()
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.bytes().all(allowed) {
            return Err(InvalidSpiffeId::new(
                "trust domain",
                text,
                "expected 1 to 255 of a-z, 0-9, `.`, - and _",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// The name of one service: `spiffe://<trust-domain>/obscura/<service>`, where the service is 1 to
/// 32 characters of `a` to `z`, `0` to `9` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    service: Arc<str>,
}

impl SpiffeId {
    /// Longest service name, in bytes.
    pub const MAX_SERVICE_BYTES: usize = 32;

    /// The id of `service` in `trust_domain`.
    ///
    /// # Errors
    /// Where the service has a character it may not have, or none, or more than 32.
    pub fn new(trust_domain: &TrustDomain, service: &str) -> Result<Self, InvalidSpiffeId> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if service.is_empty() || service.len() > Self::MAX_SERVICE_BYTES || !service.bytes().all(allowed) {
            return Err(InvalidSpiffeId::new("service", service, "expected 1 to 32 of a-z, 0-9 and -"));
        }
        Ok(Self { trust_domain: trust_domain.clone(), service: service.into() })
    }

    /// Who vouches for it.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The last path segment, as the table of callers names it.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let shape =
            || InvalidSpiffeId::new("SPIFFE id", text, "expected spiffe://<trust-domain>/obscura/<service>");
        let rest = text.strip_prefix(SCHEME).ok_or_else(shape)?;
        let (trust_domain, service) = rest.split_once(FOLDER).ok_or_else(shape)?;
        Self::new(&trust_domain.parse()?, service)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{FOLDER}{}", self.trust_domain, self.service)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({self})")
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = InvalidSpiffeId;

    fn try_from(text: String) -> Result<Self, InvalidSpiffeId> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.to_string()
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = InvalidSpiffeId;

    fn try_from(text: String) -> Result<Self, InvalidSpiffeId> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_outside_the_obscura_folder_or_with_anything_after_the_service_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe:///obscura/keys",
            "spiffe://shop.example/keys",
            "spiffe://shop.example/obscura/",
            "spiffe://shop.example/obscura/keys/more",
            "spiffe://shop.example/obscura/Keys",
            "spiffe://shop.example/obscura/keys?x",
            "spiffe://user@shop.example/obscura/keys",
            "spiffe://shop.example:443/obscura/keys",
            "SPIFFE://shop.example/obscura/keys",
            "https://shop.example/obscura/keys",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_id_is_quoted_at_most_64_characters_long() {
        let error = "é".repeat(500).parse::<SpiffeId>().unwrap_err();
        assert_eq!(error.text.chars().count(), 64);
    }

    #[test]
    fn the_id_of_a_trust_domain_has_no_path() {
        let domain: TrustDomain = "shop.example".parse().unwrap();
        assert_eq!(TrustDomain::from_uri(&domain.uri()), Ok(domain));
        assert!(TrustDomain::from_uri("spiffe://shop.example/obscura/keys").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_but_never_panics(text: String) {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn an_id_reads_back_from_its_own_text(domain in "[a-z0-9._-]{1,255}", service in "[a-z0-9-]{1,32}") {
            let id = SpiffeId::new(&domain.parse().unwrap(), &service).unwrap();
            prop_assert_eq!(id.trust_domain().as_str(), domain);
            prop_assert_eq!(id.service(), service);
            prop_assert_eq!(id.to_string().parse::<SpiffeId>(), Ok(id.clone()));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
        }
    }
}
