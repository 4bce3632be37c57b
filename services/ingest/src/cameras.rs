//! Which cameras are recorded: follows the snapshot, one recorder for each camera in it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use obscura_clock::{SharedClock, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, WriterEpoch, ZoneId};
use obscura_proto::registry::v1::{Camera, Snapshot};
use obscura_seal::{Cobblestone256, RecipientPublicKey};
use obscura_snapshot::AuthorityKey;
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    failure::Failure,
    frame::Release,
    gap::Gaps,
    gauge::Gauge,
    layer_key::LayerKeys,
    outbox::Outbox,
    pressure::{Pressure, Priority},
    recorder::{Ended, Predecessor, Recorder, Terms},
    recovered::{self, RecordedThrough},
    reports::Reports,
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
    /// How full the spool is.
    pub pressure: Arc<Pressure>,
    /// Tells the audit log.
    pub reports: Reports,
    /// When the recorder was last alive before this start,
    pub last_alive: Option<Timestamp>,
    /// and up to when it had recorded each camera then.
    pub recorded_through: RecordedThrough,
}

/// The cameras that are recorded now.
pub struct Cameras {
    shared: Shared,
    state: Mutex<State>,
    cut: watch::Sender<u64>,
    tasks: TaskTracker,
    threads: Threads,
}

#[derive(Default)]
struct State {
    running: HashMap<CameraId, Running>,
    /// Cameras that may come back: their numbers go on.
    removed: HashMap<CameraId, Before>,
}

struct Running {
    camera: Camera,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
    handed_over: Arc<AtomicBool>,
    terms: watch::Sender<Terms>,
    ended: oneshot::Receiver<Ended>,
    first_sequence: u64,
}

/// What the next recorder of a camera goes on from.
struct Before {
    predecessor: Predecessor,
    gauge: Arc<Gauge>,
    first_sequence: u64,
}

impl Running {
    /// Stops the recorder; another one takes over now where `without_pause`, or perhaps one day.
    fn stop(self, without_pause: bool) -> Before {
        self.handed_over.store(without_pause, Ordering::Release);
        self.stop.cancel();
        let predecessor = Predecessor { ended: self.ended, without_pause };
        Before { predecessor, gauge: self.gauge, first_sequence: self.first_sequence }
    }
}

impl Cameras {
    /// No camera yet.
    ///
    /// # Errors
    /// Where the operating system refuses a thread.
    pub fn new(shared: Shared) -> std::io::Result<Arc<Self>> {
        let (cut, _) = watch::channel(0);
        let threads = Threads::start()?;
        Ok(Arc::new(Self { shared, state: Mutex::default(), cut, tasks: TaskTracker::new(), threads }))
    }

    /// Follows the snapshot until told to stop, then lets every recorder close its segment.
    pub async fn follow(
        self: Arc<Self>,
        mut snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
        intake: watch::Receiver<RecipientPublicKey>,
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
        self.lock().running.values().for_each(|running| running.stop.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What is told about each camera, by id.
    #[must_use]
    pub fn gauges(&self) -> Vec<Arc<Gauge>> {
        let state = self.lock();
        let mut gauges: Vec<_> =
            state.running.iter().map(|(id, running)| (*id, Arc::clone(&running.gauge))).collect();
        gauges.sort_by_key(|(id, _)| *id);
        gauges.into_iter().map(|(_, gauge)| gauge).collect()
    }

    /// The source of a camera, for a test.
    #[must_use]
    pub fn source(&self, camera: CameraId) -> Option<Result<Source, Failure>> {
        self.lock().running.get(&camera).map(|running| self.open_source(&running.camera))
    }

    /// Cameras that are not recorded because the spool is full, the least important first.
    #[must_use]
    pub fn paused(&self) -> Vec<CameraId> {
        let state = self.lock();
        let paused = state.running.iter().filter(|(_, running)| running.gauge.is_paused());
        let mut paused: Vec<_> = paused.map(|(id, running)| (running.terms.borrow().priority, *id)).collect();
        paused.sort_unstable();
        paused.into_iter().map(|(_, id)| id).collect()
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
        intake: &watch::Receiver<RecipientPublicKey>,
        last_alive: Option<Timestamp>,
        shutdown: &CancellationToken,
    ) {
        let mut state = self.lock();
        let State { running, removed } = &mut *state;
        let wanted: HashMap<CameraId, &Camera> = (snapshot.cameras.iter())
            .filter(|camera| !camera.removed)
            .filter_map(|camera| Some((camera.camera_id.parse().ok()?, camera)))
            .collect();
        for (id, old) in running.extract_if(|id, _| !wanted.contains_key(id)) {
            tracing::info!(camera = %id, "the camera was removed");
            removed.insert(id, old.stop(false));
        }
        for (id, camera) in wanted {
            if let Some(old) = running.get_mut(&id)
                && self.goes_on(id, old, camera)
            {
                continue;
            }
            let before = match running.remove(&id) {
                Some(old) => Some(old.stop(true)),
                None => removed.remove(&id),
            };
            let stopped_since = last_alive
                .map(|alive| recovered::stopped_since(alive, self.shared.recorded_through.get(&id).copied()));
            running.insert(id, self.start(id, camera, intake, stopped_since, before, shutdown));
        }
    }

    /// Whether the recorder of a camera goes on as it is, or on other terms.
    fn goes_on(&self, id: CameraId, running: &mut Running, new: &Camera) -> bool {
        let old = &running.camera;
        let permitted = |camera| self.check_placement(id, camera).is_ok();
        if !same_recording(old, new) || (old != new && !(permitted(old) && permitted(new))) {
            return false;
        }
        running.terms.send_if_modified(|terms| {
            let newer = terms_of(new);
            let differs = *terms != newer;
            *terms = newer;
            differs
        });
        running.camera = new.clone();
        true
    }

    fn start(
        &self,
        id: CameraId,
        camera: &Camera,
        intake: &watch::Receiver<RecipientPublicKey>,
        stopped_since: Option<Timestamp>,
        before: Option<Before>,
        shutdown: &CancellationToken,
    ) -> Running {
        let shared = &self.shared;
        // Where the one before comes to harm, what it may have written fits between the numbers.
        let first_sequence = before.as_ref().map_or(0, |before| before.first_sequence + (1 << 32));
        let (predecessor, gauge) = before.map(|before| (before.predecessor, before.gauge)).unzip();
        let gauge = gauge.unwrap_or_else(|| Arc::new(Gauge::new(id, camera.plaintext_source)));
        gauge.set_plaintext(camera.plaintext_source);
        let stop = shutdown.child_token();
        if camera.plaintext_source {
            tracing::warn!(camera = %id, "the camera sends its video unencrypted over the network");
        }
        let (terms, following) = watch::channel(terms_of(camera));
        let handed_over = Arc::new(AtomicBool::new(false));
        let recorder = Recorder {
            camera: id,
            source: self
                .open_source(camera)
                .and_then(|source| self.check_placement(id, camera).map(|()| source)),
            release: if camera.permanently_masked { Release::NeedsMasking } else { Release::Unmasked },
            parts: self.parts(id, camera, intake, first_sequence),
            gaps: Gaps::new(
                id,
                shared.writer_epoch,
                Arc::clone(&shared.spool),
                Arc::clone(&shared.outbox),
                shared.reports.clone(),
            ),
            outbox: Arc::clone(&shared.outbox),
            gauge: Arc::clone(&gauge),
            clock: Arc::clone(&shared.clock),
            pressure: Arc::clone(&shared.pressure),
            stopped_since,
            predecessor,
            handed_over: Arc::clone(&handed_over),
            terms: following,
            cut: self.cut.subscribe(),
            shutdown: stop.clone(),
        };
        let (tell, ended) = oneshot::channel();
        let recording = async move {
            // Nobody may want to know: then it was the last one of this camera.
            let _ = tell.send(recorder.run().await);
        };
        self.tasks.spawn_on(recording, self.threads.next());
        Running { camera: camera.clone(), gauge, stop, handed_over, terms, ended, first_sequence }
    }

    fn parts(
        &self,
        id: CameraId,
        camera: &Camera,
        intake: &watch::Receiver<RecipientPublicKey>,
        next_sequence: u64,
    ) -> Parts {
        let shared = &self.shared;
        let mask_set_hash = Digest::try_from(camera.mask_set_hash.as_ref()).unwrap_or(Digest::ZERO);
        let layer = Layer::Original;
        let keys = LayerKeys::new(id, layer, shared.zone.clone(), shared.writer_epoch, intake.clone());
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

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a recorder can go on: nothing changed that its session, keys and masks depend on.
fn same_recording(old: &Camera, new: &Camera) -> bool {
    old.sealed_source == new.sealed_source
        && old.plaintext_source == new.plaintext_source
        && old.mask_set_version == new.mask_set_version
        && old.mask_set_hash == new.mask_set_hash
        && old.permanently_masked == new.permanently_masked
}

fn terms_of(camera: &Camera) -> Terms {
    Terms {
        placement: camera.placement.clone().unwrap_or_default(),
        priority: Priority::of(camera.purpose.as_ref()),
    }
}

#[cfg(test)]
mod tests;
