//! Settings of this service.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use obscura_clock::{InvalidTime, Timestamp};
use serde::Deserialize;
use url::Url;

use crate::{feed, object_store::BucketSettings};

/// A day in seconds.
const DAY_SECONDS: u64 = 86_400;
/// Witnesses that may be configured.
const MAX_WITNESSES: usize = 16;

/// The table `settings` of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A file with one line `postgres://...`; without it SQLite in the data directory.
    pub database_url_file: Option<PathBuf>,
    /// Seconds of silence, 2 to 300, after which the PostgreSQL server lets another audit service take over.
    pub lease_seconds: u32,
    /// A bucket of its own for tiles, entries and checkpoint; without it the directory `log` of the data directory.
    pub object_store: Option<BucketSettings>,
    /// Ids of the persons who read the whole log, at most 64, for example `unix:1000`; nobody where empty.
    pub auditors: Vec<String>,
    /// Ids of the persons who agree to early erasure as data-protection officer, as of auditors; nobody where empty.
    pub data_protection_officers: Vec<String>,
    /// Days for which entries are kept, 1 to 36,500; hashes are kept for ever.
    pub retention_days: u32,
    /// When a person last compared the clock with another and found it right, for example `2026-11-23T10:00:00Z`;
    /// counts for a day, and is needed only after the alarm `clock_disagrees`.
    pub clock_confirmed: Option<String>,
    /// Seconds between heartbeats in the log, 1 to 86,400.
    pub heartbeat_seconds: u32,
    /// Milliseconds between checkpoints, 50 to 3,600,000.
    pub publish_interval_ms: u32,
    /// Store everything on the object store again at the start, after objects were lost there.
    pub republish: bool,
    /// Seconds between looks for entries whose retention is over, 1 to 86,400.
    pub prune_interval_seconds: u32,
    /// Witnesses of other administrative domains.
    pub witnesses: Vec<WitnessSettings>,
    /// How many of them make a checkpoint count as cosigned, at least 1.
    pub witness_quorum: usize,
    /// Seconds without a cosigned checkpoint after which that is an alarm, 1 to 604,800.
    pub witness_alarm_seconds: u32,
    /// Where events go from here, by name.
    pub feeds: BTreeMap<String, feed::Settings>,
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSettings {
    /// Where it is; `/add-checkpoint` is added, or the hash of the origin and `/checkpoint`.
    pub url: Url,
    /// Its key as C2SP writes it: `name+hash+base64`.
    pub key: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database_url_file: None,
            lease_seconds: 15,
            object_store: None,
            auditors: Vec::new(),
            data_protection_officers: Vec::new(),
            retention_days: 365,
            clock_confirmed: None,
            heartbeat_seconds: 600,
            publish_interval_ms: 1_000,
            republish: false,
            prune_interval_seconds: 3_600,
            witnesses: Vec::new(),
            witness_quorum: 1,
            witness_alarm_seconds: 3_600,
            feeds: BTreeMap::new(),
        }
    }
}

/// Persons that may have a role, and longest id of one in bytes (`Person.id`).
const MAX_PERSONS: usize = 64;
const MAX_ID_BYTES: usize = 256;

/// A setting outside its bounds.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// A number.
    #[error("settings.{name} is {value}; expected {least} to {most}")]
    Number {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: u64,
        /// Least value.
        least: u64,
        /// Greatest value.
        most: u64,
    },
    /// The id of a person with a role.
    #[error("settings.{0} has an id that is empty or longer than 256 bytes; expected ids like `unix:1000`")]
    Person(&'static str),
    /// The time that a person confirmed.
    #[error("settings.clock_confirmed: {0}")]
    ClockConfirmed(#[from] InvalidTime),
    /// The address of a witness.
    #[error("settings.witnesses has a `url` that is neither https nor http")]
    WitnessUrl,
}

impl Settings {
    /// Refuses values outside their bounds.
    ///
    /// # Errors
    /// Names the setting and its bounds.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        bound("lease_seconds", self.lease_seconds.into(), 2, 300)?;
        bound("retention_days", self.retention_days.into(), 1, 36_500)?;
        bound("heartbeat_seconds", self.heartbeat_seconds.into(), 1, DAY_SECONDS)?;
        bound("publish_interval_ms", self.publish_interval_ms.into(), 50, 3_600_000)?;
        bound("prune_interval_seconds", self.prune_interval_seconds.into(), 1, DAY_SECONDS)?;
        bound("witness_alarm_seconds", self.witness_alarm_seconds.into(), 1, 7 * DAY_SECONDS)?;
        let witnesses = self.witnesses.len();
        bound("witnesses", witnesses.try_into().unwrap_or(u64::MAX), 0, as_u64(MAX_WITNESSES))?;
        bound("witness_quorum", as_u64(self.witness_quorum), 1, as_u64(witnesses.max(1)))?;
        persons("auditors", &self.auditors)?;
        persons("data_protection_officers", &self.data_protection_officers)?;
        self.clock_confirmed()?;
        let known = |witness: &WitnessSettings| matches!(witness.url.scheme(), "https" | "http");
        if !self.witnesses.iter().all(known) {
            return Err(InvalidSettings::WitnessUrl);
        }
        Ok(())
    }

    /// When a person last found the clock right.
    ///
    /// # Errors
    /// For what is no time.
    pub fn clock_confirmed(&self) -> Result<Option<Timestamp>, InvalidSettings> {
        Ok(self.clock_confirmed.as_deref().map(str::parse).transpose()?)
    }

    /// How long entries are kept.
    pub fn retention(&self) -> Duration {
        Duration::from_secs(DAY_SECONDS * u64::from(self.retention_days))
    }
}

/// Who has a role.
fn persons(name: &'static str, ids: &[String]) -> Result<(), InvalidSettings> {
    bound(name, as_u64(ids.len()), 0, as_u64(MAX_PERSONS))?;
    let is_wrong = |id: &String| id.trim().is_empty() || id.len() > MAX_ID_BYTES;
    if ids.iter().any(is_wrong) { Err(InvalidSettings::Person(name)) } else { Ok(()) }
}

fn bound(name: &'static str, value: u64, least: u64, most: u64) -> Result<(), InvalidSettings> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(InvalidSettings::Number { name, value, least, most })
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn no_settings_are_good_settings() {
        read("").unwrap().check().unwrap();
    }

    #[test]
    fn a_misspelt_or_absurd_setting_is_refused_by_its_name() {
        assert!(read("retention_month = 1").is_err());
        let complaint = |text: &str| read(text).unwrap().check().unwrap_err().to_string();
        assert!(complaint("retention_days = 0").contains("retention_days is 0; expected 1 to 36500"));
        assert!(complaint("heartbeat_seconds = 100000").contains("heartbeat_seconds"));
        assert!(complaint("auditors = [\"\"]").contains("settings.auditors"));
        assert!(
            complaint("data_protection_officers = [\" \"]").contains("data_protection_officers has an id")
        );
        assert!(complaint("clock_confirmed = \"today\"").contains("settings.clock_confirmed"));
        assert!(complaint("witness_quorum = 2").contains("witness_quorum"));
        assert!(
            complaint("[[witnesses]]\nurl = \"ftp://w\"\nkey = \"k\"").contains("neither https nor http")
        );
    }
}
