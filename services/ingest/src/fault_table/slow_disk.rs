//! The disk of the spool stands still for a while.

use obscura_proto::footage::v1::GapReason;

use super::{
    account::{account, frames},
    world::{Setup, World},
};
use crate::spool::Limits;

const RATE: u64 = 25;

/// Three seconds of footage may wait for the disk.
fn setup() -> Setup {
    let limits = Limits { waiting_bytes: 900_000, ..Setup::default().limits };
    Setup { limits, ..Setup::default() }
}

async fn after_standing_still(seconds: u64) -> World {
    let mut world = World::new(setup()).await;
    world.record(5 * RATE).await;
    world.plug.stand_still();
    world.record_only(seconds * RATE);
    world.plug.go_on();
    world.record(5 * RATE).await;
    world.finish().await;
    account(&world);
    world
}

#[tokio::test]
async fn a_disk_that_stands_still_for_a_moment_costs_no_frame() {
    let world = after_standing_still(2).await;
    let stored = world.peers.stored();
    assert!(stored.gaps.is_empty(), "{:?}", stored.gaps);
    assert_eq!(frames(&world, &stored, 0).len() as u64, world.next);
}

/// What lies in memory is bounded: from some point on there is a gap, which says why.
#[tokio::test]
async fn a_disk_that_stands_still_for_long_costs_a_gap_and_nothing_acknowledged() {
    let world = after_standing_still(20).await;
    let stored = world.peers.stored();
    let reasons: Vec<_> = stored.gaps.values().map(obscura_proto::footage::v1::Gap::reason).collect();
    assert!(
        !reasons.is_empty() && reasons.iter().all(|reason| *reason == GapReason::SlowDisk),
        "{reasons:?}"
    );
    let found = frames(&world, &stored, 0).len() as u64;
    assert!(found >= (5 + 3 + 5) * RATE - 2 * RATE && found < world.next, "{found} of {}", world.next);
}
