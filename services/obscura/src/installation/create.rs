//! The first start, and every later one: each step makes what is missing.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use obscura_access::{IssuerError, LocalIssuer};
use obscura_clock::SharedClock;
use obscura_daemon::{Trust, write_atomically};
use obscura_identity::{Ca, Identity, TrustDomain};
use obscura_snapshot::Authority;
use obscura_tlog::LogKey;

use super::{CLI, Installation, SERVICES, Settings, config};
use crate::problem::{Context as _, Problem, Result};

/// Zone of a machine that was told nothing else: the European Economic Area.
const DEFAULT_ZONE: &str = "eea";

pub fn prepare(root: &Path, clock: &SharedClock) -> Result<Installation> {
    private_folder(root)?;
    let root = root.canonicalize().doing(format_args!("find {}", root.display()))?;
    let installation = settings(&root)?;
    folders(&installation)?;
    certificates(&installation, clock)?;
    trust(&installation, clock)?;
    for service in SERVICES {
        config::write(&installation, service)?;
    }
    Ok(installation)
}

/// The trust domain is written down before anything is signed in its name.
fn settings(root: &Path) -> Result<Installation> {
    if root.join("installation.toml").exists() {
        return Installation::open(root);
    }
    let settings = Settings {
        trust_domain: format!("obscura-{:08x}.local", rand::random::<u32>()),
        zone: DEFAULT_ZONE.to_owned(),
        demo_camera: None,
    };
    let mut installation = Installation { root: root.to_owned(), settings };
    installation.change(|_| {})?;
    Ok(installation)
}

fn folders(installation: &Installation) -> Result<()> {
    for service in SERVICES {
        private_folder(&installation.identity_dir(service))?;
        private_folder(&installation.data_dir(service))?;
    }
    for private in [installation.identity_dir(CLI), installation.issuer_dir(), installation.ca_dir()] {
        private_folder(&private)?;
    }
    for name in ["run", "logs", "demo-camera/videos"] {
        private_folder(&installation.root.join(name))?;
    }
    Ok(())
}

/// A folder that only its owner may enter, with its parents.
pub fn private_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).doing(format_args!("make {}", path.display()))
}

/// Where certificates cannot be issued the ones that are there must do, expired or not: what the recorder needs
/// no peer for goes on. The supervisor tries again at once and says what is wrong.
fn certificates(installation: &Installation, clock: &SharedClock) -> Result<()> {
    let issued =
        certificate_authority(installation, clock).and_then(|()| installation.renew_certificates(&**clock));
    let usable = |name: &str| Identity::load(&installation.identity_dir(name)).is_ok();
    match issued {
        Err(problem) if !["ingest", CLI].into_iter().all(usable) => Err(problem),
        _ => Ok(()),
    }
}

fn certificate_authority(installation: &Installation, clock: &SharedClock) -> Result<()> {
    let folder = installation.ca_dir();
    if Ca::open(&folder).is_ok() {
        return Ok(());
    }
    let trust_domain: TrustDomain =
        installation.settings.trust_domain.parse().doing("use the trust domain in installation.toml")?;
    Ca::create(&folder, &trust_domain, &**clock).map(drop).doing("make the certificate authority")
}

/// Makes the signing keys where they lack, and tells every service their public halves.
fn trust(installation: &Installation, clock: &SharedClock) -> Result<()> {
    let trust = Trust {
        zone_authority: zone_authority(installation)?.public_key(),
        grant_issuer: grant_issuer(installation, clock)?.public_key(),
        audit: log_key(installation)?.public_key(),
    };
    trust.save(&installation.trust_file()).doing("write trust.toml")
}

fn grant_issuer(installation: &Installation, clock: &SharedClock) -> Result<LocalIssuer> {
    let folder = installation.issuer_dir();
    match LocalIssuer::create(&folder) {
        Ok(()) | Err(IssuerError::Exists { .. }) => {}
        Err(error) => return Err(error).doing("make the issuer of grants"),
    }
    LocalIssuer::open(&folder, clock.clone()).doing("open the issuer of grants")
}

/// The key with which `audit` signs checkpoints and receipts.
fn log_key(installation: &Installation) -> Result<LogKey> {
    let path = installation.data_dir("audit").join("audit-log.pkcs8");
    let shown = path.display();
    if !path.exists() {
        let made = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8());
        let pkcs8 = made.map_err(|_| Problem::new("the system gave no randomness for the key of the log"))?;
        write_atomically(&path, pkcs8.as_ref(), 0o600).doing("write the key of the log")?;
    }
    let bytes = fs::read(&path).doing(format_args!("read {shown}"))?;
    LogKey::from_pkcs8(&installation.log_origin(), &bytes).doing(format_args!("read {shown}"))
}

/// The key with which `registry` signs placements and snapshots.
fn zone_authority(installation: &Installation) -> Result<Authority> {
    let path = installation.data_dir("registry").join("zone-authority.pkcs8");
    if !path.exists() {
        write_atomically(&path, &Authority::generate_pkcs8(), 0o600).doing("write the key of the zone")?;
    }
    let bytes = fs::read(&path).doing(format_args!("read {}", path.display()))?;
    Authority::from_pkcs8(&bytes).doing(format_args!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use obscura_clock::SystemClock;

    use super::*;

    /// Every file below the folder with its bytes.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
        found
    }

    #[test]
    fn an_installation_is_made_once_and_left_alone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("state");
        let clock = SystemClock::shared();
        prepare(&root, &clock).unwrap();
        let first = files(&root);
        prepare(&root, &clock).unwrap();
        assert_eq!(files(&root), first);
    }

    #[test]
    fn a_start_that_was_cut_short_is_finished_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let root = folder.path();
        let trust_domain = prepare(root, &clock).unwrap().settings().trust_domain.clone();
        for lost in ["trust.toml", "ingest/config.toml", "keys/identity/cert.pem"] {
            fs::remove_file(root.join(lost)).unwrap();
        }
        let again = prepare(root, &clock).unwrap();
        assert_eq!(again.settings().trust_domain, trust_domain);
        assert!(root.join("trust.toml").exists() && root.join("ingest/config.toml").exists());
        assert!(root.join("keys/identity/cert.pem").exists());
    }

    #[test]
    fn with_an_authority_that_cannot_sign_any_more_an_installation_starts_and_without_certificates_it_does_not()
     {
        let folder = tempfile::tempdir().unwrap();
        let (root, clock) = (folder.path(), SystemClock::shared());
        prepare(root, &clock).unwrap();
        let key = fs::read_dir(root.join("ca")).unwrap().map(|entry| entry.unwrap().path());
        let damaged: Vec<_> = key.filter(|path| path.is_file()).collect();
        assert!(!damaged.is_empty());
        damaged.iter().for_each(|path| fs::write(path, "damaged").unwrap());
        let installation = prepare(root, &clock).unwrap();
        assert!(installation.renew_certificates(&*clock).is_err());
        fs::remove_file(root.join("ingest/identity/cert.pem")).unwrap();
        assert!(prepare(root, &clock).is_err());
    }

    #[test]
    fn nobody_else_on_the_machine_may_look_in() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        prepare(&root, &SystemClock::shared()).unwrap();
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o077;
        for path in ["", "cli/issuer", "ca", "registry/data/zone-authority.pkcs8", "installation.toml"] {
            assert_eq!(mode(path), 0, "{path}");
        }
    }
}
