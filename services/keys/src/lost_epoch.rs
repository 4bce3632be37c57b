//! Epochs whose secret is gone although nothing says that it was destroyed, and those whose half does not open.
//!
//! A restore without the folder of secrets leaves every epoch like this. Its rows open nothing, but the layer keys
//! that come must find a place: a recorder that cannot hand them over stops recording in the end. So the epoch gets
//! a new secret at once. The half inside the database stays the same, and the leaves of the rows that are there are
//! left out of the new tree: those rows open nothing, as before, until their secret is in the folder again.
//!
//! Where a folder that was not mounted comes back, each start gathers what belongs together: a row that opens only
//! under another secret of its epoch is sealed anew under the one that the epoch has, and that other secret is
//! erased: what is destroyed later must not open with an old copy of the database and a file that stayed. What was
//! destroyed stays destroyed: its secret was erased, or waits for that and is not looked at. So what is destroyed or
//! gets a shorter retention while its secret is away renews its epoch as well: a row never opens again by itself, but
//! only through here, where both are looked at.

use std::collections::{BTreeMap, BTreeSet};

use obscura_row_cipher as row_cipher;
use obscura_seal::{LayerKey, NodeSet};
use sea_orm::ConnectionTrait;
use zeroize::Zeroizing;

use crate::{
    custody::Custody,
    epoch_key::EpochKey,
    error::Error,
    expiry_hour::ExpiryHour,
    keyring::{Keyring, hour_of_secret, secrets_of},
    store::{
        Writer, doomed_secret,
        epoch::{self, EpochRow},
        kept_key::{self, KeptRow},
        retention,
    },
};

/// The half of an epoch's key inside the database.
type Half = Zeroizing<Vec<u8>>;

impl Custody {
    /// Gives an epoch whose key is gone another one. Call it with a writer in hand.
    pub(crate) async fn renew_epoch(
        &self,
        writer: &Writer<'_>,
        hour: ExpiryHour,
        lost: Option<EpochRow>,
    ) -> Result<EpochKey, Error> {
        let zone = &self.parts.zone;
        let rows = self.damage.sift(kept_key::of_epoch(writer.tx(), zone, hour).await?)?;
        let half = self.half_that_opens(lost.as_ref()).await?;
        let (found, left) = match &half {
            Some(half) => {
                let others = self.other_secrets(writer, hour, "").await?;
                self.found(writer, half, rows, &others).await?
            }
            None => (Vec::new(), rows),
        };
        let half = match half {
            Some(half) => half,
            None => Zeroizing::new(row_cipher::generate()?.to_vec()),
        };
        let (row, key) = self.thin_epoch(hour, tree_beside(&left)?, &half).await?;
        let stale = lost.is_some_and(|lost| lost.stale);
        epoch::put(writer.tx(), zone, &EpochRow { stale, ..row }).await?;
        seal_anew(writer, &key, found).await?;
        self.watch().renewed_epochs.insert(hour);
        tracing::error!(
            %hour, keys = left.len(),
            "the secret of an epoch is gone, and with it the layer keys of that hour; it has a new one for those that \
             come. Where `epoch-secrets` is on a disk that is not mounted: mount it, with the newer files of both \
             places, and start again"
        );
        Ok(key)
    }

    /// Renews the epochs of these rows whose keys are gone. Call it where rows that open nothing now are decided
    /// on: the secret that returns is then another one, and what it opens is looked at before it opens for anybody.
    pub(crate) async fn renew_lost<C: ConnectionTrait>(
        &self,
        writer: &Writer<'_>,
        keyring: &mut Keyring<'_, C>,
        rows: &[KeptRow],
    ) -> Result<(), Error> {
        for hour in rows.iter().map(|row| row.expiry).collect::<BTreeSet<_>>() {
            if self.damage.readable(keyring.epoch(hour).await)?.flatten().is_none() {
                self.epoch_for(writer, hour).await?;
            }
        }
        Ok(())
    }

    async fn half_that_opens(&self, row: Option<&EpochRow>) -> Result<Option<Half>, Error> {
        match row {
            Some(row) => self.damage.readable(self.half_of(row).await),
            None => Ok(None),
        }
    }

    /// Secrets of an epoch in the folder that neither are this one nor wait to be erased.
    pub(crate) async fn other_secrets(
        &self,
        writer: &Writer<'_>,
        hour: ExpiryHour,
        own: &str,
    ) -> Result<BTreeSet<String>, Error> {
        let prefix = secrets_of(hour);
        let mut names = self.parts.secrets.names()?;
        names.retain(|name| name.starts_with(&prefix) && name != own);
        for doomed in doomed_secret::all(writer.tx()).await? {
            names.remove(&doomed);
        }
        Ok(names)
    }

    /// Seals rows that open only under another secret of their epoch anew, at the start.
    pub(crate) async fn gather_epochs(&self) -> Result<(), Error> {
        let unnamed = self.unnamed_secrets().await?;
        if unnamed.is_empty() {
            return Ok(());
        }
        let writer = self.parts.store.write().await?;
        for (hour, others) in unnamed {
            let row = epoch::get(writer.tx(), &self.parts.zone, hour).await;
            if let Some(row) = self.damage.readable(row)?.flatten() {
                self.gather(&writer, row, &others).await?;
            }
        }
        Ok(writer.commit().await?)
    }

    /// Secrets in the folder that no epoch names and that do not wait to be erased, by their hour.
    async fn unnamed_secrets(&self) -> Result<BTreeMap<ExpiryHour, BTreeSet<String>>, Error> {
        let reader = self.parts.store.reader();
        let mut known: BTreeSet<_> = epoch::secrets(reader, &self.parts.zone).await?.into_iter().collect();
        known.extend(doomed_secret::all(reader).await?);
        let mut unnamed = BTreeMap::<_, BTreeSet<_>>::new();
        for name in self.parts.secrets.names()?.into_iter().filter(|name| !known.contains(name)) {
            if let Some(hour) = hour_of_secret(&name) {
                unnamed.entry(hour).or_default().insert(name);
            }
        }
        Ok(unnamed)
    }

    async fn gather(
        &self,
        writer: &Writer<'_>,
        row: EpochRow,
        others: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let (zone, hour) = (&self.parts.zone, row.hour);
        let Some(half) = self.half_that_opens(Some(&row)).await? else { return Ok(()) };
        let own = self.parts.secrets.read(&row.secret)?.map(|tree| EpochKey::new(tree, half.clone()));
        let mut rows = self.damage.sift(kept_key::of_epoch(writer.tx(), zone, hour).await?)?;
        rows.retain(|row| own.as_ref().is_none_or(|key| opened(key, row).is_none()));
        let (found, left) = self.found(writer, &half, rows, others).await?;
        if found.is_empty() {
            return Ok(());
        }
        tracing::warn!(%hour, keys = found.len(), "layer keys open again: their secret is back");
        let key = match own {
            Some(key) => key,
            None => {
                let (new, key) = self.thin_epoch(hour, tree_beside(&left)?, &half).await?;
                epoch::put(writer.tx(), zone, &EpochRow { stale: row.stale, ..new }).await?;
                key
            }
        };
        seal_anew(writer, &key, found).await
    }

    /// Rows that open under one of these secrets, with what is left of them, and the others. Such a secret is doomed,
    /// because its rows are sealed anew. Of what was destroyed while it was away a receipt is made, and retentions
    /// that came meanwhile are to be applied again.
    async fn found(
        &self,
        writer: &Writer<'_>,
        half: &Half,
        mut left: Vec<KeptRow>,
        secrets: &BTreeSet<String>,
    ) -> Result<(Vec<(KeptRow, NodeSet)>, Vec<KeptRow>), Error> {
        let (mut found, mut cameras) = (Vec::new(), BTreeSet::new());
        for secret in secrets {
            let Some(tree) = self.parts.secrets.read(secret)? else { continue };
            let (key, mut rest, before) = (EpochKey::new(tree, half.clone()), Vec::new(), found.len());
            for row in left {
                let Some(nodes) = opened(&key, &row) else {
                    rest.push(row);
                    continue;
                };
                cameras.insert(row.context.camera);
                let gone = self.destroyed_before(writer, &(&row).into()).await?.intersection(&nodes.slots());
                if !gone.is_empty() {
                    self.await_late_receipt(writer, &(&row).into(), &gone).await?;
                }
                found.push((row, nodes.puncture(&gone)));
            }
            left = rest;
            if found.len() > before {
                doomed_secret::put(writer.tx(), secret).await?;
            }
        }
        for camera in cameras {
            retention::set_unapplied(writer.tx(), camera).await?;
        }
        Ok((found, left))
    }

    /// What an operator is told of epochs whose secret is gone; nothing where there is none.
    ///
    /// # Errors
    /// Those of the database and of the folder.
    pub async fn lost_epochs(&self) -> Result<Option<String>, Error> {
        let named = epoch::secrets(self.parts.store.reader(), &self.parts.zone).await?;
        let present = self.parts.secrets.names()?;
        let gone = named.iter().filter(|name| !present.contains(*name)).count();
        let renewed = self.watch().renewed_epochs.len();
        Ok((gone + renewed > 0).then(|| {
            format!(
                "the secrets of {} hours of expiry are gone, and their layer keys open nothing; {renewed} have a new \
                 secret for keys that come: mount or restore `epoch-secrets` and start again",
                gone + renewed
            )
        }))
    }
}

/// A new tree in which no leaf of these rows is left; whole where they have all of them.
fn tree_beside(rows: &[KeptRow]) -> Result<NodeSet, Error> {
    let whole = NodeSet::whole(&LayerKey::generate().map_err(|_| row_cipher::Failed)?);
    let leaves: BTreeSet<_> = rows.iter().filter_map(|row| row.leaf).collect();
    // Rows from before there were leaves are under a root, and a tree without any leaf has none.
    let leaves = if leaves.is_empty() { obscura_seal::Slot::new(0).into_iter().collect() } else { leaves };
    let key = EpochKey::new(whole.clone(), Zeroizing::new(Vec::new()));
    Ok(key.without(&leaves).unwrap_or(whole))
}

/// Seals rows under the key of their epoch. One of which nothing is left opens nothing under it either.
async fn seal_anew(writer: &Writer<'_>, key: &EpochKey, found: Vec<(KeptRow, NodeSet)>) -> Result<(), Error> {
    let mut moved = Vec::with_capacity(found.len());
    for (row, nodes) in found {
        let (leaf, sealed) = key.seal(row.place(), &nodes)?;
        moved.push(KeptRow { leaf: Some(leaf), sealed, ..row });
    }
    kept_key::put(writer.tx(), &moved).await
}

/// What a row opens under this key; nothing rather than an empty set.
pub fn opened(key: &EpochKey, row: &KeptRow) -> Option<NodeSet> {
    key.open(row.place(), row.leaf, &row.sealed).ok().filter(|nodes| !nodes.is_empty())
}

#[cfg(test)]
mod tests;
