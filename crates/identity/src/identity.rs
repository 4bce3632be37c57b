use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use obscura_clock::Timestamp;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use crate::{
    Concern, Error, SpiffeId, Validity,
    certificate::{self, Authority, Leaf},
    tls,
};

/// Chains are one or two certificates, and roots two while a CA is replaced.
const MAX_CERTIFICATES: usize = 16;
const MAX_FILE_BYTES: u64 = 1 << 20;
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
const ROOTS: &str = "ca.pem";

/// Who this process is: the certificate and key it shows, and the roots it trusts, from `cert.pem`,
/// `key.pem` and `ca.pem` in one folder. Clones share one state, so all of them follow a reload.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    id: SpiffeId,
    current: watch::Sender<Arc<Material>>,
}

impl Identity {
    /// Loads and checks the files in `dir`. A certificate that is expired or not valid yet is loaded: a
    /// process whose work needs no peer goes on, while every peer refuses it. [`Identity::concern`] says so,
    /// and [`Identity::spawn_reload`] warns of it.
    ///
    /// # Errors
    /// Where a file is missing or damaged, the key is readable by everyone or belongs to another
    /// certificate, or the certificate is not signed by a root in `ca.pem`, or without exactly one
    /// SPIFFE id. Each names the file.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let material = Material::check(dir, Files::read(dir)?, When::AnyTime)?;
        let id = material.leaf.id.clone();
        let current = watch::Sender::new(Arc::new(material));
        Ok(Self(Arc::new(Inner { folder: dir.to_owned(), id, current })))
    }

    /// Who this process is. Never changes.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    /// End of validity of the certificate that new connections get.
    #[must_use]
    pub fn served_not_after(&self) -> Timestamp {
        self.0.current.borrow().leaf.not_after
    }

    /// When the certificate counts that new connections get.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.current.borrow().leaf.validity()
    }

    /// Why a person should look at that certificate, as things are now.
    #[must_use]
    pub fn concern(&self) -> Option<Concern> {
        self.validity().concern(tls::now())
    }

    /// When the authority counts that signed that certificate: its end is the end of everything that it signs.
    /// While it is replaced, and two roots in `ca.pem` vouch for the certificate, the one that ends later.
    #[must_use]
    pub fn authority_validity(&self) -> Validity {
        self.0.current.borrow().authority
    }

    /// Looks at the folder now. Returns whether new files were taken up; connections that exist
    /// keep what they have.
    ///
    /// # Errors
    /// As [`Identity::load`], also where the new certificate is not valid now, and
    /// [`Error::OtherIdentity`]; what was in use then stays in use.
    pub fn reload(&self) -> Result<bool, Error> {
        let files = Files::read(&self.0.folder)?;
        if files == self.0.current.borrow().files {
            return Ok(false);
        }
        let material = Material::check(&self.0.folder, files, When::Now)?;
        if material.leaf.id != self.0.id {
            let (path, own) = (self.0.folder.clone(), self.0.id.clone());
            return Err(Error::OtherIdentity { path, own, found: material.leaf.id });
        }
        self.0.current.send_replace(Arc::new(material));
        Ok(true)
    }

    /// Looks at the folder again and again until every clone is gone. New files that are not good
    /// are warned about once, and the old ones stay in use. Also warns when the certificate in use, or the
    /// authority behind it, comes to its end or is outside of its validity.
    pub fn spawn_reload(&self, every: Duration) {
        tokio::spawn(reload_forever(Arc::downgrade(&self.0), every));
    }

    /// For the next connection that comes in.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.borrow().server)
    }

    /// For the next connection that goes out to `expected`.
    pub(crate) fn client_config(
        &self,
        expected: SpiffeId,
        protocol: &[u8],
    ) -> Result<ClientConfig, rustls::Error> {
        let material = Arc::clone(&self.0.current.borrow());
        tls::client_config(Arc::clone(&material.own), Arc::clone(&material.roots), expected, protocol)
    }
}

async fn reload_forever(inner: Weak<Inner>, every: Duration) {
    let mut complained_about = String::new();
    let (mut concern, mut of_authority) = (None, None);
    loop {
        let Some(current) = inner.upgrade() else { return };
        let current = Identity(current);
        warn_once(&current, &mut concern);
        warn_of_authority_once(&current, &mut of_authority);
        drop(current);
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        let identity = Identity(inner);
        let not_after = identity.served_not_after();
        // A task that was cancelled or panicked is tried again at the next turn.
        let Ok(outcome) = tokio::task::spawn_blocking(move || identity.reload()).await else { continue };
        match outcome {
            Ok(false) => complained_about.clear(),
            Ok(true) => tracing::info!("took up a new certificate"),
            Err(error) => {
                let complaint = error.to_string();
                if complaint != complained_about {
                    tracing::warn!(error = complaint, %not_after, "keeping the old certificate");
                }
                complained_about = complaint;
            }
        }
    }
}

/// Warns where there is something else to say than the last time.
fn warn_once(identity: &Identity, told: &mut Option<Concern>) {
    let concern = identity.concern();
    if concern == *told {
        return;
    }
    *told = concern;
    let Some(concern) = concern else { return };
    let (id, not_after) = (identity.id(), identity.served_not_after());
    if concern.is_refused() {
        tracing::error!(%id, %not_after, "own certificate: {concern}; every peer refuses this process");
    } else {
        tracing::warn!(%id, %not_after, "own certificate: {concern}; renew it");
    }
}

fn warn_of_authority_once(identity: &Identity, told: &mut Option<Concern>) {
    let validity = identity.authority_validity();
    let Some((concern, notice)) = authority_notice(validity, tls::now(), told) else { return };
    let (id, not_after) = (identity.id(), validity.not_after);
    if concern.is_refused() {
        tracing::error!(%id, %not_after, "{notice}");
    } else {
        tracing::warn!(%id, %not_after, "{notice}");
    }
}

/// What to say of the authority, where that is something else than the last time.
fn authority_notice(
    validity: Validity,
    now: Timestamp,
    told: &mut Option<Concern>,
) -> Option<(Concern, String)> {
    let concern = validity.concern(now);
    if concern == *told {
        return None;
    }
    *told = concern;
    concern.map(|concern| {
        let next = "every certificate ends with it: replace it and issue all certificates anew (the runbook of one \
                    machine says how)";
        (concern, format!("certificate authority: {concern}; {next}"))
    })
}

/// The bytes of the three files.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
}

impl Files {
    /// Reads again where the set was replaced in between.
    fn read(folder: &Path) -> Result<Self, Error> {
        let mut files = Self::read_once(folder)?;
        for _ in 0..3 {
            let again = Self::read_once(folder)?;
            if again == files {
                break;
            }
            files = again;
        }
        Ok(files)
    }

    fn read_once(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| -> Result<Vec<u8>, Error> {
            let path = folder.join(name);
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
                .map_err(Error::file("read", &path))?;
            Ok(bytes)
        };
        Ok(Self { certificate: read(CERTIFICATE)?, key: read(KEY)?, roots: read(ROOTS)? })
    }
}

/// Everything about an identity that a reload replaces, checked.
struct Material {
    files: Files,
    leaf: Leaf,
    authority: Validity,
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    server: Arc<ServerConfig>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// At which moment a chain must be good.
#[derive(Clone, Copy)]
enum When {
    Now,
    /// Now, or when its certificate began or ends to count.
    AnyTime,
}

impl When {
    fn moments(self, leaf: &Leaf) -> Vec<UnixTime> {
        let at = |moment: Timestamp| {
            let seconds = u64::try_from(moment.unix_nanos() / 1_000_000_000).unwrap_or(0);
            UnixTime::since_unix_epoch(Duration::from_secs(seconds))
        };
        match self {
            Self::Now => vec![UnixTime::now()],
            Self::AnyTime => vec![UnixTime::now(), at(leaf.not_before), at(leaf.not_after)],
        }
    }
}

/// Good at the first of these moments at which the time is no objection, else what was wrong first. Without
/// such a moment nobody could tell an expired chain of ours from an expired one of a stranger.
fn verify_at(
    moments: &[UnixTime],
    verify: impl Fn(UnixTime) -> Result<(), rustls::Error>,
) -> Result<(), rustls::Error> {
    let mut first = None;
    for moment in moments {
        match verify(*moment) {
            Err(error) if tls::is_about_time(&error) => first = first.or(Some(error)),
            other => return other,
        }
    }
    first.map_or(Ok(()), Err)
}

impl Material {
    fn check(folder: &Path, files: Files, when: When) -> Result<Self, Error> {
        let (certificate_path, key_path, roots_path) =
            (folder.join(CERTIFICATE), folder.join(KEY), folder.join(ROOTS));
        refuse_exposed(&key_path)?;
        let chain = certificates(&certificate_path, &files.certificate)?;
        let invalid = |error: rustls::Error| Error::invalid(&certificate_path, error);
        let (end_entity, intermediates) =
            chain.split_first().ok_or_else(|| Error::invalid(&certificate_path, EMPTY))?;
        let leaf = Leaf::read(end_entity).map_err(|error| Error::invalid(&certificate_path, error))?;
        let roots = Arc::new(roots_of(&roots_path, &files.roots, &leaf.id)?);
        let algorithms = tls::provider().signature_verification_algorithms;
        let verify = |moment| tls::verify_chain(end_entity, intermediates, &roots, moment, &algorithms);
        verify_at(&when.moments(&leaf), verify).map_err(invalid)?;
        let vouches = |root: &RootCertStore| {
            let verify = |moment| tls::verify_chain(end_entity, intermediates, root, moment, &algorithms);
            verify_at(&When::AnyTime.moments(&leaf), verify).is_ok()
        };
        let authority = authority_of(&certificates(&roots_path, &files.roots)?, vouches);
        let authority = authority.unwrap_or_else(|| leaf.validity());
        let key =
            PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| Error::invalid(&key_path, error))?;
        let own = CertifiedKey::from_der(chain, key, &tls::provider())
            .map_err(|error| Error::invalid(&key_path, error))?;
        let own = Arc::new(own);
        let server = tls::server_config(Arc::clone(&own), Arc::clone(&roots), leaf.id.trust_domain().clone());
        Ok(Self { server: Arc::new(server.map_err(invalid)?), files, leaf, authority, own, roots })
    }
}

/// When the last of those roots ends that vouch for the own certificate.
fn authority_of(
    roots: &[CertificateDer<'static>],
    vouches: impl Fn(&RootCertStore) -> bool,
) -> Option<Validity> {
    let vouching = roots.iter().filter(|root| {
        let mut alone = RootCertStore::empty();
        alone.add((*root).clone()).is_ok() && vouches(&alone)
    });
    let validities = vouching.filter_map(|root| certificate::validity(root).ok());
    validities.max_by_key(|validity| validity.not_after)
}

const EMPTY: &str = "no certificate in it; expected PEM, the service's own first";

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_CERTIFICATES).collect();
    let found = found.map_err(|error| Error::invalid(path, error))?;
    if found.is_empty() {
        return Err(Error::invalid(path, EMPTY));
    }
    Ok(found)
}

/// Only roots of our own trust domain: one of another could otherwise name our services. A root
/// without a SPIFFE id, as other issuers make, counts as ours, for it stands in our file.
fn roots_of(path: &Path, pem: &[u8], own: &SpiffeId) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for root in certificates(path, pem)? {
        if Authority::read(&root).is_ok_and(|authority| authority.trust_domain != *own.trust_domain()) {
            return Err(Error::invalid(path, format!("holds a root of another trust domain than {own}")));
        }
        roots.add(root).map_err(|error| Error::invalid(path, error))?;
    }
    Ok(roots)
}

fn refuse_exposed(key: &Path) -> Result<(), Error> {
    let mode = fs::metadata(key).map_err(Error::file("look at", key))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(Error::invalid(
            key,
            "every user of this machine may read it: chmod 600 it, and re-issue",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use obscura_clock::{Clock as _, SimulatedClock, SystemClock};

    use super::*;
    use crate::Ca;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn the_end_of_an_authority_is_told_a_month_a_week_and_a_day_before_each_once() {
        let clock = SimulatedClock::at("2036-10-01T00:00:00Z".parse().unwrap());
        let not_after = clock.wall() + DAY * 45;
        let validity = Validity { not_before: not_after - DAY * 3_650, not_after };
        let (mut told, mut notices) = (None, Vec::new());
        for hour in 0..46 * 24 {
            if let Some((concern, notice)) = authority_notice(validity, clock.wall(), &mut told) {
                assert!(notice.contains("issue all certificates anew"), "{notice}");
                notices.push((hour, concern.to_string()));
            }
            clock.advance(DAY / 24);
        }
        let expected = [
            (15 * 24, "expires within 30 days"),
            (38 * 24, "expires within 7 days"),
            (44 * 24, "expires within 24 h"),
            (45 * 24 + 1, "expired"),
        ];
        assert_eq!(notices, expected.map(|(hour, words)| (hour, words.to_owned())));
    }

    /// A CA of this name that ends so long from now.
    fn ca_ending_in(folder: &Path, left: Duration) -> Ca {
        let made = SystemClock::shared().wall() + left - DAY * 3_650;
        Ca::create(folder, &"shop.example".parse().unwrap(), &*SimulatedClock::at(made)).unwrap()
    }

    #[test]
    fn an_identity_knows_when_its_authority_ends_and_while_that_is_replaced_the_later_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (old, new) = (ca_ending_in(&at("old"), DAY * 6), ca_ending_in(&at("new"), DAY * 3_000));
        old.issue("keys", &at("keys"), DAY, &*SystemClock::shared()).unwrap();
        let keys = Identity::load(&at("keys")).unwrap();
        assert_eq!(keys.concern(), None, "its own certificate is fresh");
        let concern = keys.authority_validity().concern(SystemClock::shared().wall());
        assert_eq!(concern, Some(Concern::EndsWithin(DAY * 7)));

        // Another root in the same file vouches for others only.
        let both = [at("old"), at("new")].map(|ca| fs::read_to_string(ca.join("ca.pem")).unwrap()).concat();
        fs::write(at("keys").join(ROOTS), &both).unwrap();
        assert!(keys.reload().unwrap());
        let concern = keys.authority_validity().concern(SystemClock::shared().wall());
        assert_eq!(concern, Some(Concern::EndsWithin(DAY * 7)));

        new.issue("keys", &at("keys"), DAY, &*SystemClock::shared()).unwrap();
        fs::write(at("keys").join(ROOTS), &both).unwrap();
        assert!(keys.reload().unwrap());
        assert_eq!(keys.authority_validity().concern(SystemClock::shared().wall()), None);
    }
}
