//! One file of the log.

use std::path::{Path, PathBuf};

use obscura_direct_file::DirectReader;

use super::{
    Error, Position,
    disk::{Disk, is_damage},
};

const PREFIX: &str = "spool-";
const SUFFIX: &str = ".log";

/// An open log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: DirectReader,
}

impl LogFile {
    /// The file at `path`.
    pub fn new(path: PathBuf, file: DirectReader) -> Self {
        Self { path, file }
    }

    /// Where it lies. Who reads it can finish after it was removed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it once more, for reading only: somebody else may have it then.
    pub fn reopen(&self) -> Result<DirectReader, Error> {
        DirectReader::open(&self.path).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Fills `into` with the bytes from `offset` on.
    pub fn read(&self, disk: &dyn Disk, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        disk.read(&self.path, &self.file, into, offset).map_err(|source| {
            let path = self.path.clone();
            if is_damage(&source) { Error::Unreadable { path, source } } else { Error::Io { path, source } }
        })
    }
}

/// Path of the log file that starts at `start`.
pub fn path(dir: &Path, start: Position) -> PathBuf {
    dir.join(format!("{PREFIX}{:020}{SUFFIX}", start.0))
}

/// Where the log file of this name starts; `None` for other files.
pub fn start(path: &Path) -> Option<Position> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok().map(Position)
}
