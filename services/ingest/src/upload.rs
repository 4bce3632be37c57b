//! Empties the outbox: layer keys to `keys`, packs and gaps to `storage`; then frees the spool.
//!
//! Order is the safety here. A pack is offered only when its layer keys are in custody, and the
//! spool lets go of a segment only when object and index row are durable too. Every step can be
//! repeated: the same pack goes under the same id, importing or committing twice changes nothing.

mod body;
mod fault;
mod gaps;
mod layer_keys;
mod make_way;
mod objects;
mod outage;
mod pace;
mod pack;
mod unreadable;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obscura_clock::{Monotonic, SharedClock};
use obscura_ids::{CameraId, PackId};
use obscura_proto::{
    keys::v1::keys_service_client::KeysServiceClient,
    storage::v1::storage_service_client::StorageServiceClient,
};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use self::{fault::Fault, outage::Outage, pace::Pace};
pub use self::{
    fault::Patience,
    objects::Objects,
    outage::{later, much_later},
};
use crate::{
    outbox::{Formed, Outbox, PackPolicy},
    segment::{GivenUp, Sealed, note_torn, record},
    spool::{
        Error, Position, Serial, Spool,
        record::{Kind, encode_serials},
    },
};

/// How often the outbox is looked at when nobody calls.
const TICK: Duration = Duration::from_millis(500);
/// How long whoever waits for many segments lets the outbox alone before looking again.
const BREATH: Duration = Duration::from_millis(20);
/// Packs that are sent at the same time.
const PARALLEL_UPLOADS: usize = 3;

/// What became of segments that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// How many left the recorder.
    pub left: usize,
    /// How many did not.
    pub waiting: usize,
}

/// Sends what waits.
#[derive(Debug)]
pub struct Uploader {
    spool: Arc<Spool>,
    outbox: Arc<Outbox>,
    storage: StorageServiceClient<Channel>,
    keys: KeysServiceClient<Channel>,
    objects: Objects,
    clock: SharedClock,
    policy: PackPolicy,
    patience: Patience,
    /// Cameras whose segments must not wait for their pack to fill; `None` stands for all.
    flushing: Mutex<HashMap<Option<CameraId>, u32>>,
    permits: Arc<Semaphore>,
    pace: Mutex<Pace>,
    keys_away: Outage,
    index_away: Outage,
    objects_away: Outage,
    held_up: Outage,
    last_arrival: Mutex<Option<Monotonic>>,
    freeing: Mutex<Freeing>,
}

/// What is durable elsewhere and leaves the spool. A spool file goes only when the record that says
/// so is committed: otherwise a crash in between would keep half of a pack.
#[derive(Debug, Default)]
struct Freeing {
    /// Not yet noted in the spool.
    unnoted: Vec<Serial>,
    /// Noted, and what must be committed before it counts.
    noted: Vec<(Position, Vec<Serial>)>,
}

impl Uploader {
    /// An uploader over these connections, at `bytes_per_second` where recording does not need more.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own that only the uploader joins")]
    pub fn new(
        spool: Arc<Spool>,
        outbox: Arc<Outbox>,
        storage: Channel,
        keys: Channel,
        objects: Objects,
        clock: SharedClock,
        policy: PackPolicy,
        patience: Patience,
        bytes_per_second: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            spool,
            outbox,
            storage: StorageServiceClient::new(storage),
            keys: KeysServiceClient::new(keys),
            objects,
            clock,
            policy,
            patience,
            flushing: Mutex::default(),
            permits: Arc::new(Semaphore::new(PARALLEL_UPLOADS)),
            pace: Mutex::new(Pace::new(bytes_per_second)),
            keys_away: Outage::new("layer keys cannot be imported and wait in the spool"),
            index_away: Outage::new("gaps cannot be indexed and wait in the spool"),
            objects_away: Outage::new("packs cannot be stored and wait in the spool"),
            held_up: Outage::new("what is refused cannot be moved and keeps the spool from being freed"),
            last_arrival: Mutex::default(),
            freeing: Mutex::default(),
        })
    }

    /// Sends until told to stop.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut packs = JoinSet::new();
        while !shutdown.is_cancelled() {
            let changed = self.outbox.changed.notified();
            self.round(&mut packs).await;
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(TICK) => {}
                () = shutdown.cancelled() => {}
            }
        }
        packs.shutdown().await;
    }

    /// Looks at everything that waits once, and sends what is due.
    pub async fn round(self: &Arc<Self>, packs: &mut JoinSet<()>) {
        self.note_given_up();
        self.send_keys().await;
        self.send_gaps().await;
        self.form_packs();
        self.start_packs(packs);
        self.free_committed();
        self.make_way().await;
        while packs.try_join_next().is_some() {}
    }

    /// Sends everything that waits now of one camera, or of all, without waiting for packs to fill. What is recorded
    /// meanwhile is not waited for, and what did not leave within `patience` goes on waiting.
    pub async fn flush(&self, camera: Option<CameraId>, patience: Duration) -> Flushed {
        let awaited = self.outbox.waiting_now(camera);
        self.spool.commit_soon();
        let _flushing = Flushing::start(self, camera);
        let until_left = async {
            while self.outbox.may_still_leave(&awaited) {
                let _ = tokio::time::timeout(TICK, self.outbox.changed.notified()).await;
                tokio::time::sleep(BREATH).await;
            }
        };
        let _ = tokio::time::timeout(patience, until_left).await;
        let waiting = self.outbox.still_waiting(&awaited);
        Flushed { left: awaited.len().saturating_sub(waiting), waiting }
    }

    /// Segments that were given up while the spool did not even take their end.
    fn note_given_up(&self) {
        for segment in self.outbox.take_given_up() {
            match segment {
                GivenUp::Empty(serial) => self.free(&[serial]),
                GivenUp::Torn(mut sealed) => match note_torn(&self.spool, &mut sealed) {
                    Ok(()) => self.outbox.add_segment(*sealed, self.clock.monotonic()),
                    Err(_) => self.outbox.give_up(GivenUp::Torn(sealed)), // The next round tries again.
                },
            }
        }
    }

    /// Forms packs, and notes each in the spool before it is first offered.
    fn form_packs(&self) {
        let flushing = self.flushed();
        let flushed = |camera| flushing.contains(&None) || flushing.contains(&Some(camera));
        while let Some(segments) = self.outbox.take_full(self.policy, self.clock.monotonic(), flushed) {
            let id = PackId::generate();
            let now = self.clock.monotonic();
            match self.note_pack(id, &segments) {
                Ok(noted) => self.outbox.add_pack(Formed::new(id, noted, segments, now)),
                Err(error) => {
                    tracing::warn!(%error, "a pack could not be noted; its segments wait");
                    self.outbox.put_back(segments, now);
                    return;
                }
            }
        }
    }

    /// Notes a pack in the spool: under which serial, and what must be committed before it may leave.
    fn note_pack(&self, id: PackId, segments: &[Sealed]) -> Result<(Serial, Position), Error> {
        let serial = self.spool.next_serial();
        let serials: Vec<Serial> = segments.iter().map(|sealed| sealed.serial).collect();
        let payload = [&id.as_bytes()[..], &encode_serials(&serials)].concat();
        let sealed_by = segments.iter().map(|sealed| sealed.end).max().unwrap_or_default();
        let (extents, end) = self.spool.append(&[record(Kind::Pack, serial, &payload)])?;
        extents.first().into_iter().for_each(|extent| self.spool.hold(serial, *extent));
        Ok((serial, end.max(sealed_by)))
    }

    /// Starts what may be on its way at the same time: little, so that a backlog takes neither the disk
    /// nor the network from recording. While storage is away one pack at a time finds out.
    fn start_packs(self: &Arc<Self>, running: &mut JoinSet<()>) {
        let committed = *self.spool.committed().borrow();
        let now = self.clock.monotonic();
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.observe(now, self.spool.appended_bytes());
        while self.may_start(&pace, running) {
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { break };
            let Some(pack) = self.outbox.take_pack(now, committed) else { break };
            pace.started(now, pack.bytes());
            let uploader = Arc::clone(self);
            running.spawn(async move {
                uploader.send_pack(pack).await;
                drop(permit);
                uploader.outbox.changed.notify_waiters();
            });
        }
    }

    fn may_start(&self, pace: &Pace, running: &JoinSet<()>) -> bool {
        let now = self.clock.monotonic();
        let away = self.objects_away.is_on() && !running.is_empty();
        self.objects_away.may_try(now) && !away && pace.may_start(now) && !self.spool.is_behind()
    }

    async fn send_pack(&self, mut pack: Formed) {
        match pack::send(self, &pack).await {
            Ok(()) => {
                self.objects_away.over();
                self.arrived();
                self.free(&pack.serials());
                self.outbox.pack_done(&pack);
            }
            Err(fault) if fault.is_outage() => {
                self.objects_away.goes_on(self.clock.monotonic(), &fault.cause);
                pack.unreadable = 0;
                self.outbox.pack_failed(pack);
            }
            Err(fault) if fault.is_unreadable() => self.cannot_read(pack, &fault.cause).await,
            // Something is wrong with this pack only: the others of its camera need not wait for it.
            Err(Fault { cause, .. }) => {
                if pack.refusals == 0 {
                    tracing::warn!(pack = %pack.id, cause, "a pack was refused; it waits in the spool and is tried again");
                }
                pack.not_before = much_later(self.clock.monotonic(), pack.refusals);
                pack.refusals = pack.refusals.saturating_add(1);
                pack.unreadable = 0;
                pack.note_refusal(self.clock.monotonic(), *self.last_arrival());
                self.outbox.pack_failed(pack);
            }
        }
    }

    /// Nothing of these serials is needed any more.
    fn free(&self, serials: &[Serial]) {
        self.freeing().unnoted.extend(serials);
        self.free_committed();
    }

    /// Notes what may go, and lets go of what was noted and is committed.
    fn free_committed(&self) {
        let mut freeing = self.freeing();
        if !freeing.unnoted.is_empty() {
            let serials = std::mem::take(&mut freeing.unnoted);
            match self.spool.append(&[record(Kind::Done, Serial(0), &encode_serials(&serials))]) {
                Ok((_, end)) => freeing.noted.push((end, serials)),
                Err(_) => freeing.unnoted = serials, // The disk is slow; the next round tries again.
            }
        }
        let committed = *self.spool.committed().borrow();
        let (done, waiting) =
            std::mem::take(&mut freeing.noted).into_iter().partition(|(end, _)| *end <= committed);
        freeing.noted = waiting;
        drop(freeing);
        let done: Vec<(Position, Vec<Serial>)> = done;
        done.iter().for_each(|(_, serials)| self.spool.release(serials));
    }

    /// Whether everything that arrived has left the spool as well.
    #[cfg(test)]
    pub fn has_freed_all(&self) -> bool {
        let freeing = self.freeing();
        freeing.unnoted.is_empty() && freeing.noted.is_empty()
    }

    fn freeing(&self) -> MutexGuard<'_, Freeing> {
        self.freeing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_arrival(&self) -> MutexGuard<'_, Option<Monotonic>> {
        self.last_arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flushed(&self) -> HashSet<Option<CameraId>> {
        self.flushing.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

/// Lets packs leave before they are full, as long as it lives.
struct Flushing<'a> {
    uploader: &'a Uploader,
    camera: Option<CameraId>,
}

impl<'a> Flushing<'a> {
    fn start(uploader: &'a Uploader, camera: Option<CameraId>) -> Self {
        *uploader.flushing.lock().unwrap_or_else(PoisonError::into_inner).entry(camera).or_default() += 1;
        uploader.outbox.changed.notify_waiters();
        Self { uploader, camera }
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        let mut flushing = self.uploader.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = flushing.get_mut(&self.camera) {
            *count -= 1;
            if *count == 0 {
                flushing.remove(&self.camera);
            }
        }
    }
}
