//! A copy in a folder of the file system.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::{Copied, MAX_BUNDLE_BYTES};

/// Folders in folders that are followed: paths of a log have at most nine.
const MAX_DEPTH: usize = 16;

/// A copy of a log in a folder.
#[derive(Clone, Debug)]
pub struct DirectoryCopy {
    root: PathBuf,
}

impl DirectoryCopy {
    /// The copy in this folder.
    ///
    /// # Errors
    /// Where there is no such folder.
    pub fn open(root: &Path) -> io::Result<Self> {
        if fs::metadata(root)?.is_dir() {
            return Ok(Self { root: root.to_owned() });
        }
        Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a folder", root.display())))
    }

    fn each_below(&self, folder: &Path, depth: usize, found: &mut dyn FnMut(&str)) -> io::Result<()> {
        let mut names: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            // A symbolic link is not followed: it is named, and belongs to no log.
            if entry.file_type()?.is_dir() && depth < MAX_DEPTH {
                self.each_below(&entry.path(), depth + 1, found)?;
            } else {
                let path = entry.path();
                found(&path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy());
            }
        }
        Ok(())
    }
}

impl Copied for DirectoryCopy {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.root.join(path)) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.is_dir() {
            return Ok(None);
        }
        // One byte more than any file of a log may have, so that too long a one is seen as such.
        let mut bytes = Vec::new();
        file.take(MAX_BUNDLE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn each_path(&self, found: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.each_below(&self.root, 0, found)
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
