//! Settings of ingest.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

/// The `[settings]` table of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the spool lies; `spool` in the data directory where not set.
    pub spool_dir: Option<PathBuf>,
    /// Bound of the spool in bytes.
    pub spool_limit_bytes: u64,
    /// Footage in a pack, in seconds.
    pub pack_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { spool_dir: None, spool_limit_bytes: 20 * 1024 * 1024 * 1024, pack_seconds: 60 }
    }
}

impl Settings {
    /// Footage in a pack.
    #[must_use]
    pub fn pack_duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.pack_seconds.max(1)))
    }
}
