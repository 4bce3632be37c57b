//! A log and its cursors in memory, with faults.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use obscura_clock::SystemClock;
use obscura_ocsf::{ExamplePersons, encode, example_source};
use obscura_proto::audit::v1::{Event, Outcome, Test, event::Body};
use uuid::Uuid;

use super::super::*;

#[derive(Debug)]
pub struct MemoryLog {
    entries: Mutex<Vec<Entry>>,
    size: watch::Sender<u64>,
    positions: Mutex<BTreeMap<String, Position>>,
    /// What was told of losses, by feed.
    pub lost: Mutex<Vec<(String, Lost)>>,
    pub first_kept: Mutex<u64>,
    /// How often the next reads and saves fail.
    pub read_faults: AtomicU32,
    pub load_faults: AtomicU32,
    pub save_faults: AtomicU32,
    pub alarm_faults: AtomicU32,
}

impl MemoryLog {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            size: watch::Sender::new(0),
            positions: Mutex::default(),
            lost: Mutex::default(),
            first_kept: Mutex::new(0),
            read_faults: AtomicU32::new(0),
            load_faults: AtomicU32::new(0),
            save_faults: AtomicU32::new(0),
            alarm_faults: AtomicU32::new(0),
        })
    }

    /// A log with so many entries.
    pub fn with(count: u64) -> Arc<Self> {
        let log = Self::new();
        log.append(count);
        log
    }

    pub fn append(&self, count: u64) {
        let mut entries = self.entries.lock().unwrap();
        for _ in 0..count {
            let index = entries.len() as u64;
            let committed = SystemClock::shared().wall();
            entries.push(Entry { index, leaf: leaf(index, committed).into(), committed });
        }
        self.size.send_replace(entries.len() as u64);
    }

    pub fn len(&self) -> u64 {
        *self.size.borrow()
    }

    pub fn all(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    pub fn position(&self, feed: &str) -> Option<Position> {
        self.positions.lock().unwrap().get(feed).cloned()
    }

    /// As after the restoration of an older database.
    pub fn set_position(&self, feed: &str, next_index: u64) {
        let position = Position { next_index, ..Position::default() };
        self.positions.lock().unwrap().insert(feed.to_owned(), position);
    }
}

fn leaf(index: u64, now: Timestamp) -> Vec<u8> {
    let event = Event {
        event_id: Uuid::now_v7().to_string(),
        time_unix_ns: now.unix_nanos(),
        outcome: Outcome::Success.into(),
        actor: None,
        // Of all sizes, up to what a receiver may not expect.
        body: Some(Body::Test(Test {
            text: format!("{index} {}", "é\"".repeat(usize::try_from(index % 120).unwrap())),
        })),
    };
    encode(&event, &example_source(), &mut ExamplePersons).unwrap().bytes
}

/// Counts down, and fails while it has not come to zero.
fn fault(left: &AtomicU32) -> Result<(), Unavailable> {
    let failed = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    if failed { Err(Unavailable("the test says so".into())) } else { Ok(()) }
}

#[async_trait]
impl LogSource for MemoryLog {
    async fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, Unavailable> {
        fault(&self.read_faults)?;
        let first_kept = *self.first_kept.lock().unwrap();
        let entries = self.entries.lock().unwrap();
        Ok(entries.iter().skip(usize::try_from(from.max(first_kept)).unwrap()).take(limit).cloned().collect())
    }

    async fn first_kept(&self) -> Result<u64, Unavailable> {
        Ok(*self.first_kept.lock().unwrap())
    }

    async fn first_since(&self, moment: Timestamp) -> Result<u64, Unavailable> {
        let first_kept = *self.first_kept.lock().unwrap();
        let entries = self.entries.lock().unwrap();
        Ok((entries.partition_point(|entry| entry.committed < moment) as u64).max(first_kept))
    }

    fn size(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }
}

#[async_trait]
impl Alarms for MemoryLog {
    async fn lost(&self, feed: &str, lost: Lost) -> Result<(), Unavailable> {
        fault(&self.alarm_faults)?;
        self.lost.lock().unwrap().push((feed.to_owned(), lost));
        Ok(())
    }
}

#[async_trait]
impl Cursors for MemoryLog {
    async fn load(&self, feed: &str) -> Result<Option<Position>, Unavailable> {
        fault(&self.load_faults)?;
        Ok(self.position(feed))
    }

    async fn save(&self, feed: &str, position: &Position) -> Result<(), Unavailable> {
        fault(&self.save_faults)?;
        self.positions.lock().unwrap().insert(feed.to_owned(), position.clone());
        Ok(())
    }
}
