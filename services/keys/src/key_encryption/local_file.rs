//! The back end for one machine: versions of the key in a private file, no prompt.
//!
//! The file protects a database that is copied or stolen without it, not against root on this
//! machine. It is replaced atomically; a version is on the disk before anything is under it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use async_trait::async_trait;
use obscura_daemon::write_atomically;
use obscura_row_cipher::{self as row_cipher, Key};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroizing;

use super::{Error, KeyEncryption, KeyVersion, Row, WrappedSecret};

const FORMAT: &str = "obscura key-encryption key v1";
/// A file with the most versions stays well below.
const MAX_FILE_BYTES: u64 = 16 << 10;
/// Each rotation that ends retires the versions before it.
const MAX_VERSIONS: usize = 64;

/// Versions of the key-encryption key in one file, mode 0600.
pub struct LocalKeyFile {
    path: PathBuf,
    versions: RwLock<Versions>,
    /// Held as long as this lives, so that two processes never write the file.
    _lock: File,
}

impl fmt::Debug for LocalKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LocalKeyFile {
    /// Opens the key file. Where there is none it makes one with version 1, if it may.
    ///
    /// # Errors
    /// [`Error::KeyFileMissing`], [`Error::KeyFile`], [`Error::Locked`], or what the file system says.
    pub fn open_or_create(path: &Path, may_create: bool) -> Result<Self, Error> {
        let lock = lock(&path.with_extension("lock"))?;
        let versions = match fs::metadata(path) {
            Ok(metadata) => read(path, &metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => create(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::KeyFileMissing(path.to_owned()));
            }
            Err(error) => return Err(io_error(path)(error)),
        };
        Ok(Self { path: path.to_owned(), versions: RwLock::new(versions), _lock: lock })
    }

    /// Changes the versions on disk first, then in memory.
    fn change<T>(&self, change: impl FnOnce(&mut Versions) -> Result<T, Error>) -> Result<T, Error> {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = versions.clone();
        let result = change(&mut changed)?;
        write(&self.path, &changed)?;
        *versions = changed;
        Ok(result)
    }

    fn with<T>(&self, read: impl FnOnce(&Versions) -> Result<T, Error>) -> Result<T, Error> {
        read(&self.versions.read().unwrap_or_else(PoisonError::into_inner))
    }
}

// The file is a few hundred bytes and changes with rotations only: blocking for it is shorter than
// handing it to another thread.
#[async_trait]
impl KeyEncryption for LocalKeyFile {
    async fn current(&self) -> Result<KeyVersion, Error> {
        self.with(|versions| Ok(versions.newest()?.0))
    }

    async fn versions(&self) -> Result<Vec<KeyVersion>, Error> {
        self.with(|versions| Ok(versions.0.keys().map(|version| KeyVersion(*version)).collect()))
    }

    async fn wrap(&self, row: Row<'_>, secret: &[u8]) -> Result<WrappedSecret, Error> {
        self.with(|versions| {
            let (version, key) = versions.newest()?;
            Ok(WrappedSecret { version, bytes: row_cipher::seal(key, &row.aad(version), secret)? })
        })
    }

    async fn unwrap(&self, row: Row<'_>, wrapped: &WrappedSecret) -> Result<Zeroizing<Vec<u8>>, Error> {
        let version = wrapped.version;
        self.with(|versions| {
            let HexKey(key) = versions.0.get(&version.0).ok_or(Error::UnknownVersion(version))?;
            row_cipher::open(key, &row.aad(version), &wrapped.bytes).ok_or(Error::DoesNotOpen(version))
        })
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        self.change(|versions| {
            let full = Error::TooManyVersions(versions.0.len());
            let next = versions.newest()?.0.0.checked_add(1).filter(|_| versions.0.len() < MAX_VERSIONS);
            let next = next.ok_or(full)?;
            versions.0.insert(next, HexKey(row_cipher::generate()?));
            Ok(KeyVersion(next))
        })
    }

    async fn retire(&self, version: KeyVersion) -> Result<(), Error> {
        if self.with(|versions| Ok(!versions.0.contains_key(&version.0)))? {
            return Ok(());
        }
        self.change(|versions| {
            if versions.newest()?.0 == version {
                return Err(Error::InUse(version));
            }
            versions.0.remove(&version.0);
            Ok(())
        })
    }

    async fn root(&self) -> Result<(KeyVersion, Zeroizing<[u8; 32]>), Error> {
        self.with(|versions| {
            if versions.0.len() > 1 {
                return Err(Error::Rotating(versions.0.len()));
            }
            let (version, key) = versions.newest()?;
            Ok((version, key.clone()))
        })
    }
}

/// The keys by version; never empty.
#[derive(Clone, Serialize, Deserialize)]
struct Versions(BTreeMap<u32, HexKey>);

impl Versions {
    fn newest(&self) -> Result<(KeyVersion, &Key), Error> {
        let newest = self.0.last_key_value().map(|(version, HexKey(key))| (KeyVersion(*version), key));
        newest.ok_or(Error::UnknownVersion(KeyVersion(1)))
    }
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: String,
    versions: Versions,
}

/// A key that the file writes in hexadecimal.
#[derive(Clone)]
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

fn create(path: &Path) -> Result<Versions, Error> {
    let versions = Versions(BTreeMap::from([(1, HexKey(row_cipher::generate()?))]));
    write(path, &versions)?;
    Ok(versions)
}

fn read(path: &Path, metadata: &fs::Metadata) -> Result<Versions, Error> {
    let invalid = |why| Error::KeyFile { path: path.to_owned(), why };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(invalid("others may read it: run `chmod 600` on it, then `obscura key rotate`"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(invalid("it is too long"));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(io_error(path))?);
    // The parser's own words may quote the file, so they are not passed on.
    let content: Content = serde_json::from_slice(&bytes).map_err(|_| invalid("it does not parse"))?;
    if content.format != FORMAT {
        return Err(invalid("its format is unknown to this version"));
    }
    if content.versions.0.is_empty() {
        return Err(invalid("it holds no key"));
    }
    Ok(content.versions)
}

fn write(path: &Path, versions: &Versions) -> Result<(), Error> {
    let content = Content { format: FORMAT.to_owned(), versions: versions.clone() };
    // Room for everything at once, because growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(256 + 128 * versions.0.len()));
    let written = serde_json::to_writer(&mut *bytes, &content);
    written.map_err(|_| Error::KeyFile { path: path.to_owned(), why: "it cannot be serialised" })?;
    write_atomically(path, &bytes, 0o600).map_err(io_error(path))
}

fn lock(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io_error(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error(path)(error)),
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key_encryption::{RowKind, conformance};

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kek.json");
        (directory, path)
    }

    /// Opens a file that was just closed. A program that another test starts at this moment has our files from its
    /// fork to its exec, and with them the lock that was given back.
    fn reopen(path: &Path, may_create: bool) -> Result<LocalKeyFile, Error> {
        for _ in 0..6_000 {
            match LocalKeyFile::open_or_create(path, may_create) {
                Err(Error::Locked(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
                opened => return opened,
            }
        }
        LocalKeyFile::open_or_create(path, may_create)
    }

    #[tokio::test]
    async fn the_key_file_conforms() {
        let (_directory, path) = directory();
        conformance::run(&LocalKeyFile::open_or_create(&path, true).unwrap()).await;
    }

    #[tokio::test]
    async fn a_reopened_key_file_opens_what_every_version_wrapped() {
        let (_directory, path) = directory();
        let zone = "eea".parse().unwrap();
        let row = Row { kind: RowKind::EpochKey, id: "1", zone: &zone };
        let file = LocalKeyFile::open_or_create(&path, true).unwrap();
        let old = file.wrap(row, b"old").await.unwrap();
        file.rotate().await.unwrap();
        let new = file.wrap(row, b"new").await.unwrap();
        drop(file);
        let file = reopen(&path, false).unwrap();
        assert_eq!(&file.unwrap(row, &old).await.unwrap()[..], b"old");
        assert_eq!(&file.unwrap(row, &new).await.unwrap()[..], b"new");
        file.retire(old.version).await.unwrap();
        drop(file);
        let file = reopen(&path, false).unwrap();
        assert!(matches!(file.unwrap(row, &old).await, Err(Error::UnknownVersion(_))));
        assert!(file.rotate().await.unwrap() > new.version);
    }

    #[test]
    fn the_file_is_private_and_a_public_one_is_refused() {
        let (_directory, path) = directory();
        drop(LocalKeyFile::open_or_create(&path, true).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = reopen(&path, true).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_missing_file_is_not_replaced_where_a_database_needs_it() {
        let (_directory, path) = directory();
        assert!(matches!(LocalKeyFile::open_or_create(&path, false), Err(Error::KeyFileMissing(_))));
        assert!(!path.exists());
    }

    #[test]
    fn two_processes_never_share_the_file() {
        let (_directory, path) = directory();
        let _first = LocalKeyFile::open_or_create(&path, true).unwrap();
        assert!(matches!(LocalKeyFile::open_or_create(&path, true), Err(Error::Locked(_))));
    }

    #[tokio::test]
    async fn unfinished_rotations_cannot_pile_up_without_end() {
        let (_directory, path) = directory();
        let file = LocalKeyFile::open_or_create(&path, true).unwrap();
        for _ in 1..MAX_VERSIONS {
            file.rotate().await.unwrap();
        }
        assert!(matches!(file.rotate().await, Err(Error::TooManyVersions(MAX_VERSIONS))));
        assert!(fs::metadata(&path).unwrap().len() < MAX_FILE_BYTES);
        drop(file);
        reopen(&path, false).unwrap();
    }

    fn written(bytes: &[u8]) -> Result<LocalKeyFile, Error> {
        let (_directory, path) = directory();
        write_atomically(&path, bytes, 0o600).unwrap();
        LocalKeyFile::open_or_create(&path, false)
    }

    #[test]
    fn a_wrong_file_is_named_without_quoting_it() {
        let key = "ab".repeat(32);
        for bytes in [
            "{}".to_owned(),
            format!(r#"{{"format":"other","versions":{{"1":"{key}"}}}}"#),
            format!(r#"{{"format":"{FORMAT}","versions":{{}}}}"#),
            format!(r#"{{"format":"{FORMAT}","versions":{{"1":"{key}ab"}}}}"#),
            " ".repeat(20_000),
        ] {
            let error = written(bytes.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::KeyFile { .. }), "{bytes}");
            assert!(!error.to_string().contains(&key));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(written(&bytes).is_err());
        }
    }
}
