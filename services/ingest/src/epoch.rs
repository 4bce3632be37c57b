//! The writer epoch: grows with every start, so that what two recorders wrote can be told apart.

use std::{io, path::Path};

use obscura_ids::WriterEpoch;

/// The epoch of this start; durable before it is returned.
///
/// # Errors
/// Where the file cannot be read or written, or holds no number.
pub fn next(path: &Path) -> io::Result<WriterEpoch> {
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
    obscura_daemon::write_atomically(path, epoch.0.to_string().as_bytes(), 0o600)?;
    Ok(epoch)
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
}
