//! The directories of demonstrations: each is removed at its end, with footage and keys. What a demonstration left that
//! was killed, or a machine that went down, is removed by the next one of the same user. A file in it says that it may
//! be: a name alone does not, because somebody may have an installation of their own under one like it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tempfile::{Builder, TempDir};

use crate::{
    installation::Lock,
    problem::{Context as _, Result},
};

/// Begin of the names of those that go again.
const PREFIX: &str = "obscura-demo-";
/// Begin of the names of those that somebody wants to keep.
const KEPT_PREFIX: &str = "obscura-kept-demo-";

/// File that says that a directory goes again.
const MARKER: &str = "temporary-demonstration";
const MARKER_TEXT: &str = "The next `obscura demo` removes this directory. To keep it, remove this file.\n";

/// How often the removal of one is begun.
const REMOVALS: u32 = 100;

/// A new one in `parent` that goes again.
pub fn temporary(parent: &Path) -> Result<TempDir> {
    let folder = Builder::new().prefix(PREFIX).tempdir_in(parent).doing("make a directory")?;
    fs::write(folder.path().join(MARKER), MARKER_TEXT).doing("mark the directory as temporary")?;
    Ok(folder)
}

/// A new one in `parent` that stays.
pub fn kept(parent: &Path) -> Result<PathBuf> {
    let folder = Builder::new().prefix(KEPT_PREFIX).tempdir_in(parent).doing("make a directory")?;
    Ok(folder.keep())
}

/// Removes those in `parent` that earlier runs of this user left, each with whether that worked.
pub fn remove_leftovers(parent: &Path) -> Vec<(PathBuf, std::io::Result<()>)> {
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(std::result::Result::ok);
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let left =
        named.map(|entry| entry.path()).filter(|path| is_own(path) && is_marked(path) && is_left(path));
    left.map(|path| (path.clone(), remove(&path))).collect()
}

/// Services of a demonstration that was killed a moment ago may still be ending, and put files where one just looked.
fn remove(path: &Path) -> std::io::Result<()> {
    for _ in 1..REMOVALS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            removed => return removed,
        }
    }
    fs::remove_dir_all(path)
}

/// A directory of this user itself, and no link to one.
fn is_own(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user)
}

fn is_marked(path: &Path) -> bool {
    fs::symlink_metadata(path.join(MARKER)).is_ok_and(|found| found.is_file())
}

/// Whoever runs in it has written a number into the lock and holds it. One whose lock is not there yet, or is empty, is
/// about to begin.
fn is_left(path: &Path) -> bool {
    let lock = path.join("lock");
    let was_held = fs::read_to_string(&lock).is_ok_and(|holder| holder.trim().parse::<u32>().is_ok());
    was_held && !Lock::is_held(&lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installation::free_lock;

    #[test]
    fn what_a_killed_demonstration_left_goes_and_nothing_else_does() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path();
        let begun = |folder: &Path| Lock::take(&folder.join("lock")).unwrap();
        let ended = |folder: &Path| free_lock(begun(folder), &folder.join("lock"));
        let left = temporary(parent).unwrap().keep();
        fs::create_dir(left.join("storage")).unwrap();
        fs::write(left.join("storage/footage"), b"a person").unwrap();
        ended(&left);
        let (running, beginning) = (temporary(parent).unwrap(), temporary(parent).unwrap());
        let _lock = begun(running.path());
        fs::write(beginning.path().join("lock"), b"").unwrap();
        let kept = kept(parent).unwrap();
        ended(&kept);
        let elsewhere = parent.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        ended(&elsewhere);
        let own = parent.join("obscura-demo-mine");
        fs::create_dir(&own).unwrap();
        ended(&own);
        std::os::unix::fs::symlink(&elsewhere, parent.join("obscura-demo-link")).unwrap();

        let removed = remove_leftovers(parent);
        assert_eq!(removed.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&left]);
        assert!(removed[0].1.is_ok() && !left.exists());
        assert!(running.path().exists() && beginning.path().exists() && kept.exists() && elsewhere.exists());
        assert!(own.exists(), "whoever put an installation there did not say that it goes");
        assert!(remove_leftovers(parent).is_empty());
    }
}
