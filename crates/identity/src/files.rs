//! Files that are whole or absent, whatever happens in between.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Names the generation in use, as Kubernetes does it for mounted secrets.
const CURRENT: &str = ".current";
const GENERATION: &str = ".generation-";

/// Replaces `path` by a file with these bytes and permission bits (for example `0o600`): after a
/// crash there is the old file or the new one, and on return the new one is durable.
///
/// # Errors
/// Those of the file system; the old file is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = beside(path)?;
    let written = write_durably(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report; a leftover is harmless.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder_of(path))
}

/// Replaces a set of files in `folder` at once. The names are links into a generation folder, and
/// the one step that counts is the rename of the link `.current`: a crash before it leaves the old
/// set, a crash after it the new one, and never a key beside the wrong certificate.
pub fn install(folder: &Path, files: &[(&str, &[u8], u32)]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let earlier = generations(folder)?;
    let number = earlier.iter().map(|(number, _)| number).max().map_or(1, |last| last.saturating_add(1));
    let name = format!("{GENERATION}{number}");
    let generation = folder.join(&name);
    DirBuilder::new().mode(0o700).create(&generation)?;
    for (file, bytes, mode) in files {
        write_durably(&generation.join(file), bytes, *mode)?;
    }
    sync_folder(&generation)?;
    link(Path::new(&name), &folder.join(CURRENT))?;
    for (file, ..) in files {
        link(&Path::new(CURRENT).join(file), &folder.join(file))?;
    }
    sync_folder(folder)?;
    earlier.iter().try_for_each(|(_, old)| fs::remove_dir_all(old))
}

fn generations(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(GENERATION)).and_then(|n| n.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    Ok(found)
}

/// Lets `path` point to `target` from one moment to the next.
fn link(target: &Path, path: &Path) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|present| present == target) {
        return Ok(());
    }
    let temporary = beside(path)?;
    symlink(target, &temporary)?;
    fs::rename(temporary, path)
}

fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The process's umask may have taken bits away that the caller asked for.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the same folder that no one else uses.
fn beside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{}.tmp", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_without_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_atomically(&path, b"one", 0o644).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(folder.path()), ["secret"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-folder");
        fs::create_dir(&path).unwrap();
        assert!(write_atomically(&path, b"x", 0o600).is_err());
        assert_eq!(names(folder.path()), ["a-folder"]);
    }

    #[test]
    fn a_set_is_replaced_at_once_and_the_old_generation_goes() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("identity");
        install(&set, &[("cert", b"1", 0o644), ("key", b"1", 0o600)]).unwrap();
        install(&set, &[("cert", b"2", 0o644), ("key", b"2", 0o600)]).unwrap();
        assert_eq!(fs::read(set.join("cert")).unwrap(), b"2");
        assert_eq!(fs::read(set.join("key")).unwrap(), b"2");
        assert_eq!(mode(&set.join("key")), 0o600);
        assert_eq!(names(&set), [".current", ".generation-2", "cert", "key"]);
    }

    #[test]
    fn an_install_that_was_cut_off_changes_nothing_and_is_swept_up_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), &[("key", b"1", 0o600)]).unwrap();
        fs::create_dir(folder.path().join(".generation-2")).unwrap();
        assert_eq!(fs::read(folder.path().join("key")).unwrap(), b"1");
        install(folder.path(), &[("key", b"3", 0o600)]).unwrap();
        assert_eq!(fs::read(folder.path().join("key")).unwrap(), b"3");
        assert_eq!(names(folder.path()), [".current", ".generation-3", "key"]);
    }
}
