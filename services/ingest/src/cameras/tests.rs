//! Cameras that change while they are recorded, over real RTSP.

use std::net::SocketAddr;

use obscura_clock::SystemClock;
use obscura_proto::{
    footage::v1::{Gap, GapReason},
    ingest::v1 as ingest,
    registry::v1::{Coordinates, Placement, Purpose, SealedSource},
};
use obscura_seal::{RecipientKeyPair, SOURCE_INFO};
use obscura_snapshot::Authority;
use prost::Message as _;

use super::*;
use crate::{
    outbox::PackPolicy,
    rtsp_camera::{self, small_picture},
    segment::Sealed,
    spool::Limits,
};

const EVERYTHING: PackPolicy = PackPolicy { footage: Duration::from_hours(24), age: Duration::ZERO };

struct Site {
    cameras: Arc<Cameras>,
    outbox: Arc<Outbox>,
    source_key: Arc<SourceKey>,
    authority: Authority,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
    follow: tokio::task::JoinHandle<()>,
    id: CameraId,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let limits = Limits::of_bytes(1 << 30);
        let (spool, _) = Spool::open(dir.path().join("spool"), limits, Arc::clone(&clock)).unwrap();
        let outbox = Arc::new(Outbox::default());
        let source_key = Arc::new(SourceKey::load_or_create(&dir.path().join("source.key")).unwrap());
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        let cameras = Cameras::new(Shared {
            spool,
            outbox: Arc::clone(&outbox),
            source_key: Arc::clone(&source_key),
            authority: AuthorityKey::from_bytes(authority.public_key()),
            zone: "eea".parse().unwrap(),
            writer_epoch: WriterEpoch(1),
            clock,
            pressure: Arc::new(Pressure::new(Duration::from_secs(90))),
            reports: Reports::nobody(),
            last_alive: None,
            recorded_through: RecordedThrough::new(),
        })
        .unwrap();
        let (snapshot, following) = watch::channel(None);
        let (shutdown, intake) =
            (CancellationToken::new(), watch::channel(RecipientKeyPair::generate().unwrap().public()).1);
        let follow = tokio::spawn(Arc::clone(&cameras).follow(following, intake, shutdown.clone()));
        let id = CameraId::generate();
        Self { cameras, outbox, source_key, authority, snapshot, shutdown, follow, id, _dir: dir }
    }

    /// The camera as the registry publishes it.
    fn camera(&self, source: &SealedSource, retention_hours: u32) -> Camera {
        let placement = Placement {
            camera_id: self.id.to_string(),
            coordinates: Some(Coordinates { latitude: 52.5, longitude: 13.4 }),
            country: "DE".into(),
            zone: "eea".into(),
            bucket: "eea".into(),
            retention_hours,
            version: u64::from(retention_hours),
        };
        Camera {
            camera_id: self.id.to_string(),
            purpose: Some(Purpose { retention_hours, ..Purpose::default() }),
            sealed_source: Some(source.clone()),
            placement: Some(self.authority.sign_placement(&placement)),
            ..Camera::default()
        }
    }

    fn source(&self, address: SocketAddr) -> SealedSource {
        let source = ingest::Source { url: format!("rtsp://{address}/video"), ..ingest::Source::default() };
        let wrapped =
            obscura_seal::wrap(&self.source_key.public(), SOURCE_INFO, b"", &source.encode_to_vec()).unwrap();
        SealedSource {
            encapsulated_key: wrapped.encapsulated_key.into(),
            ciphertext: wrapped.ciphertext.into(),
        }
    }

    fn publish(&self, cameras: Vec<Camera>) {
        self.snapshot.send_replace(Some(Arc::new(Snapshot { cameras, ..Snapshot::default() })));
    }

    fn gauge(&self) -> Option<Arc<Gauge>> {
        self.cameras.gauges().pop()
    }

    /// Waits until so many more frames were received.
    async fn receive(&self, frames: u64) {
        let count = || {
            let gauge = self.gauge()?;
            Some(gauge.status(crate::spool::Position::default()).frames)
        };
        let enough = count().unwrap_or(0) + frames;
        until("frames", || count().is_some_and(|count| count >= enough)).await;
    }

    /// Sessions that were opened.
    fn connections(&self) -> u64 {
        self.gauge().unwrap().status(crate::spool::Position::default()).connections
    }

    /// Stops everything; the segments by sequence, and the gaps.
    async fn end(self) -> (Vec<Sealed>, Vec<Gap>) {
        self.shutdown.cancel();
        self.follow.await.unwrap();
        let now = obscura_clock::Monotonic::from_nanos(u64::MAX);
        let taken = std::iter::from_fn(|| self.outbox.take_full(EVERYTHING, now, |_| true));
        (taken.flatten().collect(), self.outbox.gaps())
    }
}

/// Looks again and again, for a minute at least.
async fn until(what: &str, mut is_there: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

fn sequences(segments: &[Sealed]) -> Vec<u64> {
    segments.iter().map(|sealed| sealed.entry.header.sequence.0).collect()
}

fn assert_one_after_the_other(segments: &[Sealed]) {
    let sequences = sequences(segments);
    assert!(sequences.iter().copied().eq(0..sequences.len() as u64), "{sequences:?}");
    assert!(segments.windows(2).all(|pair| pair[0].entry.span.end() <= pair[1].entry.span.start()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_source_is_recorded_with_the_next_number_and_the_time_between_is_a_gap_with_its_reason() {
    let site = Site::new();
    let first = site.source(rtsp_camera::start(Duration::from_millis(8), small_picture).await);
    let second = site.source(rtsp_camera::start(Duration::from_millis(8), small_picture).await);
    site.publish(vec![site.camera(&first, 72)]);
    site.receive(120).await;
    let gauge = site.gauge().unwrap();
    // Two changes at once: the one in the middle has hardly begun.
    let changes = [(&second, 24), (&first, 48), (&second, 24)];
    let changes = changes.map(|(source, hours)| vec![site.camera(source, hours)]);
    changes.into_iter().for_each(|cameras| site.publish(cameras));
    until("a session with the other source", || site.connections() >= 2).await;
    site.receive(120).await;
    assert!(Arc::ptr_eq(&gauge, &site.gauge().unwrap()), "what was counted stays counted");
    let (segments, gaps) = site.end().await;
    assert_one_after_the_other(&segments);
    let placements: Vec<_> = segments.iter().map(|sealed| sealed.placement.clone()).collect();
    assert!(placements.first() != placements.last(), "new packs rest where the newer placement says");
    let (gap, closed) = (gaps.first().unwrap(), gaps.last().unwrap());
    assert_eq!((gap.reason(), closed.gap_id == gap.gap_id), (GapReason::RecorderStopped, true), "{gaps:?}");
    let before = segments.iter().rev().find(|sealed| sealed.placement == placements[0]).unwrap();
    let after = segments.iter().find(|sealed| sealed.placement != placements[0]).unwrap();
    // How long a last frame lasts is an estimate: a frame at 25 Hz.
    let overlap = before.entry.span.end().unix_nanos() - gap.start_unix_ns;
    assert!((0..=40_000_000).contains(&overlap), "{overlap} ns");
    assert_eq!(closed.end_unix_ns, after.entry.span.start().unix_nanos());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_retention_or_priority_leaves_the_session_alone() {
    let site = Site::new();
    let source = site.source(rtsp_camera::start(Duration::from_millis(8), small_picture).await);
    site.publish(vec![site.camera(&source, 72)]);
    site.receive(120).await;
    site.publish(vec![site.camera(&source, 24)]);
    site.receive(120).await;
    until("another layer key for footage under another placement", || site.outbox.waiting_keys() >= 2).await;
    assert_eq!(site.connections(), 1);
    let (segments, gaps) = site.end().await;
    assert_one_after_the_other(&segments);
    assert!(gaps.is_empty(), "{gaps:?}");
    assert!(segments.first().unwrap().placement != segments.last().unwrap().placement);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_was_removed_and_comes_back_goes_on_with_the_next_number() {
    let site = Site::new();
    let source = site.source(rtsp_camera::start(Duration::from_millis(8), small_picture).await);
    site.publish(vec![site.camera(&source, 72)]);
    site.receive(80).await;
    site.publish(Vec::new());
    until("the camera to go", || site.gauge().is_none()).await;
    site.publish(vec![site.camera(&source, 72)]);
    site.receive(80).await;
    let (segments, gaps) = site.end().await;
    assert_one_after_the_other(&segments);
    assert!(gaps.iter().all(|gap| gap.end_unix_ns > 0), "removing a camera is no gap: {gaps:?}");
}
