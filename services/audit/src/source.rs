//! What feeds need of the log: entries in order, and a place to keep where they are.

use std::sync::Arc;

use async_trait::async_trait;
use obscura_clock::Timestamp;
use obscura_proto::audit::v1::service_act::Act;
use tokio::sync::watch;

use crate::{
    alarm::act,
    event_id::EventId,
    feed::{Alarms, Cursors, Entry, LogSource, Lost, Position, Unavailable},
    log::Log,
    store::{Cursor, Error, Filter, Store},
};

/// Alarm: a feed will never send some entries.
const LOST: &str = "audit_feed_lost";

/// The log as feeds see it.
#[derive(Clone, Debug)]
pub struct Source {
    store: Arc<Store>,
    size: watch::Receiver<u64>,
}

impl Source {
    /// The log in these tables, whose size the sequencer tells.
    pub const fn new(store: Arc<Store>, size: watch::Receiver<u64>) -> Self {
        Self { store, size }
    }
}

#[async_trait]
impl LogSource for Source {
    async fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, Unavailable> {
        let from = from.max(self.first_kept().await?);
        let (size, limit) = (*self.size.borrow(), u64::try_from(limit).unwrap_or(u64::MAX));
        let rows = self
            .store
            .entries(from, size, limit, &Filter::default())
            .await
            .map_err(|error| unavailable(&error))?;
        let entry =
            |row: crate::store::Row| Entry { index: row.index, leaf: row.leaf, committed: row.committed };
        Ok(rows.into_iter().map(entry).collect())
    }

    async fn first_kept(&self) -> Result<u64, Unavailable> {
        Ok(self.store.head().await.map_err(|error| unavailable(&error))?.first_kept)
    }

    async fn first_since(&self, moment: Timestamp) -> Result<u64, Unavailable> {
        let found =
            self.store.indexes_between(Some(moment), None).await.map_err(|error| unavailable(&error))?;
        let head = self.store.head().await.map_err(|error| unavailable(&error))?;
        Ok(found.map_or(head.size, |(first, _)| first.max(head.first_kept)))
    }

    fn size(&self) -> watch::Receiver<u64> {
        self.size.clone()
    }
}

#[async_trait]
impl Cursors for Source {
    async fn load(&self, feed: &str) -> Result<Option<Position>, Unavailable> {
        let found = self.store.cursor(feed).await.map_err(|error| unavailable(&error))?;
        let position = |Cursor { next_index, trouble, lost }| Position {
            next_index,
            trouble,
            lost: lost.map(|(first, last)| Lost { first, last }),
        };
        Ok(found.map(position))
    }

    async fn save(&self, feed: &str, position: &Position) -> Result<(), Unavailable> {
        let Position { next_index, trouble, lost } = position.clone();
        let cursor = Cursor { next_index, trouble, lost: lost.map(|lost| (lost.first, lost.last)) };
        self.store.put_cursor(feed, &cursor).await.map_err(|error| unavailable(&error))
    }
}

/// Tells the log itself what feeds lost.
#[derive(Clone, Debug)]
pub struct LossAlarms(Arc<Log>);

impl LossAlarms {
    /// In this log.
    pub const fn new(log: Arc<Log>) -> Self {
        Self(log)
    }
}

#[async_trait]
impl Alarms for LossAlarms {
    async fn lost(&self, feed: &str, lost: Lost) -> Result<(), Unavailable> {
        // Its id follows from what is told, so that it is told once.
        let (first, last) = (lost.first.to_be_bytes(), lost.last.to_be_bytes());
        let id = EventId::of(&[b"feed lost", feed.as_bytes(), &first, &last]);
        let event = self.0.own(id, act(Act::Alarm, LOST, &format!("the feed {feed}: {}", lost.words())));
        let appended = self.0.append(&self.0.parts.own_id, &event).await;
        appended.map(drop).map_err(|error| Unavailable(error.to_string()))
    }
}

fn unavailable(error: &Error) -> Unavailable {
    Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Bench;

    #[tokio::test]
    async fn a_loss_is_told_once_for_each_feed_in_an_event_that_the_log_takes() {
        let bench = Bench::sqlite().await;
        let alarms = LossAlarms::new(bench.log.clone());
        for feed in ["siem", "siem", "bus", "siem"] {
            alarms.lost(feed, Lost { first: 3, last: 9 }).await.unwrap();
        }
        assert_eq!(bench.kinds().await, ["service", "service"]);
        let told = bench.leaf(0).await;
        for words in [LOST, "the feed siem", "entries from 3 to 9"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        alarms.lost("siem", Lost { first: 3, last: 10 }).await.unwrap();
        assert_eq!(bench.size().await, 3);
    }

    #[tokio::test]
    async fn a_feed_finds_again_where_it_was_and_what_it_lost() {
        let bench = Bench::sqlite().await;
        let source = Source::new(bench.log.parts.store.clone(), bench.log.parts.sequencer.size());
        for lost in [Some(Lost { first: 3, last: 9 }), None] {
            let position = Position { next_index: 12, trouble: "away".into(), lost };
            source.save("siem", &position).await.unwrap();
            assert_eq!(source.load("siem").await.unwrap(), Some(position));
        }
    }
}
