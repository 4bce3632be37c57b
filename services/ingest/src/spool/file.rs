//! One file of the log.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::buffer::spare_capacity;

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

    /// Where it lies. Who reads it can finish after it was removed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `length` bytes from `offset` on to `into`.
    pub fn read(&self, offset: u64, length: u32, into: &mut Vec<u8>) -> Result<(), Error> {
        let old = into.len();
        self.append_exact(offset, u64::from(length), into).map_err(|source| {
            into.truncate(old);
            Error::Io { path: self.path.clone(), source }
        })
    }

    /// Where `into` has room for exactly the missing bytes they are read into memory that was not set
    /// to zero before: this way every recorded byte goes.
    fn append_exact(&self, mut offset: u64, length: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let end = offset + length;
        let missing = usize::try_from(length).unwrap_or(usize::MAX);
        if into.capacity() - into.len() != missing {
            let old = into.len();
            into.resize(old + missing, 0);
            return self.file.read_exact_at(into.get_mut(old..).unwrap_or_default(), offset);
        }
        while offset < end {
            let read = rustix::io::pread(&self.file, spare_capacity(into), offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += read as u64;
        }
        Ok(())
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
