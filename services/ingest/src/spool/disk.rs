//! What the spool asks of a file system: the smallest seam behind which a test can pull any plug.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use obscura_direct_file::{AppendedFile, Batch, DirectReader};
use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};

/// Bytes that are handed to the disk at once.
const WRITE_BYTES: usize = 1024 * 1024;
/// Zeros are written in pieces of this size where room cannot be set aside otherwise.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// A new and empty log file, durable in its directory.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appending>>;
    /// Takes back everything after the first `length` bytes of what an earlier run wrote, and makes the
    /// rest durable: that run may have been killed before it was.
    fn keep(&self, path: &Path, length: u64) -> io::Result<()>;
    /// Removes a file for good: it does not come back when the power fails. An absent file is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that takes so many bytes of the disk and holds nothing.
    fn set_aside(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Fills `into` with the bytes of an open log file from `offset` on.
    fn read(&self, _path: &Path, file: &DirectReader, into: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(into, offset)
    }
    /// Bytes that may still be written to the file system that `dir` lies on.
    fn available(&self, dir: &Path) -> io::Result<u64>;
}

/// A log file that is being written.
pub trait Appending: Send {
    /// Appends all bytes; after an error some of them may be there.
    fn append(&mut self, batch: &mut Batch) -> io::Result<()>;
    /// Makes what was appended durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes back everything after the first `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// The same file for reading what was synced.
    fn reader(&self) -> io::Result<DirectReader>;
}

/// Whether the disk is full, which passes; everything else that a disk says does not.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the disk cannot give back what it once took. Everything else that keeps a read from succeeding
/// (memory, descriptors, rights) says nothing about the bytes.
pub fn is_damage(error: &io::Error) -> bool {
    const DAMAGE: [Errno; 6] =
        [Errno::IO, Errno::NXIO, Errno::NODATA, Errno::BADMSG, Errno::UCLEAN, Errno::REMOTEIO];
    let code = error.raw_os_error();
    DAMAGE.iter().any(|errno| code == Some(errno.raw_os_error()))
        || error.kind() == io::ErrorKind::UnexpectedEof
}

/// The file system of the machine.
#[derive(Debug)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appending>> {
        let file = AppendedFile::create(path, 0o600, WRITE_BYTES)?;
        if let Err(error) = sync_directory_of(path) {
            // Nothing is in it yet, and the next try must find the name free.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Box::new(file))
    }

    fn keep(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_directory_of(path),
        }
    }

    fn set_aside(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP) => write_zeros(&mut file, bytes),
            done => done.map_err(Into::into),
        }
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let found = statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl Appending for AppendedFile {
    fn append(&mut self, batch: &mut Batch) -> io::Result<()> {
        self.append_batch(batch)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.cut(length)
    }

    fn reader(&self) -> io::Result<DirectReader> {
        self.reader()
    }
}

fn write_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all(ZEROS.get(..piece).unwrap_or_default())?;
        left -= piece as u64;
    }
    file.sync_all()
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))
}

/// Makes names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: &[u8]) -> Batch {
        let mut batch = Batch::with_capacity(bytes.len());
        assert!(batch.push(bytes));
        batch
    }

    #[test]
    fn room_that_is_set_aside_is_taken_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        FileSystem.set_aside(&path, 1 << 20).unwrap();
        FileSystem.set_aside(&path, 1 << 20).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        FileSystem.remove(&path).unwrap();
        FileSystem.remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn zeros_take_exactly_the_room_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("zeros")).unwrap();
        write_zeros(&mut file, 100_001).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 100_001);
    }

    #[test]
    fn what_was_appended_can_be_taken_back_and_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = FileSystem.create(&path).unwrap();
        log.append(&mut batch(b"kept")).unwrap();
        log.sync().unwrap();
        log.append(&mut batch(b"half a rec")).unwrap();
        log.cut(4).unwrap();
        log.append(&mut batch(b" whole")).unwrap();
        log.sync().unwrap();
        let found = fs::read(&path).unwrap();
        assert!(found.starts_with(b"kept whole"));
        assert!(found.iter().skip(10).all(|byte| *byte == 0), "the last block is filled up");
        assert!(FileSystem.create(&path).is_err(), "a log file is never written over");
    }
}
