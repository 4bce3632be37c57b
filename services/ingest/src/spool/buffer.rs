//! What cameras append and the writer takes: bytes in chunks that go to the disk as they are.
//!
//! Every recorded byte passes here, so chunks keep their memory: the system must find and clear new one, which
//! costs more than sealing what is put there.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use obscura_clock::Clock;
use obscura_direct_file::Batch;

use super::{
    Error, Extent, Position, Serial,
    record::{HEADER_BYTES, Kind, Record},
};

/// The writer is woken before its time when so much waits.
pub const WRITE_BYTES: usize = 1024 * 1024;
/// Room in a chunk, unless a single record needs more: the writer is called at [`WRITE_BYTES`], and the
/// record that reached it must fit as well.
const CHUNK_BYTES: usize = WRITE_BYTES + WRITE_BYTES / 4;
/// With so much waiting for the disk nothing else should ask it for more.
const BEHIND_BYTES: usize = 4 * WRITE_BYTES;

/// Whole records that are written together.
#[derive(Debug)]
pub struct Chunk {
    /// Where the first of them lies.
    pub start: Position,
    /// The records.
    pub batch: Batch,
}

impl Chunk {
    /// Where the next chunk starts.
    pub fn end(&self) -> Position {
        Position(self.start.0 + self.batch.len() as u64)
    }
}

/// Bytes on their way to the disk.
#[derive(Debug)]
pub struct Buffer {
    /// Those before the last one, in order and without a hole.
    full: Vec<Chunk>,
    /// The one that is added to.
    last: Option<Chunk>,
    end: Position,
    /// Bytes in all chunks.
    bytes: usize,
    /// Where the file starts that is being written.
    file: Position,
    /// Memory of chunks that are durable, at most `most_spares` of [`CHUNK_BYTES`].
    spares: Vec<Batch>,
    most_spares: usize,
    hurry: bool,
    stopping: bool,
    failed: Option<String>,
}

impl Buffer {
    /// An empty buffer whose first byte will have this position, and which keeps memory for so many bytes.
    pub fn starting_at(end: Position, keep: usize) -> Self {
        Self {
            full: Vec::new(),
            last: None,
            end,
            bytes: 0,
            file: end,
            spares: Vec::new(),
            most_spares: keep / WRITE_BYTES + 2,
            hurry: false,
            stopping: false,
            failed: None,
        }
    }

    /// Where the payload lies that is added behind its header.
    fn add(&mut self, header: &[u8; HEADER_BYTES], payload: &[u8]) -> Extent {
        let length = HEADER_BYTES + payload.len();
        let position = Position(self.end.0 + HEADER_BYTES as u64);
        let batch = &mut self.chunk_for(length).batch;
        let whole = batch.push(header) && batch.push(payload);
        assert!(whole, "a chunk that was chosen for a record has room for it");
        self.end = Position(self.end.0 + length as u64);
        self.bytes += length;
        Extent { start: position, length: u32::try_from(payload.len()).unwrap_or(u32::MAX) }
    }

    /// The last chunk, or another one where it has not so much room.
    fn chunk_for(&mut self, length: usize) -> &mut Chunk {
        self.full.extend(self.last.take_if(|last| !last.batch.fits(length)));
        let (start, offset) = (self.end, self.end.0 - self.file.0);
        let spares = &mut self.spares;
        self.last.get_or_insert_with(|| {
            let spare = if length <= CHUNK_BYTES { spares.pop() } else { None };
            let mut batch = spare.unwrap_or_else(|| Batch::with_capacity(length.max(CHUNK_BYTES)));
            batch.restart(offset);
            Chunk { start, batch }
        })
    }

    /// Keeps memory for another chunk; gives back what is not kept.
    fn keep(&mut self, batch: Batch) -> Option<Batch> {
        if self.spares.len() < self.most_spares && batch.capacity() < 2 * CHUNK_BYTES {
            self.spares.push(batch);
            return None;
        }
        Some(batch)
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
pub struct Turn {
    /// To commit at once.
    pub hurry: bool,
    /// To commit and to end.
    pub stopping: bool,
}

/// What cameras and the writer share.
#[derive(Debug)]
pub struct Shared {
    buffer: Mutex<Buffer>,
    wake: Condvar,
    serial: AtomicU64,
    end: AtomicU64,
    /// Bytes that the file system has left, as last seen.
    pub available: AtomicU64,
    /// Set while the disk is full.
    pub full: AtomicBool,
}

impl Shared {
    /// Shared state over an empty buffer.
    pub fn new(buffer: Buffer, next_serial: u64) -> Self {
        Self {
            end: AtomicU64::new(buffer.end.0),
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
        self.lock().bytes > BEHIND_BYTES
    }

    /// Whether an append with this limit would be refused, because the disk is slow.
    pub fn is_slow(&self, limit: usize) -> bool {
        self.lock().bytes > limit
    }

    /// Appends all records or none.
    pub fn append(&self, records: &[Record<'_>], limit: usize) -> Result<(Vec<Extent>, Position), Error> {
        // Checksums are made before anybody waits for the lock.
        let headed: Vec<_> = records.iter().map(|record| (record.header(), record.payload)).collect();
        let mut buffer = self.lock();
        if let Some(cause) = &buffer.failed {
            return Err(Error::Failed(cause.clone()));
        }
        if buffer.bytes > limit {
            return Err(Error::Slow(buffer.bytes));
        }
        let extents = headed.iter().map(|(header, payload)| buffer.add(header, payload)).collect();
        let end = buffer.end;
        self.end.store(end.0, Ordering::Relaxed);
        if buffer.bytes >= WRITE_BYTES {
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

    /// Nothing is taken any more.
    pub fn fail(&self, cause: String) {
        self.lock().failed = Some(cause);
    }

    /// The file that is being written starts here: what is added lies in its blocks from there on.
    pub fn file_starts(&self, at: Position) {
        self.lock().file = at;
    }

    /// Takes back memory of chunks that are durable. What is too much goes back to the system, which takes its time,
    /// without the lock.
    pub fn keep(&self, chunks: impl Iterator<Item = Chunk>) {
        let surplus: Vec<Batch> = {
            let mut buffer = self.lock();
            chunks.filter_map(|chunk| buffer.keep(chunk.batch)).collect()
        };
        drop(surplus);
    }

    /// Waits for much to write or for the time to commit; then hands over everything buffered,
    /// closed by a note that the recorder was alive.
    pub fn take(&self, wait: Duration, clock: &dyn Clock) -> (Vec<Chunk>, Turn) {
        let mut buffer = self.wait(wait, |buffer| buffer.bytes < WRITE_BYTES);
        if buffer.bytes > 0 {
            let now = clock.wall().unix_nanos().to_be_bytes();
            let alive = Record { kind: Kind::Alive, serial: Serial(0), payload: &now };
            buffer.add(&alive.header(), &now);
            self.end.store(buffer.end.0, Ordering::Relaxed);
        }
        buffer.bytes = 0;
        let mut chunks = std::mem::take(&mut buffer.full);
        chunks.extend(buffer.last.take());
        (chunks, buffer.turn())
    }

    /// Waits without taking anything.
    pub fn pause(&self, wait: Duration) -> Turn {
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
