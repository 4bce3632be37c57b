//! Makes changes and publishes them: database and signed snapshot move together or not at all.

use std::sync::Arc;

use obscura_clock::SharedClock;
use obscura_ids::CameraId;
use obscura_proto::{
    audit::v1::Person,
    registry::v1::{Camera, SignedSnapshot, Snapshot, Zone as ZoneMessage},
};
use obscura_snapshot::{Authority, AuthorityKey, MAX_SNAPSHOT_BYTES};
use tokio::sync::watch;

use crate::{
    camera::{self, Admission},
    change::{Thing, changed},
    error::Error,
    metrics::Metrics,
    store::{Change, MAX_CAMERAS, Store},
    zone::Zones,
};

/// A change of what is published.
#[derive(Debug)]
pub enum Edit {
    /// A camera comes.
    Add(Box<Admission>),
    /// A camera goes.
    Remove(CameraId),
    /// The footage of a camera is kept for another time.
    SetRetention(Retention),
}

/// How long the footage of a camera is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The camera.
    pub camera: CameraId,
    /// Hours.
    pub hours: u32,
    /// Why longer than the law expects; may be empty otherwise.
    pub longer_reason: String,
}

/// The newest snapshot, cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its version.
    pub version: u64,
    /// It, exactly as it is stored.
    pub signed: SignedSnapshot,
}

/// The only one who makes snapshots.
#[derive(Debug)]
pub struct Publisher {
    store: Arc<Store>,
    authority: Authority,
    zones: Arc<Zones>,
    clock: SharedClock,
    metrics: Metrics,
    published: watch::Sender<Published>,
}

impl Publisher {
    /// Publishes what the store holds, byte for byte. Makes a new snapshot only where there is
    /// none, or where other zones are configured than those in it.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where the stored snapshot is not signed by `authority`,
    /// [`Error::Displaced`] where a camera's zone is no longer configured, or a failure of the store.
    pub async fn open(
        store: Arc<Store>,
        authority: Authority,
        zones: Arc<Zones>,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let empty = Published { version: 0, signed: SignedSnapshot::default() };
        let publisher =
            Self { store, authority, zones, clock, metrics, published: watch::Sender::new(empty) };
        let Some(signed) = publisher.store.snapshot().await? else {
            publisher.publish(publisher.begin().await?).await?;
            return Ok(publisher);
        };
        let snapshot = publisher.key().verify_snapshot(&signed)?;
        let same_zones = snapshot.zones == publisher.zone_messages();
        let cameras = snapshot.cameras.len();
        publisher.show(Published { version: snapshot.version, signed }, cameras);
        if !same_zones {
            publisher.check_placements(&snapshot.cameras)?;
            publisher.publish(publisher.begin().await?).await?;
        }
        Ok(publisher)
    }

    /// Makes a change in one transaction with the snapshot that shows it, and publishes that.
    /// Returns the camera as stored. A crash leaves the change and its snapshot, or neither.
    ///
    /// The work is a task of its own: a caller who hangs up cannot leave a change that is stored
    /// and not published.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoSuchCamera`], [`Error::Full`], or a failure of the store.
    pub async fn edit(self: Arc<Self>, edit: Edit, actor: Option<Person>) -> Result<Camera, Error> {
        let work = tokio::spawn(async move { self.apply(edit, actor).await });
        work.await.map_err(|_| Error::Unfinished)?
    }

    /// The newest snapshot, now and as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Begins a change, and shows first what another replica has published meanwhile.
    async fn begin(&self) -> Result<Change<'_>, Error> {
        let change = self.store.begin().await?;
        if change.newest_version().await? > self.published.borrow().version
            && let Some(signed) = change.snapshot().await?
        {
            let snapshot = self.key().verify_snapshot(&signed)?;
            self.show(Published { version: snapshot.version, signed }, snapshot.cameras.len());
        }
        Ok(change)
    }

    async fn apply(&self, edit: Edit, actor: Option<Person>) -> Result<Camera, Error> {
        let change = self.begin().await?;
        let (before, camera) = match edit {
            Edit::Add(admission) => (None, self.add(&change, *admission).await?),
            Edit::Remove(id) => {
                let before = change.camera(id).await?;
                // Removing twice is the same as removing once, so that a retry succeeds.
                if before.removed {
                    return Ok(before);
                }
                let camera = camera::removed(before.clone());
                change.remove_camera(&camera).await?;
                (Some(before), camera)
            }
            Edit::SetRetention(retention) => {
                let before = change.camera(retention.camera).await?;
                let camera = self.with_retention(before.clone(), &retention)?;
                change.put_camera(&camera).await?;
                (Some(before), camera)
            }
        };
        self.tell(&change, actor, before.as_ref(), &camera).await?;
        self.publish(change).await?;
        Ok(camera)
    }

    /// The event is in the transaction of its change.
    async fn tell(
        &self,
        change: &Change<'_>,
        actor: Option<Person>,
        before: Option<&Camera>,
        after: &Camera,
    ) -> Result<(), Error> {
        let thing = |camera| Thing::camera(camera, &self.key());
        let before = before.map(thing);
        change.stage(&changed(&self.clock, actor, before.as_ref(), &thing(after))).await
    }

    fn with_retention(&self, camera: Camera, retention: &Retention) -> Result<Camera, Error> {
        if camera.removed {
            return Err(Error::NoSuchCamera(retention.camera));
        }
        camera::with_retention(camera, retention, self.next_version(), &self.authority)
    }

    async fn add(&self, change: &Change<'_>, admission: Admission) -> Result<Camera, Error> {
        let name = admission.name().clone();
        let camera = admission.into_message(self.next_version(), &self.authority);
        change.add_camera(&name, &camera).await?;
        Ok(camera)
    }

    /// Signs what the change leaves behind, stores that, commits, and only then shows it.
    async fn publish(&self, change: Change<'_>) -> Result<(), Error> {
        let cameras = change.cameras().await?;
        if cameras.len() > MAX_CAMERAS {
            return Err(Error::Full("10 000 cameras"));
        }
        let snapshot = Snapshot {
            version: self.next_version(),
            made_unix_ns: self.clock.wall().unix_nanos(),
            cameras,
            zones: self.zone_messages(),
        };
        let signed = self.authority.sign_snapshot(&snapshot);
        if signed.snapshot.len() > MAX_SNAPSHOT_BYTES {
            return Err(Error::Full("a snapshot of 32 MiB"));
        }
        change.put_snapshot(snapshot.version, &signed).await?;
        let (version, cameras) = (snapshot.version, snapshot.cameras.len());
        change.commit(|| self.show(Published { version, signed }, cameras)).await?;
        tracing::info!(version, cameras, "snapshot published");
        Ok(())
    }

    fn show(&self, published: Published, cameras: usize) {
        self.metrics.cameras.set(i64::try_from(cameras).unwrap_or(i64::MAX));
        self.metrics.snapshot_version.set(published.version);
        self.metrics.snapshot_bytes.set(u64::try_from(published.signed.snapshot.len()).unwrap_or(u64::MAX));
        self.published.send_replace(published);
    }

    /// Right while a change is open, because there is one change at a time.
    fn next_version(&self) -> u64 {
        self.published.borrow().version.saturating_add(1)
    }

    fn zone_messages(&self) -> Vec<ZoneMessage> {
        self.zones.iter().map(Into::into).collect()
    }

    fn key(&self) -> AuthorityKey {
        AuthorityKey::from_bytes(self.authority.public_key())
    }

    /// Cameras stay where they were placed: a zone that is in use cannot be configured away.
    fn check_placements(&self, cameras: &[Camera]) -> Result<(), Error> {
        for camera in cameras {
            let placement = self.key().verify_placement(&camera.placement.clone().unwrap_or_default())?;
            let country = placement.country.parse().map_err(|_| Error::Damaged("placement"))?;
            let kept = self.zones.zone_of(country).is_some_and(|place| {
                place.zone.id == placement.zone && place.zone.bucket == placement.bucket
            });
            if !kept {
                return Err(Error::Displaced {
                    camera: placement.camera,
                    zone: placement.zone.to_string(),
                    bucket: placement.bucket,
                    country: placement.country,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
