//! A recorder in a small world: cameras, a clock, a disk and two peers, all in the hands of the test.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use obscura_clock::{Clock as _, SharedClock, SimulatedClock, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, WriterEpoch};
use obscura_proto::{footage::v1::Gap, registry::v1::SignedPlacement};
use obscura_seal::Cobblestone256;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    peers::Peers,
    plug::{Plug, Unsynced},
};
use crate::{
    failure::Failure,
    frame::{Frame, Picture, Release, samples},
    gap::Gaps,
    gauge::Gauge,
    layer_key::LayerKeys,
    outbox::{Outbox, PackPolicy},
    pressure::{Pressure, Priority, Reading},
    recorder::{Recorder, Terms, Track},
    recovered,
    segment::Parts,
    spool::{Limits, Spool},
    upload::{Patience, Uploader},
};

/// 2026-11-23T10:00:00Z, the start of an hour.
pub const START: Timestamp = Timestamp::from_unix_nanos(1_795_428_000_000_000_000);

/// What the world is like.
#[derive(Clone, Debug)]
pub struct Setup {
    pub cameras: usize,
    pub frame_every: Duration,
    /// Frames from key frame to key frame.
    pub key_every: u64,
    pub frame_bytes: usize,
    /// Frames between two looks of the uploader.
    pub look_every: u64,
    pub pack_footage: Duration,
    pub limits: Limits,
    pub upload_bytes_per_second: u64,
    pub priorities: Vec<u32>,
    /// How long the recorder waits for an answer.
    pub patience: Patience,
}

impl Default for Setup {
    /// One camera at 25 Hz; packs of four seconds, spool files of less.
    fn default() -> Self {
        Self {
            cameras: 1,
            frame_every: Duration::from_millis(40),
            key_every: 25,
            frame_bytes: 12_000,
            look_every: 12,
            pack_footage: Duration::from_secs(4),
            limits: Limits::new(64 << 20, 1 << 20),
            upload_bytes_per_second: 1 << 30,
            priorities: vec![5],
            patience: Patience::default(),
        }
    }
}

/// What one camera sent, and what became of it.
#[derive(Debug, Default)]
pub struct Reel {
    /// When each frame was sent.
    pub sent: BTreeMap<u64, Timestamp>,
    /// Frames that the recorder said were durable.
    pub acknowledged: BTreeMap<u64, Timestamp>,
}

/// The world.
pub struct World {
    pub setup: Setup,
    pub peers: Peers,
    pub plug: Plug,
    pub clock: Arc<SimulatedClock>,
    pub cameras: Vec<CameraId>,
    pub reels: Vec<Reel>,
    pub run: Run,
    /// Number of the next frame, the same for all cameras.
    pub next: u64,
    pub lost_packets: u16,
    dir: TempDir,
    epoch: u64,
}

/// One run of the recorder.
pub struct Run {
    pub spool: Arc<Spool>,
    pub outbox: Arc<Outbox>,
    pub uploader: Arc<Uploader>,
    pub pressure: Arc<Pressure>,
    pub lanes: Vec<Lane>,
    packs: JoinSet<()>,
    /// Its first frame.
    first: u64,
}

/// One camera in one run.
pub struct Lane {
    pub terms: watch::Sender<Terms>,
    pub recorder: Recorder,
    pub track: Track,
}

impl World {
    pub async fn new(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(setup, dir, Plug::default()).await
    }

    pub async fn on(setup: Setup, dir: TempDir, plug: Plug) -> Self {
        let peers = Peers::start().await;
        let clock = SimulatedClock::at(START);
        let cameras: Vec<CameraId> = (0..setup.cameras).map(|_| CameraId::generate()).collect();
        let reels = cameras.iter().map(|_| Reel::default()).collect();
        let run = Run::start(&setup, &peers, &plug, &clock, &dir, &cameras, 1, 0);
        Self { setup, peers, plug, clock, cameras, reels, run, next: 0, lost_packets: 0, dir, epoch: 1 }
    }

    /// The cameras send so many frames; the uploader looks now and then. Ends early where the plug is
    /// pulled.
    pub async fn record(&mut self, frames: u64) {
        for _ in 0..frames {
            if self.plug.is_pulled() {
                return;
            }
            self.frame();
            if self.next.is_multiple_of(self.setup.look_every) {
                self.look().await;
            }
        }
    }

    /// The cameras send so many frames, and nobody looks at anything else.
    pub fn record_only(&mut self, frames: u64) {
        (0..frames).for_each(|_| self.frame());
    }

    /// One more camera, which records from here on.
    pub fn add_camera(&mut self) -> CameraId {
        let camera = CameraId::generate();
        self.cameras.push(camera);
        self.reels.push(Reel::default());
        let clock = self.clock();
        self.run.add(camera, self.epoch, 5, None, &clock, &self.peers);
        camera
    }

    /// Nobody receives what the cameras send.
    pub fn miss(&mut self, frames: u64) {
        self.next += frames;
        (0..frames).for_each(|_| self.clock.advance(self.setup.frame_every));
    }

    /// Lets everything that is due happen, and notes what is acknowledged.
    pub async fn look(&mut self) {
        self.commit().await;
        self.run.round(&self.clock).await;
        self.commit().await;
        self.note_acknowledged();
    }

    /// The recorder ends, and what was not synced fares as told; the next one starts a second later.
    pub async fn restart(&mut self, unsynced: Unsynced) {
        self.plug.pull();
        self.run.kill().await;
        self.plug.settle(self.dir.path(), unsynced);
        self.miss(1_000_000_000_u64 / u64::try_from(self.setup.frame_every.as_nanos()).unwrap());
        self.plug = self.plug.back_in();
        self.start();
    }

    /// The cameras stop, everything leaves, and a last recorder finds nothing to do.
    pub async fn finish(&mut self) {
        for lane in &mut self.run.lanes {
            lane.track.end(&mut lane.recorder);
            lane.recorder.gaps.recording(self.clock.wall());
        }
        for _ in 0..200 {
            self.look().await;
            if self.run.is_idle() {
                break;
            }
            self.clock.advance(Duration::from_secs(10));
        }
        self.look().await;
        let waiting = (self.run.outbox.waiting_segments(None), self.run.outbox.waiting_keys());
        assert_eq!(waiting, (0, 0), "segments and keys that never left");
        self.run.spool.close();
        let (_, left) = Spool::open(self.dir.path().to_owned(), self.setup.limits, self.clock()).unwrap();
        assert!(left.segments.is_empty() && left.keys.is_empty() && left.packs.is_empty(), "{left:?}");
    }

    pub fn clock(&self) -> SharedClock {
        self.clock.clone()
    }

    pub fn spool_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// When this frame would have been sent, where the clock was never set.
    pub fn when(&self, frame: u64) -> Timestamp {
        START + self.setup.frame_every * u32::try_from(frame).unwrap()
    }

    fn start(&mut self) {
        self.epoch += 1;
        let (setup, plug, cameras) = (&self.setup, &self.plug, &self.cameras);
        self.run =
            Run::start(setup, &self.peers, plug, &self.clock, &self.dir, cameras, self.epoch, self.next);
    }

    fn frame(&mut self) {
        let (n, bytes) = (self.next, self.setup.frame_bytes);
        let ticks = self.setup.frame_every.as_millis() * 90;
        for (camera, (lane, reel)) in self.run.lanes.iter_mut().zip(&mut self.reels).enumerate() {
            let random_access = n.is_multiple_of(self.setup.key_every);
            let picture = Picture {
                data: picture(camera, n, bytes, random_access),
                media_time: i64::try_from(u128::from(n) * ticks).unwrap(),
                arrived: self.clock.wall(),
                arrived_monotonic: self.clock.monotonic(),
                random_access,
                lost_packets: self.lost_packets,
                parameters: samples::parameters(),
            };
            reel.sent.insert(n, self.clock.wall());
            lane.track.take(&mut lane.recorder, Frame::received(picture));
        }
        self.lost_packets = 0;
        self.next += 1;
        self.clock.advance(self.setup.frame_every);
    }

    /// Waits until what was appended is durable, or never will be.
    async fn commit(&self) {
        let target = self.run.spool.appended_bytes();
        let mut committed = self.run.spool.committed();
        for _ in 0..12_000 {
            self.run.spool.commit_soon();
            let waiting = committed.wait_for(|at| at.0 >= target);
            let waited = tokio::time::timeout(Duration::from_millis(10), waiting).await;
            if matches!(waited, Ok(Ok(_) | Err(_))) || self.plug.is_pulled() || self.run.spool.disk_is_full()
            {
                return;
            }
        }
        panic!("the spool does not commit");
    }

    fn note_acknowledged(&mut self) {
        if self.plug.is_pulled() {
            return;
        }
        let committed = *self.run.spool.committed().borrow();
        let gaps: Vec<Gap> =
            self.run.outbox.gaps().into_iter().chain(self.peers.stored().gaps.values().cloned()).collect();
        for ((lane, reel), camera) in self.run.lanes.iter().zip(&mut self.reels).zip(&self.cameras) {
            let through = lane.recorder.gauge.status(committed).acknowledged_through_unix_ns;
            let durable = reel.sent.range(self.run.first..).filter(|(_, at)| {
                (**at + self.setup.frame_every).unix_nanos() <= through
                    && !gaps.iter().any(|gap| gap.camera_id == camera.to_string() && lies_in(**at, gap))
            });
            reel.acknowledged.extend(durable);
        }
    }
}

impl Run {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the world")]
    fn start(
        setup: &Setup,
        peers: &Peers,
        plug: &Plug,
        clock: &Arc<SimulatedClock>,
        dir: &TempDir,
        cameras: &[CameraId],
        epoch: u64,
        first: u64,
    ) -> Self {
        peers.plug_in(plug.clone());
        let shared: SharedClock = clock.clone();
        let disk = Arc::new(plug.clone());
        let (spool, found) =
            Spool::open_on(disk, dir.path().to_owned(), setup.limits, Arc::clone(&shared)).unwrap();
        let outbox = Arc::new(Outbox::default());
        let through = recovered::enqueue(&spool, &outbox, &found, clock.monotonic()).unwrap();
        let policy = PackPolicy { footage: setup.pack_footage, age: setup.pack_footage * 3 };
        let uploader = Uploader::new(
            Arc::clone(&spool),
            Arc::clone(&outbox),
            peers.storage(),
            peers.custody(),
            peers.objects(),
            Arc::clone(&shared),
            policy,
            setup.patience,
            setup.upload_bytes_per_second,
        );
        let pressure = Arc::new(Pressure::new(policy.age));
        let mut run =
            Self { spool, outbox, uploader, pressure, lanes: Vec::new(), packs: JoinSet::new(), first };
        for (number, camera) in cameras.iter().enumerate() {
            let since = |alive| recovered::stopped_since(alive, through.get(camera).copied());
            let stopped_since = found.last_alive.map(since);
            let priority = setup.priorities.get(number).copied().unwrap_or(5);
            run.add(*camera, epoch, priority, stopped_since, &shared, peers);
        }
        run
    }

    pub fn add(
        &mut self,
        camera: CameraId,
        epoch: u64,
        priority: u32,
        stopped_since: Option<Timestamp>,
        clock: &SharedClock,
        peers: &Peers,
    ) {
        let (zone, writer_epoch): (obscura_ids::ZoneId, _) = ("eea".parse().unwrap(), WriterEpoch(epoch));
        let purpose = obscura_proto::registry::v1::Purpose { priority, ..Default::default() };
        let placement = SignedPlacement::default();
        let terms = Terms { placement: placement.clone(), priority: Priority::of(Some(&purpose)) };
        let gauge = Arc::new(Gauge::new(camera, true));
        let (terms, following) = watch::channel(terms);
        let mut recorder = Recorder {
            camera,
            source: Err(Failure::ended()),
            release: Release::Unmasked,
            parts: Parts {
                spool: Arc::clone(&self.spool),
                cipher: Arc::new(Cobblestone256),
                keys: LayerKeys::new(
                    camera,
                    Layer::Original,
                    zone.clone(),
                    writer_epoch,
                    watch::channel(peers.intake.public()).1,
                ),
                placement,
                zone,
                camera,
                layer: Layer::Original,
                writer_epoch,
                mask_set_hash: Digest::ZERO,
                next_sequence: 0,
            },
            gaps: Gaps::new(
                camera,
                writer_epoch,
                Arc::clone(&self.spool),
                Arc::clone(&self.outbox),
                crate::reports::Reports::nobody(),
            ),
            outbox: Arc::clone(&self.outbox),
            gauge: Arc::clone(&gauge),
            clock: Arc::clone(clock),
            pressure: Arc::clone(&self.pressure),
            stopped_since,
            predecessor: None,
            handed_over: Arc::default(),
            terms: following,
            cut: watch::channel(0).1,
            shutdown: CancellationToken::new(),
        };
        recorder.note_stop();
        let track = Track::new(Release::Unmasked, gauge, clock.wall());
        self.lanes.push(Lane { terms, recorder, track });
    }

    /// One look of the uploader, and of who watches the spool.
    async fn round(&mut self, clock: &SimulatedClock) {
        let now = clock.monotonic();
        let hours = Duration::from_hours(72);
        self.pressure.observe(Reading::of(&self.spool, self.outbox.oldest(now), hours, now));
        self.uploader.round(&mut self.packs).await;
        while self.packs.join_next().await.is_some() {}
    }

    /// Nothing waits any more, and nothing is left to be freed.
    fn is_idle(&self) -> bool {
        let outbox = &self.outbox;
        outbox.waiting_segments(None) + outbox.waiting_keys() + outbox.waiting_gaps() == 0
            && self.uploader.has_freed_all()
    }

    async fn kill(&mut self) {
        self.packs.shutdown().await;
        let spool = Arc::clone(&self.spool);
        tokio::task::spawn_blocking(move || spool.close()).await.unwrap();
    }
}

/// A picture that knows which it is.
pub fn picture(camera: usize, n: u64, bytes: usize, random_access: bool) -> Bytes {
    let mut nal = vec![if random_access { 0x65 } else { 0x41 }, u8::try_from(camera).unwrap()];
    nal.extend(n.to_be_bytes());
    nal.extend((0..bytes).map(|at| (at as u64).wrapping_mul(n | 1).to_le_bytes()[0]));
    let length = u32::try_from(nal.len()).unwrap().to_be_bytes();
    [&length[..], &nal].concat().into()
}

/// The number in such a picture.
pub fn number(picture: &[u8]) -> u64 {
    u64::from_be_bytes(picture[6..14].try_into().unwrap())
}

/// Whether a frame that was sent at this moment is in the gap.
pub fn lies_in(at: Timestamp, gap: &Gap) -> bool {
    let end = if gap.end_unix_ns == 0 { i64::MAX } else { gap.end_unix_ns };
    (gap.start_unix_ns..end).contains(&at.unix_nanos())
}
