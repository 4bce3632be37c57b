//! The settings of this service, from `[settings]` of its configuration file.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use obscura_blob::{S3Settings, WebTrust};
use obscura_daemon::Config;
use serde::Deserialize;
use url::Url;

/// A hundredth of what one disk reads, and more than three cameras record.
const SCRUB_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// `[settings]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A file with one line `postgres://...`; without it the index is a file of the data directory.
    pub database_url_file: Option<PathBuf>,
    /// Where objects rest; `objects` in the data directory where not set.
    pub object_directory: Option<PathBuf>,
    /// Names by which placements may call that place; where not set `footage-<zone>`, as in the
    /// registry, and the name of the bucket.
    pub buckets: Option<Vec<String>>,
    /// `host:port` at which other services reach this one; the address file says it where not set.
    pub public_address: Option<String>,
    /// How many bytes per second of objects are read again in the background; 1 MiB where not set, 0 for none.
    pub scrub_bytes_per_second: Option<u64>,
    /// A bucket instead of a directory.
    pub s3: Option<S3>,
}

/// `[settings.s3]`: the bucket where objects rest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// `https://host` or `https://host:port` of the store, as this service and its callers reach it.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// The bucket, which exists.
    pub bucket: String,
    /// Whether the bucket is part of the host name, as AWS wants it, and not of the path.
    #[serde(default)]
    pub virtual_host: bool,
    /// A file with the access key in one line.
    pub access_key_file: PathBuf,
    /// A file with its secret in one line, readable by nobody else.
    pub secret_key_file: PathBuf,
    /// Whether the endpoint may be `http://`, which it may for a store on this machine only.
    #[serde(default)]
    pub allow_http: bool,
    /// Certificates (PEM) of the authorities to believe; those of the machine where not set.
    pub ca_file: Option<PathBuf>,
}

impl S3 {
    /// The settings with what is in the files.
    ///
    /// # Errors
    /// Says which file cannot be read, or is not one line.
    pub fn load(&self) -> anyhow::Result<S3Settings> {
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(S3Settings {
            endpoint: self
                .endpoint
                .parse()
                .context("[settings.s3] endpoint is no URL: write https://host:port")?,
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            virtual_host: self.virtual_host,
            access_key: one_line(&self.access_key_file).context("[settings.s3] access_key_file")?,
            secret_key: one_line(&self.secret_key_file).context("[settings.s3] secret_key_file")?,
            trust: WebTrust {
                ca: self.ca_file.as_ref().map(read).transpose().context("[settings.s3] ca_file")?,
                allow_http: self.allow_http,
            },
        })
    }
}

/// The one line in a file.
fn one_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.trim();
    ensure!(!line.is_empty() && !line.contains('\n'), "{} should hold one line", path.display());
    Ok(line.to_owned())
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
        let by_zone = format!("footage-{}", config.zone);
        let by_itself = self.s3.iter().map(|s3| s3.bucket.clone());
        self.buckets.clone().unwrap_or_else(|| by_itself.chain([by_zone]).collect())
    }

    /// How many bytes per second of objects are read again in the background.
    #[must_use]
    pub fn scrub_bytes_per_second(&self) -> u64 {
        self.scrub_bytes_per_second.unwrap_or(SCRUB_BYTES_PER_SECOND)
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
        let is_host_and_port = Url::parse(&format!("https://{address}"))
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

    fn s3(directory: &TempDir) -> String {
        let file = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            directory.path().join(name).display().to_string()
        };
        format!(
            "[s3]\nendpoint = \"https://s3.example\"\nregion = \"eu-central-1\"\nbucket = \"footage-eea\"\naccess_key_file = {:?}\nsecret_key_file = {:?}\n",
            file("access", "AKIA\n"),
            file("secret", "verysecret\n"),
        )
    }

    #[test]
    fn keys_of_a_bucket_come_from_files_and_never_show() {
        let directory = TempDir::new().unwrap();
        let settings: Settings = toml::from_str(&s3(&directory)).unwrap();
        let loaded = settings.s3.as_ref().unwrap().load().unwrap();
        assert_eq!((loaded.access_key.as_str(), loaded.secret_key.as_str()), ("AKIA", "verysecret"));
        assert!(!format!("{settings:?} {loaded:?}").contains("verysecret"));
        let inline = s3(&directory) + "secret_key = \"verysecret\"\n";
        assert!(
            toml::from_str::<Settings>(&inline).is_err(),
            "a secret has no place in a configuration file"
        );
    }

    #[test]
    fn a_file_that_is_absent_empty_or_too_long_is_named() {
        let directory = TempDir::new().unwrap();
        let settings: Settings = toml::from_str(&s3(&directory)).unwrap();
        let load = || format!("{:#}", settings.s3.as_ref().unwrap().load().unwrap_err());
        for text in ["", "\n", "two\nlines\n"] {
            std::fs::write(directory.path().join("secret"), text).unwrap();
            assert!(load().contains("secret_key_file") && load().contains("one line"), "{}", load());
        }
        std::fs::remove_file(directory.path().join("secret")).unwrap();
        assert!(load().contains("cannot read"), "{}", load());
    }
}
