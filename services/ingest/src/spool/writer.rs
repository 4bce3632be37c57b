//! The thread that writes and commits. It writes rarely and much: handing every small write to
//! the disk costs more than sealing it.
//!
//! What is not known to be durable stays in memory. A disk that is full therefore costs nothing that
//! was appended: the file is cut back to what is durable, the room that was set aside is given up,
//! footage is refused, and the same bytes are written again until they fit. When the room can be set
//! aside once more, footage is taken again. Any other error of the disk ends the writer.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use obscura_clock::{Clock, Monotonic, SharedClock};
use tokio::sync::watch;

use super::{
    COMMIT_EVERY, Error, Extent, Limits, Position, Serial, Spool,
    disk::{Appending, Disk, is_full},
    file::{self, LogFile},
    record::{HEADER_BYTES, Kind, Record},
};

/// The writer is woken before its time when so much waits.
const WRITE_BYTES: usize = 1024 * 1024;
/// The writer commits before its time when so much is in memory only.
const MOST_UNCOMMITTED_BYTES: usize = 16 * 1024 * 1024;
/// Memory for what is written at once: the writer is called at [`WRITE_BYTES`], and the record that
/// reached it must fit as well.
const CHUNK_BYTES: usize = WRITE_BYTES + WRITE_BYTES / 4;
/// Chunks whose memory is kept. Every recorded byte goes through one, and memory that the system has just
/// given costs more than sealing what is put there.
const MOST_SPARES: usize = MOST_UNCOMMITTED_BYTES / WRITE_BYTES + 2;
/// With so much waiting for the disk nothing else should ask it for more.
const BEHIND_BYTES: usize = 4 * WRITE_BYTES;
/// Name of the file that keeps room for the end of things.
const RESERVE: &str = "reserve";

/// Bytes on their way to the disk.
#[derive(Debug)]
pub struct Buffer {
    start: Position,
    bytes: Vec<u8>,
    hurry: bool,
    stopping: bool,
    failed: Option<String>,
}

impl Buffer {
    /// An empty buffer whose first byte will have this position.
    pub fn starting_at(start: Position) -> Self {
        Self { start, bytes: Vec::new(), hurry: false, stopping: false, failed: None }
    }

    fn end(&self) -> Position {
        Position(self.start.0 + self.bytes.len() as u64)
    }

    fn is_called(&self) -> bool {
        self.stopping || self.hurry
    }

    fn turn(&mut self) -> Turn {
        Turn { hurry: std::mem::take(&mut self.hurry), stopping: self.stopping }
    }
}

/// What the writer was called for.
#[derive(Clone, Copy, Debug)]
struct Turn {
    hurry: bool,
    stopping: bool,
}

/// What cameras and the writer share.
#[derive(Debug)]
pub struct Shared {
    buffer: Mutex<Buffer>,
    wake: Condvar,
    serial: AtomicU64,
    end: AtomicU64,
    /// Bytes that the file system has left, as last seen.
    available: AtomicU64,
    /// Set while the disk is full.
    full: AtomicBool,
}

impl Shared {
    /// Shared state over an empty buffer.
    pub fn new(buffer: Buffer, next_serial: u64) -> Self {
        Self {
            end: AtomicU64::new(buffer.start.0),
            buffer: Mutex::new(buffer),
            wake: Condvar::new(),
            serial: AtomicU64::new(next_serial),
            available: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
        }
    }

    /// A serial that no record has yet.
    pub fn next_serial(&self) -> Serial {
        Serial(self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// End of the log, buffered bytes included.
    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Relaxed))
    }

    /// Bytes that the file system has left.
    pub fn available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether the disk is so busy that nothing but recording should use it.
    pub fn is_behind(&self) -> bool {
        self.lock().bytes.len() > BEHIND_BYTES
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

    /// Lets the writer commit at once.
    pub fn hurry(&self) {
        self.lock().hurry = true;
        self.wake.notify_one();
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
    fn take(&self, spare: Vec<u8>, wait: Duration, clock: &dyn Clock) -> (Chunk, Turn) {
        let mut buffer = self.wait(wait, |buffer| buffer.bytes.len() < WRITE_BYTES);
        if !buffer.bytes.is_empty() {
            let now = clock.wall().unix_nanos().to_be_bytes();
            Record { kind: Kind::Alive, serial: Serial(0), payload: &now }.encode(&mut buffer.bytes);
            self.end.store(buffer.end().0, Ordering::Relaxed);
        }
        let bytes = std::mem::replace(&mut buffer.bytes, spare);
        let start = buffer.start;
        buffer.start = Position(start.0 + bytes.len() as u64);
        (Chunk { start, bytes }, buffer.turn())
    }

    /// Waits without taking anything.
    fn pause(&self, wait: Duration) -> Turn {
        self.wait(wait, |_| true).turn()
    }

    fn wait(&self, wait: Duration, still: impl Fn(&Buffer) -> bool) -> MutexGuard<'_, Buffer> {
        let waited =
            self.wake.wait_timeout_while(self.lock(), wait, |buffer| !buffer.is_called() && still(buffer));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that were handed over together.
#[derive(Debug)]
struct Chunk {
    start: Position,
    bytes: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> Position {
        Position(self.start.0 + self.bytes.len() as u64)
    }
}

/// The file that is being written.
struct Open {
    log: Box<dyn Appending>,
    written: u64,
    durable: u64,
}

/// Writes for one spool.
pub struct Writer {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    limits: Limits,
    shared: Arc<Shared>,
    spool: Weak<Spool>,
    clock: SharedClock,
    file: Option<Open>,
    /// Not known to be durable; the first `written` of them are in the file.
    uncommitted: VecDeque<Chunk>,
    written: usize,
    /// Memory of chunks that are durable.
    spares: Vec<Vec<u8>>,
    /// The disk was full at the last try: nothing more is taken on before this is written.
    stuck: bool,
    last_commit: Monotonic,
}

impl Writer {
    /// Sets room aside for the end of things. A disk without that room starts out full.
    pub fn new(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        limits: Limits,
        shared: Arc<Shared>,
        clock: SharedClock,
    ) -> Self {
        let last_commit = clock.monotonic();
        let writer = Self {
            dir,
            disk,
            limits,
            shared,
            spool: Weak::new(),
            clock,
            file: None,
            uncommitted: VecDeque::new(),
            written: 0,
            spares: Vec::new(),
            stuck: false,
            last_commit,
        };
        writer.look_at_disk();
        if let Err(error) = writer.set_reserve_aside() {
            writer.full(&error);
        }
        writer
    }

    /// Starts the thread.
    pub fn spawn(
        mut self,
        spool: Weak<Spool>,
        commit: watch::Sender<Position>,
    ) -> Result<JoinHandle<()>, Error> {
        self.spool = spool;
        let path = self.dir.clone();
        std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || {
                if let Err(error) = self.run(&commit) {
                    tracing::error!(%error, "the spool stopped; cameras record gaps until ingest is restarted");
                    self.shared.fail(error.to_string());
                }
            })
            .map_err(|source| Error::Io { path, source })
    }

    fn run(&mut self, commit: &watch::Sender<Position>) -> Result<(), Error> {
        loop {
            let turn = if self.stuck { self.shared.pause(COMMIT_EVERY) } else { self.take() };
            self.turn(commit, turn.hurry || turn.stopping)?;
            if turn.stopping {
                return Ok(());
            }
        }
    }

    /// One round. A full disk is tried again at once where room could be given up for it.
    fn turn(&mut self, commit: &watch::Sender<Position>, at_once: bool) -> Result<(), Error> {
        loop {
            match self.write_and_commit(commit, at_once) {
                Ok(()) => {
                    self.room_again();
                    return Ok(());
                }
                Err(Error::Io { source, .. }) if is_full(&source) => {
                    self.full(&source);
                    self.take_back()?;
                    self.stuck = !self.give_reserve_up();
                }
                Err(error) => return Err(error),
            }
            if self.stuck {
                return Ok(());
            }
        }
    }

    /// Takes over what waits.
    fn take(&mut self) -> Turn {
        let spare = self.spares.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES));
        let wait = COMMIT_EVERY.saturating_sub(self.clock.monotonic().since(self.last_commit));
        let (chunk, turn) = self.shared.take(spare, wait, &*self.clock);
        if chunk.bytes.is_empty() {
            self.keep(chunk.bytes);
        } else {
            self.uncommitted.push_back(chunk);
        }
        turn
    }

    /// Keeps the memory of a chunk for another one.
    fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spares.len() < MOST_SPARES {
            bytes.clear();
            bytes.shrink_to(CHUNK_BYTES);
            self.spares.push(bytes);
        }
    }

    /// Writes everything and commits it where that is due.
    fn write_and_commit(&mut self, commit: &watch::Sender<Position>, at_once: bool) -> Result<(), Error> {
        while self.written < self.uncommitted.len() {
            self.write_next(commit)?;
        }
        let waiting: usize = self.uncommitted.iter().map(|chunk| chunk.bytes.len()).sum();
        let due = self.clock.monotonic().since(self.last_commit) >= COMMIT_EVERY;
        if due || at_once || self.stuck || waiting >= MOST_UNCOMMITTED_BYTES {
            self.last_commit = self.clock.monotonic();
            self.look_at_disk();
            return self.commit(commit);
        }
        Ok(())
    }

    fn write_next(&mut self, commit: &watch::Sender<Position>) -> Result<(), Error> {
        if self.file.as_ref().is_none_or(|file| file.written >= self.limits.file_bytes()) {
            self.commit(commit)?;
            let next = self.uncommitted.front().map(|chunk| chunk.start);
            next.map_or(Ok(()), |start| self.begin_file(start))?;
        }
        let (Some(file), Some(chunk)) = (&mut self.file, self.uncommitted.get(self.written)) else {
            return Ok(());
        };
        file.log.append(&chunk.bytes).map_err(|source| Error::Io { path: self.dir.clone(), source })?;
        file.written += chunk.bytes.len() as u64;
        self.written += 1;
        Ok(())
    }

    /// Starts the next file, durable in its directory before anything is in it.
    fn begin_file(&mut self, start: Position) -> Result<(), Error> {
        self.file = None;
        let path = file::path(&self.dir, start);
        let io = |source| Error::Io { path: path.clone(), source };
        let log = self.disk.create(&path).map_err(io)?;
        if let Some(spool) = self.spool.upgrade() {
            let reader = log.reader().map_err(io)?;
            spool.files().by_start.insert(start, Arc::new(LogFile::new(path.clone(), reader)));
        }
        self.file = Some(Open { log, written: 0, durable: 0 });
        Ok(())
    }

    /// Makes everything in the file durable and tells so.
    fn commit(&mut self, commit: &watch::Sender<Position>) -> Result<(), Error> {
        let written = self.written;
        let Some(end) = written.checked_sub(1).and_then(|last| self.uncommitted.get(last)).map(Chunk::end)
        else {
            return Ok(());
        };
        if let Some(file) = &mut self.file {
            file.log.sync().map_err(|source| Error::Io { path: self.dir.clone(), source })?;
            file.durable = file.written;
        }
        commit.send_replace(end);
        for chunk in self.uncommitted.drain(..written).collect::<Vec<_>>() {
            self.keep(chunk.bytes);
        }
        self.written = 0;
        Ok(())
    }

    /// After a write or a commit that found no room: the file ends again where it is durable, and
    /// everything else is written once more from memory.
    fn take_back(&mut self) -> Result<(), Error> {
        if let Some(file) = &mut self.file {
            file.log.cut(file.durable).map_err(|source| Error::Io { path: self.dir.clone(), source })?;
            file.written = file.durable;
        }
        self.written = 0;
        Ok(())
    }

    fn full(&self, error: &std::io::Error) {
        if !self.shared.full.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the disk of the spool is full; cameras pause until there is room, nothing is lost that was acknowledged");
        }
    }

    /// Footage is taken again only when the room for the end of things could be set aside once more,
    /// and as much again is left: a disk that is full for the second time a moment later helps nobody.
    fn room_again(&mut self) {
        self.stuck = false;
        if !self.shared.is_full() {
            return;
        }
        let needed = self.limits.reserve_bytes.saturating_mul(3);
        self.look_at_disk();
        if self.shared.available() >= needed && self.set_reserve_aside().is_ok() {
            self.shared.full.store(false, Ordering::Relaxed);
            tracing::info!("the disk of the spool has room again");
        }
    }

    fn set_reserve_aside(&self) -> std::io::Result<()> {
        match self.limits.reserve_bytes {
            0 => Ok(()),
            bytes => self.disk.set_aside(&self.reserve(), bytes),
        }
    }

    /// True where there was something to give up.
    fn give_reserve_up(&self) -> bool {
        let path = self.reserve();
        path.exists() && self.disk.remove(&path).is_ok()
    }

    fn reserve(&self) -> PathBuf {
        reserve(&self.dir)
    }

    fn look_at_disk(&self) {
        if let Ok(bytes) = self.disk.available(&self.dir) {
            self.shared.available.store(bytes, Ordering::Relaxed);
        }
    }
}

/// Where room is set aside for what ends and frees things.
fn reserve(dir: &Path) -> PathBuf {
    dir.join(RESERVE)
}
