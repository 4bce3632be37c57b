//! Signed URLs: permission to move one object once, in the URL itself.
//!
//! The signature is HMAC-SHA256 over method, key, size and expiry under a random key that never
//! leaves this service, so that the object handlers need neither index nor grant. It comes on top
//! of mTLS: a URL is of no use to who is not a service of this installation.

use std::{fmt, io, path::Path};

use aws_lc_rs::{hmac, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use obscura_blob::BlobKey;
use obscura_clock::Timestamp;

/// Keeps these signatures apart from whatever else may ever be signed with the key.
const DOMAIN: &[u8] = b"obscura object url v1\0";
/// Bytes of the signing key.
const KEY_BYTES: usize = 32;

/// Why a URL is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The query is not one that this service writes.
    #[error("the URL is not signed: ask for one with CreateUpload or CreateDownloads")]
    Unsigned,
    /// The signature does not fit the request.
    #[error("the signature of the URL does not fit this method, object and size")]
    Forged,
    /// Too late.
    #[error("the URL expired at {0}: ask for a new one")]
    Expired(Timestamp),
}

/// What a URL permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One upload of exactly the signed size.
    Put,
    /// Reading parts of the object.
    Get,
}

/// The permission that a URL carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What may be done.
    pub method: Method,
    /// To which object.
    pub key: BlobKey,
    /// Bytes of the object.
    pub size: u64,
    /// Until when, exclusive.
    pub expires: Timestamp,
}

impl Ticket {
    /// The signed bytes. The key comes last, everything before it has a fixed length.
    fn to_bytes(&self) -> Vec<u8> {
        let method: u8 = match self.method {
            Method::Put => 1,
            Method::Get => 2,
        };
        [
            DOMAIN,
            &[method],
            &self.size.to_be_bytes(),
            &self.expires.unix_nanos().to_be_bytes(),
            self.key.as_str().as_bytes(),
        ]
        .concat()
    }
}

/// Signs and checks URLs.
pub struct UrlSigner {
    key: hmac::Key,
}

impl UrlSigner {
    /// A signer with the key in this file (0600), which is made where there is none. Losing the file
    /// costs the URLs of the last minutes and nothing else.
    ///
    /// # Errors
    /// Where the file cannot be read or made, is open to others, or is not a key.
    pub fn open(path: &Path) -> io::Result<Self> {
        match obscura_daemon::read_private(path) {
            Ok(key) => Self::from_bytes(&key).ok_or_else(|| {
                let words =
                    format!("{} is not a key of 32 bytes: remove it, a new one is made", path.display());
                io::Error::new(io::ErrorKind::InvalidData, words)
            }),
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        rand::fill(&mut key).map_err(|_| io::Error::other("the operating system has no randomness"))?;
        obscura_daemon::write_atomically(path, &key, 0o600)?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    fn from_bytes(key: &[u8]) -> Option<Self> {
        (key.len() == KEY_BYTES).then(|| Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) })
    }

    /// The path and query of a URL that carries the ticket.
    #[must_use]
    pub fn sign(&self, ticket: &Ticket) -> String {
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &ticket.to_bytes()));
        let expires = ticket.expires.unix_nanos();
        format!("/objects/{}?size={}&expires={expires}&signature={signature}", ticket.key, ticket.size)
    }

    /// The ticket in a query, if it permits this method on this object now.
    ///
    /// # Errors
    /// Says why not. The time is looked at last: of a forged URL not even that is told.
    pub fn verify(
        &self,
        method: Method,
        key: BlobKey,
        query: &str,
        now: Timestamp,
    ) -> Result<Ticket, Refused> {
        let query = Query::parse(query).ok_or(Refused::Unsigned)?;
        let ticket = Ticket { method, key, size: query.size, expires: query.expires };
        hmac::verify(&self.key, &ticket.to_bytes(), &query.signature).map_err(|_| Refused::Forged)?;
        if now >= ticket.expires {
            return Err(Refused::Expired(ticket.expires));
        }
        Ok(ticket)
    }
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner").finish_non_exhaustive()
    }
}

/// The three fields of a signed query, in the order in which they are written.
struct Query {
    size: u64,
    expires: Timestamp,
    signature: Vec<u8>,
}

impl Query {
    fn parse(query: &str) -> Option<Self> {
        let rest = query.strip_prefix("size=")?;
        let (size, rest) = rest.split_once("&expires=")?;
        let (expires, signature) = rest.split_once("&signature=")?;
        Some(Self {
            size: size.parse().ok()?,
            expires: Timestamp::from_unix_nanos(expires.parse().ok()?),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_nanos(1_000_000_000_000);

    fn signer() -> UrlSigner {
        UrlSigner::from_bytes(&[7; KEY_BYTES]).unwrap()
    }

    fn ticket() -> Ticket {
        let key = "eea/camera/original/pack".parse().unwrap();
        Ticket { method: Method::Put, key, size: 100, expires: NOW + Duration::from_secs(300) }
    }

    fn query(url: &str) -> &str {
        url.split_once('?').unwrap().1
    }

    #[test]
    fn a_signed_url_permits_what_it_was_signed_for_until_it_expires() {
        let (signer, ticket) = (signer(), ticket());
        let url = signer.sign(&ticket);
        assert!(url.starts_with("/objects/eea/camera/original/pack?size=100&"));
        let verify = |now| signer.verify(Method::Put, ticket.key.clone(), query(&url), now);
        assert_eq!(verify(NOW), Ok(ticket.clone()));
        assert_eq!(verify(ticket.expires - Duration::from_nanos(1)), Ok(ticket.clone()));
        assert_eq!(verify(ticket.expires), Err(Refused::Expired(ticket.expires)));
    }

    #[test]
    fn no_part_of_a_signed_url_can_be_changed() {
        let (signer, ticket) = (signer(), ticket());
        let url = signer.sign(&ticket);
        let refused = |method, key: &str, query: &str| {
            signer.verify(method, key.parse().unwrap(), query, NOW).unwrap_err() == Refused::Forged
        };
        assert!(refused(Method::Get, ticket.key.as_str(), query(&url)));
        assert!(refused(Method::Put, "eea/other/original/pack", query(&url)));
        assert!(refused(Method::Put, ticket.key.as_str(), &query(&url).replace("size=100", "size=101")));
        let later = format!("expires={}", ticket.expires.unix_nanos() + 1);
        let expires = format!("expires={}", ticket.expires.unix_nanos());
        assert!(refused(Method::Put, ticket.key.as_str(), &query(&url).replace(&expires, &later)));
        let other = UrlSigner::from_bytes(&[8; KEY_BYTES]).unwrap().sign(&ticket);
        assert!(refused(Method::Put, ticket.key.as_str(), query(&other)));
    }

    #[test]
    fn the_key_outlives_a_restart_and_is_for_its_owner_only() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("url.key");
        let url = UrlSigner::open(&path).unwrap().sign(&ticket());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = UrlSigner::open(&path).unwrap();
        assert!(again.verify(Method::Put, ticket().key, query(&url), NOW).is_ok());
        fs::write(&path, b"short").unwrap();
        assert_eq!(UrlSigner::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("url.key");
        UrlSigner::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let refused = UrlSigner::open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    proptest! {
        #[test]
        fn an_arbitrary_query_permits_nothing(
            query in "(size=[0-9]{0,20}&expires=-?[0-9]{0,20}&signature=[A-Za-z0-9_-]{0,44})|.{0,80}",
        ) {
            prop_assert!(signer().verify(Method::Get, ticket().key, &query, NOW).is_err());
        }
    }
}
