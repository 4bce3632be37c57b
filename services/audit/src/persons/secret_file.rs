//! The secrets of generations, in a file of mode 0600 that is never in the database or its backups.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::hmac;
use obscura_daemon::write_atomically;
use obscura_row_cipher::{self as row_cipher, Failed, Key};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroizing;

/// What the file says it is.
const FORMAT: &str = "obscura person keys v1";
/// Two secrets have a few hundred bytes.
const MAX_FILE_BYTES: u64 = 4_096;

/// Number of a generation; 1 at first, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is gone although rows need it.
    #[error(
        "{0} is missing and persons' keys need it: restore it from its backup; a new one would open nothing"
    )]
    Missing(PathBuf),
    /// It is not the one.
    #[error("{path} cannot be used: {why}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process has it.
    #[error("{0} is in use by another process: only one audit service may run on a data directory")]
    Locked(PathBuf),
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] Failed),
}

/// The open file.
pub struct SecretFile {
    path: PathBuf,
    secrets: BTreeMap<u64, Key>,
    /// Under which those who were erased are remembered; made by the first erasure, and stays.
    erased: Option<Key>,
    _lock: Lock,
}

/// Keeps other processes away from the file.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock ends with the open file")] File);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: String,
    generations: BTreeMap<u64, HexKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erased: Option<HexKey>,
}

/// A secret that the file writes in hexadecimal.
struct HexKey(Key);

impl Serialize for HexKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex::encode(self.0.as_ref())))
    }
}

impl<'de> Deserialize<'de> for HexKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed, because an own copy would stay in memory.
        let text = <&str>::deserialize(deserializer)?;
        let mut key = Key::default();
        hex::decode_to_slice(text, key.as_mut()).map_err(|_| D::Error::custom("not a key"))?;
        Ok(Self(key))
    }
}

impl SecretFile {
    /// Opens the file, or makes it where it may be made.
    pub fn open(path: &Path, lock: Lock, may_create: bool) -> Result<Self, Error> {
        let mut file = Self { path: path.to_owned(), secrets: BTreeMap::new(), erased: None, _lock: lock };
        match fs::metadata(path) {
            Ok(metadata) => (file.secrets, file.erased) = read(path, &metadata)?,
            Err(absent) if absent.kind() == io::ErrorKind::NotFound && may_create => {
                file.add()?;
            }
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(path.to_owned()));
            }
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
        }
        Ok(file)
    }

    /// The generation under which new keys go.
    pub fn newest(&self) -> Result<Generation, Error> {
        let newest = self.secrets.last_key_value().map(|(number, _)| Generation(*number));
        newest.ok_or_else(|| self.wrong("it holds no secret"))
    }

    /// Whether there is one secret, and so no doubt under which the rows are.
    pub fn is_settled(&self) -> bool {
        self.secrets.len() == 1
    }

    /// Makes the secret of the next generation, durable on return.
    pub fn add(&mut self) -> Result<Generation, Error> {
        let next = self.secrets.last_key_value().map_or(1, |(number, _)| number.saturating_add(1));
        let mut secrets = self.secrets.clone();
        secrets.insert(next, row_cipher::generate()?);
        self.replace(secrets)?;
        Ok(Generation(next))
    }

    /// Destroys every secret but the one of `generation`, or, where that is not known, but the newest.
    pub fn keep_only(&mut self, generation: Option<Generation>) -> Result<(), Error> {
        let kept = generation.map_or_else(|| self.newest(), Ok)?;
        let secret = self.secret(kept)?.clone();
        if self.secrets.len() == 1 {
            return Ok(());
        }
        self.replace(BTreeMap::from([(kept.0, secret)]))
    }

    /// The key of the tags by which those who were erased are remembered; `None` before the first erasure.
    pub const fn erased(&self) -> Option<&Key> {
        self.erased.as_ref()
    }

    /// The same, made where there is none and durable on return.
    pub fn make_erased(&mut self) -> Result<Key, Error> {
        if let Some(key) = &self.erased {
            return Ok(key.clone());
        }
        let key = row_cipher::generate()?;
        self.erased = Some(key.clone());
        if let Err(error) = self.replace(self.secrets.clone()) {
            self.erased = None;
            return Err(error);
        }
        Ok(key)
    }

    /// The key that wraps rows of the generation.
    pub fn wrapping_key(&self, generation: Generation) -> Result<Key, Error> {
        Ok(row_cipher::derive(self.secret(generation)?, b"obscura person key wrapping v1")?)
    }

    /// What rows of the generation call the person with this id.
    pub fn tag(&self, generation: Generation, id: &str) -> Result<Vec<u8>, Error> {
        let key = row_cipher::derive(self.secret(generation)?, b"obscura person tag v1")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        Ok(hmac::sign(&key, id.as_bytes()).as_ref().to_vec())
    }

    fn secret(&self, generation: Generation) -> Result<&Key, Error> {
        self.secrets.get(&generation.0).ok_or_else(|| {
            self.wrong("it is older or newer than the audit database: restore both from the same backup")
        })
    }

    fn replace(&mut self, secrets: BTreeMap<u64, Key>) -> Result<(), Error> {
        let encoded = secrets.iter().map(|(number, key)| (*number, HexKey(key.clone())));
        let erased = self.erased.clone().map(HexKey);
        let content = Content { format: FORMAT.to_owned(), generations: encoded.collect(), erased };
        // Room for everything at once, because growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(512 + 128 * secrets.len()));
        serde_json::to_writer(&mut *bytes, &content).map_err(|_| self.wrong("it cannot be serialised"))?;
        let written = write_atomically(&self.path, &bytes, 0o600);
        written.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        self.secrets = secrets;
        Ok(())
    }

    fn wrong(&self, why: &'static str) -> Error {
        Error::Wrong { path: self.path.clone(), why }
    }
}

fn read(path: &Path, metadata: &fs::Metadata) -> Result<(BTreeMap<u64, Key>, Option<Key>), Error> {
    let wrong = |why| Error::Wrong { path: path.to_owned(), why };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(wrong("others may read it: run `chmod 600` on it"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(wrong("it is too long"));
    }
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let bytes = Zeroizing::new(bytes);
    // The parser's own words may quote the file, so they are not passed on.
    let content: Content = serde_json::from_slice(&bytes).map_err(|_| wrong("it does not parse"))?;
    if content.format != FORMAT || content.generations.is_empty() {
        return Err(wrong("its format is unknown to this version"));
    }
    let secrets = content.generations.into_iter().map(|(number, HexKey(key))| (number, key)).collect();
    Ok((secrets, content.erased.map(|HexKey(key)| key)))
}

impl Lock {
    /// Locks the file of secrets, whether it is there or not.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process has it.
    pub fn take(secrets: &Path) -> Result<Self, Error> {
        let path = secrets.with_extension("lock");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|source| Error::Io { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(path)),
            Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(path: &Path, may_create: bool) -> Result<SecretFile, Error> {
        SecretFile::open(path, Lock::take(path)?, may_create)
    }

    /// Closes the file. A program that another test starts at this moment has our files from its fork to its exec, and
    /// with them the lock.
    fn close(file: SecretFile, path: &Path) {
        drop(file);
        let is_free = (0..6_000).any(|_| {
            let is_free = Lock::take(path).is_ok();
            if !is_free {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            is_free
        });
        assert!(is_free, "it stays locked for a minute");
    }

    #[test]
    fn secrets_read_back_and_destroyed_ones_are_in_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("person-keys.json");
        let mut file = open(&path, true).unwrap();
        let (first, tag) = (file.newest().unwrap(), file.tag(file.newest().unwrap(), "user:alice").unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let second = file.add().unwrap();
        assert_ne!(file.tag(second, "user:alice").unwrap(), tag);
        close(file, &path);
        let mut file = open(&path, false).unwrap();
        assert_eq!(file.tag(first, "user:alice").unwrap(), tag);
        file.keep_only(Some(second)).unwrap();
        let old = hex::encode(hex::decode(text.split('"').nth(9).unwrap()).unwrap());
        assert!(text.contains(&old) && !fs::read_to_string(&path).unwrap().contains(&old));
        assert!(file.wrapping_key(first).is_err());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_lost_public_or_shared_file_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("person-keys.json");
        let complaint = |may_create| open(&path, may_create).err().unwrap().to_string();
        assert!(complaint(false).contains("restore it from its backup"));
        let opened = open(&path, true).unwrap();
        assert!(complaint(true).contains("another process"));
        close(opened, &path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(complaint(true).contains("chmod 600"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("person-keys.json");
            write_atomically(&path, &bytes, 0o600).unwrap();
            prop_assert!(open(&path, true).is_err());
        }
    }
}
