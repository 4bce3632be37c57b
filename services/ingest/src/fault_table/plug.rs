//! A disk whose plug can be pulled.
//!
//! Files are real. Beside them it is noted how much of each is durable, so that a power cut can take
//! away exactly what was never synced, and operations can be made to fail before, in the middle of, or
//! after their work.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use obscura_direct_file::{Batch, DirectReader};

use crate::spool::{
    Appending, Disk, FileSystem,
    record::{self, Found, Kind},
};

/// What is asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new log file.
    Create,
    /// Bytes that contain a record of this kind.
    Append(Kind),
    /// A commit.
    Sync,
    /// A freed file goes.
    Remove,
    /// Bytes that were committed are read back.
    Read,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The process ends just before it.
    EndsBefore,
    /// The process ends when half of it is done.
    EndsHalfway,
    /// The process ends just after it.
    EndsAfter,
    /// There is no room; half of it may have been done.
    Full,
    /// The disk does not give the bytes back, this time.
    Unreadable,
}

/// What a power cut does to bytes that were never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// They are all there: the process was killed, the machine runs on.
    Stay,
    /// None of them is there.
    Vanish,
    /// Half of them are there, and their last byte is another.
    Rot,
}

/// The disk, as long as one process runs on it.
#[derive(Clone, Debug, Default)]
pub struct Plug(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    pulled: bool,
    stands_still: bool,
    /// Bytes that were appended since the last sync, and the most that there were.
    unsynced: usize,
    most_unsynced: usize,
    durable: BTreeMap<PathBuf, u64>,
    troubles: VecDeque<(Op, Trouble)>,
    met: usize,
    /// Bytes of files that are never given back.
    bad: Vec<(PathBuf, Range<u64>)>,
    /// Bytes that all files may have; `None` for what the real disk takes.
    capacity: Option<u64>,
}

impl Plug {
    /// The same disk with the plug in again.
    pub fn back_in(&self) -> Self {
        let state = self.lock();
        let (durable, capacity, bad) = (state.durable.clone(), state.capacity, state.bad.clone());
        Self(Arc::new(Mutex::new(State { durable, capacity, bad, ..State::default() })))
    }

    /// Nothing has any effect from here on.
    pub fn pull(&self) {
        self.lock().pulled = true;
    }

    pub fn is_pulled(&self) -> bool {
        self.lock().pulled
    }

    /// Each is met once, in this order.
    pub fn arm(&self, op: Op, trouble: Trouble) {
        self.lock().troubles.push_back((op, trouble));
    }

    /// Troubles met so far.
    pub fn met(&self) -> usize {
        self.lock().met
    }

    /// These bytes of a file are never given back again.
    pub fn spoil(&self, path: &Path, bytes: Range<u64>) {
        self.lock().bad.push((path.to_owned(), bytes));
    }

    /// Nothing that is written comes to an end any more, until the disk goes on.
    pub fn stand_still(&self) {
        self.lock().stands_still = true;
    }

    pub fn go_on(&self) {
        self.lock().stands_still = false;
    }

    /// Everything is given back again.
    pub fn heal(&self) {
        self.lock().bad.clear();
    }

    /// All files together may have so many bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// What the disk looks like when it is read again.
    pub fn settle(&self, dir: &Path, unsynced: Unsynced) {
        let state = self.lock();
        for item in std::fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if unsynced == Unsynced::Stay || path.extension().is_none() {
                continue;
            }
            match state.durable.get(&path) {
                None => std::fs::remove_file(&path).unwrap(),
                Some(durable) => cut(&path, *durable, unsynced),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What happens to this operation.
    fn meet(&self, is: impl Fn(Op) -> bool) -> io::Result<Option<Trouble>> {
        let mut state = self.lock();
        if state.pulled {
            return Err(gone());
        }
        let Some((_, trouble)) = state.troubles.pop_front_if(|(op, _)| is(*op)) else { return Ok(None) };
        state.met += 1;
        if trouble == Trouble::EndsBefore {
            state.pulled = true;
            return Err(gone());
        }
        Ok(Some(trouble))
    }

    /// The rest of an operation whose work was done.
    fn after(&self, trouble: Option<Trouble>) -> io::Result<()> {
        match trouble {
            Some(Trouble::EndsAfter | Trouble::EndsHalfway) => {
                self.pull();
                Err(gone())
            }
            _ => Ok(()),
        }
    }

    /// The most bytes that were appended and not synced.
    pub fn most_unsynced(&self) -> usize {
        self.lock().most_unsynced
    }

    fn note_unsynced(&self, bytes: usize) {
        let mut state = self.lock();
        state.unsynced += bytes;
        state.most_unsynced = state.most_unsynced.max(state.unsynced);
    }

    fn wait_until_it_goes_on(&self) {
        while self.lock().stands_still {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_bad(&self, path: &Path, bytes: &Range<u64>) -> bool {
        let touches = |bad: &Range<u64>| bad.start < bytes.end && bytes.start < bad.end;
        self.lock().bad.iter().any(|(file, bad)| file == path && touches(bad))
    }

    fn room(&self, dir: &Path) -> u64 {
        let capacity = self.lock().capacity;
        // The uploader removes files while the writer looks.
        let bytes = |item: io::Result<std::fs::DirEntry>| item.ok()?.metadata().ok().map(|found| found.len());
        let used = || std::fs::read_dir(dir).unwrap().filter_map(bytes).sum();
        capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used()))
    }
}

impl Disk for Plug {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appending>> {
        let trouble = self.meet(|op| op == Op::Create)?;
        if trouble == Some(Trouble::Full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = FileSystem.create(path)?;
        self.lock().durable.insert(path.to_owned(), 0);
        self.after(trouble)?;
        Ok(Box::new(Plugged { plug: self.clone(), path: path.to_owned(), file }))
    }

    fn keep(&self, path: &Path, length: u64) -> io::Result<()> {
        self.meet(|_| false)?;
        FileSystem.keep(path, length)?;
        self.lock().durable.insert(path.to_owned(), length);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let trouble = self.meet(|op| op == Op::Remove)?;
        FileSystem.remove(path)?;
        self.lock().durable.remove(path);
        self.after(trouble)
    }

    fn set_aside(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.meet(|_| false)?;
        let there = std::fs::metadata(path).map_or(0, |found| found.len());
        if self.room(path.parent().unwrap()) < bytes.saturating_sub(there) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        FileSystem.set_aside(path, bytes)
    }

    fn read(&self, path: &Path, file: &DirectReader, into: &mut [u8], offset: u64) -> io::Result<()> {
        let trouble = self.meet(|op| op == Op::Read)?;
        let bytes = offset..offset + into.len() as u64;
        if trouble == Some(Trouble::Unreadable) || self.is_bad(path, &bytes) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        FileSystem.read(path, file, into, offset)?;
        self.after(trouble)
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        Ok(self.room(dir).min(FileSystem.available(dir)?))
    }
}

struct Plugged {
    plug: Plug,
    path: PathBuf,
    file: Box<dyn Appending>,
}

impl Appending for Plugged {
    fn append(&mut self, batch: &mut Batch) -> io::Result<()> {
        self.plug.wait_until_it_goes_on();
        let bytes = batch.bytes();
        let trouble = self.plug.meet(|op| matches!(op, Op::Append(kind) if holds(bytes, kind)))?;
        let room = usize::try_from(self.plug.room(self.path.parent().unwrap())).unwrap_or(usize::MAX);
        let full = trouble == Some(Trouble::Full) || room < bytes.len();
        let part = match trouble {
            Some(Trouble::EndsHalfway | Trouble::Full) => bytes.len() / 2,
            _ => room.min(bytes.len()),
        };
        if part == bytes.len() {
            self.file.append(batch)?;
        } else {
            self.file.append(&mut first(batch, part))?;
        }
        self.plug.note_unsynced(part);
        self.plug.after(trouble)?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.plug.wait_until_it_goes_on();
        let trouble = self.plug.meet(|op| op == Op::Sync)?;
        if trouble == Some(Trouble::Full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.sync()?;
        if trouble != Some(Trouble::EndsHalfway) {
            let length = std::fs::metadata(&self.path)?.len();
            let mut state = self.plug.lock();
            state.durable.insert(self.path.clone(), length);
            state.unsynced = 0;
        }
        self.plug.after(trouble)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.plug.meet(|_| false)?;
        self.file.cut(length)
    }

    fn reader(&self) -> io::Result<DirectReader> {
        self.file.reader()
    }
}

fn first(batch: &Batch, part: usize) -> Batch {
    let mut first = Batch::with_capacity(part);
    assert!(first.push(&batch.bytes()[..part]));
    first
}

/// Whether a record of this kind is among these.
fn holds(bytes: &[u8], kind: Kind) -> bool {
    let mut at = 0;
    while let Found::Record(record, length) = record::read(&bytes[at..]) {
        if record.kind == kind {
            return true;
        }
        at += length;
    }
    false
}

fn cut(path: &Path, durable: u64, unsynced: Unsynced) {
    let mut bytes = std::fs::read(path).unwrap();
    let durable = usize::try_from(durable).unwrap();
    let keep = if unsynced == Unsynced::Vanish { durable } else { durable + (bytes.len() - durable) / 2 };
    bytes.truncate(keep);
    if let Some(last) = bytes[durable..].last_mut() {
        *last ^= 0x40;
    }
    std::fs::write(path, bytes).unwrap();
}

fn gone() -> io::Error {
    io::Error::other("the plug was pulled")
}
