//! Following changes of retention: which one counts is in [`crate::retention`].
//!
//! Placements come from two sides, and both are signed by the zone authority. The registry's snapshots say
//! what is in force, also for cameras that no longer record; they are followed where the registry can
//! be reached, and custody needs it for nothing else. The import of a key carries the placement that the
//! recorder has, which is all there is while the registry is away.

use std::{collections::BTreeMap, sync::Arc};

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use obscura_proto::registry::v1::Snapshot;
use obscura_snapshot::{Cache, Placement};
use tokio_util::sync::CancellationToken;

use crate::{
    custody::Custody,
    destruction::Punctures,
    error::Error,
    expiry_hour::ExpiryHour,
    keyring::Keyring,
    retention::{self, Period},
    row_key::Place,
    store::{
        Writer,
        kept_key::{self, KeptRow},
        retention as table,
    },
};

/// Follows snapshots until `shutdown`.
pub async fn follow(custody: Arc<Custody>, cache: Arc<Cache>, shutdown: CancellationToken) {
    let mut snapshots = cache.watch();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        if let Some(snapshot) = snapshot
            && let Err(error) = custody.note_snapshot(&snapshot).await
        {
            tracing::error!(%error, version = snapshot.version, "could not note the retentions of a snapshot");
        }
        let next = shutdown.run_until_cancelled(snapshots.changed()).await;
        if !matches!(next, Some(Ok(()))) {
            return;
        }
    }
}

impl Custody {
    /// Notes the retentions of all cameras of a snapshot that are new.
    pub async fn note_snapshot(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let made = Timestamp::from_unix_nanos(snapshot.made_unix_ns);
        let known = table::newest_versions(self.parts.store.reader()).await?;
        let known: BTreeMap<String, i64> = known.into_iter().collect();
        let mut new = Vec::new();
        for camera in &snapshot.cameras {
            let signed = camera.placement.clone().unwrap_or_default();
            let placement = self.parts.authority.verify_placement(&signed)?;
            let newest = known.get(&placement.camera.to_string()).copied();
            if newest
                .and_then(|version| u64::try_from(version).ok())
                .is_none_or(|newest| newest < placement.version)
            {
                new.push(placement);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let writer = self.parts.store.write().await?;
        for placement in &new {
            self.note_placement(&writer, placement, made).await?;
        }
        writer.commit().await?;
        Ok(())
    }

    /// When a key expires whose recorder carries this placement, and notes the placement.
    pub(crate) async fn expiry_of(
        &self,
        writer: &Writer<'_>,
        hour: obscura_seal::Hour,
        placement: &Placement,
    ) -> Result<ExpiryHour, Error> {
        let periods = self.note_placement(writer, placement, self.parts.clock.wall()).await?;
        let longest = ExpiryHour::of(hour, placement.retention_hours);
        Ok(retention::expiry(hour, &periods).unwrap_or(longest))
    }

    /// Writes down a retention that is new; returns all of its camera. One that is shorter than the one
    /// before waits to be applied to what is in custody.
    async fn note_placement(
        &self,
        writer: &Writer<'_>,
        placement: &Placement,
        since: Timestamp,
    ) -> Result<Vec<Period>, Error> {
        let Placement { camera, version, retention_hours: hours, .. } = placement;
        let mut periods = table::of_camera(writer.tx(), *camera).await?;
        if periods.iter().any(|period| period.version == *version) {
            return Ok(periods);
        }
        let period = Period { version: *version, hours: *hours, since };
        let shorter = periods.iter().any(|known| known.hours > *hours);
        table::put(writer.tx(), *camera, period, !shorter).await?;
        periods.push(period);
        periods.sort_by_key(|period| period.version);
        Ok(periods)
    }

    /// Moves keys that a shorter retention concerns to earlier epochs, and exchanges the keys of those that they
    /// leave: a copy of the database would still have them there for the longer time. Call it with
    /// `changing` in hand.
    pub(crate) async fn apply_retentions(&self) -> Result<(), Error> {
        let cameras = table::cameras_to_apply(self.parts.store.reader()).await?;
        for camera in &cameras {
            let moved = self.apply_retention(*camera).await?;
            tracing::info!(%camera, keys = moved, "layer keys follow a shorter retention");
        }
        if !cameras.is_empty() {
            self.finish().await?;
        }
        Ok(())
    }

    async fn apply_retention(&self, camera: CameraId) -> Result<usize, Error> {
        let _alone = self.alone().await;
        let writer = self.parts.store.write().await?;
        let periods = table::of_camera(writer.tx(), camera).await?;
        let rows = kept_key::of_camera(writer.tx(), &self.parts.zone, camera, 0..=u32::MAX).await?;
        let rows = self.damage.sift(rows)?;
        let mut keyring = Keyring::new(self, writer.tx());
        let (mut moved, mut left, mut closed) = (Vec::new(), Punctures::default(), Vec::new());
        for row in rows {
            let expiry = retention::expiry(row.context.hour, &periods).unwrap_or(row.expiry);
            if expiry >= row.expiry {
                continue;
            }
            let nodes = self.damage.opened(keyring.kept(&row).await)?;
            if nodes.is_empty() {
                closed.push(row);
                continue;
            }
            let key = self.epoch_for(&writer, expiry).await?;
            let (leaf, sealed) = key.seal(Place { hold: None, expiry, context: &row.context }, &nodes)?;
            moved.push(KeptRow { expiry, leaf: Some(leaf), sealed, ..row.clone() });
            left.gone(row);
        }
        kept_key::put(writer.tx(), &moved).await?;
        self.renew_lost(&writer, &mut keyring, &closed).await?;
        self.exchange_epochs(&writer, left).await?;
        let newest = periods.iter().map(|period| period.version).max().unwrap_or_default();
        table::set_applied(writer.tx(), camera, newest).await?;
        writer.commit().await?;
        Ok(moved.len())
    }
}

#[cfg(test)]
mod tests;
