//! Rotation of the key-encryption key.
//!
//! The audit log hears of the beginning before it begins, and of the end in the transaction that ends it.
//!
//! 1. The back end makes a new version, durably. A crash before leaves nothing, a crash after leaves
//!    a version with nothing under it.
//! 2. Rows move under it, batch by batch, each batch one transaction. Every row names the version it
//!    is under, so at any moment every row opens.
//! 3. With nothing left under older versions they are destroyed, while no one else can write: new
//!    rows are wrapped with the writer in hand, so none can slip under an old version meanwhile.
//!
//! What moves are the halves of row keys that are inside the database; their secrets outside
//! ([`crate::secrets`]) stay where they are.
//!
//! After a crash the next start goes on at 2. A row that does not open is left, the rest moves, and
//! the older versions stay.

use obscura_outbox::staged;
use obscura_proto::audit::v1::{Person, key_act::Act};
use tokio::sync::MutexGuard;

use crate::{
    custody::Custody,
    error::Error,
    expiry_hour::ExpiryHour,
    intake,
    key_encryption::KeyVersion,
    receipts,
    reports::act_event,
    store::{
        Writer,
        epoch::{self, EpochRow},
        hold, receipt_key,
    },
};

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The new version.
    pub version: KeyVersion,
    /// Rows that are under it.
    pub rewrapped: u64,
    /// Rows in all.
    pub total: u64,
}

/// One rotation under way.
pub struct Rotation<'a> {
    custody: &'a Custody,
    version: KeyVersion,
    batch: u32,
    /// Rows up to here are done or damaged.
    after: Option<ExpiryHour>,
    damaged: Option<Error>,
    /// Who asked for it; unknown once a crash came between.
    actor: Option<Person>,
    _alone: MutexGuard<'a, ()>,
}

impl<'a> Rotation<'a> {
    /// Makes a new version. `batch` rows move in each step.
    pub async fn begin(custody: &'a Custody, batch: u32, actor: Option<Person>) -> Result<Self, Error> {
        let alone = custody.rotating.try_lock().map_err(|_| Error::RotationUnderWay)?;
        custody.tell(act_event(&custody.parts.clock, actor.clone(), Act::Rotated, 0, "begins")).await?;
        let version = custody.parts.encryption.rotate().await?;
        Ok(Self { custody, version, batch, after: None, damaged: None, actor, _alone: alone })
    }

    /// The rotation that a crash cut short, where there is one.
    pub async fn resume(custody: &'a Custody, batch: u32) -> Result<Option<Self>, Error> {
        let alone = custody.rotating.try_lock().map_err(|_| Error::RotationUnderWay)?;
        if custody.parts.encryption.versions().await?.len() < 2 {
            return Ok(None);
        }
        let version = custody.parts.encryption.current().await?;
        Ok(Some(Self { custody, version, batch, after: None, damaged: None, actor: None, _alone: alone }))
    }

    /// Moves everything and destroys the older versions. Returns the last progress.
    pub async fn run(&mut self, mut report: impl FnMut(Progress)) -> Result<Progress, Error> {
        self.rewrap_own_keys().await?;
        self.rewrap_holds().await?;
        while self.rewrap_batch().await? {
            report(self.progress().await?);
        }
        self.retire().await?;
        self.progress().await
    }

    /// Moves the intake key and the receipt key.
    async fn rewrap_own_keys(&mut self) -> Result<(), Error> {
        let parts = &self.custody.parts;
        let writer = parts.store.write().await?;
        if let Some(stored) = writer.intake_key(&parts.zone).await?
            && stored.private_key.version != self.version
        {
            let private = self.custody.intake.private_bytes();
            let wrapped = parts.encryption.wrap(intake::row(&parts.zone), &private).await?;
            writer.put_intake_key(&parts.zone, &stored.public_key, wrapped).await?;
        }
        if let Some(stored) = receipt_key::get(writer.tx(), &parts.zone).await?
            && stored.seed.version != self.version
        {
            let moved = receipts::rewrap_key(parts, stored).await?;
            receipt_key::put(writer.tx(), &parts.zone, &moved).await?;
        }
        Ok(writer.commit().await?)
    }

    /// Moves the keys of holds, of which there are few.
    async fn rewrap_holds(&mut self) -> Result<(), Error> {
        let parts = &self.custody.parts;
        let writer = parts.store.write().await?;
        for row in hold::not_under(writer.tx(), self.version, &parts.zone).await? {
            let moved = match row {
                Ok(row) => self.custody.rewrap_hold(row).await,
                Err(damaged) => Err(damaged),
            };
            match moved {
                Ok(moved) => hold::put(writer.tx(), &parts.zone, &moved).await?,
                Err(damaged @ Error::Damaged { .. }) => self.set_aside(damaged),
                Err(error) => return Err(error),
            }
        }
        Ok(writer.commit().await?)
    }

    /// Moves one batch; `false` once there is none.
    pub(crate) async fn rewrap_batch(&mut self) -> Result<bool, Error> {
        let parts = &self.custody.parts;
        let writer = parts.store.write().await?;
        let rows = epoch::not_under(writer.tx(), self.version, &parts.zone, self.after, self.batch).await?;
        let Some(last) = rows.last() else { return Ok(false) };
        self.after = Some(last.hour);
        for row in rows {
            match self.rewrap(&writer, row).await {
                Err(damaged @ Error::Damaged { .. }) => self.set_aside(damaged),
                moved => moved?,
            }
        }
        writer.commit().await?;
        Ok(true)
    }

    async fn rewrap(&self, writer: &Writer<'_>, row: EpochRow) -> Result<(), Error> {
        let row = self.custody.rewrap_epoch(row).await?;
        epoch::put(writer.tx(), &self.custody.parts.zone, &row).await
    }

    fn set_aside(&mut self, damaged: Error) {
        tracing::error!(error = %damaged, "a row cannot move under the new key version");
        self.damaged.get_or_insert(damaged);
    }

    /// Destroys the older versions, unless something is left under them.
    async fn retire(&mut self) -> Result<(), Error> {
        if let Some(damaged) = self.damaged.take() {
            return Err(damaged);
        }
        let parts = &self.custody.parts;
        let writer = parts.store.write().await?;
        let (stale, _) = writer.rows_not_under(self.version).await?;
        if stale > 0 {
            tracing::warn!(rows = stale, "rows of other zones keep the older key versions alive");
            return self.tell_end(writer, "rows of other zones keep older versions alive").await;
        }
        for version in parts.encryption.versions().await? {
            if version < self.version {
                parts.encryption.retire(version).await?;
            }
        }
        writer.record_version(self.version, parts.clock.wall()).await?;
        writer.record_retired_before(self.version, parts.clock.wall()).await?;
        self.tell_end(writer, "complete").await
    }

    async fn tell_end(&mut self, writer: Writer<'_>, words: &str) -> Result<(), Error> {
        let clock = &self.custody.parts.clock;
        let event = act_event(clock, self.actor.take(), Act::Rotated, self.version.0, words);
        staged::stage(writer.tx(), &event).await?;
        writer.commit().await?;
        self.custody.parts.store.staged();
        Ok(())
    }

    async fn progress(&self) -> Result<Progress, Error> {
        let writer = self.custody.parts.store.write().await?;
        let (stale, total) = writer.rows_not_under(self.version).await?;
        Ok(Progress { version: self.version, rewrapped: total.saturating_sub(stale), total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Bench, HOUR};

    /// Three keys that expire on three days.
    async fn three_epochs(bench: &Bench) -> (Custody, Vec<crate::test_support::MadeKey>) {
        let custody = bench.open().await;
        let mut keys = Vec::new();
        for day in 0..3 {
            let key = bench.made_key(HOUR + 24 * day);
            custody.import(&bench.import_of(&custody, &key)).await.unwrap();
            keys.push(key);
        }
        (custody, keys)
    }

    async fn versions(custody: &Custody) -> Vec<KeyVersion> {
        custody.parts.encryption.versions().await.unwrap()
    }

    #[tokio::test]
    async fn a_rotation_moves_every_row_and_destroys_the_old_version() {
        let bench = Bench::new();
        let (custody, keys) = three_epochs(&bench).await;
        let mut seen = Vec::new();
        let mut rotation = Rotation::begin(&custody, 2, None).await.unwrap();
        let last = rotation.run(|progress| seen.push(progress.rewrapped)).await.unwrap();
        drop(rotation);
        assert_eq!(last, Progress { version: KeyVersion(2), rewrapped: 5, total: 5 });
        assert_eq!(seen, [4, 5]);
        assert_eq!(versions(&custody).await, [KeyVersion(2)]);
        for key in &keys {
            bench.assert_releasable(&custody, key).await;
        }
    }

    #[tokio::test]
    async fn a_rotation_killed_at_any_step_loses_nothing_and_goes_on_at_the_next_start() {
        for steps in 0..5 {
            let bench = Bench::new();
            let (custody, keys) = three_epochs(&bench).await;
            let mut rotation = Rotation::begin(&custody, 1, None).await.unwrap();
            if steps > 0 {
                rotation.rewrap_own_keys().await.unwrap();
            }
            for _ in 1..steps {
                assert!(rotation.rewrap_batch().await.unwrap());
            }
            drop(rotation);
            drop(custody);

            let custody = bench.open().await;
            for key in &keys {
                bench.assert_releasable(&custody, key).await;
            }
            let mut rotation = Rotation::resume(&custody, 1).await.unwrap().expect("an unfinished rotation");
            rotation.run(|_| {}).await.unwrap();
            drop(rotation);
            assert_eq!(versions(&custody).await, [KeyVersion(2)], "after {steps} steps");
            assert!(Rotation::resume(&custody, 1).await.unwrap().is_none());
            drop(custody);

            let custody = bench.open().await;
            for key in &keys {
                bench.assert_releasable(&custody, key).await;
            }
        }
    }

    #[tokio::test]
    async fn keys_imported_during_a_rotation_survive_it() {
        let bench = Bench::new();
        let (custody, _) = three_epochs(&bench).await;
        let mut rotation = Rotation::begin(&custody, 1, None).await.unwrap();
        rotation.rewrap_batch().await.unwrap();
        let late = bench.made_key(HOUR + 24 * 9);
        custody.import(&bench.import_of(&custody, &late)).await.unwrap();
        rotation.run(|_| {}).await.unwrap();
        bench.assert_releasable(&custody, &late).await;
    }

    #[tokio::test]
    async fn there_is_one_rotation_at_a_time() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let _first = Rotation::begin(&custody, 1, None).await.unwrap();
        assert!(matches!(Rotation::begin(&custody, 1, None).await, Err(Error::RotationUnderWay)));
        assert_eq!(versions(&custody).await.len(), 2);
    }

    #[tokio::test]
    async fn a_damaged_row_is_named_the_rest_moves_and_the_old_version_stays() {
        let bench = Bench::new();
        let (custody, keys) = three_epochs(&bench).await;
        bench.sql("UPDATE epoch SET wrapped_half = x'00' WHERE expiry_hour = (SELECT MIN(expiry_hour) FROM epoch)").await;
        let mut rotation = Rotation::begin(&custody, 1, None).await.unwrap();
        let error = rotation.run(|_| {}).await.unwrap_err();
        assert!(matches!(&error, Error::Damaged { row } if row.starts_with("epoch key eea/")), "{error}");
        assert_eq!(versions(&custody).await.len(), 2);
        for key in keys.iter().skip(1) {
            bench.assert_releasable(&custody, key).await;
        }
    }
}
