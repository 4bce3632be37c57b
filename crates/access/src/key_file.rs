//! Private keys in files that only their owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use zeroize::Zeroizing;

use crate::IssuerError as Error;

/// A PKCS#8 Ed25519 key has 83 bytes; anything much longer is another file.
const MAX_KEY_FILE_BYTES: u64 = 512;

/// Makes a new key and writes it to `path`, mode 0600, durable on return. Never overwrites.
pub(crate) fn create(path: &Path) -> Result<(), Error> {
    let pkcs8 = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8()).map_err(|_| Error::Random)?;
    create_private(path, pkcs8.as_ref()).map_err(Error::file(path))
}

/// Writes a file that did not exist, whole or not at all, mode 0600, durable on return.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("new");
    // Left over from a crash; it never became a key, and a link to it would have another name.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // Unlike a rename, a link refuses a name that is taken.
    fs::hard_link(&temporary, path)?;
    fs::remove_file(&temporary)?;
    File::open(directory)?.sync_all()
}

/// Reads a key and refuses one that others may read.
pub(crate) fn open(path: &Path) -> Result<Ed25519KeyPair, Error> {
    check_private(path)?;
    let pkcs8 = Zeroizing::new(fs::read(path).map_err(Error::file(path))?);
    Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| Error::NotAKey { path: path.to_owned() })
}

fn check_private(path: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(Error::file(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::ReadableByOthers { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_KEY_FILE_BYTES {
        return Err(Error::NotAKey { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_private_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        assert!(matches!(create(&path), Err(Error::File { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        create_private(&path, b"hello").unwrap();
        assert!(matches!(open(&path), Err(Error::NotAKey { .. })));
        let long = directory.path().join("b.key");
        create_private(&long, &[0; 1_000]).unwrap();
        assert!(matches!(open(&long), Err(Error::NotAKey { .. })));
    }
}
