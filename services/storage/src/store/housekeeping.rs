//! What reconciliation, scrub and reindexing keep, and how they walk over the index.

use std::collections::BTreeSet;

use obscura_blob::BlobKey;
use obscura_clock::Timestamp;
use obscura_ids::{LayerKeyId, PackId};
use obscura_proto::storage::v1::FindingKind;

use super::{
    Error, Inserted, Notice, Store, Subject, Tombstone, Walk, arrivals::Arrival, damage, fact, fact::Fact,
    mark, notice, quarantine, receipt, tombstone, walk,
};
use crate::{index::PackRow, run::Run};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packs in the index.
    pub packs: u64,
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Segments of those.
    pub deleted_segments: u64,
    /// Packs whose objects wait for deletion.
    pub pending_deletions: u64,
    /// Packs that the scrub found damaged.
    pub damaged_packs: u64,
}

impl Store {
    /// Kind of the database, as its makers write it.
    #[must_use]
    pub fn database_kind(&self) -> &'static str {
        match self.database.backend() {
            sea_orm::DbBackend::Postgres => "PostgreSQL",
            _ => "SQLite",
        }
    }

    /// Adds a pack that was found in the bucket. The audit log heard of it when it came.
    ///
    /// # Errors
    /// As [`Store::insert_pack`].
    pub async fn restore_pack(&self, row: &PackRow, runs: &[Run]) -> Result<Inserted, Error> {
        self.add_pack(Arrival { row: row.clone(), runs: runs.to_vec(), tell: None }).await
    }

    /// A page of packs in the order of the bytes of their keys.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn walk(&self, walk: &Walk) -> Result<Vec<PackRow>, Error> {
        walk::walk(self.database.readers(), walk).await
    }

    /// Sealed bytes that a walk comes by, about: what its runs have, in equal shares where they reach beyond its span.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn weigh(&self, walk: &Walk) -> Result<u64, Error> {
        walk::weigh(self.database.readers(), walk).await
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn totals(&self) -> Result<Totals, Error> {
        let readers = self.database.readers();
        let (deleted_packs, deleted_segments) = tombstone::count(readers).await?;
        Ok(Totals {
            packs: walk::count(readers).await?,
            deleted_packs,
            deleted_segments,
            pending_deletions: mark::count_complete(readers).await?,
            damaged_packs: damage::count(readers).await?,
        })
    }

    /// Those of the keys of which receipts say that a part was destroyed.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn touched_keys(&self, keys: &[LayerKeyId]) -> Result<BTreeSet<LayerKeyId>, Error> {
        let shredded = receipt::of_keys(self.database.readers(), keys).await?;
        Ok(shredded.into_iter().map(|shredded| shredded.key.key).collect())
    }

    /// The tombstone of a pack that was deleted.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn tombstone(&self, pack: PackId) -> Result<Option<Tombstone>, Error> {
        tombstone::find(self.database.readers(), pack).await
    }

    /// What the audit log has to hear now: the same until it is closed.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn open_notices(&self, subject: Subject, limit: u64) -> Result<Vec<Notice>, Error> {
        let write = self.database.write().await?;
        let notices = notice::open(&*write, subject, limit).await?;
        write.commit().await?;
        Ok(notices)
    }

    /// Forgets notices that were told.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn close_notices(&self, subject: Subject, through: u64) -> Result<(), Error> {
        let write = self.database.write().await?;
        notice::close(&*write, subject, through).await?;
        Ok(write.commit().await?)
    }

    /// A number that is kept; 0 where it was never set.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn number(&self, fact: Fact) -> Result<u64, Error> {
        fact::number(self.database.readers(), fact).await
    }

    /// Keeps a number.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn set_number(&self, fact: Fact, value: u64) -> Result<(), Error> {
        let write = self.database.write().await?;
        fact::set_number(&*write, fact, value).await?;
        Ok(write.commit().await?)
    }

    /// Moves a number to `to` unless it lies between `unless_after` and `to` already; of several replicas one
    /// gets `true`. A number beyond `to` was set by a clock that ran ahead, and does not count.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn claim(&self, fact: Fact, unless_after: u64, to: u64) -> Result<bool, Error> {
        let write = self.database.write().await?;
        let there = fact::number(&*write, fact).await?;
        if there > unless_after && there <= to {
            return Ok(false);
        }
        fact::set_number(&*write, fact, to).await?;
        write.commit().await?;
        Ok(true)
    }

    /// The object that reindexing looked at last, where it was cut short.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn reindex_cursor(&self) -> Result<Option<BlobKey>, Error> {
        let cursor = fact::get(self.database.readers(), Fact::ReindexCursor).await?;
        let key = cursor.map(|cursor| String::from_utf8(cursor).ok().and_then(|key| key.parse().ok()));
        key.map(|key| key.ok_or(Error::Corrupt("an object key that is none"))).transpose()
    }

    /// Where reindexing goes on; `None` once it is finished.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn set_reindex_cursor(&self, cursor: Option<&BlobKey>) -> Result<(), Error> {
        let write = self.database.write().await?;
        match cursor {
            Some(key) => fact::set(&*write, Fact::ReindexCursor, key.as_str().into()).await?,
            None => fact::clear(&*write, Fact::ReindexCursor).await?,
        }
        Ok(write.commit().await?)
    }

    /// Remembers that a pack is damaged.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn add_damage(&self, pack: PackId, kind: FindingKind, now: Timestamp) -> Result<(), Error> {
        let write = self.database.write().await?;
        damage::add(&*write, pack, kind.into(), now.unix_nanos()).await?;
        Ok(write.commit().await?)
    }

    /// Whether the scrub found this pack damaged.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn is_damaged(&self, pack: PackId) -> Result<bool, Error> {
        damage::contains(self.database.readers(), pack).await
    }

    /// Remembers that a pack is whole, and the sums of its chunks where there are none yet.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn set_whole(&self, pack: PackId, sums: Option<&[u32]>) -> Result<(), Error> {
        let write = self.database.write().await?;
        damage::remove(&*write, pack).await?;
        if let Some(sums) = sums {
            damage::put_sums(&*write, pack, sums).await?;
        }
        Ok(write.commit().await?)
    }

    /// Sums of the chunks of all segments, from when the pack was last whole.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn chunk_sums(&self, pack: PackId) -> Result<Option<Vec<u32>>, Error> {
        damage::sums(self.database.readers(), pack).await
    }

    /// Sets an object aside.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn quarantine(&self, key: &BlobKey, why: &str, now: Timestamp) -> Result<(), Error> {
        let write = self.database.write().await?;
        quarantine::add(&*write, key, why, now.unix_nanos()).await?;
        Ok(write.commit().await?)
    }

    /// Why an object is set aside, if it is.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn quarantined(&self, key: &BlobKey) -> Result<Option<String>, Error> {
        quarantine::find(self.database.readers(), key).await
    }
}
