//! Feeds against real receivers, which are killed, purged and made to fail.

mod faults;
mod log;
mod nats;
mod persons;
mod syslog;
mod webhook;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use obscura_clock::SystemClock;
use tokio_util::sync::CancellationToken;

use super::*;
use log::MemoryLog;

/// Machines that run tests may be busy.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// Feeds that run on a log in memory.
struct Running {
    feeds: Feeds,
    shutdown: CancellationToken,
}

impl Running {
    fn start(log: &Arc<MemoryLog>, name: &str, settings: Settings) -> Self {
        Self::start_all(log, [(name.to_owned(), settings)].into())
    }

    fn start_all(log: &Arc<MemoryLog>, settings: BTreeMap<String, Settings>) -> Self {
        Self::start_on(&surroundings(log), settings)
    }

    fn start_on(surroundings: &Surroundings, settings: BTreeMap<String, Settings>) -> Self {
        // Two providers may be linked into a test; whoever comes first has chosen the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let shutdown = surroundings.shutdown.clone();
        Self { feeds: start(settings, surroundings).unwrap(), shutdown }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.feeds.stopped().await;
    }

    fn status(&self) -> Status {
        self.feeds.status().remove(0)
    }

    /// Waits until everything in the log has arrived.
    async fn delivered(&self, log: &MemoryLog) {
        let size = log.len();
        until(&format!("{size} entries have arrived"), || {
            let status = self.status();
            (status.next_index == size && status.trouble.is_empty())
                .then_some(())
                .ok_or(format!("{status:?}"))
        })
        .await;
    }

    /// Waits until everything below an index has arrived, whatever the feed says besides.
    async fn arrived(&self, next_index: u64) {
        until(&format!("everything below {next_index} has arrived"), || {
            let status = self.status();
            if status.next_index == next_index { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    /// Waits until the feed says what is wrong.
    async fn troubled(&self, words: &str) -> Status {
        until(&format!("the feed says `{words}`"), || {
            let status = self.status();
            if status.trouble.contains(words) { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }
}

fn surroundings(log: &Arc<MemoryLog>) -> Surroundings {
    Surroundings {
        source: log.clone(),
        cursors: log.clone(),
        alarms: log.clone(),
        metrics: FeedMetrics::new(),
        clock: SystemClock::shared(),
        shutdown: CancellationToken::new(),
    }
}

/// Waits for something, and says what there was instead.
async fn until<T>(what: &str, mut happened: impl FnMut() -> Result<T, String>) -> T {
    for _ in 0..(PATIENCE.as_millis() / POLL.as_millis()) {
        if let Ok(value) = happened() {
            return value;
        }
        tokio::time::sleep(POLL).await;
    }
    match happened() {
        Ok(value) => value,
        Err(instead) => panic!("{what}: not so after {PATIENCE:?}, but {instead}"),
    }
}

/// Every event of the log came, and by its id exactly once.
fn assert_each_once_by_id(log: &MemoryLog, received: &[(u64, Vec<u8>)]) {
    let mut by_id = BTreeMap::new();
    for (index, leaf) in received {
        let id = obscura_ocsf::read(leaf).unwrap().event_id;
        let before = by_id.insert(id, (*index, leaf.clone()));
        // A repetition is the same event at the same place, byte for byte.
        assert!(before.is_none_or(|before| before == (*index, leaf.clone())));
    }
    let mut distinct: Vec<_> = by_id.into_values().collect();
    distinct.sort();
    let expected: Vec<_> = log.all().into_iter().map(|entry| (entry.index, entry.leaf.to_vec())).collect();
    assert!(distinct == expected, "{} of {} events came", distinct.len(), expected.len());
}
