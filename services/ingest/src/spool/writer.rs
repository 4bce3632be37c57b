//! The thread that writes and commits. It writes rarely and much: handing every small write to
//! the disk costs more than sealing it.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use obscura_clock::{Clock, Monotonic, SharedClock};
use tokio::sync::watch;

use super::{
    COMMIT_EVERY, Error, Extent, FILE_BYTES, Position, Serial, Spool,
    file::{self, LogFile},
    record::{HEADER_BYTES, Kind, Record},
};

/// The writer is woken before its time when so much waits.
const WRITE_BYTES: usize = 1024 * 1024;

/// Bytes on their way to the disk.
#[derive(Debug)]
pub struct Buffer {
    start: Position,
    bytes: Vec<u8>,
    stopping: bool,
    failed: Option<String>,
}

impl Buffer {
    /// An empty buffer whose first byte will have this position.
    pub fn starting_at(start: Position) -> Self {
        Self { start, bytes: Vec::new(), stopping: false, failed: None }
    }

    fn end(&self) -> Position {
        Position(self.start.0 + self.bytes.len() as u64)
    }
}

/// What cameras and the writer share.
#[derive(Debug)]
pub struct Shared {
    buffer: Mutex<Buffer>,
    wake: Condvar,
    serial: AtomicU64,
    end: AtomicU64,
}

impl Shared {
    /// Shared state over an empty buffer.
    pub fn new(buffer: Buffer, next_serial: u64) -> Self {
        let end = AtomicU64::new(buffer.start.0);
        Self { buffer: Mutex::new(buffer), wake: Condvar::new(), serial: AtomicU64::new(next_serial), end }
    }

    /// A serial that no record has yet.
    pub fn next_serial(&self) -> Serial {
        Serial(self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// End of the log, buffered bytes included.
    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Relaxed))
    }

    /// Appends all records or none.
    pub fn append(&self, records: &[Record<'_>], limit: usize) -> Result<(Vec<Extent>, Position), Error> {
        let mut buffer = self.lock();
        if let Some(cause) = &buffer.failed {
            return Err(Error::Failed(cause.clone()));
        }
        if buffer.bytes.len() > limit {
            return Err(Error::Slow(buffer.bytes.len()));
        }
        let mut extents = Vec::with_capacity(records.len());
        for record in records {
            let start = Position(buffer.end().0 + HEADER_BYTES as u64);
            let length = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
            record.encode(&mut buffer.bytes);
            extents.push(Extent { start, length });
        }
        let end = buffer.end();
        self.end.store(end.0, Ordering::Relaxed);
        if buffer.bytes.len() >= WRITE_BYTES {
            self.wake.notify_one();
        }
        Ok((extents, end))
    }

    /// Lets the writer finish.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    fn fail(&self, cause: String) {
        self.lock().failed = Some(cause);
    }

    /// Waits for much to write or for the time to commit; then hands over everything buffered,
    /// closed by a note that the recorder was alive.
    fn take(&self, spare: Vec<u8>, wait: Duration, clock: &dyn Clock) -> (Vec<u8>, Position, bool) {
        let buffer = self.lock();
        let (mut buffer, _) = self
            .wake
            .wait_timeout_while(buffer, wait, |buffer| buffer.bytes.len() < WRITE_BYTES && !buffer.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        if !buffer.bytes.is_empty() {
            let now = clock.wall().unix_nanos().to_be_bytes();
            Record { kind: Kind::Alive, serial: Serial(0), payload: &now }.encode(&mut buffer.bytes);
            self.end.store(buffer.end().0, Ordering::Relaxed);
        }
        let bytes = std::mem::replace(&mut buffer.bytes, spare);
        let start = buffer.start;
        buffer.start = Position(start.0 + bytes.len() as u64);
        (bytes, start, buffer.stopping)
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    dir: PathBuf,
    shared: Arc<Shared>,
    spool: Weak<Spool>,
    clock: SharedClock,
    file: Option<(File, u64)>,
    last_commit: Monotonic,
}

/// Starts the thread.
pub fn spawn(
    dir: PathBuf,
    shared: Arc<Shared>,
    spool: Weak<Spool>,
    commit: watch::Sender<Position>,
    clock: SharedClock,
) -> Result<JoinHandle<()>, Error> {
    let path = dir.clone();
    let last_commit = clock.monotonic();
    let mut writer = Writer { dir, shared, spool, clock, file: None, last_commit };
    std::thread::Builder::new()
        .name("spool".into())
        .spawn(move || {
            if let Err(error) = writer.run(&commit) {
                tracing::error!(%error, "the spool stopped; cameras record gaps until ingest is restarted");
                writer.shared.fail(error.to_string());
            }
        })
        .map_err(|source| Error::Io { path, source })
}

impl Writer {
    fn run(&mut self, commit: &watch::Sender<Position>) -> Result<(), Error> {
        let mut spare = Vec::new();
        loop {
            let wait = COMMIT_EVERY.saturating_sub(self.clock.monotonic().since(self.last_commit));
            let (mut bytes, start, stopping) = self.shared.take(spare, wait, &*self.clock);
            let end = Position(start.0 + bytes.len() as u64);
            self.write(&bytes, start)?;
            let due = self.clock.monotonic().since(self.last_commit) >= COMMIT_EVERY;
            if due || stopping {
                self.commit(commit, end)?;
            }
            if stopping {
                return Ok(());
            }
            bytes.clear();
            bytes.shrink_to(4 * WRITE_BYTES);
            spare = bytes;
        }
    }

    fn write(&mut self, bytes: &[u8], start: Position) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.file.as_ref().is_none_or(|(_, written)| *written >= FILE_BYTES) {
            self.rotate(start)?;
        }
        let Some((file, written)) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|source| Error::Io { path: self.dir.clone(), source })?;
        *written += bytes.len() as u64;
        Ok(())
    }

    /// Closes the file and starts the next one, durable in its directory before anything is in it.
    fn rotate(&mut self, start: Position) -> Result<(), Error> {
        let path = file::path(&self.dir, start);
        let io = |source| Error::Io { path: path.clone(), source };
        if let Some((old, _)) = self.file.take() {
            old.sync_data().map_err(io)?;
        }
        let file = OpenOptions::new().create_new(true).append(true).read(true).open(&path).map_err(io)?;
        sync_dir(&self.dir).map_err(io)?;
        if let Some(spool) = self.spool.upgrade() {
            let reader = file.try_clone().map_err(io)?;
            spool.files().by_start.insert(start, Arc::new(LogFile::new(path.clone(), reader)));
        }
        self.file = Some((file, 0));
        Ok(())
    }

    fn commit(&mut self, commit: &watch::Sender<Position>, end: Position) -> Result<(), Error> {
        self.last_commit = self.clock.monotonic();
        if *commit.borrow() < end {
            if let Some((file, _)) = &self.file {
                file.sync_data().map_err(|source| Error::Io { path: self.dir.clone(), source })?;
            }
            commit.send_replace(end);
        }
        Ok(())
    }
}

/// Makes names in a directory durable.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
