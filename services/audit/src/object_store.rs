//! Where tiles, entries and checkpoints are published: a directory, or a bucket of its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use obscura_blob::{
    BlobStore, LocalDirectory, RetryPolicy, S3Bucket, S3Settings, Timeouts, WebTrust, WithRetry, WithTimeout,
};
use obscura_clock::SharedClock;
use serde::Deserialize;
use url::Url;

/// Directory in the data directory.
const DIRECTORY: &str = "log";

/// A bucket that holds nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSettings {
    /// `https://host` or `https://host:port` of the store.
    pub endpoint: Url,
    /// Its region.
    pub region: String,
    /// The bucket, which exists.
    pub bucket: String,
    /// Whether the bucket is part of the host name and not of the path.
    #[serde(default)]
    pub virtual_host: bool,
    /// A file, mode 0600, with two lines: the access key and its secret.
    pub credentials_file: PathBuf,
    /// Certificates (PEM) of the only authorities that count; those of the machine where not set.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether `http://` is fine, which it is on the loopback interface only.
    #[serde(default)]
    pub allow_http: bool,
}

/// Opens the bucket, or the directory where none is set.
///
/// # Errors
/// Names the setting or file and what is wrong with it.
pub fn open(
    bucket: Option<&BucketSettings>,
    data_dir: &Path,
    clock: &SharedClock,
) -> anyhow::Result<Arc<dyn BlobStore>> {
    let Some(bucket) = bucket else {
        let folder = data_dir.join(DIRECTORY);
        let directory = LocalDirectory::open(&folder);
        return Ok(Arc::new(directory.with_context(|| format!("cannot use {}", folder.display()))?));
    };
    let settings = bucket.resolve().context("[settings.object_store]")?;
    let bucket = S3Bucket::open(&settings, clock.clone()).context("[settings.object_store]")?;
    let bounded = WithTimeout::new(Arc::new(bucket), Timeouts::default());
    Ok(Arc::new(WithRetry::new(Arc::new(bounded), RetryPolicy::default())))
}

impl BucketSettings {
    fn resolve(&self) -> anyhow::Result<S3Settings> {
        let (access_key, secret_key) = credentials(&self.credentials_file)
            .with_context(|| format!("`credentials_file` {}", self.credentials_file.display()))?;
        let ca = self.ca_file.as_ref().map(fs::read).transpose().context("`ca_file`")?;
        Ok(S3Settings {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            virtual_host: self.virtual_host,
            access_key,
            secret_key,
            trust: WebTrust { ca, allow_http: self.allow_http },
        })
    }
}

fn credentials(path: &Path) -> anyhow::Result<(String, String)> {
    let mode = fs::metadata(path)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others can read it (mode {:o}): run `chmod 600` on it", mode & 0o777);
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (Some(access), Some(secret), None) = (lines.next(), lines.next(), lines.next()) else {
        bail!("expected two lines: the access key and its secret");
    };
    Ok((access.to_owned(), secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_two_lines_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        fs::write(&path, "key\nsecret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(credentials(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(credentials(&path).unwrap(), ("key".to_owned(), "secret".to_owned()));
        fs::write(&path, "key\n").unwrap();
        assert!(credentials(&path).unwrap_err().to_string().contains("two lines"));
    }
}
