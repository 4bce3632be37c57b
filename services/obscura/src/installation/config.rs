//! The `config.toml` of each service.
//!
//! Paths and peers follow the state directory at each start, so that it can be moved; `settings`,
//! `listen` and `log_json` belong to the operator and are kept.

use std::{fs, io, path::Path};

use obscura_daemon::write_atomically;
use toml::{Table, Value};

use super::{Installation, SERVICES};
use crate::problem::{Context as _, Result};

/// Keys that an operator may change; everything else is written anew.
const OPERATORS: [&str; 3] = ["listen", "log_json", "settings"];

/// Who hands packs over, and who takes them.
const HANDING_OVER: [&str; 2] = ["ingest", "storage"];

/// Writes the configuration of a service, keeping what an operator changed in it.
pub fn write(installation: &Installation, service: &str) -> Result<()> {
    let path = installation.config_file(service);
    let existing = read(&path)?;
    let text = toml::to_string_pretty(&merged(fresh(installation, service), &existing))
        .doing(format_args!("write {}", path.display()))?;
    write_atomically(&path, text.as_bytes(), 0o600).doing(format_args!("write {}", path.display()))
}

fn read(path: &Path) -> Result<Table> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).doing(format_args!("read {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(error).doing(format_args!("read {}", path.display())),
    }
}

fn merged(mut fresh: Table, existing: &Table) -> Table {
    for key in OPERATORS {
        if let Some(kept) = existing.get(key) {
            fresh.insert(key.to_owned(), kept.clone());
        }
    }
    fresh
}

fn fresh(installation: &Installation, service: &str) -> Table {
    let text = |path: &Path| Value::String(path.to_string_lossy().into_owned());
    let peers = SERVICES.into_iter().filter(|peer| *peer != service).map(|peer| {
        let address = format!("file:{}", installation.address_file(peer).display());
        (peer.to_owned(), Value::String(address))
    });
    let hand_over = installation.hand_over_socket().filter(|_| HANDING_OVER.contains(&service));
    let entries = [
        ("service", Value::String(service.to_owned())),
        ("zone", Value::String(installation.settings().zone.clone())),
        ("data_dir", text(&installation.data_dir(service))),
        ("identity_dir", text(&installation.identity_dir(service))),
        ("trust_file", text(&installation.trust_file())),
        ("listen", Value::String("127.0.0.1:0".to_owned())),
        ("address_file", text(&installation.address_file(service))),
        ("log_json", Value::Boolean(false)),
        ("peers", Value::Table(peers.collect())),
        ("settings", Value::Table(Table::new())),
    ];
    let hand_over = hand_over.map(|socket| ("hand_over_socket", text(&socket)));
    entries.into_iter().chain(hand_over).map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_changed_is_kept_and_paths_follow_the_directory() {
        let existing: Table = toml::from_str(
            "listen = \"127.0.0.1:9000\"\ndata_dir = \"/old\"\n[settings]\nspool_limit_bytes = 5\n",
        )
        .unwrap();
        let fresh: Table =
            toml::from_str("listen = \"127.0.0.1:0\"\ndata_dir = \"/new\"\n[settings]\n").unwrap();
        let merged = merged(fresh, &existing);
        assert_eq!(merged["listen"].as_str(), Some("127.0.0.1:9000"));
        assert_eq!(merged["data_dir"].as_str(), Some("/new"));
        assert_eq!(merged["settings"]["spool_limit_bytes"].as_integer(), Some(5));
    }
}
