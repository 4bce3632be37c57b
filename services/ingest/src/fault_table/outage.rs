//! Hours without storage, a custody that refuses a key, and what an older run left.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use obscura_clock::Clock as _;
use obscura_ids::CameraId;

use super::{
    account::account,
    plug::Unsynced,
    world::{Setup, World},
};
use crate::{outbox::MAX_PACK_BYTES, spool::Limits, upload::Patience};

/// Two frames a second, packs of a minute, a look every two seconds.
fn slow_cameras(cameras: usize) -> Setup {
    Setup {
        cameras,
        frame_every: Duration::from_millis(500),
        key_every: 4,
        frame_bytes: 200,
        look_every: 60,
        pack_footage: Duration::from_secs(60),
        limits: Limits::of_bytes(1 << 30),
        upload_bytes_per_second: 100_000,
        priorities: Vec::new(),
        patience: Patience::default(),
    }
}

#[tokio::test]
async fn after_an_outage_packs_leave_in_order_and_no_camera_waits_for_the_backlog_of_another() {
    let mut world = World::new(slow_cameras(4)).await;
    world.record(240).await;
    world.peers.stored().away = true;
    world.record(40 * 120).await;
    let newcomer = world.add_camera();
    world.record(2 * 120).await;
    let before = world.peers.stored().arrivals.len();
    let backlog = world.run.outbox.waiting_segments(None);
    assert!(backlog > 4 * 30 * 40, "{backlog} segments wait");

    world.peers.stored().away = false;
    world.setup.look_every = 4;
    let (started, mut took) = (world.clock.monotonic(), Duration::ZERO);
    let old = |world: &World| world.run.outbox.oldest(world.clock.monotonic()) > Duration::from_secs(240);
    while old(&world) {
        world.record(4).await;
        took = world.clock.monotonic().since(started);
        assert!(took < Duration::from_hours(1), "the backlog does not shrink");
    }
    {
        let stored = world.peers.stored();
        let arrivals = &stored.arrivals[before..];
        let first = arrivals.iter().position(|(camera, _)| *camera == newcomer).unwrap();
        assert!(first < 8, "the camera without a backlog waited for {first} packs of others");
        assert!(stored.most_uploads <= 3, "{} uploads at once", stored.most_uploads);
        assert_fair(arrivals.iter().map(|(camera, _)| *camera).take(40));
        assert!(stored.gaps.is_empty(), "recording was disturbed: {:?}", stored.gaps);
        println!(
            "{} packs of {backlog} segments in {} s of the world's time",
            arrivals.len(),
            took.as_secs()
        );
    }
    world.finish().await;
    assert_in_order(&world);
    account(&world);
}

/// Cameras with a backlog take turns.
fn assert_fair(arrivals: impl Iterator<Item = CameraId>) {
    let mut packs: BTreeMap<CameraId, usize> = BTreeMap::new();
    arrivals.for_each(|camera| *packs.entry(camera).or_default() += 1);
    let mut counts: Vec<usize> = packs.into_values().collect();
    counts.sort_unstable();
    let of_backlog = &counts[counts.len() - 4..];
    assert!(of_backlog[3] - of_backlog[0] <= 2, "packs by camera: {counts:?}");
}

fn assert_in_order(world: &World) {
    let stored = world.peers.stored();
    let mut last = BTreeMap::new();
    for (camera, entry) in &stored.arrivals {
        let before = last.insert(*camera, entry.header.sequence);
        assert!(before < Some(entry.header.sequence), "a pack of {camera} came before an older one");
    }
}

#[tokio::test]
async fn a_backlog_leaves_at_the_rate_that_was_set() {
    let mut world = World::new(Setup { upload_bytes_per_second: 20_000, ..slow_cameras(1) }).await;
    world.peers.stored().away = true;
    world.record(60 * 120).await;
    world.peers.stored().away = false;
    world.setup.look_every = 2;
    let started = world.clock.monotonic();
    let bytes = |world: &World| -> u64 {
        world.peers.stored().index.values().map(|indexed| indexed.entry.length).sum()
    };
    world.record(120).await;
    let (bytes, passed) = (bytes(&world), world.clock.monotonic().since(started).as_secs());
    let largest = 200_000.min(MAX_PACK_BYTES);
    assert!(bytes > 0 && bytes <= 20_000 * passed + 2 * largest, "{bytes} bytes in {passed} s");
    world.finish().await;
    account(&world);
}

#[tokio::test]
async fn a_key_that_is_refused_for_good_is_set_aside_and_its_footage_waits_until_the_cause_is_gone() {
    let mut world = World::new(Setup::default()).await;
    world.peers.stored().refuses_keys = true;
    world.record(2_000).await;
    assert_eq!(world.run.outbox.refused_keys(), 1);
    let asked = world.peers.stored().imports;
    world.record(500).await;
    assert_eq!(world.peers.stored().imports, asked, "it is not offered again and again");
    assert!(world.peers.stored().index.is_empty(), "no pack leaves without its key");

    world.peers.stored().refuses_keys = false;
    world.restart(Unsynced::Stay).await;
    world.record(130).await;
    world.finish().await;
    account(&world);
}

#[tokio::test]
async fn segments_of_a_dead_writer_are_still_uploaded_and_indexed_beside_those_of_the_next() {
    let mut world = World::new(Setup::default()).await;
    world.peers.stored().away = true;
    world.record(160).await;
    world.restart(Unsynced::Vanish).await;
    world.record(160).await;
    world.restart(Unsynced::Stay).await;
    world.peers.stored().away = false;
    world.record(160).await;
    world.finish().await;
    account(&world);
    let stored = world.peers.stored();
    let epochs: BTreeSet<u64> = stored.index.keys().map(|(_, epoch, _)| epoch.0).collect();
    assert_eq!(epochs, BTreeSet::from([1, 2, 3]));
}
