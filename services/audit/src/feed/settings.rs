//! The table `settings.feeds`: one entry for each feed, by name.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, path::Path};

use obscura_clock::SharedClock;
use serde::Deserialize;
use url::Url;

use super::{nats, sink::Sink, syslog, webhook};

/// More than anyone needs, and few enough to read the log for each.
const MAX_FEEDS: usize = 16;
const MAX_NAME_BYTES: usize = 32;

/// A feed. Secrets stand in files, never here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Settings {
    /// NATS JetStream.
    Nats(nats::Settings),
    /// An HTTPS address that takes CloudEvents.
    Webhook(webhook::Settings),
    /// RFC 5424 over TLS (RFC 5425).
    Syslog(syslog::Settings),
}

impl Settings {
    pub(super) fn into_sink(self, clock: &SharedClock) -> Box<dyn Sink> {
        match self {
            Self::Nats(settings) => Box::new(nats::Nats::new(settings, clock.clone())),
            Self::Webhook(settings) => Box::new(webhook::Webhook::new(settings, clock.clone())),
            Self::Syslog(settings) => Box::new(syslog::Syslog::new(settings, clock.clone())),
        }
    }

    fn check(&self) -> Result<(), Wrong> {
        match self {
            Self::Nats(settings) => settings.check(),
            Self::Webhook(settings) => settings.check(),
            Self::Syslog(settings) => settings.check(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("settings.feeds.{feed}{field}: {why}")]
pub struct InvalidSettings {
    feed: String,
    field: String,
    why: String,
}

/// Refuses names, addresses and numbers outside their bounds. Files are read when the feed connects,
/// so that a certificate may come later than the service.
///
/// # Errors
/// Names the setting and what is expected.
pub fn check(feeds: &BTreeMap<String, Settings>) -> Result<(), InvalidSettings> {
    if feeds.len() > MAX_FEEDS {
        let why = format!("has {} feeds; at most {MAX_FEEDS} are allowed", feeds.len());
        return Err(InvalidSettings { feed: String::new(), field: String::new(), why });
    }
    for (feed, settings) in feeds {
        let invalid = |Wrong { field, why }| InvalidSettings { feed: feed.clone(), field, why };
        check_name(feed).and_then(|()| settings.check()).map_err(invalid)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Wrong> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed);
    if good {
        Ok(())
    } else {
        Err(Wrong { field: String::new(), why: "expected 1 to 32 of a-z, 0-9 and -".into() })
    }
}

/// A field and what is wrong with it.
#[derive(Debug)]
pub struct Wrong {
    field: String,
    why: String,
}

impl Wrong {
    /// `why` says what is expected, without a value that may be a secret.
    pub fn new(field: &str, why: impl Into<String>) -> Self {
        Self { field: format!(".{field}"), why: why.into() }
    }
}

/// A number within bounds.
pub fn within<T: PartialOrd + Display>(
    field: &str,
    value: &T,
    bounds: &RangeInclusive<T>,
) -> Result<(), Wrong> {
    if bounds.contains(value) {
        return Ok(());
    }
    Err(Wrong::new(field, format!("is {value}; expected {} to {}", bounds.start(), bounds.end())))
}

/// An address of one scheme, with a host and without credentials, which belong into files.
pub fn address(field: &str, text: &str, scheme: &str) -> Result<(), Wrong> {
    let url = Url::parse(text).map_err(|_| Wrong::new(field, format!("expected {scheme}://host")))?;
    if url.scheme() != scheme || url.host_str().is_none_or(str::is_empty) {
        return Err(Wrong::new(field, format!("expected {scheme}://host")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new(field, "names a user or password; credentials belong into files"));
    }
    Ok(())
}

/// Both files of a client certificate, or neither.
pub fn certificate_and_key(certificate: Option<&Path>, key: Option<&Path>) -> Result<(), Wrong> {
    match (certificate, key) {
        (Some(_), None) => Err(Wrong::new("key_file", "is missing beside certificate_file")),
        (None, Some(_)) => Err(Wrong::new("certificate_file", "is missing beside key_file")),
        _ => Ok(()),
    }
}

/// A path that is there.
pub fn path(field: &str, path: &Path) -> Result<(), Wrong> {
    if path.as_os_str().is_empty() { Err(Wrong::new(field, "is empty; expected a path")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATS: &str = r#"
        kind = "nats"
        servers = ["tls://nats.example:4222"]
        ca_file = "/etc/nats/ca.pem"
        certificate_file = "/etc/obscura/audit/cert.pem"
        key_file = "/etc/obscura/audit/key.pem"
    "#;
    const WEBHOOK: &str = r#"
        kind = "webhook"
        url = "https://siem.example/hook"
        secret_file = "/etc/obscura/hook.secret"
    "#;
    const SYSLOG: &str = r#"
        kind = "syslog"
        address = "logs.example:6514"
        ca_file = "/etc/syslog/ca.pem"
        certificate_file = "/etc/obscura/audit/cert.pem"
        key_file = "/etc/obscura/audit/key.pem"
    "#;

    fn complaint(name: &str, text: &str) -> String {
        match toml::from_str::<Settings>(text) {
            Err(error) => error.to_string(),
            Ok(settings) => check(&BTreeMap::from([(name.to_owned(), settings)])).unwrap_err().to_string(),
        }
    }

    #[test]
    fn the_smallest_settings_of_each_kind_are_good() {
        for text in [NATS, WEBHOOK, SYSLOG] {
            let settings = toml::from_str(text).unwrap();
            assert_eq!(check(&BTreeMap::from([("siem-2".to_owned(), settings)])), Ok(()));
        }
    }

    #[test]
    fn an_unknown_key_and_an_unknown_kind_are_refused() {
        for text in [NATS, WEBHOOK, SYSLOG] {
            assert!(complaint("siem", &format!("{text}\nsecret = \"x\"")).contains("secret"));
        }
        assert!(complaint("siem", "kind = \"carrier_pigeon\"").contains("carrier_pigeon"));
    }

    #[test]
    fn credentials_in_an_address_are_refused_and_not_repeated() {
        for text in [
            NATS.replace("nats.example", "obscura:hunter2@nats.example"),
            WEBHOOK.replace("siem.example", "obscura:hunter2@siem.example"),
        ] {
            let said = complaint("siem", &text);
            assert!(said.contains("credentials belong into files") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn what_is_not_encrypted_is_refused() {
        assert!(complaint("siem", &WEBHOOK.replace("https", "http")).contains("expected https://host"));
        assert!(complaint("siem", &NATS.replace("tls://", "nats://")).contains("expected tls://host"));
    }

    #[test]
    fn names_and_numbers_have_bounds() {
        assert!(complaint("S I E M", NATS).contains("expected 1 to 32 of a-z"));
        assert!(
            complaint("siem", &format!("{WEBHOOK}\nbatch = 0")).contains("batch: is 0; expected 1 to 1000")
        );
        assert!(complaint("siem", &format!("{SYSLOG}\nsettle_seconds = 0")).contains("settle_seconds"));
        assert!(complaint("siem", &SYSLOG.replace(":6514", "")).contains("address"));
        assert!(complaint("siem", &NATS.replace("[\"tls://nats.example:4222\"]", "[]")).contains("servers"));
        assert!(complaint("siem", &format!("{NATS}\nsubject = \"obscura.>\"")).contains("subject"));
        assert!(complaint("siem", &format!("{WEBHOOK}\ncertificate_file = \"/x\"")).contains("key_file"));
        let many = (0..17).map(|n| (format!("f{n}"), toml::from_str(NATS).unwrap())).collect();
        assert!(check(&many).unwrap_err().to_string().contains("at most 16"));
    }
}
