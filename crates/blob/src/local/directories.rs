//! Directories that survive a power cut.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Directories remembered at most; beyond it, all are looked at again.
const REMEMBERED: usize = 16_384;

/// The directories whose own names are known to be durable. A directory that merely exists may
/// have been made a moment ago by another upload that has not synced it yet.
#[derive(Debug, Default)]
pub(super) struct Directories {
    durable: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Makes the directory above `path`, and those above it up to `root`, durable.
    pub(super) fn ensure_parent(&self, root: &Path, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|parent| *parent != root) else { return Ok(()) };
        if self.is_durable(parent) {
            return Ok(());
        }
        self.ensure_parent(root, parent)?;
        create_private(parent)?;
        sync_parent(parent)?;
        self.remember(parent);
        Ok(())
    }

    fn is_durable(&self, directory: &Path) -> bool {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(directory)
    }

    fn remember(&self, directory: &Path) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.len() >= REMEMBERED {
            durable.clear();
        }
        durable.insert(directory.to_owned());
    }
}

/// Makes a directory that only its owner may enter. That it exists is fine.
pub(super) fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Makes the name of `path` durable in the directory that holds it.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no parent")),
    }
}

/// The names in a directory with `/` behind those of directories, in the order in which the keys
/// below them sort. What is not UTF-8 cannot be part of a key.
pub(super) fn sorted_names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(mut name) = entry.file_name().into_string() else { continue };
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}
