//! Settings of ingest.

use std::{io, path::PathBuf, time::Duration};

use obscura_blob::WebTrust;
use serde::Deserialize;

/// The `[settings]` table of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the spool lies; `spool` in the data directory where not set.
    pub spool_dir: Option<PathBuf>,
    /// Bound of the spool in bytes.
    pub spool_limit_bytes: u64,
    /// Bound of the spool in time, in hours: footage that waits longer leaves no room for more.
    pub spool_limit_hours: u32,
    /// Bytes of the spool's disk that are set aside for what ends and frees things.
    pub spool_reserve_bytes: u64,
    /// Bytes per second at which packs leave at most, unless recording itself needs more.
    pub upload_limit_bytes_per_second: u64,
    /// Footage in a pack, in seconds.
    pub pack_seconds: u32,
    /// Whom to believe where storage has packs put straight into a bucket.
    pub object_store: ObjectStore,
}

/// `[settings.object_store]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectStore {
    /// Certificates (PEM) of the authorities to believe; those of the machine where not set.
    pub ca_file: Option<PathBuf>,
    /// Whether URLs may be `http://`, which they may for a store on this machine only.
    pub allow_http: bool,
}

impl ObjectStore {
    /// The same with what is in the file.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn trust(&self) -> io::Result<WebTrust> {
        let ca = self.ca_file.as_ref().map(std::fs::read).transpose()?;
        Ok(WebTrust { ca, allow_http: self.allow_http })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            spool_dir: None,
            spool_limit_bytes: 20 * 1024 * 1024 * 1024,
            spool_limit_hours: 72,
            spool_reserve_bytes: 64 * 1024 * 1024,
            upload_limit_bytes_per_second: 64 * 1024 * 1024,
            pack_seconds: 60,
            object_store: ObjectStore::default(),
        }
    }
}

impl Settings {
    /// How long footage may wait in the spool.
    #[must_use]
    pub fn spool_duration(&self) -> Duration {
        Duration::from_hours(u64::from(self.spool_limit_hours.max(1)))
    }

    /// Footage in a pack.
    #[must_use]
    pub fn pack_duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.pack_seconds.max(1)))
    }
}
