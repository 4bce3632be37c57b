//! Settings of this service.

use std::path::PathBuf;

use serde::Deserialize;

use crate::hold::Limits;

/// The table `settings` of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A file with one line `postgres://...`; without it the database is a file of the data directory.
    pub database_url_file: Option<PathBuf>,
    /// Rows that a rotation re-wraps in one transaction, 1 to 1,000: more is faster, fewer keep
    /// imports from waiting.
    pub rewrap_batch_rows: u32,
    /// A second place for the secrets outside the database, on another disk; stands in for a backup of
    /// them, which must not be made.
    pub secrets_mirror_dir: Option<PathBuf>,
    /// Most holds that stand at a time, 1 to 10,000.
    pub max_holds: u64,
    /// Longest span of one hold or one early destruction in days, 1 to 366.
    pub max_hold_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            database_url_file: None,
            rewrap_batch_rows: 64,
            secrets_mirror_dir: None,
            max_holds: limits.holds,
            max_hold_days: limits.days,
        }
    }
}

/// A setting outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("settings.{name} is {value}; expected 1 to {most}")]
pub struct InvalidSettings {
    name: &'static str,
    value: u64,
    most: u64,
}

impl Settings {
    /// Refuses values outside their bounds.
    ///
    /// # Errors
    /// Names the setting and its bounds.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let bounded = [
            ("rewrap_batch_rows", u64::from(self.rewrap_batch_rows), 1_000),
            ("max_holds", self.max_holds, 10_000),
            ("max_hold_days", u64::from(self.max_hold_days), 366),
        ];
        let outside = bounded.into_iter().find(|(_, value, most)| !(1..=*most).contains(value));
        outside.map_or(Ok(()), |(name, value, most)| Err(InvalidSettings { name, value, most }))
    }

    /// Bounds of holds and early destruction.
    pub const fn limits(&self) -> Limits {
        Limits { holds: self.max_holds, days: self.max_hold_days }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Settings, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn no_settings_are_good_settings() {
        assert_eq!(read("{}").unwrap(), Settings::default());
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn a_misspelt_or_absurd_setting_is_refused() {
        assert!(read(r#"{"rewrap_rows": 1}"#).is_err());
        for name in ["rewrap_batch_rows", "max_holds", "max_hold_days"] {
            for value in [0, 10_001] {
                let wrong = read(&format!(r#"{{"{name}": {value}}}"#)).unwrap();
                assert!(wrong.check().unwrap_err().to_string().contains(name));
            }
        }
    }
}
