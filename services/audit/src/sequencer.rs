//! The one writer of the log: queue, batch, commit, answer.
//!
//! Whoever appends has encoded and hashed the entry already and waits. The sequencer takes everything that
//! waits as one batch, so that the slower the disk, the larger the batch. The steps, and what a crash at
//! each leaves behind, are in [`Step`]; in short: entries, changed tiles, producers' counters and the new head
//! are one transaction that counts only where the head still has the size we know, and nobody is told
//! anything before it is committed. In memory is the right edge of the tree, at most 8 KiB a level, and what
//! waits in the queue, which is bounded in bytes: nothing grows with the log.

#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use obscura_clock::{SharedClock, Timestamp};
use obscura_tlog::{Hash, RightEdge, leaf_hash};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    event_id::EventId,
    fault::{Faults, Step},
    metrics::AuditMetrics,
    store::{self, Batch, Head, Producer, Row, Store, Stored},
};

/// Groups of entries that one batch takes.
const BATCH_GROUPS: usize = 2_048;
/// Leaves that may wait and be committed together, in KiB; each group counts as one more.
const QUEUE_KIB: usize = 64 * 1024;

/// How long a batch waits for those whom the last one answered: less than a sync of most disks.
const PATIENCE: Duration = Duration::from_millis(2);

/// An entry that only lacks its place.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Id of the event.
    pub event_id: EventId,
    /// Name of the field in `Event.body`.
    pub kind: &'static str,
    /// Pseudonym of who acted.
    pub pseudonym: Option<String>,
    /// Pseudonyms of whom it names beside who acted, each once.
    pub named: Vec<String>,
    /// UUIDs of the cameras that it names, each once.
    pub cameras: Vec<[u8; 16]>,
    /// SHA-256 of the claims, for grants.
    pub claims_hash: Option<Vec<u8>>,
    /// Bytes of the leaf.
    pub leaf: Bytes,
    /// Their hash.
    pub leaf_hash: Hash,
}

/// Where an entry is, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Index of the leaf.
    pub index: u64,
    /// Its hash.
    pub leaf_hash: Hash,
    /// SHA-256 of the claims, for grants.
    pub claims_hash: Option<Vec<u8>>,
    /// When it was committed.
    pub committed: Timestamp,
}

/// Why nothing was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It may or may not be in the log; asking again with the same ids settles it.
    #[error("the log could not be written now: try again with the same event ids")]
    NotCommitted,
    /// Too much waits.
    #[error("more is being appended than the log can write: try again later")]
    Full,
    /// Somebody else has the log.
    #[error("another audit service writes to this log now: try again, there or here")]
    OtherSequencer,
    /// The service ends.
    #[error("the audit service is ending: try again when it is back")]
    Ended,
}

/// The way in. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Sequencer {
    queue: mpsc::Sender<Group>,
    room: Arc<Semaphore>,
    size: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Group {
    entries: Vec<Prepared>,
    producer: Option<Producer>,
    answer: oneshot::Sender<Result<Vec<Placed>, Error>>,
    _room: OwnedSemaphorePermit,
}

impl Sequencer {
    /// Reads the right edge of the log and starts to write. The task ends when every clone of the sequencer is
    /// gone, or with [`store::Error::OtherSequencer`].
    ///
    /// # Errors
    /// Where the log cannot be read, or its tiles do not give its root.
    pub async fn start(
        store: Arc<Store>,
        clock: SharedClock,
        faults: Arc<dyn Faults>,
        metrics: AuditMetrics,
    ) -> Result<(Self, JoinHandle<Result<(), store::Error>>), store::Error> {
        let edge = read_edge(&store).await?;
        let (size, sizes) = watch::channel(edge.size());
        metrics.size(edge.size());
        let (queue, groups) = mpsc::channel(BATCH_GROUPS);
        let runtime = store.runtime().clone();
        let writer = Writer { store, clock, faults, metrics, size, state: State::Known(edge) };
        let task = runtime.spawn(writer.run(groups));
        Ok((Self { queue, room: Arc::new(Semaphore::new(QUEUE_KIB)), size: sizes }, task))
    }

    /// Leaves in the log; a new value after each commit.
    pub fn size(&self) -> watch::Receiver<u64> {
        self.size.clone()
    }

    /// Appends the entries, in their order and next to each other, and returns when they are durable, with one
    /// place for each. An entry whose event is in the log already gets the place that it has. With them the
    /// counter of their producer is written down.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Full`] at once.
    pub async fn append(
        &self,
        entries: Vec<Prepared>,
        producer: Option<Producer>,
    ) -> Result<Vec<Placed>, Error> {
        let bytes: usize = entries.iter().map(|entry| entry.leaf.len()).sum();
        let permits = u32::try_from(bytes / 1024 + 1).map_err(|_| Error::Full)?;
        let room = self.room.clone().try_acquire_many_owned(permits).map_err(|_| Error::Full)?;
        let (answer, answered) = oneshot::channel();
        let group = Group { entries, producer, answer, _room: room };
        self.queue.send(group).await.map_err(|_| Error::Ended)?;
        answered.await.map_err(|_| Error::Ended)?
    }
}

async fn read_edge(store: &Store) -> Result<RightEdge, store::Error> {
    let head = store.head().await?;
    let tiles = store.tiles(&RightEdge::tile_ids(head.size)).await?;
    let edge = RightEdge::from_tiles(head.size, &tiles)
        .map_err(|_| store::Error::Corrupt("tiles of another log than its head"))?;
    if edge.root() != head.root {
        return Err(store::Error::Corrupt("tiles that do not give the root of the log"));
    }
    Ok(edge)
}

/// What the sequencer knows about the head.
#[derive(Debug)]
enum State {
    /// This is it.
    Known(RightEdge),
    /// A commit failed in a way that leaves open which of the two it is.
    Unsure { before: RightEdge, after: RightEdge },
}

struct Writer {
    store: Arc<Store>,
    clock: SharedClock,
    faults: Arc<dyn Faults>,
    metrics: AuditMetrics,
    size: watch::Sender<u64>,
    state: State,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Group>) -> Result<(), store::Error> {
        let (mut groups, mut usual) = (Vec::with_capacity(BATCH_GROUPS), 0);
        while gather(&mut queue, &mut groups, usual).await {
            usual = groups.len();
            let began = self.clock.monotonic();
            let entries = groups.iter().map(|group| group.entries.len()).sum();
            match self.sequence(&groups).await {
                Ok(placed) => answer(&mut groups, placed),
                Err(store::Error::OtherSequencer) => {
                    refuse(&mut groups, Error::OtherSequencer);
                    tracing::error!("another audit service writes to the log now; this one stops");
                    return Err(store::Error::OtherSequencer);
                }
                Err(error) => {
                    self.metrics.failed();
                    tracing::error!(%error, entries, "could not commit to the log");
                    refuse(&mut groups, Error::NotCommitted);
                }
            }
            self.metrics.batch(entries, self.clock.monotonic().since(began));
        }
        Ok(())
    }

    /// Commits the groups as one batch; for each group the places of its entries.
    ///
    /// Nearly every event is new, and the database refuses those that are not: only then it is asked which.
    async fn sequence(&mut self, groups: &[Group]) -> Result<Vec<Vec<Placed>>, store::Error> {
        match self.commit(groups, &HashMap::new()).await {
            Err(store::Error::AlreadyThere) => {}
            done => return done,
        }
        self.faults.at(Step::LookUp)?;
        let ids: Vec<EventId> =
            groups.iter().flat_map(|group| &group.entries).map(|entry| entry.event_id).collect();
        let known = self.store.known(&ids).await?;
        match self.commit(groups, &known).await {
            // None of these events is there any more, so it is their index that somebody else has taken.
            Err(store::Error::AlreadyThere) => Err(store::Error::OtherSequencer),
            done => done,
        }
    }

    /// Commits what is not `known`; for each group the places of its entries.
    async fn commit(
        &mut self,
        groups: &[Group],
        known: &HashMap<EventId, Row>,
    ) -> Result<Vec<Vec<Placed>>, store::Error> {
        let before = self.known_edge().await?;
        let plan = Plan::new(groups, known, before.size(), self.clock.wall());
        let producers: Vec<Producer> = groups.iter().filter_map(|group| group.producer.clone()).collect();
        if plan.fresh.is_empty() && producers.is_empty() {
            return Ok(plan.placed);
        }
        let mut after = before.clone();
        let hashes: Vec<Hash> = plan.fresh.iter().map(|entry| entry.leaf_hash).collect();
        let tiles = after.append(&hashes);
        let entries: Vec<Stored<'_>> = plan.fresh.iter().map(|entry| entry.stored()).collect();
        let batch = Batch {
            old_size: before.size(),
            new_size: after.size(),
            root: after.root(),
            committed: plan.committed,
            entries: &entries,
            tiles: &tiles,
            producers: &producers,
        };
        let done = self.store.append(&batch, &*self.faults).await;
        self.settle(before, after, done).await?;
        Ok(plan.placed)
    }

    /// The edge of the log; after a commit of unknown outcome the head decides first.
    async fn known_edge(&mut self) -> Result<RightEdge, store::Error> {
        if let State::Unsure { before, after } = &self.state {
            let head = self.store.head().await?;
            let edge = [before, after].into_iter().find(|edge| is_at(&head, edge));
            let edge = edge.ok_or(store::Error::OtherSequencer)?.clone();
            self.is_now(edge);
        }
        match &self.state {
            State::Known(edge) => Ok(edge.clone()),
            State::Unsure { .. } => Err(store::Error::Corrupt("a head that is never known")),
        }
    }

    /// What a commit, or its failure, means.
    async fn settle(
        &mut self,
        before: RightEdge,
        after: RightEdge,
        done: Result<(), store::Error>,
    ) -> Result<(), store::Error> {
        let Err(error) = done else {
            self.is_now(after);
            return Ok(());
        };
        if matches!(error, store::Error::OtherSequencer | store::Error::AlreadyThere) {
            return Err(error);
        }
        let size = after.size();
        self.state = State::Unsure { before, after };
        tracing::warn!(%error, "a commit failed; reading what became of it");
        let is_committed = self.known_edge().await?.size() == size;
        is_committed.then_some(()).ok_or(error)
    }

    fn is_now(&mut self, edge: RightEdge) {
        let size = edge.size();
        self.state = State::Known(edge);
        self.metrics.size(size);
        self.size.send_replace(size);
    }
}

/// Takes what waits, and waits a moment for as many as came the last time: whoever was just answered is likely
/// to come back, and one commit for all of them costs less than two for a part of them each. False at the end.
async fn gather(queue: &mut mpsc::Receiver<Group>, groups: &mut Vec<Group>, usual: usize) -> bool {
    if queue.recv_many(groups, BATCH_GROUPS).await == 0 {
        return false;
    }
    let others =
        async { while groups.len() < usual && queue.recv_many(groups, usual - groups.len()).await > 0 {} };
    // Who is late is in the next batch.
    let _ = tokio::time::timeout(PATIENCE, others).await;
    true
}

fn is_at(head: &Head, edge: &RightEdge) -> bool {
    head.size == edge.size() && head.root == edge.root()
}

fn answer(groups: &mut Vec<Group>, placed: Vec<Vec<Placed>>) {
    for (group, placed) in mem::take(groups).into_iter().zip(placed) {
        // Whoever does not wait any longer asks again.
        let _ = group.answer.send(Ok(placed));
    }
}

fn refuse(groups: &mut Vec<Group>, error: Error) {
    for group in mem::take(groups) {
        let _ = group.answer.send(Err(error));
    }
}

/// Which entries are new, and where each entry is or will be.
struct Plan<'a> {
    committed: Timestamp,
    fresh: Vec<&'a Prepared>,
    placed: Vec<Vec<Placed>>,
}

impl<'a> Plan<'a> {
    fn new(groups: &'a [Group], known: &HashMap<EventId, Row>, size: u64, committed: Timestamp) -> Self {
        let mut places: HashMap<EventId, Placed> =
            known.iter().map(|(id, row)| (*id, Placed::from(row))).collect();
        let mut fresh = Vec::new();
        let mut next = size;
        let mut place = |entry: &'a Prepared| {
            let placed = places.entry(entry.event_id).or_insert_with(|| {
                let placed = entry.placed(next, committed);
                next = next.saturating_add(1);
                fresh.push(entry);
                placed
            });
            placed.clone()
        };
        let placed = groups.iter().map(|group| group.entries.iter().map(&mut place).collect()).collect();
        Self { committed, fresh, placed }
    }
}

impl Prepared {
    fn placed(&self, index: u64, committed: Timestamp) -> Placed {
        Placed { index, leaf_hash: self.leaf_hash, claims_hash: self.claims_hash.clone(), committed }
    }

    fn stored(&self) -> Stored<'_> {
        Stored {
            event_id: self.event_id,
            kind: self.kind,
            pseudonym: self.pseudonym.as_deref(),
            named: &self.named,
            cameras: &self.cameras,
            claims_hash: self.claims_hash.as_deref(),
            leaf: &self.leaf,
        }
    }
}

impl From<&Row> for Placed {
    fn from(row: &Row) -> Self {
        Self {
            index: row.index,
            leaf_hash: leaf_hash(&row.leaf),
            claims_hash: row.claims_hash.clone(),
            committed: row.committed,
        }
    }
}
