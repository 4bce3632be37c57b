//! The log of one child: a file that never grows beyond a bound.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A log is put aside when it would grow beyond this many bytes; one older file is kept.
pub const LIMIT: u64 = 10 * 1024 * 1024;

/// An append-only file with one predecessor, `<name>.1`.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the file at its end, or creates it.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written, limit })
    }

    /// Appends, after putting the file aside where it would grow beyond its bound.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.written > 0 && self.written.saturating_add(length) > self.limit {
            self.rotate()?;
        }
        self.file.write_all(bytes)?;
        self.written = self.written.saturating_add(length);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut previous = self.path.clone().into_os_string();
        previous.push(".1");
        fs::rename(&self.path, previous)?;
        *self = Self::open(&self.path, self.limit)?;
        Ok(())
    }
}

/// Carries what a child says into its log until the child closes its end. A full disk costs log
/// lines and never stops the child.
pub async fn carry(mut from: impl AsyncRead + Unpin, mut log: LogFile) {
    let mut buffer = vec![0; 8 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let written = tokio::task::spawn_blocking(move || {
            let _lost_where_the_disk_is_full = log.append(buffer.get(..length).unwrap_or_default());
            (log, buffer)
        });
        match written.await {
            Ok(parts) => (log, buffer) = parts,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_bound_and_one_older_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = LogFile::open(&path, 10).unwrap();
        for line in ["one two\n", "three\n", "four\n", "a line longer than the bound\n", "five\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\n");
        assert_eq!(
            fs::read_to_string(folder.path().join("x.log.1")).unwrap(),
            "a line longer than the bound\n"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_existing_log_is_continued_and_its_length_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        fs::write(&path, "12345678").unwrap();
        LogFile::open(&path, 10).unwrap().append(b"abc").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc");
    }

    #[tokio::test]
    async fn everything_a_child_says_arrives_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let said = "all of it\n".repeat(5_000);
        carry(said.as_bytes(), LogFile::open(&path, LIMIT).unwrap()).await;
        assert_eq!(fs::read_to_string(&path).unwrap(), said);
    }
}
