//! Reconciliation, scrub and what else takes its time.

use super::*;

#[tokio::test]
async fn what_needs_custody_says_where_it_is_missing() {
    let installation = Installation::start().await;
    let refused = installation.grpc.reconciled(ReconcileRequest { repair: false }).err().unwrap();
    assert!(refused.to_string().contains("under [peers]"), "{refused}");
}

#[tokio::test]
async fn long_work_is_done_once_at_a_time() {
    let zone = crate::zone_bench::Zone::start().await;
    let grpc = &zone.installation.grpc;
    let reconciling = grpc.upkeep.reconciling.lock().await;
    for refused in [grpc.reconciled(ReconcileRequest { repair: true }).err(), grpc.reindexed().err()] {
        assert_eq!(code(refused.unwrap()), Code::FailedPrecondition);
    }
    drop(reconciling);
    let scrubbing = grpc.upkeep.scrubbing.lock().await;
    assert_eq!(code(grpc.scrubbed(&ScrubRequest::default()).err().unwrap()), Code::FailedPrecondition);
    drop(scrubbing);
    let too_much = ScrubRequest { percent: 101, ..ScrubRequest::default() };
    assert_eq!(code(grpc.scrubbed(&too_much).err().unwrap()), Code::InvalidArgument);
}

#[tokio::test]
async fn long_work_reports_to_its_end_and_the_status_tells_of_it() {
    use futures::StreamExt as _;
    let zone = crate::zone_bench::Zone::start().await;
    for number in 1..4 {
        zone.record(&crate::zone_bench::pack(1, number, i64::from(number) * 16)).await;
    }
    let grpc = &zone.installation.grpc;
    let scrubbed: Vec<_> = grpc.scrubbed(&ScrubRequest::default()).unwrap().collect().await;
    let last = scrubbed.last().unwrap().as_ref().unwrap();
    assert_eq!((last.packs, last.done_bytes), (3, last.total_bytes));
    let reconciled: Vec<_> = grpc.reconciled(ReconcileRequest { repair: false }).unwrap().collect().await;
    let counts = reconciled.last().unwrap().as_ref().unwrap().counts.unwrap();
    assert_eq!((counts.live, counts.unaccounted), (12, 0));
    let reindexed: Vec<_> = grpc.reindexed().unwrap().collect().await;
    assert_eq!(reindexed.last().unwrap().as_ref().unwrap().objects, 3);
    let status =
        grpc.get_storage_status(Request::new(GetStorageStatusRequest {})).await.unwrap().into_inner();
    assert_eq!((status.packs, status.segments, status.damaged_packs), (3, 12, 0));
    assert_eq!((status.object_store.as_str(), status.database.as_str()), ("local directory", "SQLite"));
    assert!(status.reconciled_unix_ns > 0 && status.reconcile_findings == 0);
}

#[tokio::test]
async fn a_custody_that_is_away_ends_the_stream_with_words() {
    use futures::StreamExt as _;
    let zone = crate::zone_bench::Zone::start().await;
    zone.custody.is(crate::fake_custody::Wrong::Away);
    let reports = zone.installation.grpc.reconciled(ReconcileRequest { repair: false }).unwrap();
    let reports: Vec<_> = reports.collect().await;
    let status = reports.last().unwrap().as_ref().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("keys service"), "{}", status.message());
}
