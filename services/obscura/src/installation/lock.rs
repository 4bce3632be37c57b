//! One supervisor per state directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use crate::problem::{Context as _, Problem, Result};

/// Held while `obscura up` runs. The operating system lets go of it when the process ends, however
/// it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(path: &Path) -> Result<Self> {
        let doing = format!("lock {}", path.display());
        let mut file = open(path).doing(&doing)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held_by_other(path, file)),
            Err(TryLockError::Error(error)) => return Err(error).doing(doing),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).doing(&doing)?;
        Ok(Self { _file: file })
    }

    /// Whether a supervisor holds it now.
    pub fn is_held(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn held_by_other(path: &Path, mut file: File) -> Problem {
    let mut holder = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut holder));
    let who = match (read, holder.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    let folder = path.parent().unwrap_or(path).display().to_string();
    Problem::new(format_args!("`obscura up` runs already on {folder} ({who})"))
        .next("see how it does with `obscura status`, or use another directory with --state")
}

#[cfg(test)]
pub mod samples {
    //! Locks for tests.

    use std::{thread::sleep, time::Duration};

    use super::*;

    /// Lets go of a lock that was held, and waits until it is free. A process that another test is just starting has
    /// the file as well, until it becomes a program.
    pub fn free(lock: Lock, path: &Path) {
        drop(lock);
        for _ in 0..6_000 {
            if !Lock::is_held(path) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("{} is still locked", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_supervisor_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!Lock::is_held(&path));
        let first = Lock::take(&path).unwrap();
        assert!(Lock::is_held(&path));
        let refusal = Lock::take(&path).unwrap_err();
        assert!(refusal.what().contains(&format!("process {}", std::process::id())), "{refusal}");
        samples::free(first, &path);
        Lock::take(&path).unwrap();
    }
}
