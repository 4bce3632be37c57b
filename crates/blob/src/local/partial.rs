//! Files that are not objects yet.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use uuid::Uuid;

use super::directories;
use crate::Error;

/// No key starts with a dot, so no object can be in here.
pub(super) const DIRECTORY: &str = ".partial";

/// A file on its way to become an object. Dropping it removes its name in `.partial/`; what was
/// linked elsewhere stays.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    /// Whether the name in `.partial/` is no more.
    is_gone: bool,
}

impl Partial {
    pub(super) fn create(root: &Path) -> Result<Self, Error> {
        let path = root.join(DIRECTORY).join(Uuid::new_v4().to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("creating an object"))?;
        Ok(Self { file, path, is_gone: false })
    }

    /// Appends the pieces and hands the file back.
    pub(super) fn append(mut self, pieces: &[Bytes]) -> Result<Self, Error> {
        write_all(&mut self.file, pieces).map_err(Error::io("writing an object"))?;
        Ok(self)
    }

    /// Makes the bytes durable. Size and blocks are included; times are not, and nobody needs them.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
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

/// One system call for many pieces, without copying them together first.
fn write_all(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
