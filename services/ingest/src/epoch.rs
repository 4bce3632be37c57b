//! The writer epoch: which recorder wrote a segment, and at which of its starts.
//!
//! The upper half is drawn at random once per data directory, so that two recorders of one camera never
//! write under the same epoch; the lower half counts the starts. Within one directory epochs grow.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

use obscura_ids::WriterEpoch;

const START_BITS: u32 = WriterEpoch::START_BITS;
/// Epochs stay below this: databases keep them as signed numbers.
const BOUND: u64 = 1 << 63;

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
    let last = last(path)?;
    let epoch = WriterEpoch(after(last)?);
    let text = format!("{:020}\n", epoch.0);
    match replace(path, text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull && last > 0 => overwrite(path, &text)?,
        done => done?,
    }
    Ok(epoch)
}

/// The epoch of the last start; 0 where there was none.
fn last(path: &Path) -> io::Result<u64> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse::<u64>().ok().filter(|last| *last < BOUND - 1).ok_or_else(|| {
            io::Error::other(format!(
                "{} holds no writer epoch; restore it, or remove it: then a new writer id is drawn",
                path.display()
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// A directory that only ever counted gets its writer id now, which makes it grow as well.
fn after(last: u64) -> io::Result<u64> {
    let id = if last >> START_BITS == 0 { writer_id()? << START_BITS } else { 0 };
    Ok(id + last + 1)
}

/// 31 bits of the operating system's randomness, never all zero.
fn writer_id() -> io::Result<u64> {
    loop {
        let mut bytes = [0; 4];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| io::Error::other("the operating system gives no randomness"))?;
        let id = u64::from(u32::from_be_bytes(bytes) >> 1);
        if id > 0 {
            return Ok(id);
        }
    }
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
        let first = next(&path).unwrap();
        assert_eq!(next(&path).unwrap(), WriterEpoch(first.0 + 1));
        assert!(first.0 < BOUND, "it fits a signed column");
        for damage in ["x", "9223372036854775807", "18446744073709551615"] {
            std::fs::write(&path, damage).unwrap();
            assert!(next(&path).is_err());
        }
    }

    #[test]
    fn two_directories_never_give_the_same_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let epochs = (0..16).flat_map(|number| {
            let path = dir.path().join(number.to_string());
            (0..4).map(|_| next(&path).unwrap().0).collect::<Vec<_>>()
        });
        let epochs: std::collections::BTreeSet<u64> = epochs.collect();
        assert_eq!(epochs.len(), 64);
        let writers: std::collections::BTreeSet<u64> = epochs.iter().map(|e| e >> START_BITS).collect();
        assert!(writers.len() == 16 && !writers.contains(&0), "{writers:?}");
    }

    #[test]
    fn a_directory_that_only_counted_so_far_goes_on_with_larger_epochs_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        std::fs::write(&path, "00000000000000000041\n").unwrap();
        let (first, second) = (next(&path).unwrap(), next(&path).unwrap());
        assert!(first.0 > 1 << START_BITS && second > first);
        assert_eq!(first.0 & 0xffff_ffff, 42);
    }

    #[test]
    fn a_full_disk_does_not_keep_a_recorder_from_starting_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        let full = |_: &Path, _: &[u8]| Err(io::ErrorKind::StorageFull.into());
        assert!(next_by(&path, full).is_err(), "the first start has nothing to go on from");
        let first = next(&path).unwrap();
        assert_eq!(next_by(&path, full).unwrap(), WriterEpoch(first.0 + 1));
        assert_eq!(next(&path).unwrap(), WriterEpoch(first.0 + 2));
    }
}
