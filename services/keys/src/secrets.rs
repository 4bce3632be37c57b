//! Secrets outside the database: one small file per epoch and hold, without which its rows are dead.
//!
//! A row that is deleted from a database survives in its write-ahead log, in free pages, in replicas
//! and in backups. So every row key needs a second half that is in none of these ([`crate::row_key`]):
//! 32 random bytes in a file of their own in `epoch-secrets/`, or what is left of them: the secret of an epoch
//! is the root of a tree ([`crate::epoch_key`]), and when some of its rows die before the others a new file has
//! the nodes of those that stay. To destroy is to overwrite the file, wait for the disk and unlink it. What this
//! reaches, honestly:
//!
//! - **A copy of the database alone**, however old, with the key-encryption key: opens what is alive now
//!   and was alive then. What was destroyed since then stays dead, and with an early destruction also
//!   its neighbours of the same expiry hour, which live on under a new secret that the copy does not
//!   know: take a new backup of the database after each early destruction.
//! - **A copy of the whole data directory** with these files opens everything that was alive when it was
//!   made. Nothing that this program does reaches into such a copy. So it must not be made: the folder
//!   carries a `CACHEDIR.TAG` (bford.info/cachedir), which `tar`, borg and restic leave out when told to,
//!   and a second place for the secrets on another disk (`secrets_mirror_dir`) stands in for a backup;
//!   both places are erased together. Where such a copy is put back into service, the receipts of
//!   destruction are replayed before anything is released: the highest number that was ever reached stands
//!   in `receipts.mark` beside the secrets, and what tells a copy that its own mark is old is in
//!   [`crate::rollback`].
//! - **Disks**: on file systems that overwrite in place the bytes are gone. Flash and copy-on-write file
//!   systems keep old blocks for a while, readable only with the raw device; there the key-encryption key
//!   is what protects them, and rotating it ends that too.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use obscura_daemon::write_atomically;
use obscura_row_cipher::Failed;
use obscura_seal::{LayerKey, NodeSet};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where a data directory has them.
pub const FOLDER: &str = "epoch-secrets";

const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # Secrets of Obscura's key service. A backup of this folder would undo the destruction of footage.\n";
const MARK: &str = "receipts.mark";
const MAX_MARK_BYTES: u64 = 64 << 10;
/// Longest file: a set of nodes with one for each leaf.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Why a secret cannot be kept or erased.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The folder is not the one that was set up: perhaps its disk is not mounted.
    #[error(
        "{0} is not the folder of secrets that was set up (its CACHEDIR.TAG is missing): is its disk mounted?"
    )]
    NotMounted(PathBuf),
    /// A file that no secret or mark can be.
    #[error("{0} is damaged: restore it from the second place of the secrets")]
    Damaged(PathBuf),
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] Failed),
}

/// How far receipts had come, and who signed them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Highest number that a receipt ever had.
    pub number: u64,
    /// Public keys of custody's receipts, newest last, in hexadecimal.
    pub public_keys: Vec<String>,
}

/// The folder of secrets and perhaps a second one, always equal.
///
/// Files are 32 bytes and change a few times an hour: blocking for them is shorter than handing them to
/// another thread.
#[derive(Debug)]
pub struct Secrets {
    folders: Vec<PathBuf>,
    /// What a test makes fail: `create`, `erase` or `mark`.
    #[cfg(test)]
    pub faults: std::sync::Mutex<BTreeSet<&'static str>>,
}

impl Secrets {
    /// Opens the folders, which are made where they are missing; what only one of them has is copied into
    /// the other.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: &Path, mirror: Option<&Path>) -> Result<Self, Error> {
        let folders: Vec<PathBuf> = std::iter::once(folder).chain(mirror).map(Path::to_owned).collect();
        folders.iter().try_for_each(|folder| create_folder(folder))?;
        let secrets = Self {
            folders,
            #[cfg(test)]
            faults: std::sync::Mutex::default(),
        };
        secrets.heal()?;
        Ok(secrets)
    }

    /// Makes a secret; it is durable in every folder on return.
    pub fn create(&self, name: &str) -> Result<NodeSet, Error> {
        let secret = NodeSet::whole(&LayerKey::generate().map_err(|_| Failed)?);
        self.put(name, &secret)?;
        Ok(secret)
    }

    /// Stores what is left of a secret under a name of its own; it is durable in every folder on return.
    pub fn put(&self, name: &str, secret: &NodeSet) -> Result<(), Error> {
        #[cfg(test)]
        self.fault("create")?;
        let bytes = encoded(secret)?;
        for folder in &self.folders {
            check_mounted(folder)?;
            let path = folder.join(name);
            create_file(&path, &bytes).map_err(io_error(&path))?;
            sync(folder)?;
        }
        Ok(())
    }

    /// A secret; `None` once it is erased.
    pub fn read(&self, name: &str) -> Result<Option<NodeSet>, Error> {
        for folder in &self.folders {
            if let Some(secret) = read_secret(&folder.join(name))? {
                return Ok(Some(secret));
            }
        }
        Ok(None)
    }

    /// Overwrites secrets in every folder, durably, and unlinks them. Erasing again is harmless.
    ///
    /// # Errors
    /// [`Error::NotMounted`], or what the file system says; then they may live on in one of the folders.
    pub fn erase<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Result<(), Error> {
        #[cfg(test)]
        self.fault("erase")?;
        for name in names {
            for folder in &self.folders {
                check_mounted(folder)?;
                let path = folder.join(name);
                // Nobody waits for the unlinking: a file of zeros that comes back after a power cut is no secret.
                erase_file(&path).map_err(io_error(&path))?;
            }
        }
        Ok(())
    }

    /// Erases what crashes left of epochs, each named by its prefix: secrets that no row ever used.
    pub fn erase_strays(&self, prefixes: &[String]) -> Result<(), Error> {
        let is_stray = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        self.erase(self.names()?.iter().filter(is_stray))
    }

    /// Names of all secrets.
    pub fn names(&self) -> Result<BTreeSet<String>, Error> {
        let mut names = BTreeSet::new();
        for folder in &self.folders {
            names.extend(secret_names(folder)?);
        }
        Ok(names)
    }

    /// The mark; the highest of all folders.
    pub fn mark(&self) -> Result<Mark, Error> {
        let marks = self.folders.iter().map(|folder| read_mark(&folder.join(MARK)));
        let marks = marks.collect::<Result<Vec<_>, _>>()?;
        Ok(marks.into_iter().max_by_key(|mark| mark.number).unwrap_or_default())
    }

    /// Raises the mark; it never goes back.
    pub fn raise_mark(&self, number: u64, public_key: &[u8]) -> Result<(), Error> {
        let mut mark = self.mark()?;
        let key = hex::encode(public_key);
        if mark.number >= number && mark.public_keys.contains(&key) {
            return Ok(());
        }
        #[cfg(test)]
        self.fault("mark")?;
        mark.number = mark.number.max(number);
        if !mark.public_keys.contains(&key) {
            mark.public_keys.push(key);
        }
        for folder in &self.folders {
            let path = folder.join(MARK);
            let text = serde_json::to_vec(&mark).map_err(|_| Error::Damaged(path.clone()))?;
            write_atomically(&path, &text, 0o600).map_err(io_error(&path))?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn fault(&self, what: &'static str) -> Result<(), Error> {
        let failed = Error::Io { path: what.into(), source: io::Error::other("injected") };
        if self.faults.lock().unwrap().contains(what) { Err(failed) } else { Ok(()) }
    }

    /// A place that was away or is new gets what it lacks. A secret is erased from all places before its
    /// receipt is made, so nothing comes back here that a receipt has ended.
    fn heal(&self) -> Result<(), Error> {
        for name in self.names()? {
            let Some(secret) = self.read(&name)? else { continue };
            for folder in &self.folders {
                let path = folder.join(&name);
                if read_secret(&path)?.is_none() {
                    create_file(&path, &encoded(&secret)?).map_err(io_error(&path))?;
                    sync(folder)?;
                }
            }
        }
        Ok(())
    }
}

fn create_folder(folder: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(io_error(folder))?;
    let tag = folder.join(TAG);
    if tag.exists() {
        return Ok(());
    }
    // A folder that had secrets and lost its tag is another matter than a new one.
    if !secret_names(folder)?.is_empty() {
        return Err(Error::NotMounted(folder.to_owned()));
    }
    write_atomically(&tag, TAG_TEXT.as_bytes(), 0o600).map_err(io_error(&tag))
}

fn check_mounted(folder: &Path) -> Result<(), Error> {
    if folder.join(TAG).exists() { Ok(()) } else { Err(Error::NotMounted(folder.to_owned())) }
}

fn secret_names(folder: &Path) -> Result<BTreeSet<String>, Error> {
    let entries = fs::read_dir(folder).map_err(io_error(folder))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string()));
    let names = names.collect::<io::Result<Vec<_>>>().map_err(io_error(folder))?;
    let secret = |name: &String| name.starts_with("epoch-") || name.starts_with("hold-");
    Ok(names.into_iter().filter_map(Result::ok).filter(secret).collect())
}

/// A whole secret is its 32 bytes, anything else a set of nodes.
fn encoded(secret: &NodeSet) -> Result<Zeroizing<Vec<u8>>, Failed> {
    match secret.nodes() {
        [root] if root.depth() == 0 => Ok(Zeroizing::new(root.secret().to_vec())),
        _ => secret.encode().map_err(|_| Failed),
    }
}

fn read_secret(path: &Path) -> Result<Option<NodeSet>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let length = file.metadata().map_err(io_error(path))?.len().min(MAX_SECRET_BYTES);
    // Room for everything at once, because growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 64));
    file.take(MAX_SECRET_BYTES).read_to_end(&mut bytes).map_err(io_error(path))?;
    // A file cut by a crash was never used: its name is written down only after it is durable. Zeros are what
    // an erased one was overwritten with.
    let erased = bytes.iter().all(|byte| *byte == 0);
    Ok(NodeSet::decode(&bytes).ok().filter(|_| !erased))
}

fn create_file(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(secret)?;
    file.sync_all()
}

fn erase_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(mut file) => {
            let length = file.metadata()?.len();
            io::copy(&mut io::repeat(0).take(length), &mut file)?;
            file.sync_all()?;
            fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn read_mark(path: &Path) -> Result<Mark, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Mark::default()),
        Err(error) => return Err(io_error(path)(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_MARK_BYTES).read_to_end(&mut text).map_err(io_error(path))?;
    serde_json::from_slice(&text).map_err(|_| Error::Damaged(path.to_owned()))
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use obscura_seal::{SlotRange, SlotSet};

    use super::*;

    struct Places {
        root: tempfile::TempDir,
    }

    impl Places {
        fn new() -> Self {
            Self { root: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn open(&self) -> Result<Secrets, Error> {
            Secrets::open(&self.path("one"), Some(&self.path("two")))
        }
    }

    fn root(secret: &NodeSet) -> [u8; 32] {
        *secret.nodes()[0].secret()
    }

    #[test]
    fn a_secret_is_the_same_in_both_places_and_private() {
        let places = Places::new();
        let secrets = places.open().unwrap();
        let made = secrets.create("epoch-7-a").unwrap();
        for place in ["one", "two"] {
            let path = places.path(place).join("epoch-7-a");
            assert_eq!(fs::read(&path).unwrap(), root(&made));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        }
        assert_eq!(root(&places.open().unwrap().read("epoch-7-a").unwrap().unwrap()), root(&made));
    }

    #[test]
    fn an_erased_secret_is_overwritten_and_gone_everywhere_and_stays_gone() {
        let places = Places::new();
        let secrets = places.open().unwrap();
        secrets.create("epoch-7-a").unwrap();
        // A second name for the same bytes on the disk shows what they are overwritten with.
        fs::hard_link(places.path("one/epoch-7-a"), places.path("seen")).unwrap();
        for _ in 0..2 {
            secrets.erase([&"epoch-7-a".to_owned()]).unwrap();
            assert_eq!(fs::read(places.path("seen")).unwrap(), [0; 32]);
            assert!(secrets.read("epoch-7-a").unwrap().is_none());
        }
        assert!(places.open().unwrap().names().unwrap().is_empty());
    }

    #[test]
    fn what_is_left_of_a_secret_reads_back_and_its_zeros_are_none() {
        let places = Places::new();
        let secrets = places.open().unwrap();
        let slot = |number| SlotSet::from(SlotRange::try_from((number, number)).unwrap());
        let left = secrets.create("epoch-7-a").unwrap().puncture(&slot(5)).puncture(&slot(900));
        secrets.put("epoch-7-b", &left).unwrap();
        let read = places.open().unwrap().read("epoch-7-b").unwrap().unwrap();
        assert_eq!(read.slots(), SlotSet::whole_hour().difference(&slot(5)).difference(&slot(900)));
        fs::hard_link(places.path("one/epoch-7-b"), places.path("seen")).unwrap();
        let length = fs::read(places.path("seen")).unwrap().len();
        secrets.erase([&"epoch-7-b".to_owned()]).unwrap();
        assert_eq!(fs::read(places.path("seen")).unwrap(), vec![0; length]);
        // As after a power cut that came before the unlinking was on the disk.
        for zeros in [32, length] {
            fs::write(places.path("one/epoch-7-b"), vec![0; zeros]).unwrap();
            assert!(places.open().unwrap().read("epoch-7-b").unwrap().is_none());
            assert!(!places.path("two/epoch-7-b").exists());
        }
    }

    #[test]
    fn a_place_that_is_not_mounted_stops_erasing_instead_of_pretending() {
        let places = Places::new();
        let secrets = places.open().unwrap();
        secrets.create("epoch-7-a").unwrap();
        fs::rename(places.path("two"), places.path("elsewhere")).unwrap();
        fs::create_dir(places.path("two")).unwrap();
        assert!(matches!(secrets.erase([&"epoch-7-a".to_owned()]), Err(Error::NotMounted(_))));
        assert!(matches!(secrets.create("epoch-8-a"), Err(Error::NotMounted(_))));
        fs::remove_dir(places.path("two")).unwrap();
        fs::rename(places.path("elsewhere"), places.path("two")).unwrap();
        secrets.erase([&"epoch-7-a".to_owned()]).unwrap();
        assert!(!places.path("two/epoch-7-a").exists());
    }

    #[test]
    fn a_lost_place_is_filled_again() {
        let places = Places::new();
        let made = places.open().unwrap().create("hold-x").unwrap();
        fs::remove_dir_all(places.path("one")).unwrap();
        let secrets = places.open().unwrap();
        assert_eq!(fs::read(places.path("one/hold-x")).unwrap(), root(&made));
        assert_eq!(root(&secrets.read("hold-x").unwrap().unwrap()), root(&made));
    }

    #[test]
    fn strays_of_one_epoch_go_and_those_of_others_stay() {
        let places = Places::new();
        let secrets = places.open().unwrap();
        for name in ["epoch-7-a", "epoch-7-b", "epoch-70-a", "hold-7"] {
            secrets.create(name).unwrap();
        }
        secrets.erase_strays(&["epoch-7-".to_owned()]).unwrap();
        assert_eq!(secrets.names().unwrap().into_iter().collect::<Vec<_>>(), ["epoch-70-a", "hold-7"]);
    }

    #[test]
    fn the_mark_never_goes_back_and_remembers_every_signer() {
        let places = Places::new();
        let secrets = places.open().unwrap();
        assert_eq!(secrets.mark().unwrap(), Mark::default());
        secrets.raise_mark(5, &[1]).unwrap();
        secrets.raise_mark(3, &[2]).unwrap();
        let expected = Mark { number: 5, public_keys: vec!["01".into(), "02".into()] };
        assert_eq!(places.open().unwrap().mark().unwrap(), expected);
        fs::write(places.path("one/receipts.mark"), "{").unwrap();
        assert!(matches!(secrets.mark(), Err(Error::Damaged(_))));
    }

    #[test]
    fn a_secret_cut_by_a_crash_is_no_secret() {
        let places = Places::new();
        let secrets = places.open().unwrap();
        for length in [0, 31, 33] {
            fs::write(places.path("one/epoch-9-a"), vec![1; length]).unwrap();
            assert!(secrets.read("epoch-9-a").unwrap().is_none());
        }
    }
}
