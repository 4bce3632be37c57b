//! A refusal of everything is an outage, however it is worded.

use std::time::Duration;

use obscura_clock::Clock as _;
use obscura_proto::footage::v1::GapReason;
use tempfile::TempDir;

use super::{
    account::{account, frames},
    plug::Plug,
    refused::{LIMIT, small_spool},
    world::{Setup, World},
};
use crate::spool::Limits;

/// Eight cameras whose packs arrive; then none does until cameras are paused, all within ten minutes.
async fn until_full(close: impl FnOnce(&World)) -> World {
    let setup = Setup { pack_footage: Duration::from_secs(30), ..small_spool() };
    let mut world = World::new(setup).await;
    world.record(200).await;
    assert!(!world.peers.stored().arrivals.is_empty(), "others got through lately");
    let before = world.clock.monotonic();
    close(&world);
    world.record(900).await;
    assert!(world.clock.monotonic().since(before) < Duration::from_secs(600));
    assert!(world.run.spool.used_bytes() > LIMIT * 8 / 10, "the spool is full: nothing was given up");
    world
}

#[tokio::test]
async fn packs_of_which_each_is_refused_are_not_given_up_because_others_arrived_before() {
    let mut world = until_full(|world| world.peers.stored().refuses_packs = true).await;
    assert!(world.run.outbox.refused_bytes() > LIMIT / 4, "it is more than its share");
    world.peers.stored().refuses_packs = false;
    world.finish().await;
    account(&world);
}

#[tokio::test]
async fn a_store_that_lets_nobody_in_is_away_and_no_pack_counts_as_refused() {
    let mut world = until_full(|world| world.peers.stored().lets_nobody_in = true).await;
    assert_eq!(world.run.outbox.refused_bytes(), 0);
    world.peers.stored().lets_nobody_in = false;
    world.finish().await;
    account(&world);
}

#[tokio::test]
async fn packs_of_one_camera_that_are_refused_beside_others_give_their_oldest_up_at_a_quarter() {
    // A pack counts as refused after a minute of tries: the spool holds several.
    let pack_footage = Duration::from_secs(20);
    let setup = Setup { cameras: 4, frame_bytes: 3_000, pack_footage, ..small_spool() };
    let mut world = World::new(setup).await;
    world.peers.stored().refuses_packs_of = Some(world.cameras[0]);
    while world.run.spool.appended_bytes() < LIMIT * 5 {
        world.record(40).await;
        assert!(world.run.spool.used_bytes() < LIMIT * 8 / 10, "the spool is not freed");
    }
    let stored = world.peers.stored();
    assert!(stored.gaps.values().all(|gap| gap.camera_id == world.cameras[0].to_string()));
    assert!(stored.gaps.values().any(|gap| gap.reason() == GapReason::SpoolFull));
}

#[tokio::test]
async fn what_is_refused_takes_a_quarter_of_a_disk_that_is_smaller_than_the_bound() {
    let plug = Plug::default();
    plug.set_capacity(LIMIT);
    let setup = Setup { limits: Limits::new(4 * LIMIT, 1 << 20), ..small_spool() };
    let mut world = World::on(setup, TempDir::new().unwrap(), plug).await;
    world.peers.stored().refuses_keys_of = Some(world.cameras[0]);
    while world.run.spool.appended_bytes() < LIMIT * 6 {
        world.record(40).await;
        assert!(!world.run.spool.disk_is_full(), "the refused camera filled the disk");
    }
    let lane = |camera: usize| &world.run.lanes[camera].recorder.gauge;
    assert!((1..8).all(|camera| lane(camera).is_recording()), "the others are recorded");
    let others = (1..8).map(|camera| frames(&world, &world.peers.stored(), camera).len());
    assert!(others.min().unwrap() > 1_000, "and arrive");
}
