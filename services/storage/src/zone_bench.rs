//! A zone for tests: index, bucket, a custody that does what it is told, and everything in between.

use std::sync::Arc;

use obscura_blob::{BlobStore, Fault, WithFaults};
use obscura_clock::{SharedClock, Timestamp};
use obscura_database::Location;
use obscura_ids::{Layer, LayerKeyId, PackId};
use obscura_pack::Directory;
use obscura_proto::storage::v1::{Finding, FindingKind, ReconcileResponse, ReindexResponse, ScrubResponse};

use crate::{
    Error,
    fake_custody::FakeCustody,
    inspection::sha256,
    metrics::Metrics,
    report::Reporter,
    scrub::demand::Demand,
    state::Counts,
    store::{CameraRun, Store},
    test_support::{self, Installation, at, key_of, zone},
    upkeep::Upkeep,
};

/// A pack under one key, whose directory tells the truth about its bytes. Each segment has `length` bytes
/// behind the prefix.
pub fn pack_under(key: u8, camera: u8, id: u8, segments: &[(i64, i64)], length: u64) -> Directory {
    let mut entries = test_support::pack(camera, PackId::from_bytes([id; 16]), segments).entries;
    let mut offset = 0;
    for entry in &mut entries {
        entry.header.key_id = LayerKeyId::from_bytes([key; 16]);
        entry.length = obscura_seal::prefix_length(&entry.header) as u64 + length;
        let bytes: Vec<u8> = (offset..offset + entry.length).map(|position| (position % 251) as u8).collect();
        entry.sha256 = sha256(&bytes);
        offset += entry.length;
    }
    let id = PackId::from_bytes([id; 16]);
    Directory::lay_out(id, test_support::camera(camera), zone("eea"), Layer::Original, entries).unwrap()
}

/// Four segments of four seconds from this second on, under key `camera`.
pub fn pack(camera: u8, id: u8, start_s: i64) -> Directory {
    let segments: Vec<_> =
        (0..4).map(|n| (start_s * 1_000 + n * 4_000, start_s * 1_000 + n * 4_000 + 4_000)).collect();
    pack_under(camera, camera, id, &segments, 100)
}

/// The key of all packs of a camera.
pub fn key(camera: u8) -> LayerKeyId {
    LayerKeyId::from_bytes([camera; 16])
}

/// The zone.
pub struct Zone {
    pub installation: Installation,
    pub custody: FakeCustody,
    pub upkeep: Arc<Upkeep>,
    pub faults: Arc<WithFaults>,
    location: Option<Location>,
    bucket: Option<Arc<dyn BlobStore>>,
}

impl Zone {
    pub async fn start() -> Self {
        Self::with(Installation::start().await, FakeCustody::new(), None, None).await
    }

    /// With its index somewhere else.
    pub async fn on(location: Location) -> Self {
        Self::with(Installation::start().await, FakeCustody::new(), Some(location), None).await
    }

    /// With its objects in a bucket.
    pub async fn in_bucket() -> Self {
        let installation = Installation::start().await;
        Self::with(installation, FakeCustody::new(), None, Some(Arc::new(test_support::bucket()))).await
    }

    async fn with(
        mut installation: Installation,
        custody: FakeCustody,
        location: Option<Location>,
        bucket: Option<Arc<dyn BlobStore>>,
    ) -> Self {
        if let Some(inner) = bucket.clone() {
            let looks = Arc::clone(&installation.looks);
            installation.grpc.blobs = Arc::new(test_support::Counting { inner, looks });
        }
        if let Some(location) = &location {
            installation.grpc.store = Store::open(location).await.unwrap();
        }
        let faults = WithFaults::new(Arc::clone(&installation.grpc.blobs));
        let upkeep = Arc::new(Upkeep {
            store: installation.grpc.store.clone(),
            blobs: Arc::clone(&faults) as Arc<dyn BlobStore>,
            custody: Some(custody.serve().await),
            zone: zone("eea"),
            clock: Arc::clone(&installation.clock) as SharedClock,
            metrics: Metrics::default(),
            outbox: None,
            access_log: Arc::clone(&installation.grpc.access_log),
            scrub_bytes_per_second: 0,
            reconciling: Arc::default(),
            scrubbing: Arc::default(),
        });
        installation.grpc.upkeep = Arc::clone(&upkeep);
        Self { installation, custody, upkeep, faults, location, bucket }
    }

    /// The process was killed and starts again.
    pub async fn restart(self) -> Self {
        let Self { installation, custody, upkeep, faults, location, bucket } = self;
        drop((upkeep, faults));
        Self::with(installation.restart().await, custody, location, bucket).await
    }

    /// The database was lost.
    pub async fn lose_index(self) -> Self {
        let Self { installation, custody, upkeep, faults, location, bucket } = self;
        drop((upkeep, faults));
        assert!(location.is_none(), "only the file of SQLite is lost here");
        let path = installation.directory.path().to_owned();
        installation.grpc.store.close_for_test().await;
        for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
            let _ = std::fs::remove_file(path.join(name));
        }
        Self::with(installation.restart().await, custody, None, bucket).await
    }

    /// Imports the keys, uploads and commits.
    pub async fn record(&self, pack: &Directory) {
        self.custody.import(pack, self.far());
        self.installation.place_and_commit(pack).await;
    }

    /// Far beyond the time of the tests.
    pub fn far(&self) -> Timestamp {
        at(1_000 * 86_400_000)
    }

    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.script(faults);
    }

    pub async fn runs(&self) -> Vec<CameraRun> {
        self.upkeep.store.runs(None, None, 1_000).await.unwrap()
    }

    pub async fn has_object(&self, pack: &Directory) -> bool {
        self.installation.grpc.blobs.size(&key_of(pack)).await.is_ok()
    }

    pub async fn reconcile(&self, repair: bool) -> (Counts, Vec<Finding>) {
        let (reporter, reports) = Reporter::<ReconcileResponse>::stream();
        let reconciler = self.upkeep.reconciler().unwrap();
        let (counts, reports) =
            drain(async { reconciler.run(repair, &reporter).await }, reports, reporter_of).await;
        (counts.unwrap(), reports)
    }

    /// Everything is accounted for and nothing was found.
    pub async fn assert_accounted(&self) -> Counts {
        let (counts, findings) = self.reconcile(false).await;
        assert_eq!(findings, [], "{counts:?}");
        assert_eq!(counts.unaccounted, 0);
        counts
    }

    pub async fn scrub(&self) -> Vec<Finding> {
        let (reporter, reports) = Reporter::<ScrubResponse>::stream();
        let demand = Demand { camera: None, span: None, percent: 100, salt: [0; 16] };
        let scrubber = self.upkeep.scrubber();
        let (outcome, reports) =
            drain(async { scrubber.scrub(&demand, &reporter).await }, reports, |report| report.findings)
                .await;
        outcome.unwrap();
        reports
    }

    pub async fn reindex(&self) -> Result<(u64, Vec<Finding>), Error> {
        let (reporter, reports) = Reporter::<ReindexResponse>::stream();
        let orphans = self.upkeep.orphans();
        let work = async { crate::reindex::reindex(&orphans, &reporter).await };
        let (outcome, findings) = drain(work, reports, |report| report.findings).await;
        outcome.map(|progress| (progress.indexed, findings))
    }
}

/// The kinds of findings.
pub fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(Finding::kind).collect()
}

fn reporter_of(report: ReconcileResponse) -> Vec<Finding> {
    report.findings
}

/// Does the work and takes its reports meanwhile.
async fn drain<T, R>(
    work: impl Future<Output = T>,
    mut reports: crate::report::Reports<R>,
    findings: impl Fn(R) -> Vec<Finding>,
) -> (T, Vec<Finding>) {
    use futures::StreamExt as _;
    let mut found = Vec::new();
    let mut work = std::pin::pin!(work);
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome,
            Some(report) = reports.next() => found.extend(findings(report.unwrap())),
        }
    };
    // The reporter is still there, so the stream does not end by itself.
    while let Some(Some(report)) = futures::FutureExt::now_or_never(reports.next()) {
        found.extend(findings(report.unwrap()));
    }
    (outcome, found)
}
