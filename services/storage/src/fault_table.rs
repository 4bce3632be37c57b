//! The fault table of this side: every step at which a pack or a gap comes in, what a fault there leaves, and
//! what repairs it.
//!
//! | step | a crash there leaves | repaired by |
//! |---|---|---|
//! | gap page | nothing, or a page without a row | the gap is told again, which writes the same page |
//! | gap row | a page without a row | the gap is told again |
//! | gap answer | a row that the recorder does not know of | the gap is told again, which changes nothing |
//! | PUT | nothing, or an object without a row | put again under the same key, and compared |
//! | index | an object without a row | the pack is committed again |
//! | commit answer | rows that the recorder does not know of | committed again, which changes nothing |
//!
//! Each fault hits twice. A store fails at each of its calls in turn: it is busy, breaks off, loses its answer,
//! says what is not so, or has done it and answers when everybody has given up. Then the recorder comes once
//! more, and everything is accounted for: in the index, and in one that is rebuilt from the bucket.

use std::{sync::Arc, time::Duration};

use obscura_blob::{BlobStore, Fault};
use obscura_clock::SharedClock;
use obscura_gap_journal::PageName;
use obscura_ids::{GapId, WriterEpoch};
use obscura_pack::Directory;
use obscura_proto::{
    footage::v1::{GapReason, Layer as LayerMessage},
    storage::v1::{CreateUploadRequest, RecordGapsRequest, storage_service_server::StorageService as _},
};
use tonic::Request;

use crate::{
    gap::Gap,
    http::Objects,
    metrics::Metrics,
    test_support::{at, camera, key_of, object, span},
    zone_bench::{Zone, pack},
};

/// One step, and what can go wrong in it.
struct Row {
    step: &'static str,
    what: What,
    troubles: &'static [Trouble],
}

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Gap,
    Pack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The store fails at one of its calls.
    Store(Fault),
    /// The same, and the process ends with it.
    Killed(Fault),
    /// The database is away.
    NoDatabase,
    /// The process ends when everything is done, and nobody hears of it.
    KilledAfter,
}

/// Longer than anybody waits.
const LATE: Fault = Fault::Late(Duration::from_secs(3_600));
/// How long the recorder waits here for an answer that comes late, once the store was asked.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long it waits for any other answer.
const LONGEST: Duration = Duration::from_secs(60);
/// More calls of the store than any step makes.
const MANY: usize = 20;

const TABLE: &[Row] = &[
    Row {
        step: "gap page",
        what: What::Gap,
        // One that lies about a page is found when the day is tidied; see the tests of the journal.
        troubles: &[
            Trouble::Store(Fault::Unavailable),
            Trouble::Store(Fault::HalfUpload),
            Trouble::Store(Fault::ResetBefore),
            Trouble::Store(Fault::ResetAfter),
            Trouble::Store(LATE),
            Trouble::Killed(Fault::ResetBefore),
            Trouble::Killed(Fault::HalfUpload),
        ],
    },
    Row {
        step: "gap row",
        what: What::Gap,
        troubles: &[Trouble::Killed(Fault::ResetAfter), Trouble::Killed(LATE), Trouble::NoDatabase],
    },
    Row { step: "gap answer", what: What::Gap, troubles: &[Trouble::KilledAfter] },
    Row {
        step: "PUT",
        what: What::Pack,
        troubles: &[
            Trouble::Store(Fault::Unavailable),
            Trouble::Store(Fault::HalfUpload),
            Trouble::Store(Fault::FalseSuccess),
            Trouble::Store(Fault::ResetBefore),
            Trouble::Store(Fault::ResetAfter),
            Trouble::Store(LATE),
            Trouble::Killed(Fault::ResetBefore),
            Trouble::Killed(Fault::HalfUpload),
        ],
    },
    Row {
        step: "index",
        what: What::Pack,
        troubles: &[Trouble::Killed(Fault::ResetAfter), Trouble::Killed(LATE), Trouble::NoDatabase],
    },
    Row { step: "commit answer", what: What::Pack, troubles: &[Trouble::KilledAfter] },
];

/// Sixteen seconds of footage,
fn footage() -> Directory {
    pack(1, 1, 0)
}

/// and four that nobody saw.
fn gap() -> Gap {
    Gap {
        id: GapId::from_bytes([1; 16]),
        camera: camera(1),
        start: at(16_000),
        end: Some(at(20_000)),
        reason: GapReason::ConnectionLost,
        writer: Some(WriterEpoch(1)),
    }
}

impl Trouble {
    fn ends_the_process(self) -> bool {
        !matches!(self, Self::Store(_))
    }

    fn is_late(self) -> bool {
        matches!(self, Self::Store(Fault::Late(_)) | Self::Killed(Fault::Late(_)))
    }

    /// Calls of the store at which it can strike; those that are more than there are end the search.
    fn calls(self) -> usize {
        if matches!(self, Self::Store(_) | Self::Killed(_)) { MANY } else { 1 }
    }
}

impl Zone {
    /// Uploads and inspections meet the faults too.
    fn through_faults(mut self) -> Self {
        let blobs = Arc::clone(&self.faults) as Arc<dyn BlobStore>;
        let clock = Arc::clone(&self.installation.clock) as SharedClock;
        let signer = Arc::clone(&self.installation.signer);
        self.installation.grpc.blobs = Arc::clone(&blobs);
        self.installation.http = Arc::new(Objects::new(blobs, signer, clock, Metrics::default())).router();
        self
    }

    /// A recorder sends it and waits for the answer. Whether it was acknowledged.
    async fn send(&self, what: What) -> bool {
        let sent = async {
            match what {
                What::Gap => self.tell().await,
                What::Pack => self.put_and_commit().await,
            }
        };
        tokio::time::timeout(LONGEST, sent).await.unwrap_or(false)
    }

    /// The same, and the recorder has given up when the answer comes.
    async fn send_in_vain(&self, what: What) -> bool {
        let given_up = async {
            while self.faults.left() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            acknowledged = self.send(what) => acknowledged,
            () = given_up => false,
        }
    }

    async fn tell(&self) -> bool {
        let request = RecordGapsRequest { gaps: vec![gap().into()] };
        self.installation.grpc.record_gaps(Request::new(request)).await.is_ok()
    }

    async fn put_and_commit(&self) -> bool {
        let (pack, installation) = (footage(), &self.installation);
        let upload = CreateUploadRequest {
            placement: Some(installation.placement(1)),
            pack_id: pack.pack_id.to_string(),
            layer: LayerMessage::Original.into(),
            start_unix_ns: at(0).unix_nanos(),
            size_bytes: object(&pack).len() as u64,
        };
        let Ok(upload) = installation.grpc.create_upload(Request::new(upload)).await else { return false };
        installation.put(&upload.into_inner().url, &object(&pack)).await.is_success()
            && installation.grpc.commit_pack(Request::new(installation.commit_of(&pack))).await.is_ok()
    }

    /// Sends it into the trouble, at this call of the store. Whether the trouble was met.
    async fn meet(self, what: What, trouble: Trouble, call: usize) -> (Self, bool) {
        match trouble {
            Trouble::Store(fault) | Trouble::Killed(fault) => {
                self.script((0..call).map(|_| Fault::None).chain([fault]));
            }
            Trouble::NoDatabase => self.installation.grpc.store.close_for_test().await,
            Trouble::KilledAfter => {}
        }
        let acknowledged =
            if trouble.is_late() { self.send_in_vain(what).await } else { self.send(what).await };
        let met = self.faults.left() == 0;
        self.script([]);
        if trouble.ends_the_process() {
            return (self.restart().await.through_faults(), met);
        }
        if acknowledged {
            self.assert_there(what).await;
        }
        (self, met)
    }

    /// What was acknowledged is in bucket and index, once.
    async fn assert_there(&self, what: What) {
        let store = &self.upkeep.store;
        match what {
            What::Gap => {
                assert_eq!(store.gaps(None, None, 10).await.unwrap(), [gap()]);
                let pages = self.installation.grpc.blobs.list(PageName::PREFIX, None, 10).await.unwrap();
                assert_eq!(pages.len(), 1);
            }
            What::Pack => {
                let runs = self.runs().await;
                let spans: Vec<_> = runs.iter().map(|run| (run.run.span, run.run.segments)).collect();
                assert_eq!(spans, [(span(0, 16_000), 4)]);
                let size = self.installation.grpc.blobs.size(&key_of(&footage())).await.unwrap();
                assert_eq!(size, object(&footage()).len() as u64);
            }
        }
    }

    /// Twenty seconds of the camera: footage, then a gap with its reason, and nothing twice.
    async fn assert_covered(&self) {
        for what in [What::Gap, What::Pack] {
            self.assert_there(what).await;
        }
        assert_eq!(self.assert_accounted().await.live, 4);
    }
}

/// The trouble strikes the first try and the retry, at one call of the store. Whether it was met.
async fn inject_twice(what: What, trouble: Trouble, call: usize) -> bool {
    let mut zone = Zone::start().await.through_faults();
    zone.custody.import(&footage(), zone.far());
    let mut met = true;
    for retry in [false, true] {
        let met_now;
        (zone, met_now) = zone.meet(what, trouble, call).await;
        // A retry that finds the work done makes fewer calls.
        met &= met_now || retry;
    }
    for what in [What::Gap, What::Pack] {
        while !zone.send(what).await {}
    }
    zone.assert_covered().await;
    let zone = zone.lose_index().await;
    let (_, findings) = zone.reindex().await.unwrap();
    assert_eq!(findings, []);
    zone.assert_covered().await;
    met
}

async fn try_out(step: &str) {
    let row = TABLE.iter().find(|row| row.step == step).unwrap();
    for trouble in row.troubles {
        for call in 0..trouble.calls() {
            println!("{step}: {trouble:?} at call {call}");
            if !inject_twice(row.what, *trouble, call).await {
                assert!(call > 0, "the trouble was never met");
                break;
            }
        }
    }
}

#[test]
fn the_table_has_a_row_for_every_step() {
    let head = include_str!("fault_table.rs").lines().take_while(|line| line.starts_with("//!"));
    let rows = head.filter_map(|line| line.strip_prefix("//! | ")?.split(" |").next());
    let documented: Vec<&str> = rows.skip(1).collect();
    assert_eq!(documented, TABLE.iter().map(|row| row.step).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_fault_while_the_page_of_a_gap_is_put_leaves_no_gap_without_its_row_and_none_twice() {
    try_out("gap page").await;
}

#[tokio::test]
async fn a_crash_between_the_page_of_a_gap_and_its_row_costs_one_more_report() {
    try_out("gap row").await;
}

#[tokio::test]
async fn a_crash_before_a_gap_is_acknowledged_changes_nothing() {
    try_out("gap answer").await;
}

#[tokio::test]
async fn a_fault_while_a_pack_is_put_loses_nothing_and_stores_nothing_twice() {
    try_out("PUT").await;
}

#[tokio::test]
async fn a_crash_between_a_pack_and_its_rows_costs_one_more_commit() {
    try_out("index").await;
}

#[tokio::test]
async fn a_crash_before_a_commit_is_answered_indexes_nothing_twice() {
    try_out("commit answer").await;
}
