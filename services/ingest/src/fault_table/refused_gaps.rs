//! A storage that does not know the reason of a gap.

use obscura_proto::footage::v1::GapReason;

use super::{
    account::account,
    plug::Unsynced,
    refused::{LIMIT, small_spool},
    world::{Setup, World},
};

/// Gaps for lost packets are refused; there is one.
async fn refused(setup: Setup) -> World {
    let mut world = World::new(setup).await;
    world.peers.stored().refuses_gaps = Some(GapReason::PacketLoss);
    world.record(40).await;
    world.miss(3);
    world.lost_packets = 9;
    world.record(40).await;
    world
}

fn told(world: &World, reason: GapReason) -> bool {
    world.peers.stored().gaps.values().any(|gap| gap.reason() == reason)
}

#[tokio::test]
async fn a_gap_that_storage_refuses_holds_up_no_other_and_goes_once_it_is_taken() {
    let mut world = refused(Setup { frame_bytes: 200, ..Setup::default() }).await;
    world.restart(Unsynced::Stay).await;
    world.record(2_500).await;
    assert!(told(&world, GapReason::RecorderStopped), "the gap of the restart is refused with the other");
    assert!(!told(&world, GapReason::PacketLoss));
    assert_eq!((world.run.outbox.waiting_gaps(), world.run.outbox.refused_gaps()), (1, 1));

    world.peers.stored().refuses_gaps = None;
    world.finish().await;
    assert!(told(&world, GapReason::PacketLoss));
    account(&world);
}

#[tokio::test]
async fn it_does_not_keep_the_spool_from_being_freed_and_survives_a_restart() {
    let mut world = refused(small_spool()).await;
    while world.run.spool.appended_bytes() < LIMIT * 3 / 2 {
        world.record(40).await;
        assert!(world.run.spool.used_bytes() < LIMIT * 8 / 10, "the spool is not freed");
    }
    world.restart(Unsynced::Vanish).await;
    world.record(40).await;
    world.peers.stored().refuses_gaps = None;
    world.finish().await;
    assert!(told(&world, GapReason::PacketLoss));
    account(&world);
}
