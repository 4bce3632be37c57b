//! The writer epoch: which recorder wrote a segment, and at which of its starts.
//!
//! The upper half is drawn at random once per data directory, so that two recorders of one camera never
//! write under the same epoch; the lower half counts the starts. Within one directory epochs grow.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use obscura_ids::WriterEpoch;

use crate::spool::is_damage;

const START_BITS: u32 = WriterEpoch::START_BITS;
/// Epochs stay below this: databases keep them as signed numbers.
const BOUND: u64 = 1 << 63;

/// What a start has.
#[derive(Debug)]
pub struct Start {
    /// Its epoch.
    pub epoch: WriterEpoch,
    /// Where the file was put that held no epoch, or that the disk did not read; a new writer id was drawn then.
    pub damaged: Option<PathBuf>,
}

/// The epoch of this start; durable before it is returned. A damaged file is moved aside and a new writer id
/// drawn: no other recorder has it, so that nothing is ever written under an epoch twice.
///
/// # Errors
/// Where the file may not be read or cannot be written.
pub fn next(path: &Path) -> io::Result<Start> {
    next_by(path, |path, bytes| obscura_daemon::write_atomically(path, bytes, 0o600))
}

/// What the file says.
enum Last {
    /// There was no start before.
    None,
    /// The epoch of the last start.
    Known(u64),
    /// It says nothing.
    Damaged,
}

/// A recorder has to start on a full disk, or nothing would ever free it: where there is no room for a
/// new file the old one is written over. It always has the same length, within one sector.
fn next_by(path: &Path, replace: impl Fn(&Path, &[u8]) -> io::Result<()>) -> io::Result<Start> {
    let last = last(path)?;
    let epoch = WriterEpoch(after(if let Last::Known(last) = last { last } else { 0 })?);
    let text = format!("{:020}\n", epoch.0);
    let aside = aside(path);
    let damaged = matches!(last, Last::Damaged);
    if damaged {
        std::fs::rename(path, &aside)?;
    }
    match replace(path, text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull && !matches!(last, Last::None) => {
            if damaged {
                std::fs::rename(&aside, path)?;
            }
            overwrite(path, &text)?;
        }
        done => done?,
    }
    Ok(Start { epoch, damaged: damaged.then_some(aside) })
}

/// Where a damaged file is kept for whoever looks into it; the newest one only.
fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".damaged");
    name.into()
}

fn last(path: &Path) -> io::Result<Last> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(epoch(&bytes).map_or(Last::Damaged, Last::Known)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Last::None),
        Err(error) if is_damage(&error) => Ok(Last::Damaged),
        Err(error) => Err(error),
    }
}

/// An epoch in a file, where another one can follow.
fn epoch(bytes: &[u8]) -> Option<u64> {
    let last = std::str::from_utf8(bytes).ok()?.trim().parse().ok()?;
    (last < BOUND - 1).then_some(last)
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
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(path: &Path) -> WriterEpoch {
        let start = super::next(path).unwrap();
        assert_eq!(start.damaged, None);
        start.epoch
    }

    #[test]
    fn every_start_has_a_larger_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        let first = next(&path);
        assert_eq!(next(&path), WriterEpoch(first.0 + 1));
        assert!(first.0 < BOUND, "it fits a signed column");
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_another_writer_id_is_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        let mut before = next(&path);
        let damages: [&[u8]; 5] = [b"", b"x", b"9223372036854775807", b"18446744073709551615", &[0xff; 21]];
        for damage in damages {
            std::fs::write(&path, damage).unwrap();
            let start = super::next(&path).unwrap();
            assert_ne!(start.epoch.0 >> START_BITS, before.0 >> START_BITS, "nothing is guessed");
            assert_eq!(std::fs::read(start.damaged.unwrap()).unwrap(), damage);
            before = start.epoch;
            assert_eq!(next(&path), WriterEpoch(before.0 + 1), "it is whole again");
        }
    }

    #[test]
    fn a_damaged_file_does_not_keep_a_recorder_from_starting_on_a_full_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        let full = |_: &Path, _: &[u8]| Err(io::ErrorKind::StorageFull.into());
        std::fs::write(&path, "no epoch, and longer than every epoch is").unwrap();
        let start = next_by(&path, full).unwrap();
        assert!(start.damaged.is_some());
        assert_eq!(next(&path), WriterEpoch(start.epoch.0 + 1));
    }

    #[test]
    fn two_directories_never_give_the_same_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let epochs = (0..16).flat_map(|number| {
            let path = dir.path().join(number.to_string());
            (0..4).map(|_| next(&path).0).collect::<Vec<_>>()
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
        let (first, second) = (next(&path), next(&path));
        assert!(first.0 > 1 << START_BITS && second > first);
        assert_eq!(first.0 & 0xffff_ffff, 42);
    }

    #[test]
    fn a_full_disk_does_not_keep_a_recorder_from_starting_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        let full = |_: &Path, _: &[u8]| Err(io::ErrorKind::StorageFull.into());
        assert!(next_by(&path, full).is_err(), "the first start has nothing to go on from");
        let first = next(&path);
        assert_eq!(next_by(&path, full).unwrap().epoch, WriterEpoch(first.0 + 1));
        assert_eq!(next(&path), WriterEpoch(first.0 + 2));
    }
}
