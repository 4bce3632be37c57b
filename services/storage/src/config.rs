//! The settings of this service, from `[settings]` of its configuration file.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use obscura_daemon::Config;
use serde::Deserialize;

/// `[settings]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where objects rest; `objects` in the data directory where not set.
    pub object_directory: Option<PathBuf>,
    /// Names by which placements may call that directory; `footage-<zone>` where not set, as in the registry.
    pub buckets: Option<Vec<String>>,
    /// `host:port` at which other services reach this one; the address file says it where not set.
    pub public_address: Option<String>,
}

impl Settings {
    /// Where objects rest.
    #[must_use]
    pub fn objects(&self, data_directory: &Path) -> PathBuf {
        self.object_directory.clone().unwrap_or_else(|| data_directory.join("objects"))
    }

    /// Names of the buckets that are here.
    #[must_use]
    pub fn buckets(&self, config: &Config) -> Vec<String> {
        self.buckets.clone().unwrap_or_else(|| vec![format!("footage-{}", config.zone)])
    }

    /// How to learn the own address.
    ///
    /// # Errors
    /// Where nothing says it.
    pub fn public_address(&self, config: &Config) -> anyhow::Result<PublicAddress> {
        if let Some(address) = &self.public_address {
            return Ok(PublicAddress::Fixed(address.clone()));
        }
        let file = config.address_file.clone();
        file.map(PublicAddress::File).context(
            "set `address_file`, or `public_address` in [settings]: signed URLs need the own address",
        )
    }
}

/// Where other services reach this one.
#[derive(Clone, Debug)]
pub enum PublicAddress {
    /// Always there.
    Fixed(String),
    /// Where this file says. The port is known only once the service listens, so it is read for each
    /// URL; it is one short line.
    File(PathBuf),
}

impl PublicAddress {
    /// `https://host:port`.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no address.
    pub async fn base_url(&self) -> io::Result<String> {
        let address = match self {
            Self::Fixed(address) => address.clone(),
            Self::File(path) => tokio::fs::read_to_string(path).await?,
        };
        let address = address.trim();
        let is_host_and_port = url::Url::parse(&format!("https://{address}"))
            .is_ok_and(|url| url.has_host() && url.path() == "/" && url.query().is_none());
        if !is_host_and_port {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the address is not of the form host:port",
            ));
        }
        Ok(format!("https://{address}"))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn the_address_is_read_anew_each_time() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("storage.addr");
        let address = PublicAddress::File(path.clone());
        assert!(address.base_url().await.is_err(), "the service does not listen yet");
        for port in [9_000, 9_001] {
            std::fs::write(&path, format!("127.0.0.1:{port}\n")).unwrap();
            assert_eq!(address.base_url().await.unwrap(), format!("https://127.0.0.1:{port}"));
        }
    }

    #[tokio::test]
    async fn what_is_not_an_address_never_gets_into_a_url() {
        for text in ["", "host:1/path", "host:1?query", "a b:1", "host:99999"] {
            assert!(PublicAddress::Fixed(text.into()).base_url().await.is_err(), "{text:?}");
        }
        assert_eq!(PublicAddress::Fixed("[::1]:9000".into()).base_url().await.unwrap(), "https://[::1]:9000");
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(toml::from_str::<Settings>("bucket = \"eea\"").is_err());
        let settings: Settings = toml::from_str("object_directory = \"/srv/objects\"").unwrap();
        assert_eq!(settings.objects(Path::new("/var/lib")), Path::new("/srv/objects"));
    }
}
