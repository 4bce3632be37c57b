//! The spool: an append log of sealed bytes between the cameras and everything behind them.
//!
//! Everything that ingest acknowledges is in here first, and leaves only when the object, its
//! index row and its key row are durable elsewhere. Writes from all cameras are gathered and
//! committed together (`fdatasync`) every [`COMMIT_EVERY`]: a commit is the acknowledgement.
//!
//! | step | a crash there leaves | repaired by |
//! |---|---|---|
//! | append to the buffer | nothing | the camera's gap until the next start |
//! | write to the file | whole records, perhaps a torn last one | [`recovery`]: cut behind the last whole record |
//! | write to a full disk | as before the write; footage is refused | [`writer`]: written again when there is room |
//! | commit | acknowledged records | nothing to repair |
//! | `Pack` record | a pack that may or may not be uploaded | the same pack is formed and sent again |
//! | `Done` record | uploaded segments that are still here | sent again under the same pack id, a no-op |
//! | removal of a file | a file whose records are all done | removed at the next start |
//!
//! Each row is tried out in `fault_table`.

mod buffer;
mod damage;
mod disk;
mod error;
mod file;
mod reading;
pub mod record;
pub mod recovery;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obscura_clock::SharedClock;
use tokio::sync::watch;

use self::{
    buffer::{Buffer, Shared},
    file::LogFile,
    record::Record,
    writer::{MOST_UNCOMMITTED_BYTES, Writer},
};

#[cfg(test)]
pub use self::disk::Appending;
pub use self::{
    damage::Damage,
    disk::{Disk, FileSystem, is_damage},
    error::Error,
    reading::Lent,
};

/// How often what was appended becomes durable.
pub const COMMIT_EVERY: Duration = Duration::from_millis(400);
/// A log file is closed when it is larger than this,
const MOST_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// or than this in a small spool, since files are freed whole.
const LEAST_FILE_BYTES: u64 = 1024 * 1024;
/// A full spool has at least so many files.
const FILES: u64 = 64;
/// As many bytes may wait for the disk as come in most of a second from 400 cameras at 3 Mbit/s, since disks take
/// that long now and then.
const MOST_WAITING_BYTES: usize = 128 * 1024 * 1024;

/// A position in the log: bytes ever appended before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Bytes of one record's payload in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where the bytes start.
    pub start: Position,
    /// How many there are.
    pub length: u32,
}

/// Names what a record belongs to: a segment, a key, a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(pub u64);

/// How large the spool may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes of the disk that are set aside, so that what ends and frees things can be written even
    /// when somebody else has filled the disk.
    pub reserve_bytes: u64,
    /// Bytes that may wait for the disk in memory, beside those that are being written; appends are refused while
    /// there are more.
    pub waiting_bytes: usize,
}

impl Limits {
    /// So many bytes on disk and so many set aside.
    pub const fn new(bytes: u64, reserve_bytes: u64) -> Self {
        Self { bytes, reserve_bytes, waiting_bytes: MOST_WAITING_BYTES }
    }

    /// Bounded, and without a reserve.
    #[cfg(test)]
    pub const fn of_bytes(bytes: u64) -> Self {
        Self::new(bytes, 0)
    }

    fn file_bytes(self) -> u64 {
        (self.bytes / FILES).clamp(LEAST_FILE_BYTES, MOST_FILE_BYTES)
    }
}

/// The spool.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    files: Mutex<Files>,
    /// Held while files are removed, one after the other and oldest first.
    removing: Mutex<()>,
    disk: Arc<dyn Disk>,
    limits: Limits,
    damage: Damage,
    committed: watch::Receiver<Position>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Which log files exist, and from where on they are needed.
#[derive(Debug, Default)]
struct Files {
    by_start: BTreeMap<Position, Arc<LogFile>>,
    /// First record of everything that is still needed.
    needed: HashMap<Serial, Position>,
}

impl Files {
    fn needed_from(&self) -> Option<Position> {
        self.needed.values().min().copied()
    }
}

impl Spool {
    /// Opens the spool in `dir` and says what an earlier run left there.
    ///
    /// # Errors
    /// [`Error::Io`] where the directory cannot be read or written.
    pub fn open(
        dir: PathBuf,
        limits: Limits,
        clock: SharedClock,
    ) -> Result<(Arc<Self>, recovery::Recovered), Error> {
        Self::open_on(Arc::new(FileSystem), dir, limits, clock)
    }

    /// Opens the spool in `dir` of this file system.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        limits: Limits,
        clock: SharedClock,
    ) -> Result<(Arc<Self>, recovery::Recovered), Error> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Io { path: dir.clone(), source })?;
        let (by_start, recovered) = recovery::read(&*disk, &dir)?;
        let needed = recovered.needed();
        let end = recovered.end;
        let (commit, committed) = watch::channel(end);
        let shared =
            Arc::new(Shared::new(Buffer::starting_at(end, MOST_UNCOMMITTED_BYTES), recovered.next_serial));
        let spool = Arc::new(Self {
            shared: Arc::clone(&shared),
            files: Mutex::new(Files { by_start, needed }),
            removing: Mutex::default(),
            disk: Arc::clone(&disk),
            limits,
            damage: Damage::default(),
            committed,
            writer: Mutex::new(None),
        });
        // What an earlier run could not remove any more.
        spool.release(&[]);
        let thread = Writer::new(dir, disk, limits, shared, clock).spawn(Arc::downgrade(&spool), commit)?;
        *spool.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok((spool, recovered))
    }

    /// A serial that no record has yet.
    pub fn next_serial(&self) -> Serial {
        self.shared.next_serial()
    }

    /// Appends records together: either all of them are in the log after a crash, or a prefix.
    /// Returns where each payload lies, and the position that must be committed for all of them.
    ///
    /// # Errors
    /// [`Error::Slow`], [`Error::Full`], [`Error::NoRoom`] or [`Error::Failed`]; nothing was appended then.
    pub fn append(&self, records: &[Record<'_>]) -> Result<(Vec<Extent>, Position), Error> {
        let used = self.used_bytes();
        if used > self.limits.bytes && records.iter().any(Record::takes_space) {
            return Err(Error::Full { used, limit: self.limits.bytes });
        }
        self.append_again(records)
    }

    /// As [`Spool::append`], for copies of what is in the spool already: the bound does not hold for
    /// them, since their old place is freed for them.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn append_again(&self, records: &[Record<'_>]) -> Result<(Vec<Extent>, Position), Error> {
        if let Some(record) = records.iter().find(|record| record.payload.len() > record::MAX_PAYLOAD_BYTES) {
            return Err(Error::TooLong(record.payload.len()));
        }
        // What finishes or frees something may use a reserve: refusing it would only keep more waiting.
        let finishing = records.iter().any(Record::finishes);
        if !finishing && self.shared.is_full() {
            return Err(Error::NoRoom);
        }
        let limit = self.limits.waiting_bytes;
        self.shared.append(records, if finishing { 2 * limit } else { limit })
    }

    /// Whether the disk is so slow that footage is refused for the moment.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.shared.is_slow(self.limits.waiting_bytes)
    }

    /// Commits what was appended now instead of at the next turn.
    pub fn commit_soon(&self) {
        self.shared.hurry();
    }

    /// Everything before this position is durable.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<Position> {
        self.committed.clone()
    }

    /// Waits until everything before `position` is durable.
    ///
    /// # Errors
    /// [`Error::Failed`] where the writer stopped before that.
    #[cfg(test)]
    pub async fn wait_committed(&self, position: Position) -> Result<(), Error> {
        let mut committed = self.committed();
        let reached = committed.wait_for(|at| *at >= position).await;
        reached.map(drop).map_err(|_| Error::Failed("the writer stopped".into()))
    }

    /// What of the spool could not be read back.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Notes that `serial` is needed from its record at `extent` on.
    pub fn hold(&self, serial: Serial, extent: Extent) {
        self.files().needed.entry(serial).or_insert(extent.start);
    }

    /// Notes that nothing of `serials` is needed any more, and removes files that hold nothing else.
    /// Files go oldest first and each for good before the next, so that a `Done` record never
    /// disappears before what it is about, whatever happens to the power.
    pub fn release(&self, serials: &[Serial]) {
        let _removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unneeded = self.take_unneeded(serials).into_iter();
        for (start, file) in unneeded.by_ref() {
            if let Err(error) = self.disk.remove(file.path()) {
                tracing::warn!(%error, "a freed spool file could not be removed; it is tried again");
                self.files().by_start.insert(start, file);
                break;
            }
        }
        self.files().by_start.extend(unneeded);
    }

    /// Files before the first that is still needed, or that will be written next.
    fn take_unneeded(&self, serials: &[Serial]) -> Vec<(Position, Arc<LogFile>)> {
        let mut files = self.files();
        for serial in serials {
            files.needed.remove(serial);
        }
        let needed_from = files.needed_from().unwrap_or_else(|| self.shared.end());
        let mut unneeded = Vec::new();
        while files.by_start.keys().nth(1).is_some_and(|second| *second <= needed_from) {
            unneeded.extend(files.by_start.pop_first());
        }
        unneeded
    }

    /// Bytes on disk and on their way to it.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.end().0.saturating_sub(self.files().by_start.keys().next().map_or(0, |start| start.0))
    }

    /// Whose record is the oldest that is still needed.
    #[must_use]
    pub fn oldest_needed(&self) -> Option<Serial> {
        self.files().needed.iter().min_by_key(|(_, at)| **at).map(|(serial, _)| *serial)
    }

    /// Bytes from the oldest record that is still needed to the end: what the spool would take if it
    /// were not freed in whole files.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        let end = self.shared.end();
        end.0.saturating_sub(self.files().needed_from().unwrap_or(end).0)
    }

    /// Bytes that were ever appended.
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.shared.end().0
    }

    /// Bytes that the spool can come to have: its bound, or what the disk has room for.
    #[must_use]
    pub fn reachable_bytes(&self) -> u64 {
        self.limits.bytes.min(self.used_bytes().saturating_add(self.shared.available()))
    }

    /// Whether the disk is full although the bound may not be reached.
    #[must_use]
    pub fn disk_is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// Whether so much waits for the disk that nothing but recording should use it.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.shared.is_behind()
    }

    /// The bound in bytes.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limits.bytes
    }

    /// Commits what was appended and stops the writer. Blocking.
    pub fn close(&self) {
        self.shared.stop();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A writer that panicked has nothing left to commit; the next start repairs the log.
            let _ = thread.join();
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
