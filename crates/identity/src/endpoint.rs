use std::{fmt, fs::File, io::Read as _, path::PathBuf, str::FromStr};

use http::uri::Authority;
use serde::{Deserialize, Serialize};

use crate::Error;

const FILE_SCHEME: &str = "file:";
/// A host name has at most 253 bytes, a port 5.
const MAX_ADDRESS_BYTES: u64 = 300;

/// The text does not say where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an endpoint: write host:port (127.0.0.1:9000) or file:PATH of a file that holds host:port"
)]
pub struct InvalidEndpoint(String);

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// `host:port`.
    Address(String),
    /// A file with one line, `host:port`. It is read at every connect, so that a peer which was
    /// restarted on another port is found.
    File(PathBuf),
}

impl Endpoint {
    /// The `host:port` to dial now.
    pub(crate) fn address(&self) -> Result<String, Error> {
        match self {
            Self::Address(address) => Ok(address.clone()),
            Self::File(path) => read_address(path),
        }
    }
}

fn read_address(path: &PathBuf) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_ADDRESS_BYTES).read_to_string(&mut text))
        .map_err(Error::file("read the address file", path))?;
    valid_address(text.trim_end()).ok_or_else(|| {
        Error::invalid(path, "expected one line host:port; the peer writes it once it listens")
    })
}

fn valid_address(text: &str) -> Option<String> {
    let authority: Authority = text.parse().ok()?;
    let plain = !text.contains('@') && !authority.host().is_empty();
    (plain && authority.port_u16().is_some()).then(|| text.to_owned())
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.chars().take(64).collect());
        match text.strip_prefix(FILE_SCHEME) {
            Some("") => Err(invalid()),
            Some(path) => Ok(Self::File(path.into())),
            None => valid_address(text).map(Self::Address).ok_or_else(invalid),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::File(path) => write!(f, "{FILE_SCHEME}{}", path.display()),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_endpoint_reads_and_writes_both_forms() {
        for text in ["127.0.0.1:9000", "[::1]:9000", "keys.obscura.svc:443", "file:/run/obscura/keys.addr"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in
            ["", "keys", "keys:", "keys:70000", ":9000", "user@keys:9000", "http://keys:1", "file:", "a b:1"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_file_is_read_anew_each_time_and_its_faults_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.addr");
        let endpoint: Endpoint = format!("file:{}", path.display()).parse().unwrap();
        assert!(endpoint.address().unwrap_err().to_string().contains("keys.addr"));
        std::fs::write(&path, "127.0.0.1:1\n").unwrap();
        assert_eq!(endpoint.address().unwrap(), "127.0.0.1:1");
        std::fs::write(&path, "127.0.0.1:2").unwrap();
        assert_eq!(endpoint.address().unwrap(), "127.0.0.1:2");
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        assert!(endpoint.address().unwrap_err().to_string().contains("one line host:port"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_reads_back(text: String) {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }
}
