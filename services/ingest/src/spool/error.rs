//! Why the spool does not do what it was asked.

use std::path::{Path, PathBuf};

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is slower than the cameras.
    #[error("the disk does not keep up: {0} bytes wait to be written")]
    Slow(usize),
    /// The bound is reached.
    #[error("the spool is full: {used} of {limit} bytes; free it by bringing storage and keys back")]
    Full {
        /// Bytes in the spool.
        used: u64,
        /// The bound.
        limit: u64,
    },
    /// The file system is full although the bound is not reached.
    #[error("the disk of the spool is full: make room on it, or bring storage and keys back")]
    NoRoom,
    /// One record is longer than recovery would read.
    #[error("a record of {0} bytes is longer than the spool takes")]
    TooLong(usize),
    /// Bytes were to be read into memory of another length.
    #[error("{expected} bytes of the spool do not fit memory of {given} bytes")]
    Length {
        /// Bytes to read.
        expected: u32,
        /// Bytes of memory.
        given: usize,
    },
    /// The writer met an error and stopped.
    #[error("the spool cannot be written: {0}")]
    Failed(String),
    /// The disk does not give back what it took.
    #[error("the disk cannot read {} any more: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of the spool cannot be used.
    #[error("spool file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl Error {
    /// The file that the disk cannot read, where that is what is wrong.
    #[must_use]
    pub fn unreadable(&self) -> Option<&Path> {
        match self {
            Self::Unreadable { path, .. } => Some(path),
            _ => None,
        }
    }
}
