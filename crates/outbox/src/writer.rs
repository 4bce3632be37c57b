//! The thread that writes the file: at once to the page cache, durably twice a second.

use std::{
    io,
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::BytesMut;

use crate::{
    file::OutboxFile,
    forgetting::Forgetting,
    outbox::{Shared, State, Stop},
    record::Record,
};

/// What was recorded is in the page cache after this time and survives the process.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// The disk is asked to commit once in so many writes: twice a second.
const WRITES_PER_COMMIT: u32 = 10;
/// Between attempts to use a disk that refuses.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A file of which more than half is done is written anew from this length on.
const COMPACT_FROM_BYTES: u64 = 1 << 20;

/// Starts the thread.
pub fn spawn(shared: Arc<Shared>, file: OutboxFile, forgetting: Forgetting) -> io::Result<JoinHandle<()>> {
    let writer = Writer { shared, file, unsynced: false, forgetting, is_last: false };
    thread::Builder::new().name("audit-outbox".into()).spawn(move || writer.run())
}

struct Writer {
    shared: Arc<Shared>,
    file: OutboxFile,
    /// The page cache has more than the disk.
    unsynced: bool,
    forgetting: Forgetting,
    /// Nothing is written after the next commit.
    is_last: bool,
}

impl Writer {
    fn run(mut self) {
        if self.run_until_stopped() == Stop::Clean {
            self.stop();
        }
        self.shared.finish_commits();
    }

    fn run_until_stopped(&mut self) -> Stop {
        loop {
            if let Some(stop) = self.wait_for_work() {
                return stop;
            }
            if let Err(error) = self.commit() {
                tracing::error!(%error, "the audit outbox cannot be written: events wait in memory; free its disk");
                self.pause(TRY_AGAIN_AFTER);
                continue;
            }
            self.write_until_the_next_commit();
        }
    }

    /// Waits for something to write, or for the time at which something must no longer be there.
    fn wait_for_work(&self) -> Option<Stop> {
        let idle = |state: &mut State| {
            state.stop.is_none() && !state.urgent && !self.unsynced && !state.queue.has_unwritten()
        };
        let state = self.shared.lock();
        let Some(longest) = self.forgetting.left(state.queue.done()) else {
            let state = self.shared.wake.wait_while(state, idle);
            return state.unwrap_or_else(PoisonError::into_inner).stop;
        };
        let waited = self.shared.wake.wait_timeout_while(state, longest, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// Waits, unless someone is in a hurry. Returns whether someone is.
    fn pause(&self, longest: Duration) -> bool {
        let calm = |state: &mut State| state.stop.is_none() && !state.urgent;
        let waited = self.shared.wake.wait_timeout_while(self.shared.lock(), longest, calm);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.stop.is_some() || state.urgent
    }

    fn write_until_the_next_commit(&mut self) {
        for _ in 0..WRITES_PER_COMMIT {
            // An error shows again at the next commit, where it is handled.
            if self.pause(WRITE_EVERY) || self.write().is_err() {
                return;
            }
        }
    }

    /// Brings the page cache up to date. A file that must be written anew waits for the commit.
    fn write(&mut self) -> io::Result<()> {
        let unwritten = self.shared.lock().queue.unwritten();
        let Some((bytes, mark)) = unwritten.filter(|(bytes, _)| !bytes.is_empty() && self.file.is_open())
        else {
            return Ok(());
        };
        self.unsynced = true;
        self.file.append(&bytes)?;
        self.shared.lock().queue.wrote(mark);
        Ok(())
    }

    /// Brings the disk up to date, and tells whoever waits for that, successful or not.
    fn commit(&mut self) -> io::Result<()> {
        let number = self.shared.lock().start_commit();
        let committed = self.try_commit();
        self.shared.finish_commit(number, committed.is_ok());
        committed
    }

    fn try_commit(&mut self) -> io::Result<()> {
        if self.must_be_written_anew() {
            let (bytes, mark) = self.shared.lock().queue.whole();
            self.file.replace(&bytes)?;
            self.unsynced = false;
            self.forgetting.written_anew(mark.done());
            let mut state = self.shared.lock();
            state.queue.wrote(mark);
            state.queue.synced(mark);
            return Ok(());
        }
        self.write()?;
        let Some(mark) = self.shared.lock().queue.written() else { return Ok(()) };
        self.file.sync()?;
        self.unsynced = false;
        self.shared.lock().queue.synced(mark);
        Ok(())
    }

    fn must_be_written_anew(&self) -> bool {
        let state = self.shared.lock();
        let (now, needed) = (self.file.length(), state.queue.whole_bytes() as u64);
        let left = self.forgetting.left(state.queue.done());
        !self.file.is_open()
            || state.queue.written().is_none()
            || (now > COMPACT_FROM_BYTES && now > 2 * needed)
            || left.is_some_and(|left| self.is_last || left.is_zero())
    }

    /// Leaves the mark of a clean stop, if everything could be written.
    fn stop(&mut self) {
        self.is_last = true;
        let mut mark = BytesMut::new();
        Record::Stopped.encode(&mut mark);
        let stopped = self.commit().and_then(|()| self.file.append(&mark)).and_then(|()| self.file.sync());
        if let Err(error) = stopped {
            tracing::error!(%error, "the audit outbox could not be written before the stop: events may be lost");
        }
    }
}
