//! How often the disk is asked before what it does not give back is given up.

use std::time::Duration;

use obscura_ids::PackId;

use super::{
    peers::{Answer, Call},
    plug::{Op, Trouble},
    unreadable::{account, gaps_of, spoil},
    world::{Setup, World},
};
use crate::outbox::Formed;

/// One pack waits that could not be read five times in a row, and nothing is recorded.
async fn almost_given_up() -> (World, PackId) {
    let mut world = World::new(Setup::default()).await;
    world.peers.stored().away = true;
    world.record(420).await;
    let pack = world.run.outbox.waiting_packs()[0].clone();
    spoil(&world, &pack.segments[0], 1, 1);
    world.peers.stored().away = false;
    let others = |world: &World| world.run.outbox.waiting_segments(None) > pack.segments.len();
    while others(&world) || waiting(&world, pack.id).unwrap().unreadable < 5 {
        world.clock.advance(Duration::from_secs(1));
        world.look().await;
    }
    world.plug.heal();
    (world, pack.id)
}

fn waiting(world: &World, pack: PackId) -> Option<Formed> {
    world.run.outbox.waiting_packs().into_iter().find(|waiting| waiting.id == pack)
}

#[tokio::test]
async fn a_try_that_fails_for_another_reason_is_a_new_chance_for_the_disk() {
    let (mut world, id) = almost_given_up().await;
    world.peers.arm(Call::Url, Answer::Refused);
    while waiting(&world, id).unwrap().refusals == 0 {
        world.clock.advance(Duration::from_secs(1));
        world.look().await;
    }
    assert_eq!(waiting(&world, id).unwrap().unreadable, 0);
    spoil(&world, &waiting(&world, id).unwrap().segments[0], 1, 1);
    while waiting(&world, id).is_some_and(|pack| pack.unreadable == 0) {
        world.clock.advance(Duration::from_secs(1));
        world.look().await;
    }
    assert!(world.run.spool.damage().words().is_none(), "the first try in a row");
    world.plug.heal();
    world.finish().await;
    account(&world, |_, _| false);
    assert!(gaps_of(&world, 0).is_empty());
}

#[tokio::test]
async fn a_segment_is_read_more_than_once_before_it_is_given_up() {
    let (mut world, id) = almost_given_up().await;
    // On its way, when it is asked why that failed, and when its segments are sorted.
    (0..3).for_each(|_| world.plug.arm(Op::Read, Trouble::Unreadable));
    while waiting(&world, id).is_some() {
        world.clock.advance(Duration::from_secs(1));
        world.look().await;
    }
    assert_eq!(world.plug.met(), 3);
    assert!(world.run.spool.damage().words().is_none());
    world.finish().await;
    account(&world, |_, _| false);
    assert!(gaps_of(&world, 0).is_empty());
}
