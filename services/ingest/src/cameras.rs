//! Which cameras are recorded: follows the snapshot, one recorder for each camera in it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use obscura_clock::{SharedClock, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, WriterEpoch, ZoneId};
use obscura_proto::registry::v1::{Camera, Snapshot};
use obscura_seal::{Cobblestone256, RecipientPublicKey};
use obscura_snapshot::AuthorityKey;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    failure::Failure,
    frame::Release,
    gap::Gaps,
    gauge::Gauge,
    layer_key::LayerKeys,
    outbox::Outbox,
    recorder::Recorder,
    segment::Parts,
    source::{Source, SourceKey},
    spool::Spool,
    threads::Threads,
};

/// What all recorders share.
pub struct Shared {
    /// Where sealed bytes go.
    pub spool: Arc<Spool>,
    /// What waits to leave.
    pub outbox: Arc<Outbox>,
    /// Opens sources.
    pub source_key: Arc<SourceKey>,
    /// Checks placements.
    pub authority: AuthorityKey,
    /// The zone of this data plane.
    pub zone: ZoneId,
    /// This run of the recorder.
    pub writer_epoch: WriterEpoch,
    /// Time.
    pub clock: SharedClock,
    /// When the recorder was last alive before this start.
    pub last_alive: Option<Timestamp>,
}

/// The cameras that are recorded now.
pub struct Cameras {
    shared: Shared,
    running: Mutex<HashMap<CameraId, Running>>,
    cut: watch::Sender<u64>,
    tasks: TaskTracker,
    threads: Threads,
}

struct Running {
    camera: Camera,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
    /// Numbers of segments go on when a changed camera starts anew.
    next_sequence: u64,
}

impl Cameras {
    /// No camera yet.
    ///
    /// # Errors
    /// Where the operating system refuses a thread.
    pub fn new(shared: Shared) -> std::io::Result<Arc<Self>> {
        let (cut, _) = watch::channel(0);
        let threads = Threads::start()?;
        Ok(Arc::new(Self { shared, running: Mutex::default(), cut, tasks: TaskTracker::new(), threads }))
    }

    /// Follows the snapshot until told to stop, then lets every recorder close its segment.
    pub async fn follow(
        self: Arc<Self>,
        mut snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
        intake: RecipientPublicKey,
        shutdown: CancellationToken,
    ) {
        let mut first = true;
        loop {
            let current = snapshot.borrow_and_update().clone();
            if let Some(current) = current {
                self.apply(&current, &intake, if first { self.shared.last_alive } else { None }, &shutdown);
                first = false;
            }
            tokio::select! {
                changed = snapshot.changed() => if changed.is_err() { break },
                () = shutdown.cancelled() => break,
            }
        }
        self.lock().values().for_each(|running| running.stop.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What is told about each camera, by id.
    #[must_use]
    pub fn gauges(&self) -> Vec<Arc<Gauge>> {
        let running = self.lock();
        let mut gauges: Vec<_> =
            running.iter().map(|(id, running)| (*id, Arc::clone(&running.gauge))).collect();
        gauges.sort_by_key(|(id, _)| *id);
        gauges.into_iter().map(|(_, gauge)| gauge).collect()
    }

    /// The source of a camera, for a test.
    #[must_use]
    pub fn source(&self, camera: CameraId) -> Option<Result<Source, Failure>> {
        self.lock().get(&camera).map(|running| self.open_source(&running.camera))
    }

    /// Ends the open segment of every camera that records, and waits for it at most `patience`.
    pub async fn cut(&self, patience: Duration) {
        let mut number = 0;
        self.cut.send_modify(|counter| {
            *counter += 1;
            number = *counter;
        });
        let done = || self.gauges().iter().all(|gauge| gauge.cut() >= number || !gauge.is_recording());
        let _ = tokio::time::timeout(patience, async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    fn apply(
        &self,
        snapshot: &Snapshot,
        intake: &RecipientPublicKey,
        stopped_since: Option<Timestamp>,
        shutdown: &CancellationToken,
    ) {
        let mut running = self.lock();
        let wanted: HashMap<CameraId, &Camera> = (snapshot.cameras.iter())
            .filter(|camera| !camera.removed)
            .filter_map(|camera| Some((camera.camera_id.parse().ok()?, camera)))
            .collect();
        running.retain(|id, old| {
            let keep = wanted.contains_key(id);
            if !keep {
                tracing::info!(camera = %id, "the camera was removed");
                old.stop.cancel();
            }
            keep
        });
        for (id, camera) in wanted {
            let old = running.get(&id);
            if old.is_some_and(|old| same_recording(&old.camera, camera)) {
                continue;
            }
            if let Some(old) = old {
                old.stop.cancel();
            }
            // Numbers leave a hole where a camera was changed: what the old recorder may still write fits in.
            let next_sequence = old.map_or(0, |old| old.next_sequence + (1 << 32));
            let started = self.start(id, camera, intake, stopped_since, next_sequence, shutdown);
            running.insert(id, started);
        }
    }

    fn start(
        &self,
        id: CameraId,
        camera: &Camera,
        intake: &RecipientPublicKey,
        stopped_since: Option<Timestamp>,
        next_sequence: u64,
        shutdown: &CancellationToken,
    ) -> Running {
        let shared = &self.shared;
        let gauge = Arc::new(Gauge::new(id, camera.plaintext_source));
        let stop = shutdown.child_token();
        if camera.plaintext_source {
            tracing::warn!(camera = %id, "the camera sends its video unencrypted over the network");
        }
        let recorder = Recorder {
            camera: id,
            source: self
                .open_source(camera)
                .and_then(|source| self.check_placement(id, camera).map(|()| source)),
            release: if camera.permanently_masked { Release::NeedsMasking } else { Release::Unmasked },
            parts: self.parts(id, camera, intake, next_sequence),
            gaps: Gaps::new(id, Arc::clone(&shared.spool), Arc::clone(&shared.outbox)),
            outbox: Arc::clone(&shared.outbox),
            gauge: Arc::clone(&gauge),
            clock: Arc::clone(&shared.clock),
            stopped_since,
            cut: self.cut.subscribe(),
            shutdown: stop.clone(),
        };
        self.tasks.spawn_on(recorder.run(), self.threads.next());
        Running { camera: camera.clone(), gauge, stop, next_sequence }
    }

    fn parts(&self, id: CameraId, camera: &Camera, intake: &RecipientPublicKey, next_sequence: u64) -> Parts {
        let shared = &self.shared;
        let mask_set_hash = Digest::try_from(camera.mask_set_hash.as_ref()).unwrap_or(Digest::ZERO);
        let layer = Layer::Original;
        let keys = LayerKeys::new(id, layer, shared.zone.clone(), shared.writer_epoch, *intake);
        Parts {
            spool: Arc::clone(&shared.spool),
            cipher: Arc::new(Cobblestone256),
            keys,
            placement: camera.placement.clone().unwrap_or_default(),
            zone: shared.zone.clone(),
            camera: id,
            layer,
            writer_epoch: shared.writer_epoch,
            mask_set_hash,
            next_sequence,
            scratch: Vec::new(),
        }
    }

    fn open_source(&self, camera: &Camera) -> Result<Source, Failure> {
        let sealed = camera.sealed_source.as_ref();
        let sealed = sealed
            .ok_or_else(|| Failure::not_permitted("the camera has no source", "add the camera again"))?;
        self.shared
            .source_key
            .open(sealed)
            .map_err(|error| Failure::not_permitted(error.to_string(), "add the camera again"))
    }

    /// Footage that may not be uploaded is not recorded either.
    fn check_placement(&self, id: CameraId, camera: &Camera) -> Result<(), Failure> {
        let refuse = |finding: String| Failure::not_permitted(finding, "check the camera's site and zone");
        if camera.purpose.is_none() {
            return Err(Failure::not_permitted("the camera has no purpose", "give it a purpose"));
        }
        let signed = camera.placement.as_ref().ok_or_else(|| refuse("the camera has no placement".into()))?;
        let placement =
            self.shared.authority.verify_placement(signed).map_err(|error| refuse(error.to_string()))?;
        if placement.camera != id {
            return Err(refuse("the placement is that of another camera".into()));
        }
        if placement.zone != self.shared.zone {
            let (theirs, ours) = (&placement.zone, &self.shared.zone);
            return Err(refuse(format!(
                "the camera belongs to zone `{theirs}`, this recorder serves `{ours}`"
            )));
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CameraId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing changed that recording depends on.
fn same_recording(old: &Camera, new: &Camera) -> bool {
    old.sealed_source == new.sealed_source
        && old.placement == new.placement
        && old.mask_set_version == new.mask_set_version
        && old.permanently_masked == new.permanently_masked
        && old.purpose == new.purpose
}
