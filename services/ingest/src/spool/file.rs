//! One file of the log.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{Error, Position};

const PREFIX: &str = "spool-";
const SUFFIX: &str = ".log";

/// An open log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// The file at `path`.
    pub fn new(path: PathBuf, file: File) -> Self {
        Self { path, file }
    }

    /// Removes it from the disk; who still reads it can finish.
    pub fn remove(&self) -> std::io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    /// Appends `length` bytes from `offset` on to `into`.
    pub fn read(&self, offset: u64, length: u32, into: &mut Vec<u8>) -> Result<(), Error> {
        let old = into.len();
        into.resize(old + length as usize, 0);
        let target = into.get_mut(old..).unwrap_or_default();
        self.file.read_exact_at(target, offset).map_err(|source| {
            into.truncate(old);
            Error::Io { path: self.path.clone(), source }
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
