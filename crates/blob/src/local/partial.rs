//! Files that are not objects yet.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use obscura_direct_file::AppendedFile;
use uuid::Uuid;

use super::{BATCH_BYTES, directories};
use crate::Error;

/// No key starts with a dot, so no object can be in here.
pub(super) const DIRECTORY: &str = ".partial";

/// A file on its way to become an object. Dropping it removes its name in `.partial/`; what was
/// linked elsewhere stays.
#[derive(Debug)]
pub(super) struct Partial {
    file: AppendedFile,
    path: PathBuf,
    /// Whether the name in `.partial/` is no more.
    is_gone: bool,
}

impl Partial {
    /// A file for an object of about this size.
    pub(super) fn create(root: &Path, size: u64) -> Result<Self, Error> {
        let path = root.join(DIRECTORY).join(Uuid::new_v4().to_string());
        let memory = usize::try_from(size).unwrap_or(BATCH_BYTES).min(BATCH_BYTES);
        let file = AppendedFile::create(&path, 0o600, memory).map_err(Error::io("creating an object"))?;
        Ok(Self { file, path, is_gone: false })
    }

    /// Appends the pieces and hands the file back.
    pub(super) fn append(mut self, pieces: &[Bytes]) -> Result<Self, Error> {
        let all = pieces.iter().try_for_each(|piece| self.file.append(piece));
        all.map_err(Error::io("writing an object"))?;
        Ok(self)
    }

    /// Makes the bytes durable. Size and blocks are included; times are not, and nobody needs them.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.file.finish()
    }

    /// Gives the file its key in place of whatever has it.
    pub(super) fn rename_to(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.is_gone = true;
        Ok(())
    }

    /// Gives the file its key. Refuses a name that is taken.
    pub(super) fn link_to(&self, path: &Path) -> io::Result<()> {
        fs::hard_link(&self.path, path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.is_gone {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "an unfinished upload stays until the next start");
        }
    }
}

/// Makes an empty `.partial/`. Answers how many files a crash had left there.
pub(super) fn prepare(root: &Path) -> io::Result<usize> {
    let directory = root.join(DIRECTORY);
    directories::create_private(&directory)?;
    let mut removed = 0;
    for entry in fs::read_dir(&directory)? {
        fs::remove_file(entry?.path())?;
        removed += 1;
    }
    Ok(removed)
}
