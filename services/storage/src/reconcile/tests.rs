use std::{sync::Arc, time::Duration};

use obscura_blob::{BlobKey, Fault};
use obscura_clock::{Clock as _, Timestamp};
use obscura_database::{Location, PostgresUrl};
use obscura_ids::PackId;
use obscura_pack::Directory;
use obscura_test_servers::postgres;

use super::*;
use crate::{
    fake_custody::Wrong,
    report::Reports,
    store::SCHEMA,
    test_support::{key_of, object},
    zone_bench::{Zone, key, kinds, pack, pack_under},
};

/// Two cameras with a few packs each; nothing is wrong.
async fn recorded(zone: &Zone) -> Vec<Directory> {
    let packs = vec![pack(1, 1, 0), pack(1, 2, 16), pack(2, 3, 0), pack(2, 4, 16)];
    for pack in &packs {
        zone.record(pack).await;
    }
    packs
}

async fn delete_object(zone: &Zone, pack: &Directory) {
    zone.installation.grpc.blobs.delete(&key_of(pack)).await.unwrap();
}

#[tokio::test]
async fn every_segment_is_in_one_state() {
    let zone = Zone::start().await;
    recorded(&zone).await;
    let counts = zone.assert_accounted().await;
    assert_eq!(counts, Counts { live: 16, ..Counts::default() });
    assert_eq!(zone.upkeep.store.number(Fact::ReconcileFindings).await.unwrap(), 0);
    assert!(zone.upkeep.store.number(Fact::Reconciled).await.unwrap() > 0);
}

#[tokio::test]
async fn a_missing_object_is_named_and_its_segments_are_unaccounted_for() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    delete_object(&zone, &packs[1]).await;
    for repair in [false, true] {
        let (counts, findings) = zone.reconcile(repair).await;
        assert_eq!(kinds(&findings), [FindingKind::ObjectMissing]);
        assert_eq!(findings[0].object_key, key_of(&packs[1]).to_string());
        assert!(!findings[0].repaired, "nobody can make it again");
        assert_eq!((counts.live, counts.unaccounted), (12, 4));
    }
    // With its keys destroyed it is no loss any more.
    zone.custody.shred(key(1), &[(0, 1_799)]);
    let (counts, findings) = zone.reconcile(false).await;
    assert_eq!((findings.len(), counts.shredded, counts.live), (0, 8, 8));
}

#[tokio::test]
async fn only_objects_that_differ_from_the_listing_are_looked_at_in_a_directory_and_in_a_bucket() {
    use std::sync::atomic::Ordering;
    for zone in [Zone::start().await, Zone::in_bucket().await] {
        let packs = recorded(&zone).await;
        let looks = async || {
            let before = zone.installation.looks.load(Ordering::Relaxed);
            let found = zone.reconcile(false).await.1;
            (zone.installation.looks.load(Ordering::Relaxed) - before, kinds(&found))
        };
        assert_eq!(looks().await, (1, vec![]), "one page of the listing");
        delete_object(&zone, &packs[0]).await;
        assert_eq!(looks().await, (2, vec![FindingKind::ObjectMissing]));
        zone.installation.place(&key_of(&packs[0]), object(&packs[0])[..70].to_vec()).await;
        assert_eq!(looks().await, (2, vec![FindingKind::ObjectWrongSize]));
    }
}

#[tokio::test]
async fn an_object_of_another_length_is_named() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    delete_object(&zone, &packs[0]).await;
    let bytes = object(&packs[0]);
    zone.installation.place(&key_of(&packs[0]), bytes[..bytes.len() - 1].to_vec()).await;
    let (counts, findings) = zone.reconcile(false).await;
    assert_eq!((kinds(&findings), counts.live), (vec![FindingKind::ObjectWrongSize], 16));
}

#[tokio::test]
async fn a_good_object_that_the_index_does_not_know_is_indexed_on_request() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    let orphan = pack(1, 9, 48);
    zone.custody.import(&orphan, zone.far());
    zone.installation.place(&key_of(&orphan), object(&orphan)).await;
    let (counts, findings) = zone.reconcile(false).await;
    assert_eq!((kinds(&findings), counts.live), (vec![FindingKind::ObjectOrphaned], 16));
    assert!(!findings[0].repaired);
    let (counts, findings) = zone.reconcile(true).await;
    assert!(findings.len() == 1 && findings[0].repaired);
    assert_eq!(counts.live, 20, "the counts include what was repaired");
    assert_eq!(zone.assert_accounted().await.live, 20);
    // A commit that comes late is answered like the first.
    zone.installation.place_and_commit(&pack(1, 8, 64)).await;
    let request = tonic::Request::new(zone.installation.commit_of(&orphan));
    use obscura_proto::storage::v1::storage_service_server::StorageService as _;
    assert_eq!(zone.installation.grpc.commit_pack(request).await.unwrap().into_inner().segments, 4);
    assert!(zone.has_object(&packs[0]).await);
}

#[tokio::test]
async fn an_object_that_is_nobodys_is_set_aside_and_never_deleted() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    let moved = pack(2, 7, 0);
    let foreign = key_of(&pack(1, 6, 0)).to_string().replace("eea/", "ch/");
    let twice = key_of(&packs[0]).to_string().replace("2026-11-23", "2026-11-24");
    let strays: [(BlobKey, Vec<u8>); 5] = [
        ("eea/readme.txt".parse().unwrap(), b"hello".to_vec()),
        (key_of(&pack(1, 5, 0)), b"not a pack".to_vec()),
        (key_of(&pack(1, 7, 0)), object(&moved)),
        (foreign.parse().unwrap(), object(&pack(1, 6, 0))),
        (twice.parse().unwrap(), object(&packs[0])),
    ];
    for (key, bytes) in &strays {
        zone.installation.place(key, bytes.clone()).await;
    }
    for (repair, is_aside) in [(false, false), (true, true), (false, true)] {
        let (counts, findings) = zone.reconcile(repair).await;
        assert_eq!(findings.len(), 5, "{findings:?}");
        assert!(findings.iter().all(|finding| finding.kind() == FindingKind::ObjectOrphaned));
        assert!(findings.iter().all(|finding| finding.repaired == is_aside), "{findings:?}");
        assert_eq!((counts.live, counts.unaccounted), (16, 0));
    }
    for (key, bytes) in &strays {
        assert_eq!(zone.installation.grpc.blobs.size(key).await.unwrap(), bytes.len() as u64);
    }
}

#[tokio::test]
async fn the_objects_of_the_self_test_are_nobodys_business() {
    let zone = Zone::start().await;
    zone.installation.place(&"self-test/1/put".parse().unwrap(), b"x".to_vec()).await;
    zone.assert_accounted().await;
}

#[tokio::test]
async fn a_key_that_never_came_is_told_once_and_only_after_an_hour() {
    let zone = Zone::start().await;
    recorded(&zone).await;
    zone.custody.forget(key(1));
    let start = crate::test_support::at(32_000);
    zone.installation.clock.step_wall(start + Duration::from_secs(600));
    zone.assert_accounted().await;
    zone.installation.clock.step_wall(start + Duration::from_hours(2));
    let (counts, findings) = zone.reconcile(true).await;
    assert_eq!(kinds(&findings), [FindingKind::KeyMissing]);
    assert_eq!(findings[0].key_id, key(1).to_string());
    assert_eq!((counts.live, counts.unaccounted), (8, 8));
}

#[tokio::test]
async fn a_key_that_no_pack_uses_is_told_unless_it_is_young_or_destroyed() {
    let zone = Zone::start().await;
    recorded(&zone).await;
    zone.installation.clock.step_wall("2100-01-01T00:00:00Z".parse().unwrap());
    for old in [6, 7] {
        zone.custody.import_stray(key(old));
    }
    let mut young = *LayerKeyId::generate().as_bytes();
    let millis = "2099-12-31T00:00:00Z".parse::<Timestamp>().unwrap().unix_nanos() / 1_000_000;
    young[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    zone.custody.import_stray(LayerKeyId::from_bytes(young));
    zone.custody.shred(key(7), &[(0, 1_799)]);
    for window in [1, 2, 100] {
        let found = run_within(&zone, window).await;
        let orphaned: Vec<_> =
            found.iter().filter(|finding| finding.kind() == FindingKind::KeyOrphaned).collect();
        assert_eq!(orphaned.len(), 1, "{window}: {found:?}");
        assert_eq!(orphaned[0].key_id, key(6).to_string());
    }
}

#[tokio::test]
async fn a_key_that_no_pack_uses_is_set_aside_once_and_opens_a_pack_that_comes_after_all() {
    let zone = Zone::start().await;
    recorded(&zone).await;
    let late = pack(6, 60, 0);
    zone.custody.import(&late, zone.far());
    let orphaned = |findings: &[obscura_proto::storage::v1::Finding]| -> Vec<(String, bool)> {
        findings.iter().map(|finding| (finding.key_id.clone(), finding.repaired)).collect()
    };
    let named = |repaired| vec![(key(6).to_string(), repaired)];
    let folder = tempfile::TempDir::new().unwrap();
    let clock = Arc::clone(&zone.upkeep.clock);
    let outbox = Outbox::open(folder.path(), obscura_outbox::Limits::default(), clock).await.unwrap();
    let reconciler = Reconciler { outbox: Some(outbox.clone()), ..zone.upkeep.reconciler().unwrap() };

    assert_eq!(orphaned(&zone.reconcile(false).await.1), named(false), "only named");
    assert_eq!(zone.upkeep.store.key_aside_since(key(6)).await.unwrap(), None);
    let aside = zone.installation.clock.wall();
    for _ in 0..2 {
        reconciler.run(true, &Reporter::nobody()).await.unwrap();
        zone.installation.clock.advance(Duration::from_hours(1));
    }
    assert_eq!(outbox.queued(), 1, "told once");
    assert_eq!(zone.upkeep.store.key_aside_since(key(6)).await.unwrap(), Some(aside));
    assert_eq!(orphaned(&zone.reconcile(false).await.1), named(true), "listed as set aside");

    // The writer was dead, its spool was not.
    zone.installation.place_and_commit(&late).await;
    assert_eq!(zone.assert_accounted().await.live, 20, "live: nobody destroyed its key");
    zone.custody.shred(key(6), &[(0, 1_799)]);
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    zone.assert_accounted().await;
    outbox.close().await;
}

/// With windows of so many keys.
async fn run_within(zone: &Zone, window: usize) -> Vec<obscura_proto::storage::v1::Finding> {
    use futures::StreamExt as _;
    let (reporter, reports): (_, Reports<ReconcileResponse>) = Reporter::stream();
    let reconciler = zone.upkeep.reconciler().unwrap();
    let run = tokio::spawn(async move { reconciler.run_within(false, &reporter, window).await.map(drop) });
    let found: Vec<_> = reports.map(|report| report.unwrap().findings).concat().await;
    run.await.unwrap().unwrap();
    found
}

#[tokio::test]
async fn footage_that_outlives_its_retention_is_overdue_unless_it_is_held() {
    let zone = Zone::start().await;
    let (first, second) = (pack(1, 1, 0), pack(2, 2, 0));
    let expires = zone.far();
    for pack in [&first, &second] {
        zone.record(pack).await;
    }
    zone.custody.hold(key(2), 0, 1_799);
    zone.installation.clock.step_wall(expires + Duration::from_secs(3_599));
    assert_eq!(zone.assert_accounted().await.live, 4, "custody has an hour");
    zone.installation.clock.step_wall(expires + Duration::from_secs(3_601));
    let (counts, findings) = zone.reconcile(true).await;
    assert_eq!(kinds(&findings), [FindingKind::Overdue]);
    assert_eq!(findings[0].camera_id, crate::test_support::camera(1).to_string());
    assert_eq!((counts.held, counts.unaccounted, counts.live), (4, 4, 0));
}

#[tokio::test]
async fn a_custody_that_is_away_or_tells_half_ends_it_without_a_verdict() {
    for wrong in [Wrong::Away, Wrong::Half] {
        let zone = Zone::start().await;
        recorded(&zone).await;
        zone.custody.is(wrong);
        let error = zone.upkeep.reconciler().unwrap().run(true, &Reporter::nobody()).await.unwrap_err();
        assert!(matches!(error, Error::CustodyAway(_) | Error::Custody(_)), "{error}");
        assert_eq!(zone.upkeep.store.number(Fact::Reconciled).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_failing_object_store_ends_it_without_a_false_finding() {
    let zone = Zone::start().await;
    let packs = recorded(&zone).await;
    delete_object(&zone, &packs[0]).await;
    // The listing, and the look at what it does not have.
    for place in 0..2 {
        let faults = (0..place).map(|_| Fault::None).chain([Fault::ResetBefore]);
        zone.script(faults);
        assert!(zone.upkeep.reconciler().unwrap().run(true, &Reporter::nobody()).await.is_err(), "{place}");
    }
    zone.installation.place(&key_of(&packs[0]), object(&packs[0])).await;
    zone.assert_accounted().await;
}

#[tokio::test]
async fn a_repair_that_a_crash_cuts_short_is_finished_by_the_next() {
    for step in 0..4 {
        let mut zone = Zone::start().await;
        let packs = recorded(&zone).await;
        let orphans: Vec<Directory> = (0..3_u8).map(|n| pack(1, 20 + n, 48 + 16 * i64::from(n))).collect();
        for orphan in &orphans {
            zone.installation.place(&key_of(orphan), object(orphan)).await;
        }
        for _ in 0..2 {
            // The listing, four sizes, and then the sizes and heads of orphans, up to the fault.
            let faults = (0..5 + 3 * step).map(|_| Fault::None).chain([Fault::ResetBefore]);
            zone.script(faults);
            let _ = zone.upkeep.reconciler().unwrap().run(true, &Reporter::nobody()).await;
            zone = zone.restart().await;
        }
        zone.reconcile(true).await;
        assert_eq!(zone.assert_accounted().await.live, 28, "{step}");
        assert_eq!(zone.runs().await.len(), 3);
        assert!(zone.has_object(&packs[0]).await);
    }
}

#[tokio::test]
async fn many_packs_are_walked_page_by_page_on_both_databases() {
    let url = postgres::shared().new_database();
    let url = PostgresUrl::try_new(&url).unwrap();
    for zone in [Zone::start().await, Zone::on(Location::Postgres { url, schema: SCHEMA }).await] {
        let segments: Vec<(i64, i64)> = vec![(0, 4_000)];
        for number in 0..600_u32 {
            let mut pack = pack_under(1, 1, 1, &segments, 16);
            let mut id = [0; 16];
            // Ids in an order of bytes that a language would sort otherwise.
            id[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
            pack.pack_id = PackId::from_bytes(id);
            zone.custody.import(&pack, zone.far());
            zone.installation.place(&key_of(&pack), object(&pack)).await;
            let (row, runs) = crate::test_support::row(&pack);
            zone.upkeep.store.restore_pack(&row, &runs).await.unwrap();
        }
        assert_eq!(zone.assert_accounted().await.live, 600);
    }
}
