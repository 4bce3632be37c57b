//! The newest good snapshot, in memory and on disk.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obscura_clock::{Monotonic, SharedClock};
use obscura_proto::registry::v1::{SignedSnapshot, Snapshot};
use prost::Message as _;
use tokio::sync::watch;

use crate::{AuthorityKey, Error, file::SnapshotFile};

/// Keeps the newest snapshot that the zone authority signed. It never goes back: neither to an
/// older version nor to another content of the same version.
#[derive(Debug)]
pub struct Cache {
    key: AuthorityKey,
    clock: SharedClock,
    file: SnapshotFile,
    /// What was accepted last, exactly as signed. Locked for the whole of an offer, so that two
    /// offers at once cannot overtake one another on their way to the disk.
    held: Mutex<Option<SignedSnapshot>>,
    published: watch::Sender<Option<Arc<Snapshot>>>,
    contact: Mutex<Contact>,
}

/// When the registry was last known to have nothing newer.
#[derive(Clone, Copy, Debug)]
enum Contact {
    /// A stream is open: anything newer would have come.
    Following,
    /// Nobody has told us since this moment.
    LostSince(Monotonic),
}

impl Cache {
    /// Opens the cache in `dir`, makes the directory where it is missing, and publishes the
    /// snapshot found there. A file that is torn or not signed by `key` is set aside with a
    /// warning: the registry will send its snapshot again.
    ///
    /// # Errors
    /// [`Error::Cache`] where the directory cannot be made or the file cannot be read.
    pub fn open(dir: &Path, key: AuthorityKey, clock: SharedClock) -> Result<Self, Error> {
        let failed = |cause| Error::Cache { path: dir.to_owned(), cause };
        let file = SnapshotFile::open(dir).map_err(failed)?;
        let (held, snapshot) = load(&file, key).map_err(failed)?.unzip();
        let contact = Mutex::new(Contact::LostSince(clock.monotonic()));
        let published = watch::Sender::new(snapshot.map(Arc::new));
        Ok(Self { key, clock, file, held: Mutex::new(held), published, contact })
    }

    /// Takes a snapshot that came from anywhere. Returns whether it is new: then it is durably on
    /// disk and published. Waits for the disk: call it where blocking is fine.
    ///
    /// # Errors
    /// [`Error::Forged`], [`Error::Malformed`] and [`Error::TooLarge`] as in
    /// [`AuthorityKey::verify_snapshot`], [`Error::RolledBack`] for an older version,
    /// [`Error::Forked`] for the version at hand with other content, and [`Error::Cache`] where
    /// the disk failed: then the old snapshot stays.
    pub fn offer(&self, signed: SignedSnapshot) -> Result<bool, Error> {
        let snapshot = self.key.verify_snapshot(&signed)?;
        let mut held = lock(&self.held);
        let held_version = self.version();
        if snapshot.version < held_version {
            return Err(Error::RolledBack { offered: snapshot.version, held: held_version });
        }
        if snapshot.version == held_version {
            let same = held.as_ref().is_some_and(|held| held.snapshot == signed.snapshot);
            return if same { Ok(false) } else { Err(Error::Forked(held_version)) };
        }
        self.file
            .replace(&signed.encode_to_vec())
            .map_err(|cause| Error::Cache { path: self.file.path(), cause })?;
        *held = Some(signed);
        self.published.send_replace(Some(Arc::new(snapshot)));
        Ok(true)
    }

    /// The snapshot, now and as it changes; `None` until the first one arrives.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.published.subscribe()
    }

    /// Version of the snapshot at hand; 0 for none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.published.borrow().as_ref().map_or(0, |snapshot| snapshot.version)
    }

    /// How long nobody has confirmed that the snapshot at hand is the newest: zero while the
    /// registry is followed, else the time since it was lost or, if it was never reached, since
    /// the cache was opened. A high age is an alarm and never a reason to stop recording.
    #[must_use]
    pub fn age(&self) -> Duration {
        match *lock(&self.contact) {
            Contact::Following => Duration::ZERO,
            Contact::LostSince(moment) => self.clock.monotonic().since(moment),
        }
    }

    /// The registry confirmed the snapshot at hand and its stream is open.
    pub(crate) fn contact_made(&self) {
        *lock(&self.contact) = Contact::Following;
    }

    /// The stream ended. The age goes on from where it stood if it had never been confirmed.
    pub(crate) fn contact_lost(&self) {
        let mut contact = lock(&self.contact);
        if matches!(*contact, Contact::Following) {
            *contact = Contact::LostSince(self.clock.monotonic());
        }
    }
}

/// What the file holds, if it can be used.
fn load(file: &SnapshotFile, key: AuthorityKey) -> io::Result<Option<(SignedSnapshot, Snapshot)>> {
    let Some(content) = file.read()? else { return Ok(None) };
    match read(&content, key) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(error) => {
            let aside = file.set_aside()?;
            tracing::warn!(%error, file = %aside.display(), "cached snapshot set aside; the registry will send another");
            Ok(None)
        }
    }
}

fn read(content: &[u8], key: AuthorityKey) -> Result<(SignedSnapshot, Snapshot), Error> {
    let signed = SignedSnapshot::decode(content).map_err(|error| Error::malformed("snapshot", error))?;
    let snapshot = key.verify_snapshot(&signed)?;
    Ok((signed, snapshot))
}

/// A panic of another holder leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use obscura_clock::{SimulatedClock, Timestamp};
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::Authority;

    struct Bench {
        dir: TempDir,
        authority: Authority,
        clock: Arc<SimulatedClock>,
    }

    impl Bench {
        fn new() -> Self {
            let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
            let clock = SimulatedClock::at(Timestamp::from_unix_nanos(0));
            Self { dir: tempfile::tempdir().unwrap(), authority, clock }
        }

        fn open(&self) -> Cache {
            let key = AuthorityKey::from_bytes(self.authority.public_key());
            Cache::open(self.dir.path(), key, self.clock.clone()).unwrap()
        }

        fn signed(&self, version: u64, made_unix_ns: i64) -> SignedSnapshot {
            self.authority.sign_snapshot(&Snapshot { version, made_unix_ns, ..Snapshot::default() })
        }

        fn file(&self) -> std::path::PathBuf {
            self.dir.path().join("snapshot.binpb")
        }
    }

    #[test]
    fn a_newer_snapshot_is_published_and_the_same_one_again_changes_nothing() {
        let bench = Bench::new();
        let cache = bench.open();
        let mut watch = cache.watch();
        assert!(watch.borrow().is_none());
        assert!(cache.offer(bench.signed(1, 0)).unwrap());
        assert!(!cache.offer(bench.signed(1, 0)).unwrap());
        assert!(cache.offer(bench.signed(7, 0)).unwrap());
        assert_eq!(watch.borrow_and_update().as_ref().unwrap().version, 7);
    }

    #[test]
    fn a_restart_reads_the_cache_with_the_registry_absent() {
        let bench = Bench::new();
        bench.open().offer(bench.signed(5, 0)).unwrap();
        let cache = bench.open();
        assert_eq!(cache.watch().borrow().as_ref().unwrap().version, 5);
        assert!(!cache.offer(bench.signed(5, 0)).unwrap());
    }

    #[test]
    fn a_rollback_is_refused_before_and_after_a_restart() {
        let bench = Bench::new();
        bench.open().offer(bench.signed(5, 0)).unwrap();
        let cache = bench.open();
        let verdict = cache.offer(bench.signed(4, 0));
        assert!(matches!(verdict, Err(Error::RolledBack { offered: 4, held: 5 })));
        assert_eq!(cache.version(), 5);
    }

    #[test]
    fn the_same_version_with_other_content_is_refused_before_and_after_a_restart() {
        let bench = Bench::new();
        let cache = bench.open();
        cache.offer(bench.signed(5, 0)).unwrap();
        assert!(matches!(cache.offer(bench.signed(5, 1)), Err(Error::Forked(5))));
        assert!(matches!(bench.open().offer(bench.signed(5, 1)), Err(Error::Forked(5))));
    }

    #[test]
    fn a_forged_snapshot_is_refused_and_leaves_the_good_one() {
        let bench = Bench::new();
        let cache = bench.open();
        cache.offer(bench.signed(1, 0)).unwrap();
        assert!(matches!(cache.offer(Bench::new().signed(2, 0)), Err(Error::Forged("snapshot"))));
        assert_eq!((cache.version(), bench.open().version()), (1, 1));
    }

    #[test]
    fn a_torn_cache_file_is_set_aside_and_the_next_offer_replaces_it() {
        let bench = Bench::new();
        bench.open().offer(bench.signed(5, 9)).unwrap();
        let whole = fs::read(bench.file()).unwrap();
        fs::write(bench.file(), &whole[..whole.len() - 1]).unwrap();
        let cache = bench.open();
        assert_eq!(cache.version(), 0);
        assert!(!bench.file().exists());
        assert!(bench.dir.path().join("snapshot.binpb.set-aside").exists());
        assert!(cache.offer(bench.signed(5, 9)).unwrap());
        assert_eq!(bench.open().version(), 5);
    }

    #[test]
    fn a_cache_file_of_another_authority_is_set_aside() {
        let (bench, stranger) = (Bench::new(), Bench::new());
        fs::write(bench.file(), stranger.signed(9, 0).encode_to_vec()).unwrap();
        assert_eq!(bench.open().version(), 0);
    }

    #[test]
    fn an_unfinished_write_before_a_crash_is_ignored() {
        let bench = Bench::new();
        bench.open().offer(bench.signed(5, 0)).unwrap();
        fs::write(bench.dir.path().join("snapshot.binpb.new"), b"half").unwrap();
        let cache = bench.open();
        assert_eq!(cache.version(), 5);
        assert!(cache.offer(bench.signed(6, 0)).unwrap());
    }

    #[test]
    fn a_disk_that_refuses_keeps_the_old_snapshot() {
        let bench = Bench::new();
        let cache = bench.open();
        cache.offer(bench.signed(1, 0)).unwrap();
        // A directory in the place of the unfinished file fails the write for root as well.
        fs::create_dir(bench.dir.path().join("snapshot.binpb.new")).unwrap();
        assert!(matches!(cache.offer(bench.signed(2, 0)), Err(Error::Cache { .. })));
        assert_eq!((cache.version(), bench.open().version()), (1, 1));
    }

    #[test]
    fn the_age_grows_only_while_nobody_confirms() {
        let bench = Bench::new();
        let cache = bench.open();
        let second = Duration::from_secs(1);
        bench.clock.advance(second);
        cache.contact_lost();
        assert_eq!(cache.age(), second, "a failed first attempt does not make it young");
        cache.contact_made();
        bench.clock.advance(second);
        assert_eq!(cache.age(), Duration::ZERO);
        cache.contact_lost();
        bench.clock.advance(second);
        assert_eq!(cache.age(), second);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_bytes_in_the_cache_file_are_survived(content in prop::collection::vec(any::<u8>(), 0..300)) {
            let bench = Bench::new();
            fs::write(bench.file(), content).unwrap();
            prop_assert_eq!(bench.open().version(), 0);
        }

        #[test]
        fn the_version_never_falls_whatever_is_offered(offers in prop::collection::vec((0..6_u64, 0..2_i64), 1..20)) {
            let bench = Bench::new();
            let cache = bench.open();
            let mut highest = 0;
            for (version, content) in offers {
                let _ = cache.offer(bench.signed(version, content));
                prop_assert!(cache.version() >= highest);
                highest = cache.version();
            }
            prop_assert_eq!(bench.open().version(), highest);
        }
    }
}
