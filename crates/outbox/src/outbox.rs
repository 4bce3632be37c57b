//! The outbox that services hold.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use obscura_clock::SharedClock;
use obscura_proto::audit::v1::{Event, Outcome, event::Body};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, spawn_blocking},
};

use crate::{
    AuditLog, Limits, MAX_BATCH_BYTES,
    event::event,
    file::{Gate, OutboxFile},
    forgetting::Forgetting,
    metrics::Metrics,
    queue::{Queue, Recorded},
    sender, writer,
};

/// Events that may wait while others are added that are safe elsewhere.
const MAX_QUEUED: u64 = 10_000;
/// Bytes of events that may wait then. One addition has 13 MiB at most (a thousand destructions with their receipts),
/// and both have room in an outbox of 64 MiB.
const MAX_QUEUED_BYTES: u64 = 8 << 20;

/// The folder of the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the audit outbox in {} cannot be opened: {source}", folder.display())]
pub struct OpenError {
    /// Which folder.
    pub folder: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What is done before an old outbox begins anew.
pub type OnOld = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Write everything and say so.
    Clean,
    /// At once, as a crash would.
    Abandoned,
}

/// How the last commit ended.
#[derive(Clone, Copy, Debug, Default)]
struct Committed {
    number: u64,
    durable: bool,
}

/// What recording, writing and sending share.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    pub wake: Condvar,
    /// Wakes the sender.
    sendable: Notify,
    committed: watch::Sender<Committed>,
    /// Whether the log has said how far it is, and what is old has begun anew.
    compared: watch::Sender<bool>,
    pub metrics: Metrics,
}

/// Under the lock.
#[derive(Debug)]
pub struct State {
    pub queue: Queue,
    pub stop: Option<Stop>,
    /// Someone waits for a commit.
    pub urgent: bool,
    /// Number of the last commit that began.
    commits: u64,
}

impl State {
    /// Whatever was recorded before is in the commit with this number.
    pub fn start_commit(&mut self) -> u64 {
        self.urgent = false;
        self.commits += 1;
        self.commits
    }
}

impl Shared {
    fn new(queue: Queue) -> Self {
        let state = State { queue, stop: None, urgent: false, commits: 0 };
        let shared = Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            sendable: Notify::new(),
            committed: watch::Sender::default(),
            compared: watch::Sender::default(),
            metrics: Metrics::default(),
        };
        shared.count(&shared.lock());
        shared
    }

    /// The state. Nobody panics while holding it; if someone did it would still be whole.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit ended, well or not.
    pub fn finish_commit(&self, number: u64, durable: bool) {
        self.committed.send_replace(Committed { number, durable });
        self.sendable.notify_one();
    }

    /// There will be no other commit: nobody needs to wait for one.
    pub fn finish_commits(&self) {
        self.finish_commit(u64::MAX, false);
    }

    fn count(&self, state: &State) {
        self.metrics.queued.set(state.queue.len() as u64);
        self.metrics.queued_bytes.set(state.queue.bytes() as u64);
    }

    /// The next events to send, once there are durable ones.
    pub async fn batch(&self, max_events: usize) -> Vec<(u64, Bytes)> {
        loop {
            let batch = self.lock().queue.batch(max_events, MAX_BATCH_BYTES);
            if !batch.is_empty() {
                return batch;
            }
            self.sendable.notified().await;
        }
    }

    /// Everything up to this counter is in the log. Returns how many events that frees.
    pub fn acknowledge(&self, through: u64) -> u64 {
        let mut state = self.lock();
        let freed = state.queue.acknowledge(through);
        self.metrics.sent.inc_by(freed);
        self.count(&state);
        self.wake.notify_all();
        freed
    }

    /// The log was asked, and what waits goes on from there.
    pub fn compared(&self) {
        self.compared.send_replace(true);
    }

    /// Begins a new outbox with what waits in this one.
    pub fn start_over(&self) {
        let mut state = self.lock();
        state.queue.start_over();
        self.count(&state);
        self.wake.notify_all();
    }

    fn stop(&self, how: Stop) {
        self.lock().stop.get_or_insert(how);
        self.wake.notify_all();
    }
}

/// Takes events, keeps them on disk and sends them, in order. Clones are the same outbox.
///
/// Dropping the last clone without [`Self::close`] is what a crash is.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    clock: SharedClock,
    writer: Mutex<Option<JoinHandle<()>>>,
    sender: Mutex<Option<AbortHandle>>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbox").field(&self.0.shared).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop(Stop::Abandoned);
        if let Some(sender) = take(&self.sender) {
            sender.abort();
        }
        // It is at most one write away from its end, and then the folder is free for the next.
        if let Some(writer) = take(&self.writer) {
            let _ = writer.join();
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Outbox {
    /// Opens the outbox in this folder, which is its own, and starts to write. What a damaged or
    /// torn file lost is named in events; a full disk is waited for in memory.
    ///
    /// # Errors
    /// Where another process has the folder, or it cannot be made or read.
    pub async fn open(folder: &Path, limits: Limits, clock: SharedClock) -> Result<Self, OpenError> {
        Self::open_with(folder, limits, clock, Box::new(|_| Ok(()))).await
    }

    pub(crate) async fn open_with(
        folder: &Path,
        limits: Limits,
        clock: SharedClock,
        gate: Gate,
    ) -> Result<Self, OpenError> {
        let path = folder.to_owned();
        let opened = spawn_blocking(move || Self::open_blocking(&path, limits, clock, gate)).await;
        let error = |source| OpenError { folder: folder.to_owned(), source };
        opened.map_err(io::Error::other).flatten().map_err(error)
    }

    fn open_blocking(folder: &Path, limits: Limits, clock: SharedClock, gate: Gate) -> io::Result<Self> {
        let (file, content) = OutboxFile::open(folder, gate)?;
        let queue = match content {
            Some(content) => Queue::recover(&content, limits, Arc::clone(&clock)),
            None => Queue::new(limits, Arc::clone(&clock)),
        };
        let shared = Arc::new(Shared::new(queue));
        let forgetting = Forgetting::new(limits.forget_after, Arc::clone(&clock));
        let writer = Mutex::new(Some(writer::spawn(Arc::clone(&shared), file, forgetting)?));
        Ok(Self(Arc::new(Inner { shared, clock, writer, sender: Mutex::new(None) })))
    }

    /// Adds `obscura_outbox_{queued,queued_bytes,dropped_total,sent_total}` to the process's metrics.
    pub fn register_metrics(&self, metrics: &obscura_telemetry::Metrics) {
        self.0.shared.metrics.register(metrics);
    }

    /// Starts to send to the log, for as long as the outbox lives. Only the first call counts.
    pub fn send_to(&self, log: AuditLog) {
        self.send_to_after(log, Box::new(|| Ok(())));
    }

    /// The same, and calls `on_old` where the log knows more of the outbox than its file: before anything is sent
    /// or forgotten, and again until it succeeds. Whoever wants to know that its folder was put back from a
    /// backup writes that down there.
    pub fn send_to_after(&self, log: AuditLog, on_old: OnOld) {
        let mut sender = self.0.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_none() {
            *sender = Some(tokio::spawn(sender::run(Arc::clone(&self.0.shared), log, on_old)).abort_handle());
        }
    }

    /// Turns true once the log has said how far it is with this outbox, and `on_old` was called where that was
    /// further than the file.
    #[must_use]
    pub fn compared(&self) -> watch::Receiver<bool> {
        self.0.shared.compared.subscribe()
    }

    /// Takes an event that its caller can keep and bring again. Never waits for disk or network.
    pub fn record(&self, event: &Event) -> Recorded {
        self.record_all(std::slice::from_ref(event))
    }

    /// Takes all of these events or none of them, as [`Self::record`] takes one.
    pub fn record_all(&self, events: &[Event]) -> Recorded {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        let recorded = state.queue.take_all(events);
        shared.count(&state);
        drop(state);
        shared.wake.notify_all();
        recorded
    }

    /// Takes an event that nobody can bring again, because what it tells of goes on whatever becomes of the log.
    /// Never waits for disk or network and never fails: where there is no room the event is dropped, counted, and
    /// named in an `Overflow` later.
    #[expect(clippy::needless_pass_by_value, reason = "an event that was recorded is no longer the caller's")]
    pub fn record_or_drop(&self, event: Event) {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        let (_, kept) = state.queue.record(&event);
        if !kept {
            shared.metrics.dropped.inc();
        }
        shared.count(&state);
        drop(state);
        shared.wake.notify_all();
    }

    /// Takes an event of this moment without an actor, as [`Self::record_or_drop`].
    pub fn record_body_or_drop(&self, outcome: Outcome, body: Body) {
        self.record_or_drop(event(&self.0.clock, outcome, body));
    }

    /// Whether so little waits that events may be added that are safe where they are: the rest of the room is for
    /// those that have no other place.
    #[must_use]
    pub fn has_room_for_what_can_wait(&self) -> bool {
        let metrics = &self.0.shared.metrics;
        metrics.queued.get() <= MAX_QUEUED && metrics.queued_bytes.get() <= MAX_QUEUED_BYTES
    }

    /// Waits until everything that was recorded before is durable. False where the disk refused it, or
    /// the outbox is closed.
    pub async fn flush(&self) -> bool {
        let mut committed = self.0.shared.committed.subscribe();
        let number = {
            let mut state = self.0.shared.lock();
            state.urgent = true;
            state.commits + 1
        };
        self.0.shared.wake.notify_all();
        committed.wait_for(|last| last.number >= number).await.is_ok_and(|last| last.durable)
    }

    /// Stops sending, writes everything and ends. What is recorded afterwards is lost.
    pub async fn close(&self) {
        if let Some(sender) = take(&self.0.sender) {
            sender.abort();
        }
        self.0.shared.stop(Stop::Clean);
        if let Some(writer) = take(&self.0.writer) {
            let _ = spawn_blocking(move || writer.join()).await;
        }
    }

    /// Events that wait.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.0.shared.metrics.queued.get()
    }

    /// Events that were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.shared.metrics.dropped.get()
    }
}
