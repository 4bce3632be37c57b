//! What is refused for good keeps its place in the spool, and nobody else's.

use std::{sync::Arc, time::Duration};

use obscura_proto::footage::v1::{Gap, GapReason};

use super::{
    account::{account, frames},
    plug::Unsynced,
    world::{Setup, World, lies_in},
};
use crate::{
    segment::again,
    spool::{Limits, Spool, record::Kind},
    upload::Patience,
};

pub const LIMIT: u64 = 16 << 20;

/// Eight cameras and a spool that fills within minutes.
pub fn small_spool() -> Setup {
    Setup {
        cameras: 8,
        frame_every: Duration::from_millis(500),
        key_every: 4,
        frame_bytes: 4_000,
        // A look starts one pack at this rate, and eight cameras fill eight in ten seconds.
        look_every: 2,
        pack_footage: Duration::from_secs(10),
        limits: Limits::of_bytes(LIMIT),
        upload_bytes_per_second: 1 << 30,
        priorities: vec![5; 8],
        patience: Patience::default(),
    }
}

/// The first camera's key is refused; more than the bound of the spool is recorded of all.
async fn refused(bytes: u64) -> World {
    let mut world = World::new(small_spool()).await;
    world.peers.stored().refuses_keys_of = Some(world.cameras[0]);
    while world.run.spool.appended_bytes() < bytes {
        world.record(40).await;
        assert!(world.run.spool.used_bytes() < LIMIT * 8 / 10, "the spool is not freed");
    }
    assert_eq!(world.run.outbox.refused_keys(), 1);
    world
}

fn gaps_of(world: &World, camera: usize) -> Vec<Gap> {
    let camera = world.cameras[camera].to_string();
    world.peers.stored().gaps.values().filter(|gap| gap.camera_id == camera).cloned().collect()
}

#[tokio::test]
async fn a_refused_key_does_not_keep_the_spool_from_being_freed_and_its_footage_arrives_after_a_restart() {
    let mut world = refused(LIMIT * 3 / 2).await;
    assert!(world.peers.stored().gaps.is_empty(), "no camera was paused");
    let waiting = world.run.outbox.waiting_segments(Some(world.cameras[0]));
    assert!(waiting > 100, "{waiting} segments wait");

    world.peers.stored().refuses_keys_of = None;
    world.restart(Unsynced::Vanish).await;
    world.record(40).await;
    world.finish().await;
    account(&world);
    let found = frames(&world, &world.peers.stored(), 0).len();
    assert!(found > 4 * 100, "{found} frames of the refused camera arrived");
}

#[tokio::test]
async fn more_than_a_quarter_of_the_spool_that_is_refused_gives_its_oldest_up_for_a_gap() {
    let mut world = refused(LIMIT * 6).await;
    world.peers.stored().refuses_keys_of = None;
    world.restart(Unsynced::Stay).await;
    world.record(40).await;
    world.finish().await;
    let others: Vec<Gap> = (1..8).flat_map(|camera| gaps_of(&world, camera)).collect();
    assert!(others.iter().all(|gap| gap.reason() == GapReason::RecorderStopped), "{others:?}");
    let gaps = gaps_of(&world, 0);
    assert!(gaps.iter().any(|gap| gap.reason() == GapReason::SpoolFull), "{gaps:?}");
    let found = frames(&world, &world.peers.stored(), 0);
    let lost = |(n, at): &(&u64, &obscura_clock::Timestamp)| {
        !found.contains(*n) && !gaps.iter().any(|gap| lies_in(**at, gap))
    };
    assert_eq!(world.reels[0].acknowledged.iter().find(lost), None, "lost without a gap");
    assert!(!found.is_empty(), "the newest of it was kept");
}

#[tokio::test]
async fn a_copy_that_a_crash_left_beside_its_original_is_forgotten() {
    for whole in [false, true] {
        let mut world = World::new(Setup::default()).await;
        world.peers.stored().refuses_keys = true;
        world.record(400).await;
        let packs = world.run.outbox.waiting_packs();
        let (spool, pack) = (Arc::clone(&world.run.spool), packs.first().unwrap().clone());
        let copies: Vec<_> = pack.segments.iter().map(|sealed| again(&spool, sealed).unwrap()).collect();
        if whole {
            note_pack(&spool, &pack.id.as_bytes()[..], &copies.iter().map(|s| s.serial).collect::<Vec<_>>());
        }
        world.look().await;
        world.peers.stored().refuses_keys = false;
        world.restart(Unsynced::Stay).await;
        world.record(130).await;
        world.finish().await;
        account(&world);
    }
}

fn note_pack(spool: &Spool, id: &[u8], serials: &[crate::spool::Serial]) {
    let payload = [id, &crate::spool::record::encode_serials(serials)].concat();
    let pack = crate::segment::record(Kind::Pack, spool.next_serial(), &payload);
    spool.append(&[pack]).unwrap();
}
