//! Secret keys in files that only their owner may read.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use zeroize::Zeroizing;

/// The bytes of a file that holds a secret.
///
/// # Errors
/// Those of the file system; [`io::ErrorKind::PermissionDenied`] where others than its owner may read or write it,
/// with the command that mends it.
pub fn read_private(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    // Asked of the open file: what is checked is what is read.
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let words = format!("others can use {} (mode {mode:o}): run `chmod 600` on it", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
