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
    sync::{Arc, Weak, atomic::Ordering},
    thread::JoinHandle,
};

use obscura_clock::{Monotonic, SharedClock};
use tokio::sync::watch;

use super::{
    COMMIT_EVERY, Error, Limits, Position, Spool,
    buffer::{Chunk, Shared, Turn},
    disk::{Appending, Disk, is_full},
    file::{self, LogFile},
};

/// The writer commits before its time when so much is not known to be durable.
pub const MOST_UNCOMMITTED_BYTES: usize = 16 * 1024 * 1024;
/// Name of the file that keeps room for the end of things.
const RESERVE: &str = "reserve";

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
        let wait = COMMIT_EVERY.saturating_sub(self.clock.monotonic().since(self.last_commit));
        let (chunks, turn) = self.shared.take(wait, &*self.clock);
        self.uncommitted.extend(chunks);
        turn
    }

    /// Writes everything and commits it where that is due.
    fn write_and_commit(&mut self, commit: &watch::Sender<Position>, at_once: bool) -> Result<(), Error> {
        while self.written < self.uncommitted.len() {
            // After a stall far more may wait, of which no more may be torn by a crash.
            let written: usize =
                self.uncommitted.iter().take(self.written).map(|chunk| chunk.batch.len()).sum();
            if written >= MOST_UNCOMMITTED_BYTES {
                self.commit(commit)?;
            }
            self.write_next(commit)?;
        }
        let waiting: usize = self.uncommitted.iter().map(|chunk| chunk.batch.len()).sum();
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
        let (Some(file), Some(chunk)) = (&mut self.file, self.uncommitted.get_mut(self.written)) else {
            return Ok(());
        };
        file.log.append(&mut chunk.batch).map_err(|source| Error::Io { path: self.dir.clone(), source })?;
        file.written += chunk.batch.len() as u64;
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
        self.shared.file_starts(start);
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
        self.shared.keep(self.uncommitted.drain(..written));
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
