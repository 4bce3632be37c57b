//! Settings of this service.

use serde::Deserialize;

/// The table `settings` of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Rows that a rotation re-wraps in one transaction, 1 to 1,000: more is faster, fewer keep
    /// imports from waiting.
    pub rewrap_batch_rows: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rewrap_batch_rows: 64 }
    }
}

/// A setting outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("settings.rewrap_batch_rows is {0}; expected 1 to 1000")]
pub struct InvalidSettings(u32);

impl Settings {
    /// Refuses values outside their bounds.
    ///
    /// # Errors
    /// Names the setting and its bounds.
    pub const fn check(&self) -> Result<(), InvalidSettings> {
        match self.rewrap_batch_rows {
            1..=1_000 => Ok(()),
            rows => Err(InvalidSettings(rows)),
        }
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
        let none = read(r#"{"rewrap_batch_rows": 0}"#).unwrap();
        assert!(none.check().unwrap_err().to_string().contains("rewrap_batch_rows"));
    }
}
