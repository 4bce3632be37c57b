use obscura_blob::Fault;
use obscura_clock::Clock as _;
use obscura_ids::{GapId, WriterEpoch};
use obscura_proto::{
    footage::v1::{Gap as Message, GapReason},
    storage::v1::{FindingKind, RecordGapsRequest, storage_service_server::StorageService as _},
};
use proptest::prelude::*;
use tonic::{Code, Request};

use super::*;
use crate::{
    test_support::{at, camera},
    zone_bench::{Zone, key as layer_key, kinds, pack},
};

fn gap(id: u8, start_ms: i64, end_ms: Option<i64>) -> Gap {
    Gap {
        id: GapId::from_bytes([id; 16]),
        camera: camera(1),
        start: at(start_ms),
        end: end_ms.map(at),
        reason: GapReason::FrameTimeout,
        writer: Some(WriterEpoch(1)),
    }
}

/// A recorder that tells gaps.
async fn tell(zone: &Zone, gaps: &[Gap]) -> Result<(), Code> {
    let gaps = gaps.iter().copied().map(Message::from).collect();
    let told = zone.installation.grpc.record_gaps(Request::new(RecordGapsRequest { gaps })).await;
    told.map(drop).map_err(|status| status.code())
}

async fn indexed(zone: &Zone) -> Vec<Gap> {
    zone.upkeep.store.gaps(None, None, 10_000).await.unwrap()
}

fn journal(zone: &Zone) -> GapJournal {
    zone.upkeep.orphans().gap_journal()
}

async fn page_keys(zone: &Zone) -> Vec<BlobKey> {
    zone.installation.grpc.blobs.list(PageName::PREFIX, None, 1_000).await.unwrap()
}

#[tokio::test]
async fn a_lost_index_comes_back_with_the_same_gaps_and_reasons_from_a_directory_and_from_a_bucket() {
    for in_bucket in [false, true] {
        let mut zone = if in_bucket { Zone::in_bucket().await } else { Zone::start().await };
        zone.record(&pack(1, 1, 0)).await;
        tell(&zone, &[gap(1, 16_000, None), gap(2, 20_000, Some(21_000))]).await.unwrap();
        tell(&zone, &[gap(1, 16_000, Some(30_000))]).await.unwrap();
        let refused = Gap { reason: GapReason::Unauthorized, camera: camera(2), ..gap(3, 90_000_000, None) };
        tell(&zone, &[Gap { reason: GapReason::ConnectionLost, ..refused }]).await.unwrap();
        tell(&zone, &[refused]).await.unwrap();
        let before = indexed(&zone).await;
        assert_eq!(before.len(), 3);
        for tidied in [false, true] {
            if tidied {
                journal(&zone).tidy(None).await.unwrap();
            }
            zone = zone.lose_index().await;
            assert!(indexed(&zone).await.is_empty());
            for _ in 0..2 {
                let (_, findings) = zone.reindex().await.unwrap();
                assert_eq!((indexed(&zone).await, findings), (before.clone(), vec![]), "{tidied}");
            }
            zone.assert_accounted().await;
        }
    }
}

#[tokio::test]
async fn gaps_that_a_killed_recorder_left_open_end_with_its_stop_in_a_rebuilt_index_too() {
    let mut zone = Zone::start().await;
    let directory = 7 << 32;
    let open = Gap { writer: Some(WriterEpoch(directory)), ..gap(9, 1_000, None) };
    let foreign = Gap { writer: Some(WriterEpoch(8 << 32)), ..gap(8, 1_000, None) };
    let stop = Gap {
        reason: GapReason::RecorderStopped,
        writer: Some(WriterEpoch(directory + 1)),
        ..gap(1, 5_000, Some(9_000))
    };
    let next = Gap { writer: Some(WriterEpoch(directory + 1)), ..gap(7, 4_000, None) };
    for gap in [open, foreign, stop, next] {
        tell(&zone, &[gap]).await.unwrap();
    }
    let before = indexed(&zone).await;
    let end_of = |id: u8| before.iter().find(|gap| gap.id == GapId::from_bytes([id; 16])).unwrap().end;
    assert_eq!((end_of(9), end_of(8), end_of(7)), (Some(at(5_000)), None, None));
    zone = zone.lose_index().await;
    // Pages come in the order of their hashes.
    zone.reindex().await.unwrap();
    assert_eq!(indexed(&zone).await, before);
}

#[tokio::test]
async fn a_gap_is_acknowledged_only_when_it_is_in_bucket_and_index() {
    for fault in [|| Fault::Unavailable, || Fault::ResetBefore, || Fault::ResetAfter, || Fault::HalfUpload] {
        let mut zone = Zone::start().await;
        zone.script([fault(), fault()]);
        for retry in [false, true] {
            let told = tell(&zone, &[gap(1, 0, Some(1_000))]).await;
            // What was stored without an answer is there at the retry.
            if !retry || fault() != Fault::ResetAfter {
                assert_eq!(told, Err(Code::Unavailable));
                assert!(indexed(&zone).await.is_empty(), "the object comes first");
            }
        }
        zone.script([]);
        tell(&zone, &[gap(1, 0, Some(1_000))]).await.unwrap();
        assert_eq!(page_keys(&zone).await.len(), 1, "told three times and one page");
        zone = zone.lose_index().await;
        zone.reindex().await.unwrap();
        assert_eq!(indexed(&zone).await, [gap(1, 0, Some(1_000))]);
    }
}

#[tokio::test]
async fn a_page_that_a_crash_left_without_a_row_is_told_again_or_indexed_on_request() {
    let zone = Zone::start().await;
    journal(&zone).write(&[gap(1, 0, None)]).await.unwrap();
    zone.assert_accounted().await;
    assert!(indexed(&zone).await.is_empty());
    assert_eq!(zone.reconcile(true).await.1, []);
    assert_eq!(indexed(&zone).await, [gap(1, 0, None)]);
    tell(&zone, &[gap(1, 0, None)]).await.unwrap();
    assert_eq!(page_keys(&zone).await.len(), 1);
}

#[tokio::test]
async fn tidying_leaves_one_page_a_day_and_every_gap_whatever_cuts_it_short() {
    let zone = Zone::start().await;
    const DAY_MS: i64 = 86_400_000;
    for day in 0..3 {
        for number in 0..5_u8 {
            let id = u8::try_from(day).unwrap() * 10 + number + 1;
            tell(&zone, &[gap(id, day * DAY_MS + i64::from(number), None)]).await.unwrap();
            tell(&zone, &[gap(id, day * DAY_MS + i64::from(number), Some(day * DAY_MS + 60_000))])
                .await
                .unwrap();
        }
    }
    let before = indexed(&zone).await;
    assert_eq!((before.len(), page_keys(&zone).await.len()), (15, 30));
    for calls in 0..60 {
        for fault in [Fault::Unavailable, Fault::ResetAfter] {
            zone.script((0..calls).map(|_| Fault::None).chain([fault]));
            let _ = journal(&zone).tidy(None).await;
            let records = all_records(&zone).await;
            assert!(before.iter().all(|gap| records.contains(&Record::from(*gap))), "{calls}: a gap is gone");
        }
    }
    zone.script([]);
    for _ in 0..2 {
        journal(&zone).tidy(None).await.unwrap();
        assert_eq!(page_keys(&zone).await.len(), 3);
    }
    let zone = zone.lose_index().await;
    zone.reindex().await.unwrap();
    assert_eq!(indexed(&zone).await, before);
}

async fn all_records(zone: &Zone) -> Vec<Record> {
    let mut records = Vec::new();
    for key in zone.installation.grpc.blobs.list(PageName::PREFIX, None, 1_000).await.unwrap() {
        let bytes = zone.installation.grpc.blobs.read_whole(&key, 1_000_000).await.unwrap();
        let name = GapJournal::name_of(&key).unwrap();
        records.extend_from_slice(Page::open(name, &bytes).unwrap().records());
    }
    records
}

#[tokio::test]
async fn a_page_that_rotted_or_never_was_is_named_and_written_anew_from_the_index() {
    let zone = Zone::start().await;
    tell(&zone, &[gap(1, 0, Some(1_000)), gap(2, 10, None)]).await.unwrap();
    let rotten = page_keys(&zone).await.remove(0);
    zone.installation.grpc.blobs.replace(&rotten, Bytes::from_static(b"OBSGAPS\x01rot")).await.unwrap();
    for repair in [false, true] {
        let (_, findings) = zone.reconcile(repair).await;
        assert_eq!(kinds(&findings), [FindingKind::BytesChanged]);
        assert_eq!(findings[0].object_key, rotten.to_string());
    }
    journal(&zone).tidy(None).await.unwrap();
    zone.assert_accounted().await;
    // A store that only says that it has it.
    zone.script([Fault::FalseSuccess]);
    tell(&zone, &[gap(3, 20, None)]).await.unwrap();
    journal(&zone).tidy(None).await.unwrap();
    let before = indexed(&zone).await;
    let zone = zone.lose_index().await;
    zone.reindex().await.unwrap();
    assert_eq!(indexed(&zone).await, before);
    assert_eq!(before.len(), 3);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_named_when_the_index_is_rebuilt_and_the_others_come_back() {
    let zone = Zone::start().await;
    tell(&zone, &[gap(1, 0, None)]).await.unwrap();
    let alien = page_keys(&zone).await[0].to_string().replace("2026-11-23", "2026-11-22");
    let bytes = zone.installation.grpc.blobs.read_whole(&page_keys(&zone).await[0], 1_000).await.unwrap();
    zone.installation.place(&alien.parse().unwrap(), bytes.to_vec()).await;
    zone.installation.place(&"gap-journal/notes".parse().unwrap(), b"x".to_vec()).await;
    let zone = zone.lose_index().await;
    let (_, findings) = zone.reindex().await.unwrap();
    let found: Vec<&str> = findings.iter().map(|finding| finding.object_key.as_str()).collect();
    assert_eq!(found, [alien.as_str(), "gap-journal/notes"]);
    assert_eq!(indexed(&zone).await, [gap(1, 0, None)]);
    assert_eq!(page_keys(&zone).await.len(), 3, "nothing is deleted because it looks wrong");
}

#[tokio::test]
async fn gaps_of_400_days_ago_are_forgotten_in_index_and_bucket_and_those_that_last_are_not() {
    let zone = Zone::start().await;
    let old = |id, end| Gap { end, start: at(0) - Duration::from_hours(24 * 500), ..gap(id, 0, None) };
    let (past, lasting, young) =
        (old(1, Some(at(0) - Duration::from_hours(24 * 499))), old(2, None), gap(3, 0, Some(5)));
    tell(&zone, &[past, lasting, young]).await.unwrap();
    zone.upkeep.tidy_if_due().await.unwrap();
    assert_eq!(indexed(&zone).await.len(), 3, "nothing was ever destroyed, so nothing says how late it is");
    zone.record(&pack(1, 1, 0)).await;
    zone.custody.shred(layer_key(1), &[(0, 1_799)]);
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    zone.upkeep.tidy_if_due().await.unwrap();
    assert_eq!(indexed(&zone).await.len(), 3, "not due again");
    zone.installation.clock.step_wall(zone.installation.clock.wall() + TIDY_PAUSE);
    zone.upkeep.tidy_if_due().await.unwrap();
    let left = indexed(&zone).await;
    assert_eq!(left.iter().map(|gap| gap.id).collect::<Vec<_>>(), [lasting.id, young.id]);
    let zone = zone.lose_index().await;
    zone.reindex().await.unwrap();
    assert_eq!(indexed(&zone).await, left);
}

const TIDY_PAUSE: Duration = Duration::from_hours(7);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_rebuilt_index_has_the_gaps_of_the_lost_one_whatever_recorders_told(
        told in prop::collection::vec((0..6_u8, 0..3_i64, prop::option::of(0..90_i64), 1..10_i32), 1..12),
        tidied: bool,
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let zone = Zone::start().await;
            for (id, day, length, reason) in told {
                let start = day * 86_400_000 + i64::from(id) * 1_000;
                let reason = GapReason::try_from(reason).unwrap();
                let gap = Gap { reason, ..gap(id, start, length.map(|length| start + length)) };
                tell(&zone, &[gap]).await.unwrap();
            }
            if tidied {
                journal(&zone).tidy(None).await.unwrap();
            }
            let before = indexed(&zone).await;
            let zone = zone.lose_index().await;
            zone.reindex().await.unwrap();
            assert_eq!(indexed(&zone).await, before);
        });
    }
}
