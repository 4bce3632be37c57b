//! The one file of the cache: replaced whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::MAX_SNAPSHOT_BYTES;

/// Name of the cached snapshot.
const NAME: &str = "snapshot.binpb";
/// Name it is written under until it is whole.
const UNFINISHED: &str = "snapshot.binpb.new";
/// Name of the last file that could not be used; kept so that someone can look at it.
const SET_ASIDE: &str = "snapshot.binpb.set-aside";
/// Signature and framing beside the snapshot itself, in bytes.
const OVERHEAD_BYTES: usize = 1024;

/// A directory that holds one cached snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    directory: PathBuf,
}

impl SnapshotFile {
    /// Makes the directory where it does not exist.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Where the snapshot is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// The content; `None` where there is no file. Never reads more than a snapshot may have.
    pub(crate) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        // One byte more than allowed, so that a file that is too long does not verify.
        let limit = MAX_SNAPSHOT_BYTES + OVERHEAD_BYTES + 1;
        file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Replaces the content. Durable on return; a crash in between leaves the old content, and at
    /// most an unfinished file that the next call overwrites.
    pub(crate) fn replace(&self, content: &[u8]) -> io::Result<()> {
        let unfinished = self.directory.join(UNFINISHED);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path())?;
        File::open(&self.directory)?.sync_all()
    }

    /// Takes the file out of the way, over the one set aside before.
    pub(crate) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.directory.join(SET_ASIDE);
        fs::rename(self.path(), &aside)?;
        Ok(aside)
    }
}
