//! Reading anywhere.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
};

use crate::{BLOCK_BYTES, aligned::Aligned, open};

/// Bytes that are read at once. Each thread that reads keeps memory for so many.
const WINDOW_BYTES: usize = 256 * 1024;

thread_local! {
    /// Memory that the system has just given costs more than reading into it: it is kept.
    static WINDOW: RefCell<Aligned> = RefCell::new(Aligned::with_capacity(WINDOW_BYTES));
}

/// A file that is read past the page cache.
#[derive(Debug)]
pub struct DirectReader {
    file: File,
}

impl From<File> for DirectReader {
    /// Reads of a file that was not opened with `O_DIRECT` go through the cache.
    fn from(file: File) -> Self {
        Self { file }
    }
}

impl AsFd for DirectReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl DirectReader {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        open(OpenOptions::new().read(true), path).map(Self::from)
    }

    /// Fills `into` with the bytes from `offset` on. Blocking.
    ///
    /// # Errors
    /// Those of reading; [`io::ErrorKind::UnexpectedEof`] where the file ends before.
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        WINDOW.with_borrow_mut(|window| self.read_through(window, into, offset))
    }

    fn read_through(&self, window: &mut Aligned, mut into: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !into.is_empty() {
            let skip = usize::try_from(offset % BLOCK_BYTES as u64).map_err(io::Error::other)?;
            let wanted = (skip + into.len()).next_multiple_of(BLOCK_BYTES).min(window.capacity());
            let read = match self.file.read_at(window.get_mut(0..wanted), offset - skip as u64) {
                Err(again) if again.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            // The last block of a file may be short; anything short of what is wanted of it is its end.
            let usable = read.saturating_sub(skip).min(into.len());
            if usable == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (now, later) = into.split_at_mut(usable);
            now.copy_from_slice(window.get(skip..skip + usable));
            into = later;
            offset += usable as u64;
        }
        Ok(())
    }
}
