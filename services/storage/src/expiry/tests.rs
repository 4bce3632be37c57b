use obscura_blob::Fault;
use obscura_clock::Span;
use obscura_database::{Location, PostgresUrl};
use obscura_pack::Directory;
use obscura_proto::storage::v1::{FindSegmentsRequest, storage_service_server::StorageService as _};
use obscura_test_servers::postgres;
use proptest::prelude::*;

use super::*;
use crate::{
    expiry::receipt::Unbelievable,
    fake_custody::Wrong,
    run::{Run, runs_of},
    store::{SCHEMA, Subject},
    test_support::{camera, span},
    zone_bench::{Zone, key, pack, pack_under},
};

/// All slots.
const ALL: (u32, u32) = (0, 1_799);

fn follower(zone: &Zone) -> Follower {
    zone.upkeep.follower().unwrap()
}

/// Three packs of one camera and one of another, in the first minute.
async fn recorded(zone: &Zone) -> Vec<Directory> {
    let packs = vec![pack(1, 1, 0), pack(1, 2, 16), pack(1, 3, 32), pack(2, 4, 0)];
    for pack in &packs {
        zone.record(pack).await;
    }
    packs
}

async fn spans(zone: &Zone) -> Vec<(u8, Span, u64)> {
    let of = |run: crate::store::CameraRun| (run.camera.as_bytes()[0], run.run.span, run.run.segments);
    zone.runs().await.into_iter().map(of).collect()
}

#[tokio::test]
async fn what_custody_destroyed_is_gone_from_index_and_bucket_and_has_a_tombstone() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    zone.custody.shred(key(1), &[ALL]);
    let round = follower(&zone).round().await.unwrap();
    assert_eq!(round, Round { receipts: 1, segments: 12, objects: 3, ..Round::default() });
    assert_eq!(spans(&zone).await, [(2, span(0, 16_000), 4)], "only what is left is listed");
    for (pack, there) in packs.iter().zip([false, false, false, true]) {
        assert_eq!(zone.has_object(pack).await, there);
        assert_eq!(zone.upkeep.store.tombstone(pack.pack_id).await.unwrap().is_none(), there);
    }
    let stone = zone.upkeep.store.tombstone(packs[0].pack_id).await.unwrap().unwrap();
    assert_eq!((stone.receipt, stone.segments, stone.camera, stone.span), (1, 4, camera(1), span(0, 16_000)));
    assert_eq!(stone.root, crate::inspection::sha256(&packs[0].encode_head()));
    let counts = zone.assert_accounted().await;
    assert_eq!((counts.live, counts.deleted, counts.shredded), (4, 12, 0));
    assert_eq!(follower(&zone).round().await.unwrap(), Round::default(), "nothing is done twice");
}

#[tokio::test]
async fn a_held_slot_keeps_its_segment_and_its_object_and_not_its_neighbours() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    // The second pack starts at 16 s, which is slot 8; its second segment is under slot 10.
    zone.custody.hold(key(1), 10, 11);
    zone.custody.shred(key(1), &[(0, 9), (12, 1_799)]);
    follower(&zone).round().await.unwrap();
    assert!(zone.has_object(&packs[1]).await && !zone.has_object(&packs[0]).await);
    assert_eq!(spans(&zone).await, [(1, span(20_000, 24_000), 1), (2, span(0, 16_000), 4)]);
    let request = FindSegmentsRequest {
        camera_id: camera(1).to_string(),
        layer: 1,
        span: Some(obscura_proto::footage::v1::Span { start_unix_ns: 0, end_unix_ns: i64::MAX }),
        page_token: String::new(),
        with_shredded: false,
    };
    let found = zone
        .installation
        .grpc
        .find_segments(tonic::Request::new(request))
        .await
        .unwrap()
        .into_inner()
        .segments;
    assert_eq!(found.len(), 1, "shredded segments are not offered");
    let counts = zone.assert_accounted().await;
    assert_eq!((counts.held, counts.shredded, counts.deleted, counts.live), (1, 3, 8, 4));
    // The hold ends, and so does the rest.
    zone.custody.shred(key(1), &[(10, 11)]);
    follower(&zone).round().await.unwrap();
    assert!(!zone.has_object(&packs[1]).await);
    assert_eq!(zone.assert_accounted().await.deleted, 12);
}

#[tokio::test]
async fn nothing_is_deleted_while_custody_is_away_or_not_believed() {
    for (wrong, refused) in [
        (Wrong::Away, "away"),
        (Wrong::OtherKey, "signature"),
        (Wrong::Gap(2), "receipt 2 should follow, and 3 came"),
    ] {
        let zone = Zone::start().await;
        let packs = recorded(&zone).await;
        follower(&zone).round().await.unwrap();
        zone.custody.shred(key(2), &[(0, 1)]);
        zone.custody.shred(key(1), &[(0, 1)]);
        zone.custody.shred(key(1), &[(2, 1_799)]);
        zone.custody.is(wrong);
        for _ in 0..2 {
            let error = follower(&zone).round().await.unwrap_err();
            assert!(error.to_string().contains(refused), "{error}");
        }
        assert!(zone.has_object(&packs[0]).await, "{wrong:?}");
        zone.custody.is(Wrong::Nothing);
        follower(&zone).catch_up().await.unwrap();
        assert!(!zone.has_object(&packs[0]).await, "{wrong:?}");
        zone.assert_accounted().await;
    }
}

#[tokio::test]
async fn a_custody_that_was_rolled_back_deletes_nothing_and_is_told_what_was_seen() {
    let zone = Zone::start().await;
    recorded(&zone).await;
    zone.custody.shred(key(1), &[ALL]);
    follower(&zone).round().await.unwrap();
    // A custody from yesterday's backup: same key, fewer receipts.
    let old = crate::fake_custody::FakeCustody::new();
    let follower = Follower { custody: old.serve().await, ..follower(&zone) };
    let error = follower.round().await.unwrap_err();
    assert!(error.to_string().contains("older than its receipts"), "{error}");
}

#[tokio::test]
async fn a_pack_that_comes_after_its_receipt_is_marked_at_once() {
    let zone = Zone::start().await;
    let (early, late) = (pack(1, 1, 0), pack(1, 2, 16));
    zone.record(&early).await;
    zone.custody.shred(key(1), &[(0, 9)]);
    follower(&zone).round().await.unwrap();
    zone.record(&late).await;
    assert_eq!(
        spans(&zone).await,
        [(1, span(20_000, 32_000), 3)],
        "slot 8 is destroyed, slots 10 to 14 are not"
    );
    zone.custody.shred(key(1), &[(10, 1_799)]);
    follower(&zone).round().await.unwrap();
    assert!(!zone.has_object(&late).await);
    zone.assert_accounted().await;
    // The recorder lost the answer to its commit and asks again, days later.
    let request = tonic::Request::new(zone.installation.commit_of(&late));
    let again = zone.installation.grpc.commit_pack(request).await.unwrap().into_inner();
    assert_eq!(again.segments, 4);
    assert!(spans(&zone).await.is_empty());
}

#[tokio::test]
async fn an_object_store_that_fails_is_asked_again() {
    for fault in [|| Fault::Unavailable, || Fault::ResetBefore, || Fault::ResetAfter] {
        let zone = Zone::start().await;
        let packs = recorded(&zone).await;
        zone.custody.shred(key(1), &[ALL]);
        zone.script([Fault::None, fault(), fault()]);
        let first = follower(&zone).round().await.unwrap();
        assert_eq!((first.objects, first.failed), (1, 2));
        zone.script([fault()]);
        let second = follower(&zone).round().await.unwrap();
        assert_eq!((second.objects, second.failed), (1, 1));
        follower(&zone).round().await.unwrap();
        assert!(!zone.has_object(&packs[2]).await);
        zone.assert_accounted().await;
    }
}

#[tokio::test]
async fn a_deletion_that_was_only_pretended_is_found_and_repaired() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    zone.custody.shred(key(1), &[ALL]);
    zone.script([Fault::FalseSuccess, Fault::FalseSuccess]);
    follower(&zone).round().await.unwrap();
    let (_, findings) = zone.reconcile(false).await;
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings.iter().all(|finding| !finding.repaired));
    let (_, findings) = zone.reconcile(true).await;
    assert!(findings.len() == 2 && findings.iter().all(|finding| finding.repaired));
    for pack in &packs[..3] {
        assert!(!zone.has_object(pack).await);
    }
    zone.assert_accounted().await;
}

/// Every place at which a crash can cut a round short.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Following,
    FollowingHalf,
    MarkingHalf,
    Marking,
    DeletingHalf,
    Deleting,
    BuryingHalf,
}

const CRASHES: [Crash; 7] = [
    Crash::Following,
    Crash::FollowingHalf,
    Crash::MarkingHalf,
    Crash::Marking,
    Crash::DeletingHalf,
    Crash::Deleting,
    Crash::BuryingHalf,
];

/// A round up to the crash.
async fn cut(zone: &Zone, crash: Crash) {
    let (follower, round) = (follower(zone), &mut Round::default());
    let store = &follower.store;
    if matches!(crash, Crash::FollowingHalf) {
        let key = store.pin_receipt_key(follower.custody.receipt_key().await.unwrap()).await.unwrap();
        let trust = ReceiptTrust { zone: follower.zone.clone(), key };
        let number = store.receipt_number().await.unwrap();
        if let Some(signed) = follower.custody.receipts(number).await.unwrap().first() {
            store.remember(&trust.read(signed, number + 1).unwrap()).await.unwrap();
        }
        return;
    }
    follower.follow(round).await.unwrap();
    if matches!(crash, Crash::Following) {
        return;
    }
    if matches!(crash, Crash::MarkingHalf) {
        if let Some(shredded) = store.next_unmarked().await.unwrap() {
            store.mark(&shredded).await.unwrap();
        }
        return;
    }
    follower.mark(round).await.unwrap();
    if matches!(crash, Crash::Marking) {
        return;
    }
    let mut packs = store.deletable(BATCH).await.unwrap();
    if matches!(crash, Crash::DeletingHalf) {
        packs.truncate(1);
    }
    let deleted = follower.delete_objects(&packs).await.unwrap();
    if matches!(crash, Crash::BuryingHalf) {
        let half = &deleted[..deleted.len() / 2];
        store.bury(half, follower.clock.wall()).await.unwrap();
    }
}

async fn survives(mut zone: Zone, crash: Crash) {
    let packs = recorded(&zone).await;
    zone.custody.shred(key(1), &[(0, 7)]);
    zone.custody.shred(key(1), &[(8, 15)]);
    zone.custody.shred(key(1), &[(16, 1_799)]);
    for _ in 0..2 {
        cut(&zone, crash).await;
        zone = zone.restart().await;
    }
    follower(&zone).catch_up().await.unwrap();
    let counts = zone.assert_accounted().await;
    assert_eq!((counts.live, counts.deleted), (4, 12), "{crash:?}");
    assert_eq!(spans(&zone).await, [(2, span(0, 16_000), 4)], "{crash:?}");
    for pack in &packs[..3] {
        assert!(!zone.has_object(pack).await, "{crash:?}");
    }
    let told = zone.upkeep.store.open_notices(Subject::Deletions, 10).await.unwrap();
    assert_eq!(told.len(), 3, "the audit log hears of each deletion once");
}

#[tokio::test]
async fn a_crash_between_any_two_steps_loses_nothing_and_leaves_nothing() {
    for crash in CRASHES {
        survives(Zone::start().await, crash).await;
    }
}

#[tokio::test]
async fn the_same_on_postgresql() {
    for crash in CRASHES {
        let url = postgres::shared().new_database();
        let url = PostgresUrl::try_new(&url).unwrap();
        survives(Zone::on(Location::Postgres { url, schema: SCHEMA }).await, crash).await;
    }
}

#[tokio::test]
async fn two_replicas_that_follow_at_once_do_it_once() {
    let url = postgres::shared().new_database();
    let url = PostgresUrl::try_new(&url).unwrap();
    let zone = Zone::on(Location::Postgres { url, schema: SCHEMA }).await;
    recorded(&zone).await;
    zone.custody.shred(key(1), &[(0, 7)]);
    zone.custody.shred(key(1), &[(8, 1_799)]);
    let (one, other) = (follower(&zone), follower(&zone));
    let (first, second) = tokio::join!(one.catch_up(), other.catch_up());
    first.and(second).unwrap();
    assert_eq!(zone.assert_accounted().await.deleted, 12);
    assert_eq!(zone.upkeep.store.open_notices(Subject::Deletions, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_receipt_of_nothing_that_is_here_changes_nothing() {
    let zone = Zone::start().await;
    recorded(&zone).await;
    zone.custody.import_stray(key(8));
    zone.custody.shred(key(8), &[ALL]);
    assert_eq!(follower(&zone).round().await.unwrap(), Round { receipts: 1, ..Round::default() });
    zone.assert_accounted().await;
}

#[test]
fn another_custody_is_not_believed_in_words_that_help() {
    let words = Error::from(Unbelievable::Signature).to_string();
    assert!(words.contains("nothing is deleted") && words.contains("docs/runbooks/storage.md"), "{words}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_runs_are_those_of_what_is_left_whatever_is_destroyed_in_whatever_order(
        packs in prop::collection::vec((0..90_i64, prop::collection::vec((0..3_i64, 1..5_i64), 1..4)), 1..12),
        shreds in prop::collection::vec((0..60_u32, 0..12_u32), 1..6),
        late in any::<prop::sample::Index>(),
    ) {
        let packs: Vec<Directory> = (1..).zip(&packs).map(|(id, (start, segments))| {
            let mut end = start * 1_000;
            let place = |&(pause, length): &(i64, i64)| {
                let start = end + pause * 700;
                end = start + length * 1_000;
                (start, end)
            };
            pack_under(1, 1, id, &segments.iter().map(place).collect::<Vec<_>>(), 100)
        }).collect();
        let late = late.index(packs.len());
        let runs = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let zone = Zone::start().await;
            for pack in &packs[..late] {
                zone.record(pack).await;
            }
            zone.custody.import(&packs[0], zone.far());
            for &(first, more) in &shreds {
                zone.custody.shred(key(1), &[(first, first + more)]);
                follower(&zone).round().await.unwrap();
            }
            for pack in &packs[late..] {
                zone.record(pack).await;
            }
            follower(&zone).catch_up().await.unwrap();
            zone.assert_accounted().await;
            zone.runs().await.into_iter().map(|run| run.run).collect::<Vec<Run>>()
        });
        let dead = |slot: u16| shreds.iter().any(|&(first, more)| (first..=first + more).contains(&slot.into()));
        let left = packs.iter().flat_map(|pack| &pack.entries).filter(|entry| !dead(entry.header.slot.get()));
        prop_assert_eq!(runs, runs_of(left.map(|entry| (entry.span, entry.length))));
    }
}

#[tokio::test]
async fn a_clock_a_year_ahead_forgets_no_receipt() {
    let zone = Zone::start().await;
    recorded(&zone).await;
    zone.custody.shred(key(1), &[ALL]);
    follower(&zone).round().await.unwrap();
    let newest = zone.upkeep.store.newest_receipt().await.unwrap().unwrap();
    let ahead = obscura_clock::SimulatedClock::at(newest + KEPT * 2);
    Follower { clock: ahead, ..follower(&zone) }.round().await.unwrap();
    assert_eq!(zone.upkeep.store.newest_receipt().await.unwrap(), Some(newest));
    assert_eq!(zone.upkeep.store.receipts_after(0, 10, 1_000_000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_tombstone_lives_as_long_as_its_receipt_wherever_the_clock_stood_when_it_was_made() {
    for years in [-2_i64, 2] {
        let zone = Zone::start().await;
        let packs = recorded(&zone).await;
        let now = zone.upkeep.clock.wall();
        let by = Duration::from_hours(24 * 365) * 2;
        let wrong = obscura_clock::SimulatedClock::at(if years < 0 { now - by } else { now + by });
        zone.custody.shred(key(1), &[ALL]);
        Follower { clock: wrong, ..follower(&zone) }.round().await.unwrap();
        follower(&zone).round().await.unwrap();
        let store = &zone.upkeep.store;
        assert!(store.tombstone(packs[0].pack_id).await.unwrap().is_some(), "{years}");
        let effective = store.newest_receipt().await.unwrap().unwrap();
        store.prune(effective).await.unwrap();
        assert!(store.tombstone(packs[0].pack_id).await.unwrap().is_some(), "{years}");
        store.prune(effective + Duration::from_nanos(1)).await.unwrap();
        assert!(store.tombstone(packs[0].pack_id).await.unwrap().is_none(), "{years}");
    }
}
