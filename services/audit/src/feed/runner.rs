//! The task of one feed: connect, send, remember, and try again.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use obscura_clock::Monotonic;
use tokio::sync::{mpsc, oneshot};

use super::{
    BATCH, Entry, Position, Surroundings, Unavailable,
    metrics::OneFeed,
    sink::{Sink, Start, Trouble},
};

/// How often a feed with nothing to send looks after its connection.
const TICK: Duration = Duration::from_secs(1);
/// Positions go to the log's own database, which has more to do than to count.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const PARKED_WAIT: Duration = Duration::from_mins(5);

/// Someone wants a feed to go on from an index.
#[derive(Debug)]
pub struct Replay {
    /// The index.
    pub from_index: u64,
    /// Answered once the position is saved.
    pub answer: oneshot::Sender<Result<(), Unavailable>>,
}

/// One feed.
pub struct Runner {
    name: String,
    sink: Box<dyn Sink>,
    surroundings: Surroundings,
    metrics: OneFeed,
    /// `None` until it could be loaded.
    position: Option<Position>,
    /// The index below which the saved position lies, and when it was saved.
    saved: (u64, Monotonic),
    /// Someone asked for this position, and nothing was sent since.
    replay: bool,
    shown: Arc<Mutex<Position>>,
    waits: ExponentialBackoff,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("name", &self.name)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// A feed that does nothing yet.
    pub fn new(name: String, sink: Box<dyn Sink>, surroundings: Surroundings) -> Self {
        let metrics = surroundings.metrics.of(&name);
        let saved = (0, surroundings.clock.monotonic());
        let shown = Arc::default();
        Self {
            name,
            sink,
            surroundings,
            metrics,
            position: None,
            saved,
            replay: false,
            shown,
            waits: waits(),
        }
    }

    /// Where it is, for those who ask.
    pub fn shown(&self) -> Arc<Mutex<Position>> {
        Arc::clone(&self.shown)
    }

    /// Delivers until the shutdown.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Replay>) {
        let shutdown = self.surroundings.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(command) = commands.recv() => self.start_replay(command).await,
                never = self.deliver() => match never {},
            }
        }
        // A receiver that does not listen must not hold up the end.
        let _ = tokio::time::timeout(TICK, self.sink.close()).await;
        if let Err(error) = self.save().await {
            // What was delivered since the last save is delivered again, under the same ids.
            tracing::warn!(feed = self.name, %error, "a feed's position was not saved");
        }
    }

    async fn start_replay(&mut self, Replay { from_index, answer }: Replay) {
        let position = Position { next_index: from_index, trouble: String::new() };
        let saved = self.surroundings.cursors.save(&self.name, &position).await;
        if saved.is_ok() {
            tracing::info!(feed = self.name, from_index, "a feed is replayed");
            (self.position, self.replay, self.waits) = (Some(position), true, waits());
            self.show();
        }
        // Whoever asked may be gone; the replay goes on.
        let _ = answer.send(saved);
    }

    /// Sends, and waits ever longer where that fails. A shutdown or a replay ends it anywhere.
    async fn deliver(&mut self) -> Infallible {
        loop {
            let Err(trouble) = self.session().await;
            self.note_trouble(&trouble).await;
            let wait = match trouble {
                Trouble::Again(_) => self.waits.next().unwrap_or(LONGEST_WAIT),
                Trouble::Later(_, wait) => wait.min(PARKED_WAIT),
                Trouble::Parked(_) => PARKED_WAIT,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection, from its beginning to its trouble.
    async fn session(&mut self) -> Result<Infallible, Trouble> {
        let mut size = self.surroundings.source.size();
        let index = self.load().await?;
        let start = Start {
            index,
            replay: self.replay,
            size: *size.borrow_and_update(),
            source: &*self.surroundings.source,
        };
        if index > start.size {
            return Err(Trouble::Parked(format!(
                "the feed is at {index}, but the log has only {} entries: was an older log restored?",
                start.size
            )));
        }
        let mut next = self.sink.open(start).await?;
        self.moved_to(next).await?;
        loop {
            let entries = self.surroundings.source.entries(next, BATCH).await?;
            if entries.is_empty() {
                self.look_after().await?;
                // A closed channel means that the log is stopping, and so are we.
                let _ = tokio::time::timeout(TICK, size.changed()).await;
            } else {
                next = self.send_all(next, &entries).await?;
            }
        }
    }

    async fn send_all(&mut self, next: u64, entries: &[Entry]) -> Result<u64, Trouble> {
        let mut rest = without_holes(next, entries)?;
        while !rest.is_empty() {
            let taken = self.sink.send(rest).await?;
            self.metrics.sent(taken);
            rest = rest.get(taken.max(1)..).unwrap_or_default();
            self.replay = false;
            self.look_after().await?;
        }
        Ok(entries.last().map_or(next, |last| last.index.saturating_add(1)))
    }

    /// Takes note of what has arrived, and of a connection that broke.
    async fn look_after(&mut self) -> Result<(), Trouble> {
        let confirmed = self.sink.confirmed().await?;
        self.moved_to(confirmed).await
    }

    /// It delivers, and everything below `next_index` has arrived.
    async fn moved_to(&mut self, next_index: u64) -> Result<(), Trouble> {
        let position = Position { next_index, trouble: String::new() };
        let moved = self.position.as_ref().is_none_or(|before| before.next_index != next_index);
        let recovered = self.position.as_ref().is_some_and(|before| !before.trouble.is_empty());
        // A connection alone is no progress: a receiver that fails with every event is still failing.
        if recovered && !moved && next_index < *self.surroundings.source.size().borrow() {
            return Ok(());
        }
        self.position = Some(position);
        self.metrics.well();
        self.show();
        if recovered {
            tracing::info!(feed = self.name, next_index, "a feed delivers again");
        }
        if moved || recovered {
            self.waits = waits();
        }
        let due = self.surroundings.clock.monotonic().since(self.saved.1) >= SAVE_INTERVAL;
        if recovered || (due && self.saved.0 != next_index) {
            self.save().await?;
        }
        Ok(())
    }

    async fn note_trouble(&mut self, trouble: &Trouble) {
        self.metrics.failed();
        let mut position = self.position.clone().unwrap_or_default();
        if position.trouble == trouble.text() {
            return;
        }
        tracing::warn!(feed = self.name, trouble = trouble.text(), "a feed does not deliver");
        trouble.text().clone_into(&mut position.trouble);
        self.show_this(&position);
        // Where the position was never loaded, there is nothing to overwrite it with.
        if self.position.is_some() {
            self.position = Some(position);
            // Where this fails too, the trouble is still shown and logged.
            let _ = self.save().await;
        }
    }

    /// The remembered position; at first that of the first entry that is kept.
    async fn load(&mut self) -> Result<u64, Trouble> {
        let first_kept = self.surroundings.source.first_kept().await?;
        let position = match self.position.take() {
            Some(position) => position,
            None => {
                let loaded = self.surroundings.cursors.load(&self.name).await?;
                loaded.unwrap_or(Position { next_index: first_kept, trouble: String::new() })
            }
        };
        let next_index = position.next_index;
        self.position = Some(Position { next_index: next_index.max(first_kept), ..position });
        if next_index < first_kept {
            tracing::error!(
                feed = self.name,
                next_index,
                first_kept,
                "entries were pruned before a feed sent them"
            );
        }
        self.show();
        Ok(next_index.max(first_kept))
    }

    async fn save(&mut self) -> Result<(), Unavailable> {
        let Some(position) = &self.position else { return Ok(()) };
        self.surroundings.cursors.save(&self.name, position).await?;
        self.saved = (position.next_index, self.surroundings.clock.monotonic());
        Ok(())
    }

    fn show(&self) {
        if let Some(position) = &self.position {
            self.show_this(position);
        }
    }

    fn show_this(&self, position: &Position) {
        self.metrics.at(position.next_index, *self.surroundings.source.size().borrow());
        position.clone_into(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What came must follow what was sent.
fn without_holes(next: u64, entries: &[Entry]) -> Result<&[Entry], Trouble> {
    let expected = (next..).zip(entries);
    match expected.clone().find(|(index, entry)| *index != entry.index) {
        None => Ok(entries),
        Some((index, _)) => Err(Trouble::Again(format!("entry {index} was pruned or is missing in the log"))),
    }
}

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .without_max_times()
        .with_jitter()
        .build()
}
