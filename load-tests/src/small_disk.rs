//! A small file system of its own, which can be filled.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const FILLER: &str = "filler";
const PIECE: usize = 64 << 10;

/// Memory that looks like a disk of a given size; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many bytes; `None` where nothing may be mounted, which takes root.
    ///
    /// # Errors
    /// Those of making a folder.
    pub fn mount(bytes: u64) -> io::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path());
        Ok(succeeds(&mut mount)?.then_some(Self { folder }))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Somebody else takes all that is left.
    ///
    /// # Errors
    /// All but that it is full.
    pub fn fill(&self) -> io::Result<()> {
        let mut filler = File::create(self.filler())?;
        let piece = [0; PIECE];
        loop {
            match filler.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// They give it back.
    ///
    /// # Errors
    /// Those of removing a file.
    pub fn clear(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join(FILLER)
    }
}

/// Says nothing of why not: whoever asked has words of its own.
fn succeeds(command: &mut Command) -> io::Result<bool> {
    match command.output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_until_it_is_cleared() {
        let Some(disk) = SmallDisk::mount(1 << 20).unwrap() else {
            println!("nothing may be mounted here: not tried");
            return;
        };
        let kept = disk.path().join("kept");
        fs::write(&kept, b"x").unwrap();
        disk.fill().unwrap();
        let refused = fs::write(disk.path().join("more"), [1; PIECE]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        disk.clear().unwrap();
        fs::write(disk.path().join("more"), [1; PIECE]).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"x");
    }
}
