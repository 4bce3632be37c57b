//! Out of the log: to NATS JetStream, an HTTPS webhook, or syslog over TLS.
//!
//! The log is the record and a feed is a projection of it. Each feed is a task of its own that reads
//! entries by index, hands them over in their order, and remembers (durably, in the log's database)
//! the index below which everything has arrived for good. It reads at most [`BATCH`] entries ahead,
//! so that a slow receiver costs neither memory nor the log nor another feed anything; it only lags,
//! and the lag is a metric.
//!
//! Delivery is at least once, and the index and the event's id travel with every event, so that a
//! consumer that knows ids sees every event exactly once. What each step leaves when it is cut off:
//!
//! | step | a crash or a broken connection leaves | what repairs it |
//! |---|---|---|
//! | read entries | nothing | read again |
//! | hand over | the receiver may have some | sent again from the remembered index, under the same ids |
//! | acknowledged, not remembered | the receiver has them | NATS: the stream's last message says so; others: sent again |
//! | remembered, but the receiver loses them | a hole at the receiver | NATS: seen at the next connect and refilled; syslog: what is younger than `settle_seconds` is sent again; all: `ReplayFeed` |
//!
//! A receiver that refuses for good (a webhook that answers 400, a bus that acknowledges before it
//! syncs) parks its feed: it says why, tries again every few minutes, and skips nothing. Only what the log itself no
//! longer has is skipped: that is an alarm in the log, and stays in the feed's trouble until somebody replays the feed.

mod metrics;
mod nats;
mod pem;
mod runner;
mod settings;
mod sink;
mod syslog;
mod webhook;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use obscura_clock::{SharedClock, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use metrics::FeedMetrics;
pub use nats::Settings as NatsSettings;
pub use settings::{InvalidSettings, Settings, check};
pub use syslog::Settings as SyslogSettings;
pub use webhook::Settings as WebhookSettings;

use runner::{Replay, Runner};

/// Entries that a feed reads at a time: at most 16 MiB, and usually a fifth of one.
pub(crate) const BATCH: usize = 256;

/// The database could not answer, in words without personal data. The feed tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be read at the moment: {0}")]
pub struct Unavailable(pub String);

/// One committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// The bytes that the log hashed.
    pub leaf: Bytes,
    /// When it was committed.
    pub committed: Timestamp,
}

/// The log, as feeds see it.
#[async_trait]
pub trait LogSource: Send + Sync + Debug {
    /// Committed entries from `from` on, in their order and without holes, at most `limit`. Fewer is
    /// fine; none only where `from` is the size of the log, or everything from there on was pruned.
    ///
    /// # Errors
    /// Where the database does not answer.
    async fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, Unavailable>;

    /// First index whose entry is still kept.
    ///
    /// # Errors
    /// Where the database does not answer.
    async fn first_kept(&self) -> Result<u64, Unavailable>;

    /// Index of the first kept entry that was committed at or after `moment`; the size of the log
    /// where there is none.
    ///
    /// # Errors
    /// Where the database does not answer.
    async fn first_since(&self, moment: Timestamp) -> Result<u64, Unavailable>;

    /// Number of committed leaves; a new value after each commit.
    fn size(&self) -> watch::Receiver<u64>;
}

/// Where a feed is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Everything below has arrived for good.
    pub next_index: u64,
    /// What is wrong, in words; empty where nothing is.
    pub trouble: String,
    /// What it will never send, until somebody has seen that.
    pub lost: Option<Lost>,
}

/// Entries that were pruned before a feed had sent them, from the first to the last. Where it happened more than once
/// there are entries in between that it did send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Index of the first.
    pub first: u64,
    /// Index of the last.
    pub last: u64,
}

impl Lost {
    /// What lies between an index below which everything has arrived and the first that is kept.
    fn between(arrived: u64, first_kept: u64) -> Option<Self> {
        let last = first_kept.checked_sub(1)?;
        (arrived <= last).then_some(Self { first: arrived, last })
    }

    /// Both.
    fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// How many.
    const fn entries(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// For operators.
    #[must_use]
    pub fn words(self) -> String {
        format!(
            "entries from {} to {} were pruned before they were sent: fetch them from a copy of the log, then confirm \
             with `obscura audit replay`",
            self.first, self.last
        )
    }
}

/// Tells the log what a person must look at.
#[async_trait]
pub trait Alarms: Send + Sync + Debug {
    /// Writes down that a feed will never send these entries; once, however often it is called.
    ///
    /// # Errors
    /// Where the log cannot be written.
    async fn lost(&self, feed: &str, lost: Lost) -> Result<(), Unavailable>;
}

/// Remembers positions durably.
#[async_trait]
pub trait Cursors: Send + Sync + Debug {
    /// The position of a feed; `None` where it never had one.
    ///
    /// # Errors
    /// Where the database does not answer.
    async fn load(&self, feed: &str) -> Result<Option<Position>, Unavailable>;

    /// Replaces the position of a feed. Called about once a second while it moves.
    ///
    /// # Errors
    /// Where the database does not answer.
    async fn save(&self, feed: &str, position: &Position) -> Result<(), Unavailable>;
}

/// What feeds need around them.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The log.
    pub source: Arc<dyn LogSource>,
    /// Where positions are kept.
    pub cursors: Arc<dyn Cursors>,
    /// Where a loss is told.
    pub alarms: Arc<dyn Alarms>,
    /// What is counted.
    pub metrics: FeedMetrics,
    /// Time.
    pub clock: SharedClock,
    /// Ends every feed.
    pub shutdown: CancellationToken,
}

/// How a feed does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Name.
    pub feed: String,
    /// Everything below has arrived for good.
    pub next_index: u64,
    /// What is wrong, was lost, or should be changed, in words; empty where nothing is.
    pub trouble: String,
}

/// Why a feed cannot be set to an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// No feed has that name.
    #[error("there is no feed `{0}`; `obscura audit status` lists them")]
    UnknownFeed(String),
    /// The log does not have that entry.
    #[error("index {index} is not in the log, which keeps {first_kept} to {size} (exclusive)")]
    OutOfRange {
        /// What was asked for.
        index: u64,
        /// First index that is kept.
        first_kept: u64,
        /// Size of the log.
        size: u64,
    },
    /// The position could not be saved.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Starts one task for each feed and returns at once: receivers that are away are waited for.
///
/// # Errors
/// Names the setting that is wrong, as [`check`] does.
pub fn start(
    settings: BTreeMap<String, Settings>,
    surroundings: &Surroundings,
) -> Result<Feeds, InvalidSettings> {
    check(&settings)?;
    let tasks = TaskTracker::new();
    let start_one = |(name, settings): (String, Settings)| {
        let sink = settings.into_sink(&surroundings.clock);
        (name.clone(), Handle::spawn(Runner::new(name, sink, surroundings.clone()), &tasks))
    };
    let handles = settings.into_iter().map(start_one).collect();
    tasks.close();
    Ok(Feeds { handles, tasks, source: Arc::clone(&surroundings.source) })
}

/// The feeds that run.
#[derive(Debug)]
pub struct Feeds {
    handles: BTreeMap<String, Handle>,
    tasks: TaskTracker,
    source: Arc<dyn LogSource>,
}

impl Feeds {
    /// How each does, by name.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let status = |(feed, handle): (&String, &Handle)| {
            let Position { next_index, trouble, .. } =
                handle.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Status { feed: feed.clone(), next_index, trouble }
        };
        self.handles.iter().map(status).collect()
    }

    /// Lets a feed go on from an index, which may be one that it had before.
    ///
    /// # Errors
    /// Where there is no such feed or entry, or the position cannot be saved.
    pub async fn replay(&self, feed: &str, from_index: u64) -> Result<(), ReplayError> {
        let handle = self.handles.get(feed).ok_or_else(|| ReplayError::UnknownFeed(feed.to_owned()))?;
        let (first_kept, size) = (self.source.first_kept().await?, *self.source.size().borrow());
        if from_index < first_kept || from_index > size {
            return Err(ReplayError::OutOfRange { index: from_index, first_kept, size });
        }
        let (answer, answered) = oneshot::channel();
        let command = Replay { from_index, answer };
        let stopping = || Unavailable("the service is stopping".into());
        handle.commands.send(command).await.map_err(|_| stopping())?;
        Ok(answered.await.map_err(|_| stopping())??)
    }

    /// Waits until every feed has ended and saved its position, once the shutdown was asked for.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

#[derive(Debug)]
struct Handle {
    commands: mpsc::Sender<Replay>,
    shown: Arc<Mutex<Position>>,
}

impl Handle {
    fn spawn(runner: Runner, tasks: &TaskTracker) -> Self {
        let (commands, received) = mpsc::channel(1);
        let shown = runner.shown();
        tasks.spawn(runner.run(received));
        Self { commands, shown }
    }
}

#[cfg(test)]
mod tests;
