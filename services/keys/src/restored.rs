//! Epochs of a database that was restored from a backup.
//!
//! An early destruction gives an epoch another secret and erases the old one. A backup from before still names
//! the old one, so nothing could come under that epoch until it is over, and recorders would wait with the
//! keys of the hour. A mark outside the database that is ahead of it shows two things: the database is old,
//! and the folder is the right one. What is missing in the folder then was erased on purpose.

use zeroize::Zeroizing;

use crate::{
    custody::Custody,
    epoch_key::EpochKey,
    error::Error,
    expiry_hour::ExpiryHour,
    lost_epoch::opened,
    store::{
        Writer,
        destroyed_key::{self, DestroyedRow},
        epoch::{self, EpochRow},
        kept_key::{self, KeptRow},
    },
};

impl Custody {
    /// Each epoch whose secret was erased gets the secret that came after it, where one opens any of its rows:
    /// then everything opens but what was destroyed. Otherwise it goes, and its rows with it, and the next key
    /// that comes begins it anew. Releases still wait for the receipts.
    pub(crate) async fn mend_restored_epochs(&self) -> Result<(), Error> {
        // Not `check_not_behind`: that the log knows more says nothing about the folder.
        if self.check_has_receipts().is_ok() {
            return Ok(());
        }
        let writer = self.parts.store.write().await?;
        for hour in epoch::all(writer.tx(), &self.parts.zone).await? {
            let row = self.damage.readable(epoch::get(writer.tx(), &self.parts.zone, hour).await)?;
            if let Some(row) = row.flatten()
                && self.parts.secrets.read(&row.secret)?.is_none()
            {
                match self.mend(&writer, &row).await {
                    Err(damaged @ Error::Damaged { .. }) => {
                        tracing::error!(error = %damaged, "an epoch of an old copy stays without its secret");
                    }
                    done => done?,
                }
            }
        }
        Ok(writer.commit().await?)
    }

    async fn mend(&self, writer: &Writer<'_>, epoch: &EpochRow) -> Result<(), Error> {
        let (zone, hour) = (&self.parts.zone, epoch.hour);
        let half = self.half_of(epoch).await?;
        let rows = self.damage.sift(kept_key::of_epoch(writer.tx(), zone, hour).await?)?;
        if let Some(mended) = self.succeeded(writer, hour, &half, &rows).await? {
            tracing::warn!(%hour, "an epoch of an old copy of the database has its newer secret again");
            return epoch::put(writer.tx(), zone, &mended).await;
        }
        tracing::warn!(%hour, keys = rows.len(), "an epoch of an old copy of the database was destroyed since");
        let gone: Vec<DestroyedRow> = rows.iter().map(DestroyedRow::from).collect();
        destroyed_key::put(writer.tx(), zone, &gone).await?;
        let ids: Vec<_> = rows.iter().map(|row| row.context.key_id).collect();
        kept_key::delete(writer.tx(), &ids).await?;
        epoch::delete(writer.tx(), zone, hour).await
    }

    /// The epoch with the first secret that opens any of the rows.
    async fn succeeded(
        &self,
        writer: &Writer<'_>,
        hour: ExpiryHour,
        half: &Zeroizing<Vec<u8>>,
        rows: &[KeptRow],
    ) -> Result<Option<EpochRow>, Error> {
        for secret in self.other_secrets(writer, hour, "").await? {
            let Some(tree) = self.parts.secrets.read(&secret)? else { continue };
            let key = EpochKey::new(tree.clone(), half.clone());
            if rows.iter().any(|row| opened(&key, row).is_some()) {
                let (epoch, _) = self.epoch_of(hour, secret, tree, half).await?;
                return Ok(Some(epoch));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use obscura_proto::keys::v1::SignedShredReceipt;
    use obscura_seal::SlotSet;

    use crate::{
        rollback::{note_restored, restored_file},
        test_support::{Bench, HOUR, MadeKey, slots},
    };

    /// A database from before ten slots of the first of these keys were destroyed, put back.
    async fn restored(keys: usize) -> (Bench, Vec<MadeKey>, Vec<SignedShredReceipt>) {
        let bench = Bench::new();
        let (custody, first) = bench.with_key().await;
        let dead = bench.leaf(&custody, &first).await;
        let mut made = vec![first];
        while made.len() < keys {
            let key = bench.made_key(HOUR);
            bench.import(&custody, &key).await;
            // What shares the leaf dies with it, which is not what is looked at here.
            if bench.leaf(&custody, &key).await != dead {
                made.push(key);
            }
        }
        bench.close(custody).await;
        let backup = bench.back_up(false);
        let custody = bench.open().await;
        custody.shred(&bench.shred(&made[0], 0, 9)).await.unwrap();
        let receipts = custody.list_receipts(0).await.unwrap();
        bench.close(custody).await;
        bench.restore(&backup, false);
        (bench, made, receipts)
    }

    #[tokio::test]
    async fn after_a_restore_keys_come_under_the_hour_of_an_early_destruction_and_its_survivors_open() {
        let (bench, made, receipts) = restored(3).await;
        for _ in 0..2 {
            let custody = bench.open().await;
            let new = bench.made_key(HOUR);
            bench.import(&custody, &new).await;
            bench.close(custody).await;
        }
        let custody = bench.open().await;
        custody.replay(&receipts).await.unwrap();
        for survivor in &made[1..] {
            assert_eq!(bench.opens(&custody, survivor).await, SlotSet::whole_hour());
        }
        assert!(bench.describes(&custody, &made[0]).await.intersection(&slots(0, 9)).is_empty());
        let late = bench.made_key(HOUR);
        bench.import(&custody, &late).await;
        bench.assert_releasable(&custody, &late).await;
    }

    #[tokio::test]
    async fn an_hour_of_which_nothing_opens_any_more_begins_anew() {
        let (bench, made, receipts) = restored(1).await;
        let custody = bench.open().await;
        let new = bench.made_key(HOUR);
        bench.import(&custody, &new).await;
        custody.replay(&receipts).await.unwrap();
        bench.assert_releasable(&custody, &new).await;
        assert!(bench.describes(&custody, &made[0]).await.is_empty());
        bench.import(&custody, &made[0]).await;
        assert!(bench.describes(&custody, &made[0]).await.is_empty(), "a late import brings nothing back");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_the_right_one_costs_no_row() {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        bench.close(custody).await;
        let (folder, away) = (bench.data("epoch-secrets"), bench.data("away"));
        std::fs::rename(&folder, &away).unwrap();
        // Also where the log has said that the directory was put back.
        note_restored(&bench.data("")).unwrap();
        let custody = bench.open().await;
        bench.import(&custody, &bench.made_key(HOUR)).await;
        bench.close(custody).await;
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::rename(&away, &folder).unwrap();
        std::fs::remove_file(restored_file(&bench.data(""))).unwrap();
        let custody = bench.open().await;
        bench.assert_releasable(&custody, &key).await;
    }
}
