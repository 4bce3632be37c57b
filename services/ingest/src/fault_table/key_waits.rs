//! Custody that takes the layer keys of all cameras but one, for as long as it pleases.

use std::time::Duration;

use obscura_clock::Clock as _;
use obscura_ids::CameraId;
use tonic::Code;

use super::{
    account::account,
    refused::{LIMIT, small_spool},
    world::{Setup, World},
};

/// Segments of a camera that arrived.
fn arrived(world: &World, camera: CameraId) -> usize {
    world.peers.stored().index.keys().filter(|(of, ..)| *of == camera).count()
}

#[tokio::test]
async fn a_key_that_custody_cannot_take_holds_up_its_own_packs_and_nobody_elses() {
    for code in [Code::Unavailable, Code::DataLoss, Code::FailedPrecondition] {
        let mut world = World::new(Setup { cameras: 3, frame_bytes: 2_000, ..Setup::default() }).await;
        let (held, others) = (world.cameras[0], world.cameras[1..].to_vec());
        world.peers.stored().takes_no_key_of = Some((held, code));
        world.record(1_500).await;
        assert_eq!(arrived(&world, held), 0, "no pack leaves without its key");
        for other in others {
            assert!(arrived(&world, other) > 20, "{code:?} for one camera holds up another");
        }
        assert_eq!((world.run.outbox.failing_keys(), world.run.outbox.refused_keys()), (1, 0));
        let asked = world.peers.stored().imports;
        assert!(asked < 30, "asked {asked} times in a minute");

        world.peers.stored().takes_no_key_of = None;
        world.record(500).await;
        assert!(arrived(&world, held) > 20, "it goes by itself once custody takes its key");
        assert_eq!(world.run.outbox.failing_keys(), 0);
        world.finish().await;
        account(&world);
    }
}

#[tokio::test]
async fn its_footage_does_not_keep_the_spool_from_being_freed_and_arrives_without_a_restart() {
    let mut world = World::new(small_spool()).await;
    world.peers.stored().takes_no_key_of = Some((world.cameras[0], Code::Unavailable));
    while world.run.spool.appended_bytes() < LIMIT * 3 / 2 {
        world.record(40).await;
        assert!(world.run.spool.used_bytes() < LIMIT * 8 / 10, "the spool is not freed");
    }
    assert!(world.peers.stored().gaps.is_empty(), "no camera was paused");
    world.peers.stored().takes_no_key_of = None;
    world.record(40).await;
    world.finish().await;
    account(&world);
}

#[tokio::test]
async fn a_custody_that_takes_no_key_at_all_is_away_and_nothing_counts_as_refused() {
    let pack_footage = Duration::from_secs(8);
    let setup = Setup { cameras: 9, frame_bytes: 200, pack_footage, ..Setup::default() };
    let mut world = World::new(setup).await;
    world.peers.stored().takes_no_key = true;
    world.record(2_500).await;
    let asked = world.peers.stored().imports;
    assert!(asked < 9 * 20, "asked {asked} times for nine keys in 100 seconds");
    assert!(world.run.outbox.failing_keys() > 0);
    assert_eq!(world.run.outbox.refused_bytes(), 0, "an outage is nobody's own fault");
    let waited = world.run.outbox.oldest(world.clock.monotonic());
    assert!(waited > Duration::from_secs(90), "all of it counts as waiting: {waited:?}");

    world.peers.stored().takes_no_key = false;
    world.record(500).await;
    assert_eq!(world.run.outbox.waiting_keys(), 0);
    world.finish().await;
    account(&world);
}
