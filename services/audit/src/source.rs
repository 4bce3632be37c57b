//! What feeds need of the log: entries in order, and a place to keep where they are.

use std::sync::Arc;

use async_trait::async_trait;
use obscura_clock::Timestamp;
use tokio::sync::watch;

use crate::{
    feed::{Cursors, Entry, LogSource, Position, Unavailable},
    store::{Error, Filter, Store},
};

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
        Ok(found.map(|(next_index, trouble)| Position { next_index, trouble }))
    }

    async fn save(&self, feed: &str, position: &Position) -> Result<(), Unavailable> {
        self.store
            .put_cursor(feed, position.next_index, &position.trouble)
            .await
            .map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &Error) -> Unavailable {
    Unavailable(error.to_string())
}
