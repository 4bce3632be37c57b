//! The writer epoch: grows with every start, so that what two recorders wrote can be told apart.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

use obscura_ids::WriterEpoch;

/// The epoch of this start; durable before it is returned.
///
/// # Errors
/// Where the file cannot be read or written, or holds no number.
pub fn next(path: &Path) -> io::Result<WriterEpoch> {
    next_by(path, |path, bytes| obscura_daemon::write_atomically(path, bytes, 0o600))
}

/// A recorder has to start on a full disk, or nothing would ever free it: where there is no room for a
/// new file the old one is written over. It always has the same length, within one sector.
fn next_by(path: &Path, replace: impl Fn(&Path, &[u8]) -> io::Result<()>) -> io::Result<WriterEpoch> {
    let last = match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse::<u64>().map_err(|_| {
            io::Error::other(format!(
                "{} holds no number; restore it or write one that was never used",
                path.display()
            ))
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let epoch = WriterEpoch(last + 1);
    let text = format!("{:020}\n", epoch.0);
    match replace(path, text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull && last > 0 => overwrite(path, &text)?,
        done => done?,
    }
    Ok(epoch)
}

fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_has_a_larger_epoch_and_a_damaged_file_is_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        assert_eq!(next(&path).unwrap(), WriterEpoch(1));
        assert_eq!(next(&path).unwrap(), WriterEpoch(2));
        std::fs::write(&path, "x").unwrap();
        assert!(next(&path).is_err());
    }

    #[test]
    fn a_full_disk_does_not_keep_a_recorder_from_starting_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        let full = |_: &Path, _: &[u8]| Err(io::ErrorKind::StorageFull.into());
        assert!(next_by(&path, full).is_err(), "the first start has nothing to go on from");
        assert_eq!(next(&path).unwrap(), WriterEpoch(1));
        assert_eq!(next_by(&path, full).unwrap(), WriterEpoch(2));
        assert_eq!(next(&path).unwrap(), WriterEpoch(3));
    }
}
