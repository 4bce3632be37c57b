//! The spool: an append log of sealed bytes between the cameras and everything behind them.
//!
//! Everything that ingest acknowledges is in here first, and leaves only when the object, its
//! index row and its key row are durable elsewhere. Writes from all cameras are gathered and
//! committed together (`fdatasync`) every [`COMMIT_EVERY`]: a commit is the acknowledgement.
//!
//! | step | a crash there leaves | repaired by |
//! |---|---|---|
//! | append to the buffer | nothing | the camera's gap until the next start |
//! | write to the file | whole records, perhaps a torn last one | [`recovery`]: cut at the first bad record |
//! | commit | acknowledged records | nothing to repair |
//! | `Pack` record | a pack that may or may not be uploaded | the same pack is formed and sent again |
//! | `Done` record | uploaded segments that are still here | sent again under the same pack id, a no-op |
//! | removal of a file | a file whose records are all done | removed at the next start |

mod file;
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
    file::LogFile,
    record::Record,
    writer::{Buffer, Shared},
};

/// How often what was appended becomes durable.
pub const COMMIT_EVERY: Duration = Duration::from_millis(400);
/// A log file is closed when it is larger than this.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Appends are refused while more than this waits for the disk.
const MAX_BUFFERED_BYTES: usize = 32 * 1024 * 1024;

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

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is slower than the cameras.
    #[error("the disk does not keep up: {0} bytes wait to be written")]
    Slow(usize),
    /// The bound is reached.
    #[error("the spool is full: {used} of {limit} bytes; free it by bringing storage and keys back")]
    Full {
        /// Bytes in the spool.
        used: u64,
        /// The bound.
        limit: u64,
    },
    /// One record is longer than recovery would read.
    #[error("a record of {0} bytes is longer than the spool takes")]
    TooLong(usize),
    /// The writer met an error and stopped.
    #[error("the spool cannot be written: {0}")]
    Failed(String),
    /// A file of the spool cannot be used.
    #[error("spool file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// How large the spool may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes on disk.
    pub bytes: u64,
}

/// The spool.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    files: Mutex<Files>,
    limits: Limits,
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
        std::fs::create_dir_all(&dir).map_err(|source| Error::Io { path: dir.clone(), source })?;
        let (by_start, recovered) = recovery::read(&dir)?;
        let needed = recovered.needed();
        let end = recovered.end;
        let (commit, committed) = watch::channel(end);
        let shared = Arc::new(Shared::new(Buffer::starting_at(end), recovered.next_serial));
        let spool = Arc::new(Self {
            shared: Arc::clone(&shared),
            files: Mutex::new(Files { by_start, needed }),
            limits,
            committed,
            writer: Mutex::new(None),
        });
        let thread = writer::spawn(dir, shared, Arc::downgrade(&spool), commit, clock)?;
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
    /// [`Error::Slow`], [`Error::Full`] or [`Error::Failed`]; nothing was appended then.
    pub fn append(&self, records: &[Record<'_>]) -> Result<(Vec<Extent>, Position), Error> {
        let used = self.used_bytes();
        if used > self.limits.bytes && records.iter().any(Record::takes_space) {
            return Err(Error::Full { used, limit: self.limits.bytes });
        }
        if let Some(record) = records.iter().find(|record| record.payload.len() > record::MAX_PAYLOAD_BYTES) {
            return Err(Error::TooLong(record.payload.len()));
        }
        // What finishes or frees something may use a reserve: refusing it would only keep more waiting.
        let finishing = records.iter().any(Record::finishes);
        self.shared.append(records, if finishing { 2 * MAX_BUFFERED_BYTES } else { MAX_BUFFERED_BYTES })
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

    /// Reads bytes that are committed. Blocking.
    ///
    /// # Errors
    /// [`Error::Io`] where the bytes cannot be read.
    pub fn read(&self, extent: Extent, into: &mut Vec<u8>) -> Result<(), Error> {
        let found = self
            .files()
            .by_start
            .range(..=extent.start)
            .next_back()
            .map(|(at, file)| (*at, Arc::clone(file)));
        let (start, file) =
            found.ok_or_else(|| Error::Failed(format!("no spool file holds position {}", extent.start.0)))?;
        file.read(extent.start.0 - start.0, extent.length, into)
    }

    /// Notes that `serial` is needed from its record at `extent` on.
    pub fn hold(&self, serial: Serial, extent: Extent) {
        self.files().needed.entry(serial).or_insert(extent.start);
    }

    /// Notes that nothing of `serials` is needed any more, and removes files that hold nothing else.
    /// Files go oldest first, so that a `Done` record never disappears before what it is about.
    pub fn release(&self, serials: &[Serial]) {
        let mut files = self.files();
        for serial in serials {
            files.needed.remove(serial);
        }
        let needed_from = files.needed.values().min().copied().unwrap_or_else(|| self.shared.end());
        while let Some(second) = files.by_start.keys().nth(1).copied() {
            if second > needed_from {
                break;
            }
            let Some((_, oldest)) = files.by_start.pop_first() else { break };
            if let Err(error) = oldest.remove() {
                tracing::warn!(%error, "a freed spool file could not be removed; the next start tries again");
            }
        }
    }

    /// Bytes on disk and on their way to it.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.end().0.saturating_sub(self.files().by_start.keys().next().map_or(0, |start| start.0))
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
