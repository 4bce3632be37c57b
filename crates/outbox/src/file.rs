//! The file of an outbox on its disk.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

/// What is done to the disk, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new file is written aside.
    WriteAside,
    /// It is made durable.
    SyncAside,
    /// It takes the place of the old one.
    Rename,
    /// That is made durable.
    SyncFolder,
    /// Records are appended.
    Append,
    /// They are made durable.
    SyncFile,
}

/// Asked before each step. Faults are injected here.
pub type Gate = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

/// A file in a folder of its own, locked against a second process.
pub struct OutboxFile {
    folder: PathBuf,
    /// Held, never read.
    _lock: File,
    file: Option<File>,
    /// Bytes of the file that are whole records.
    length: u64,
    gate: Gate,
}

impl fmt::Debug for OutboxFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxFile")
            .field("folder", &self.folder)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl OutboxFile {
    /// Opens or makes the folder, and reads what it has. Nothing is written yet.
    pub fn open(folder: &Path, gate: Gate) -> io::Result<(Self, Option<Bytes>)> {
        fs::create_dir_all(folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        lock.try_lock()?;
        let content = match fs::read(folder.join("events")) {
            Ok(content) => Some(content.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok((Self { folder: folder.to_owned(), _lock: lock, file: None, length: 0, gate }, content))
    }

    /// Whether there is a file to which records can be appended.
    pub const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes of the file.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Puts a new file in the place of the old one, durably.
    pub fn replace(&mut self, content: &[u8]) -> io::Result<()> {
        self.file = None;
        let (path, aside) = (self.folder.join("events"), self.folder.join("events.new"));
        (self.gate)(Step::WriteAside)?;
        let mut file = File::create(&aside)?;
        file.write_all(content)?;
        (self.gate)(Step::SyncAside)?;
        file.sync_all()?;
        (self.gate)(Step::Rename)?;
        fs::rename(&aside, &path)?;
        (self.gate)(Step::SyncFolder)?;
        File::open(&self.folder)?.sync_all()?;
        self.length = content.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    /// Appends records, not yet durably. What did not fit is cut off again.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("no file is open")) };
        let appended = (self.gate)(Step::Append).and_then(|()| file.write_all(records));
        if appended.is_ok() {
            self.length += records.len() as u64;
            return Ok(());
        }
        // The place of the next write follows from the end of the file only where it is set.
        let cut = file.set_len(self.length).and_then(|()| io::Seek::seek(file, io::SeekFrom::End(0)));
        if cut.is_err() {
            self.file = None;
        }
        appended
    }

    /// Makes durable what was appended. After an error nobody knows what the disk has, and the file
    /// is to be replaced.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::Error::other("no file is open")) };
        let synced = (self.gate)(Step::SyncFile).and_then(|()| file.sync_data());
        if synced.is_err() {
            self.file = None;
        }
        synced
    }
}
