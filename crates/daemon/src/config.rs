use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use obscura_identity::Endpoint;
use obscura_ids::ZoneId;
use serde::{Deserialize, Serialize};

/// The configuration file of one service. Paths are absolute, or relative to the working folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which service it is for, for example `keys`.
    pub service: String,
    /// The residency zone this process works in.
    pub zone: ZoneId,
    /// What it keeps, and nobody else touches.
    pub data_dir: PathBuf,
    /// `cert.pem`, `key.pem` and `ca.pem`; new ones are taken up while running.
    pub identity_dir: PathBuf,
    /// The public keys it believes; see [`crate::Trust`].
    pub trust_file: PathBuf,
    /// Where it listens; port 0 takes a free one. 127.0.0.1:0 where absent.
    #[serde(default = "any_local_port")]
    pub listen: SocketAddr,
    /// Where it writes the `host:port` on which it listens, once it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_file: Option<PathBuf>,
    /// The socket through which `ingest` hands packs to `storage` on the same machine; over TLS where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand_over_socket: Option<PathBuf>,
    /// Whether it logs JSON instead of text.
    #[serde(default)]
    pub log_json: bool,
    /// Where the other services are, by name.
    #[serde(default)]
    pub peers: BTreeMap<String, Endpoint>,
    /// What only this service knows; see [`crate::Daemon::settings`].
    #[serde(default)]
    pub settings: toml::Table,
}

impl Config {
    /// Reads the configuration of `service`.
    ///
    /// # Errors
    /// Where the file cannot be read, has an unknown, missing or wrong key, or is for another service.
    pub fn load(path: &Path, service: &str) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| {
            format!("cannot read the configuration file {shown}: name it with --config FILE")
        })?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("the configuration file {shown} is wrong"))?;
        if config.service != service {
            bail!(
                "the configuration file {shown} has service = \"{}\", but this is `{service}`: give it its own file",
                config.service
            );
        }
        Ok(config)
    }
}

fn any_local_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        service = "keys"
        zone = "eea"
        data_dir = "/var/lib/obscura/keys"
        identity_dir = "/etc/obscura/keys"
        trust_file = "/etc/obscura/trust.toml"
    "#;

    fn load(text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path, "keys")
    }

    fn complaint(text: &str) -> String {
        format!("{:#}", load(text).unwrap_err())
    }

    #[test]
    fn what_need_not_be_said_has_a_safe_default() {
        let config = load(SMALLEST).unwrap();
        assert_eq!(config.listen, "127.0.0.1:0".parse().unwrap());
        assert!(!config.log_json && config.address_file.is_none());
        assert!(config.peers.is_empty() && config.settings.is_empty());
    }

    #[test]
    fn a_configuration_reads_back_from_what_it_writes() {
        let text = format!("{SMALLEST}\n[peers]\ningest = \"file:/run/i.addr\"\n[settings]\nslots = 7\n");
        let config = load(&text).unwrap();
        let again = load(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again.peers["ingest"], Endpoint::File("/run/i.addr".into()));
        assert_eq!(again.settings["slots"].as_integer(), Some(7));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file_and_line() {
        let error = complaint(&format!("{SMALLEST}\nlisten_adress = \"127.0.0.1:1\""));
        assert!(
            error.contains("keys.toml") && error.contains("listen_adress") && error.contains("line 8"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_key_and_a_wrong_value_are_named() {
        let error = complaint("service = \"keys\"");
        assert!(error.contains("missing field `zone`"), "{error}");
        let error = complaint(&SMALLEST.replace("\"eea\"", "\"E E A\""));
        assert!(error.contains("`E E A` is not a zone"), "{error}");
        let error = complaint(&format!("{SMALLEST}\n[peers]\ningest = \"somewhere\""));
        assert!(error.contains("`somewhere` is not an endpoint: write host:port"), "{error}");
    }

    #[test]
    fn the_file_of_another_service_is_refused() {
        let error = complaint(&SMALLEST.replace("service = \"keys\"", "service = \"ingest\""));
        assert!(error.contains("service = \"ingest\", but this is `keys`"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_what_to_do() {
        let error = format!("{:#}", Config::load(Path::new("/nowhere/keys.toml"), "keys").unwrap_err());
        assert!(error.contains("/nowhere/keys.toml") && error.contains("--config FILE"), "{error}");
    }
}
