use obscura_database::{Location, PostgresUrl};
use obscura_outbox::{Limits, Outbox};
use obscura_proto::audit::v1::{Outcome, Test, event::Body};
use obscura_test_servers::postgres::shared;
use tempfile::TempDir;

use super::*;
use crate::{
    fake_custody::Wrong,
    store::{SCHEMA, Subject},
    zone_bench::{Zone, key, pack},
};

async fn outbox(zone: &Zone) -> (TempDir, Outbox) {
    let directory = TempDir::new().unwrap();
    let clock = Arc::clone(&zone.upkeep.clock);
    let outbox = Outbox::open(directory.path(), Limits::default(), clock).await.unwrap();
    (directory, outbox)
}

fn with_outbox(zone: &Zone, outbox: Option<Outbox>) -> Arc<Upkeep> {
    let upkeep = &zone.upkeep;
    Arc::new(Upkeep {
        store: upkeep.store.clone(),
        blobs: Arc::clone(&upkeep.blobs),
        custody: upkeep.custody.clone(),
        zone: upkeep.zone.clone(),
        clock: Arc::clone(&upkeep.clock),
        metrics: upkeep.metrics.clone(),
        outbox,
        access_log: Arc::clone(&upkeep.access_log),
        scrub_bytes_per_second: 1_000_000,
        reconciling: Arc::default(),
        scrubbing: Arc::default(),
    })
}

#[tokio::test]
async fn the_audit_log_hears_of_what_came_and_of_what_went_and_nothing_waits_any_more() {
    let zone = Zone::start().await;
    for number in 1..4 {
        zone.record(&pack(1, number, i64::from(number) * 16)).await;
    }
    zone.custody.shred(key(1), &[(0, 1_799)]);
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    let (_directory, outbox) = outbox(&zone).await;
    assert_eq!(manifest::tell(&zone.upkeep.store, &outbox).await.unwrap(), 2);
    assert_eq!(outbox.queued(), 2, "a manifest and a destruction");
    for subject in [Subject::Arrivals, Subject::Deletions] {
        assert!(zone.upkeep.store.open_notices(subject, 10).await.unwrap().is_empty());
    }
    assert_eq!(manifest::tell(&zone.upkeep.store, &outbox).await.unwrap(), 0);
    outbox.close().await;
}

#[tokio::test]
async fn what_a_full_outbox_has_no_room_for_waits_in_the_index_and_is_told_later() {
    let zone = Zone::start().await;
    for number in 1..4 {
        zone.record(&pack(1, number, i64::from(number) * 16)).await;
    }
    zone.custody.shred(key(1), &[(0, 1_799)]);
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    let (directory, clock): (_, SharedClock) = (TempDir::new().unwrap(), Arc::clone(&zone.upkeep.clock));
    let small = Limits { max_events: 1, ..Limits::default() };
    let full = Outbox::open(directory.path(), small, Arc::clone(&clock)).await.unwrap();
    full.record_body_or_drop(Outcome::Success, Body::Test(Test { text: "full".into() }));
    assert_eq!(manifest::tell(&zone.upkeep.store, &full).await.unwrap(), 0);
    for subject in [Subject::Arrivals, Subject::Deletions] {
        assert_eq!(zone.upkeep.store.open_notices(subject, 10).await.unwrap().len(), 3);
    }
    assert_eq!((full.queued(), full.dropped()), (1, 0));
    full.close().await;
    let roomy = Outbox::open(directory.path(), Limits::default(), clock).await.unwrap();
    assert_eq!(manifest::tell(&zone.upkeep.store, &roomy).await.unwrap(), 2);
    assert_eq!(roomy.queued(), 3);
    for subject in [Subject::Arrivals, Subject::Deletions] {
        assert!(zone.upkeep.store.open_notices(subject, 10).await.unwrap().is_empty());
    }
    roomy.close().await;
}

#[tokio::test]
async fn a_crash_before_the_notices_are_closed_tells_the_same_event_again() {
    let mut zone = Zone::start().await;
    zone.record(&pack(1, 1, 0)).await;
    let first = manifest::manifest(&zone.upkeep.store.open_notices(Subject::Arrivals, 10).await.unwrap());
    for number in 2..4 {
        zone.record(&pack(1, number, i64::from(number) * 16)).await;
        zone = zone.restart().await;
        let again = zone.upkeep.store.open_notices(Subject::Arrivals, 10).await.unwrap();
        assert_eq!(manifest::manifest(&again), first);
    }
    zone.upkeep.store.close_notices(Subject::Arrivals, 1).await.unwrap();
    assert_eq!(zone.upkeep.store.open_notices(Subject::Arrivals, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_reindexed_pack_is_no_news() {
    let zone = Zone::start().await;
    zone.record(&pack(1, 1, 0)).await;
    let zone = zone.lose_index().await;
    zone.reindex().await.unwrap();
    assert!(zone.upkeep.store.open_notices(Subject::Arrivals, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_goes_on_in_the_background_follows_custody_and_ends_with_the_process() {
    let zone = Zone::start().await;
    let recorded = pack(1, 1, 0);
    zone.record(&recorded).await;
    zone.custody.shred(key(1), &[(0, 1_799)]);
    // Custody that starts later is found within seconds: it releases nothing before.
    zone.custody.is(Wrong::Away);
    let shutdown = CancellationToken::new();
    let tasks = with_outbox(&zone, None).spawn(&shutdown);
    tokio::time::sleep(Duration::from_millis(200)).await;
    zone.custody.is(Wrong::Nothing);
    for _ in 0..3_000 {
        if !zone.has_object(&recorded).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!zone.has_object(&recorded).await);
    shutdown.cancel();
    let ended = futures::future::join_all(tasks);
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
}

#[tokio::test]
async fn receipts_that_custody_has_and_the_index_lacks_end_the_rest() {
    let zone = Zone::start().await;
    zone.record(&pack(1, 1, 0)).await;
    let follower = zone.upkeep.follower().unwrap();
    assert!(follower.has_all().await.unwrap());
    zone.custody.shred(key(1), &[(0, 9)]);
    assert!(!follower.has_all().await.unwrap());
    let shutdown = CancellationToken::new();
    assert!(rest_comparing(&follower, &shutdown, FOLLOW).await, "long before it is over");
    follower.catch_up().await.unwrap();
    assert!(follower.has_all().await.unwrap());
    zone.custody.is(Wrong::Away);
    assert!(follower.has_all().await.is_err());
}

#[tokio::test]
async fn of_several_replicas_one_puts_packs_in_order_and_the_next_one_when_it_is_due_again() {
    let url = PostgresUrl::try_new(&shared().new_database()).unwrap();
    let location = Location::Postgres { url, schema: SCHEMA };
    let replicas = [Zone::on(location.clone()).await, Zone::on(location).await];
    let [one, other] = &replicas;
    let settled = || replicas.each_ref().map(|zone| zone.upkeep.metrics.settled_packs.get());
    one.record(&pack(1, 1, 0)).await;
    one.installation.clock.advance(Duration::from_hours(2));
    other.installation.clock.advance(Duration::from_hours(2));
    one.upkeep.settle_if_due().await.unwrap();
    assert_eq!(settled(), [1, 0]);
    one.record(&pack(1, 2, 16)).await;
    other.upkeep.settle_if_due().await.unwrap();
    assert_eq!(settled(), [1, 0], "one has just done it");
    other.installation.clock.advance(SETTLE);
    other.upkeep.settle_if_due().await.unwrap();
    assert_eq!(settled(), [1, 1]);
}

#[tokio::test]
async fn everything_is_accounted_for_once_a_day_and_findings_raise_an_alarm() {
    let zone = Zone::start().await;
    zone.record(&pack(1, 1, 0)).await;
    zone.installation.place(&"eea/stray".parse().unwrap(), b"x".to_vec()).await;
    let (_directory, outbox) = outbox(&zone).await;
    let upkeep = with_outbox(&zone, Some(outbox.clone()));
    zone.custody.is(Wrong::Away);
    assert!(upkeep.account_if_due().await.is_err());
    zone.custody.is(Wrong::Nothing);
    for _ in 0..3 {
        upkeep.account_if_due().await.unwrap();
    }
    assert_eq!(upkeep.store.number(Fact::ReconcileFindings).await.unwrap(), 1);
    assert_eq!(outbox.queued(), 1, "one alarm for one account");
    zone.installation.clock.advance(Duration::from_hours(25));
    upkeep.account_if_due().await.unwrap();
    assert_eq!(outbox.queued(), 2);
    outbox.close().await;
}
