//! Starting the service from its files, and what it says about files that do not fit.

use std::{fs, time::Duration};

use obscura_clock::SystemClock;
use obscura_daemon::Trust;
use obscura_identity::Ca;
use obscura_outbox::{Limits, Outbox};
use obscura_snapshot::Authority;
use tempfile::TempDir;

use super::*;

/// The files of a registry, as the supervisor lays them out.
struct Installation {
    dir: TempDir,
}

impl Installation {
    fn new() -> Self {
        let installation = Self { dir: tempfile::tempdir().unwrap() };
        let root = installation.dir.path();
        let clock = SystemClock::shared();
        let ca = Ca::create(&root.join("ca"), &"test.example".parse().unwrap(), &*clock).unwrap();
        ca.issue("registry", &root.join("identity"), Duration::from_secs(3_600), &*clock).unwrap();
        fs::create_dir_all(root.join("data")).unwrap();
        let pkcs8 = Authority::generate_pkcs8();
        obscura_daemon::write_atomically(&root.join("data/zone-authority.pkcs8"), &pkcs8, 0o600).unwrap();
        installation.trust(Authority::from_pkcs8(&pkcs8).unwrap().public_key());
        installation
    }

    fn trust(&self, zone_authority: [u8; 32]) {
        let trust = Trust { zone_authority, grant_issuer: [0; 32], audit: [0; 32] };
        trust.save(&self.dir.path().join("trust.toml")).unwrap();
    }

    async fn start(&self, zone: &str) -> anyhow::Result<()> {
        let root = self.dir.path();
        let config = format!(
            "service = \"registry\"\nzone = \"{zone}\"\ndata_dir = {:?}\nidentity_dir = {:?}\ntrust_file = {:?}\n",
            root.join("data"),
            root.join("identity"),
            root.join("trust.toml"),
        );
        let file = root.join("registry.toml");
        fs::write(&file, config).unwrap();
        let daemon = Daemon::open("registry", &file).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path(), Limits::default(), daemon.clock.clone()).await.unwrap();
        router(&daemon, &outbox).await.map(drop)
    }

    async fn refusal(&self, zone: &str) -> String {
        format!("{:#}", self.start(zone).await.unwrap_err())
    }
}

#[tokio::test]
async fn a_complete_installation_starts_and_starts_again() {
    let installation = Installation::new();
    for _ in 0..2 {
        installation.start("eea").await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_key_is_named_with_what_to_do() {
    let installation = Installation::new();
    fs::remove_file(installation.dir.path().join("data/zone-authority.pkcs8")).unwrap();
    let refusal = installation.refusal("eea").await;
    assert!(refusal.contains("zone-authority.pkcs8") && refusal.contains("backup"), "{refusal}");
}

#[tokio::test]
async fn a_key_that_consumers_do_not_trust_is_refused() {
    let installation = Installation::new();
    installation.trust([7; 32]);
    let refusal = installation.refusal("eea").await;
    assert!(refusal.contains("trust.toml"), "{refusal}");
}

#[tokio::test]
async fn an_installation_for_a_zone_that_is_not_configured_is_refused() {
    let refusal = Installation::new().refusal("mars").await;
    assert!(refusal.contains("`mars`") && refusal.contains("zones file"), "{refusal}");
}
