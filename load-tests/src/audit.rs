//! An audit service to measure: identities, trust, keys and configuration in a folder of its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use obscura_audit::Running;
use obscura_clock::SystemClock;
use obscura_daemon::{Daemon, Trust};
use obscura_identity::{Ca, Endpoint, Identity, channel};
use obscura_proto::audit::v1::{Event, Person, event::Body};
use obscura_tlog::LogKey;
use tempfile::TempDir;
use tonic::transport::Channel;
use uuid::Uuid;

/// Name of the log.
pub const ORIGIN: &str = "example.org/obscura/audit/eea";

/// A machine with an audit service.
#[derive(Debug)]
pub struct Machine {
    folder: TempDir,
}

impl Machine {
    /// Lays out a machine below `parent`, on PostgreSQL where a URL is given.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(parent: &Path, postgres: Option<&str>) -> Result<Self> {
        let machine = Self { folder: tempfile::tempdir_in(parent)? };
        machine.identities()?;
        let audit = machine.key()?;
        Trust { zone_authority: [1; 32], grant_issuer: [2; 32], audit }.save(&machine.path("trust.toml"))?;
        machine.configure(postgres)?;
        Ok(machine)
    }

    fn identities(&self) -> Result<()> {
        let clock = SystemClock::shared();
        let ca = Ca::create(&self.path("ca"), &"example.org".parse()?, &*clock)?;
        for service in ["audit", "keys"] {
            ca.issue(service, &self.path(service), Duration::from_hours(24), &*clock)?;
        }
        Ok(())
    }

    fn key(&self) -> Result<[u8; 32]> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().context("cannot make a key")?;
        fs::create_dir(self.path("data"))?;
        let file = self.path("data/audit-log.pkcs8");
        fs::write(&file, pkcs8.as_ref())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        Ok(LogKey::from_pkcs8(ORIGIN, pkcs8.as_ref())?.public_key())
    }

    fn configure(&self, postgres: Option<&str>) -> Result<()> {
        let shown = |name: &str| self.path(name).display().to_string();
        let mut text = format!(
            "service = \"audit\"\nzone = \"eea\"\ndata_dir = {:?}\nidentity_dir = {:?}\ntrust_file = {:?}\n\
             address_file = {:?}\n",
            shown("data"),
            shown("audit"),
            shown("trust.toml"),
            shown("address"),
        );
        if let Some(url) = postgres {
            fs::write(self.path("url"), url)?;
            text.push_str(&format!("[settings]\ndatabase_url_file = {:?}\n", shown("url")));
        }
        Ok(fs::write(self.path("audit.toml"), text)?)
    }

    /// A file of the machine.
    #[must_use]
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the service within this process.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(&self) -> Result<(Daemon, Arc<Running>)> {
        let daemon = Daemon::open("audit", &self.path("audit.toml")).await?;
        let running = Running::open(&daemon).await?.context("it was told to end while it started")?;
        Ok((daemon, Arc::new(running)))
    }

    /// A connection with a client certificate.
    ///
    /// # Errors
    /// Where the certificate cannot be used.
    pub fn channel(&self) -> Result<Channel> {
        let identity = Identity::load(&self.path("keys"))?;
        Ok(channel(&identity, "audit", Endpoint::File(self.path("address"))))
    }
}

/// A new event like `example`, by one of many persons.
#[must_use]
pub fn event(example: &Event, person: usize) -> Event {
    let id = format!("user:{person}");
    let actor = Person { id, name: format!("Person {person}"), address: "192.0.2.1".to_owned() };
    Event { event_id: Uuid::now_v7().to_string(), actor: Some(actor), ..example.clone() }
}

/// The event of the catalogue that is written most: a stream goes on being viewed.
///
/// # Errors
/// Where the catalogue has none.
pub fn viewing() -> Result<Event> {
    let is_view = |event: &Event| matches!(event.body, Some(Body::View(_)));
    obscura_ocsf::examples().into_iter().find(is_view).context("the catalogue has no view")
}
