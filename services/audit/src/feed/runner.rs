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
    BATCH, Entry, Lost, Position, Surroundings, Unavailable,
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
        // Whoever asks has seen what was lost.
        let position = Position { next_index: from_index, ..Position::default() };
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
            let backoff = self.waits.next().unwrap_or(LONGEST_WAIT);
            tokio::time::sleep(wait_after(&trouble, backoff)).await;
        }
    }

    /// One connection, from its beginning to its trouble.
    async fn session(&mut self) -> Result<Infallible, Trouble> {
        let mut size = self.surroundings.source.size();
        let first_kept = self.surroundings.source.first_kept().await?;
        let remembered = self.load(first_kept).await?;
        let start = Start {
            index: remembered.max(first_kept),
            replay: self.replay,
            size: *size.borrow_and_update(),
            source: &*self.surroundings.source,
        };
        if remembered > start.size {
            return Err(Trouble::Parked(format!(
                "the feed is at {remembered}, but the log has only {} entries: was an older log restored?",
                start.size
            )));
        }
        let mut next = self.sink.open(start).await?;
        if let Some(lost) = self.newly_lost(self.sink.arrived().unwrap_or(remembered), first_kept) {
            self.note_loss(lost).await?;
        }
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

    /// What was lost and is not told yet. A receiver that says itself what it has says the same until the next entry
    /// arrives.
    fn newly_lost(&self, arrived: u64, first_kept: u64) -> Option<Lost> {
        let told = self.position.as_ref().and_then(|position| position.lost);
        let told = told.filter(|told| told.first <= arrived).map_or(0, |told| told.last.saturating_add(1));
        Lost::between(arrived.max(told), first_kept)
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
        let lost = self.position.as_ref().and_then(|before| before.lost);
        let position = Position { next_index, trouble: String::new(), lost };
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
    async fn load(&mut self, first_kept: u64) -> Result<u64, Trouble> {
        let position = match self.position.take() {
            Some(position) => position,
            None => {
                let loaded = self.surroundings.cursors.load(&self.name).await?;
                loaded.unwrap_or_else(|| Position { next_index: first_kept, ..Position::default() })
            }
        };
        let next_index = position.next_index;
        self.position = Some(position);
        self.show();
        Ok(next_index)
    }

    /// Tells the log before the feed goes on behind what it lost, and remembers it until somebody has seen it. A crash
    /// in between tells it again under the same id.
    async fn note_loss(&mut self, lost: Lost) -> Result<(), Trouble> {
        let Lost { first, last } = lost;
        tracing::error!(feed = self.name, first, last, "entries were pruned before a feed sent them");
        self.surroundings.alarms.lost(&self.name, lost).await?;
        let before = self.position.clone().unwrap_or_default();
        let position = Position {
            next_index: last.saturating_add(1).max(before.next_index),
            lost: Some(before.lost.map_or(lost, |before| before.and(lost))),
            ..before
        };
        self.surroundings.cursors.save(&self.name, &position).await?;
        self.metrics.lost(lost.entries());
        self.position = Some(position);
        self.show();
        Ok(())
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
        let shown = Position { trouble: self.words(position), ..*position };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What is wrong now, what was lost, and what a person should change although events arrive.
    fn words(&self, position: &Position) -> String {
        let lost = position.lost.map(Lost::words).unwrap_or_default();
        let warning = self.sink.warning().unwrap_or_default();
        let words = [position.trouble.as_str(), lost.as_str(), warning.as_str()];
        words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

/// How long to wait after a trouble, where the back-off has come to `backoff`.
fn wait_after(trouble: &Trouble, backoff: Duration) -> Duration {
    match trouble {
        Trouble::Again(_) => backoff,
        // A receiver may ask for longer waits, not for an attempt after the other, and not for hours of silence.
        Trouble::Later(_, wait) => (*wait).max(backoff).min(PARKED_WAIT),
        Trouble::Parked(_) => PARKED_WAIT,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_says_when_to_come_is_asked_neither_before_the_back_off_nor_after_the_parked_wait() {
        let later = |seconds| Trouble::Later("busy".into(), Duration::from_secs(seconds));
        for (asked, backoff, wait) in [(0, 3, 3), (2, 3, 3), (7, 3, 7), (u64::MAX, 3, 300)] {
            let (backoff, wait) = (Duration::from_secs(backoff), Duration::from_secs(wait));
            assert_eq!(wait_after(&later(asked), backoff), wait, "{asked}");
        }
        assert_eq!(wait_after(&Trouble::Again("away".into()), FIRST_WAIT), FIRST_WAIT);
        assert_eq!(wait_after(&Trouble::Parked("refused".into()), FIRST_WAIT), PARKED_WAIT);
    }
}
