//! The state directory of one machine: who the installation is and where everything lies.
//!
//! ```text
//! installation.toml        trust domain, zone, port of the demo camera
//! ca/                      the embedded certificate authority
//! trust.toml               public keys that every service believes
//! cli/{identity,issuer}/   certificate of this program; local issuer of grants
//! <service>/               config.toml, identity/, data/
//! run/                     address files, the supervisor's own report
//! logs/                    one bounded log per child
//! demo-camera/videos/      files that the demo camera plays
//! lock                     held by the one `obscura up`
//! ```
//!
//! [`Installation::prepare`] makes what is missing and leaves alone what is there, so a start that
//! was cut short is finished by the next.

pub mod config;
mod create;
mod demo_camera;
mod lock;
mod unit;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use obscura_clock::{Clock, Timestamp};
use obscura_daemon::write_atomically;
use obscura_hand_over::MAX_SOCKET_PATH_BYTES;
use obscura_identity::{Ca, Identity, Validity};
use serde::{Deserialize, Serialize};

pub use create::private_folder;
pub use demo_camera::DemoCamera;
pub use lock::Lock;
#[cfg(test)]
pub use lock::samples::free as free_lock;
pub use unit::{systemd_steps, systemd_unit};

use crate::problem::{Context as _, Problem, Result};

/// The services of one machine in the order of their start: each level needs only earlier ones.
pub const SERVICES: [&str; 5] = ["keys", "audit", "registry", "storage", "ingest"];
/// Name of this program in SPIFFE ids.
pub const CLI: &str = "cli";
/// Certificates live a day and are renewed at half of it.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// What `installation.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Trust domain of every certificate, for example `obscura-1a2b3c4d.local`.
    pub trust_domain: String,
    /// The one residency zone of this data plane.
    pub zone: String,
    /// The demo camera, once one was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demo_camera: Option<DemoCamera>,
}

/// A state directory that holds an installation.
#[derive(Clone, Debug)]
pub struct Installation {
    root: PathBuf,
    settings: Settings,
}

impl Installation {
    /// Opens an installation that `obscura up` made.
    pub fn open(root: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(root.join("installation.toml")).map_err(|error| missing(root, &error))?;
        let settings =
            toml::from_str(&text).doing(format_args!("read {}/installation.toml", root.display()))?;
        Ok(Self { root: root.to_owned(), settings })
    }

    /// Makes an installation, or completes one; certificates are fresh afterwards.
    pub fn prepare(root: &Path, clock: &obscura_clock::SharedClock) -> Result<Self> {
        create::prepare(root, clock)
    }

    /// Takes the place of the one supervisor of this directory.
    pub fn lock(root: &Path) -> Result<Lock> {
        private_folder(root)?;
        Lock::take(&root.join("lock"))
    }

    /// Issues a new certificate for whoever has less than half of its validity left. Names those
    /// that were renewed.
    pub fn renew_certificates(&self, clock: &dyn Clock) -> Result<Vec<&'static str>> {
        let ca = Ca::open(&self.ca_dir()).doing("open the certificate authority")?;
        let mut renewed = Vec::new();
        for name in SERVICES.into_iter().chain([CLI]) {
            let folder = self.identity_dir(name);
            let validity = Identity::load(&folder).ok().map(|identity| identity.validity());
            if is_due(validity, clock.wall()) {
                ca.issue(name, &folder, CERTIFICATE_VALIDITY, clock)
                    .doing(format_args!("issue a certificate for {name}"))?;
                renewed.push(name);
            }
        }
        Ok(renewed)
    }

    /// The state directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `installation.toml` says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes `installation.toml`.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        change(&mut self.settings);
        let text = toml::to_string_pretty(&self.settings).doing("write installation.toml")?;
        write_atomically(&self.root.join("installation.toml"), text.as_bytes(), 0o600)
            .doing(format_args!("write {}/installation.toml", self.root.display()))
    }

    fn ca_dir(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// Public keys that every service believes.
    pub fn trust_file(&self) -> PathBuf {
        self.root.join("trust.toml")
    }

    /// Certificate and key of a service, or of this program.
    pub fn identity_dir(&self, service: &str) -> PathBuf {
        self.root.join(service).join("identity")
    }

    /// Where a service keeps its data.
    pub fn data_dir(&self, service: &str) -> PathBuf {
        self.root.join(service).join("data")
    }

    /// Where packs are handed over; none where the path is longer than a socket's may be.
    pub fn hand_over_socket(&self) -> Option<PathBuf> {
        let path = self.data_dir("storage").join("hand-over.sock");
        (path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES).then_some(path)
    }

    /// Configuration of a service.
    pub fn config_file(&self, service: &str) -> PathBuf {
        self.root.join(service).join("config.toml")
    }

    /// Name of the audit log in checkpoints, receipts and keys.
    pub fn log_origin(&self) -> String {
        format!("{}/obscura/audit/{}", self.settings.trust_domain, self.settings.zone)
    }

    /// The local issuer of grants.
    pub fn issuer_dir(&self) -> PathBuf {
        self.root.join(CLI).join("issuer")
    }

    /// Where a service says on which port it listens.
    pub fn address_file(&self, service: &str) -> PathBuf {
        self.root.join("run").join(format!("{service}.addr"))
    }

    /// What the supervisor says about its children.
    pub fn report_file(&self) -> PathBuf {
        self.root.join("run").join("supervisor.json")
    }

    /// The log of a child.
    pub fn log_file(&self, child: &str) -> PathBuf {
        self.root.join("logs").join(format!("{child}.log"))
    }

    /// Files that the demo camera plays.
    pub fn videos_dir(&self) -> PathBuf {
        self.root.join("demo-camera").join("videos")
    }
}

/// A certificate that cannot be read is due like one that runs out, and so is one that a clock that was set
/// back makes a thing of the future.
fn is_due(validity: Option<Validity>, now: Timestamp) -> bool {
    validity.is_none_or(|validity| {
        now < validity.not_before || validity.not_after.since(now) < CERTIFICATE_VALIDITY / 2
    })
}

fn missing(root: &Path, error: &io::Error) -> Problem {
    if error.kind() == io::ErrorKind::NotFound {
        return Problem::new(format_args!("there is no installation in {}", root.display()))
            .next("start one with `obscura up`, or name another directory with --state");
    }
    Problem::new(format_args!("cannot read {}/installation.toml: {error}", root.display()))
}

/// The state directory where none is named: `$XDG_DATA_HOME/obscura`, else `~/.local/share/obscura`.
pub fn default_root() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_DATA_HOME")
        // The XDG Base Directory Specification has relative paths ignored.
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("obscura"))
        .ok_or_else(|| {
            Problem::usage("neither XDG_DATA_HOME nor HOME is set, so there is no default state directory")
                .next("name one: obscura --state DIR ...")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_at_half_of_its_life_or_when_it_cannot_be_read() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let hour = Duration::from_secs(3600);
        let until = |not_after: Timestamp| Some(Validity { not_before: not_after - hour * 24, not_after });
        assert!(!is_due(until(now + hour * 23), now));
        assert!(!is_due(until(now + hour * 12), now));
        assert!(is_due(until(now + hour * 11), now));
        assert!(is_due(until(now - Duration::from_secs(1)), now));
        assert!(is_due(until(now + hour * 25), now), "not valid yet");
        assert!(is_due(None, now));
    }

    #[test]
    fn where_no_installation_is_the_message_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let problem = Installation::open(folder.path()).unwrap_err();
        assert!(problem.what().starts_with("there is no installation in"));
        assert!(problem.next_step().unwrap().contains("obscura up"));
    }
}
