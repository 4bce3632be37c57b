//! The disk of the spool does not give back what it took.

use std::ops::Range;

use obscura_proto::footage::v1::{Gap, GapReason};

use super::{
    account::frames,
    plug::Unsynced,
    world::{Setup, World, lies_in},
};
use crate::segment::Sealed;

/// What is within these bytes of the spool's file that holds the `part`th part of a segment is lost.
fn spoil(world: &World, sealed: &Sealed, part: usize, length: u64) -> Range<u64> {
    let (path, offset) = world.run.spool.place(sealed.extents[part]);
    world.plug.spoil(&path, offset..offset + length);
    offset..offset + length
}

fn gaps_of(world: &World, camera: usize) -> Vec<Gap> {
    let id = world.cameras[camera].to_string();
    world.peers.stored().gaps.values().filter(|gap| gap.camera_id == id).cloned().collect()
}

/// As [`super::account::account`], where the disk lost something: nothing is missing without a gap, and what is not of
/// `lost` is missing nowhere.
fn account(world: &World, lost: impl Fn(usize, u64) -> bool) {
    let stored = world.peers.stored();
    assert_eq!(stored.twice, 0, "segments that are in two packs");
    let all: Vec<_> = (0..world.cameras.len()).map(|camera| frames(world, &stored, camera)).collect();
    drop(stored);
    for (camera, found) in all.iter().enumerate() {
        let gaps = gaps_of(world, camera);
        assert!(
            gaps.iter().all(|gap| gap.end_unix_ns >= gap.start_unix_ns && gap.end_unix_ns > 0),
            "{gaps:?}"
        );
        let reel = &world.reels[camera];
        let missing: Vec<u64> = reel.acknowledged.keys().filter(|n| !found.contains(n)).copied().collect();
        let needless: Vec<u64> = missing.iter().filter(|n| !lost(camera, **n)).copied().collect();
        assert!(needless.is_empty(), "camera {camera}: readable and lost: {needless:?}");
        let untold = |n: &&u64| !gaps.iter().any(|gap| lies_in(reel.sent[*n], gap));
        let untold: Vec<u64> = missing.iter().filter(untold).copied().collect();
        assert!(untold.is_empty(), "camera {camera}: lost without a gap: {untold:?} of {gaps:?}");
        let both = found.iter().filter(|n| {
            let at = reel.sent[*n];
            gaps.iter().any(|gap| gap.reason() == GapReason::DiskDamaged && lies_in(at, gap))
        });
        let both: Vec<_> = both.collect();
        assert!(both.len() <= 2, "camera {camera}: recorded and in a gap: {both:?} of {gaps:?}");
    }
}

fn two_cameras() -> Setup {
    Setup { cameras: 2, priorities: vec![5, 5], ..Setup::default() }
}

/// The frames within a segment, and one more on each side for the rounding of time.
fn frames_of(world: &World, sealed: &Sealed) -> Range<u64> {
    let sent = &world.reels[0].sent;
    let (start, end) = (sealed.entry.span.start(), sealed.entry.span.end());
    let within: Vec<u64> =
        sent.iter().filter(|(_, at)| (start..end).contains(*at)).map(|(n, _)| *n).collect();
    within.first().unwrap().saturating_sub(1)..within.last().unwrap() + 2
}

#[tokio::test]
async fn one_unreadable_sector_costs_its_segment_and_nothing_behind_it() {
    let mut world = World::new(two_cameras()).await;
    world.peers.stored().away = true;
    world.record(420).await;
    let camera = world.cameras[0];
    let packs = world.run.outbox.waiting_packs();
    let pack = packs.iter().find(|pack| pack.segments[0].entry.header.camera == camera).unwrap();
    assert!(pack.segments.len() > 1);
    let sealed = pack.segments[1].clone();
    spoil(&world, &sealed, 1, 1);
    world.peers.stored().away = false;
    world.record(900).await;

    let used = world.run.spool.used_bytes();
    assert!(used < 16 << 20, "what lies behind the sector is not freed: {used} bytes");
    let words = world.run.spool.damage().words().unwrap();
    assert!(words.contains("/spool-") && words.contains("gaps recorded for it: 1;"), "{words}");
    world.finish().await;
    let frames = frames_of(&world, &sealed);
    account(&world, |camera, n| camera == 0 && frames.contains(&n));
    let gaps = gaps_of(&world, 0);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].reason(), GapReason::DiskDamaged);
    assert!(gaps_of(&world, 1).is_empty());
}

#[tokio::test]
async fn a_disk_that_recovers_in_time_loses_nothing() {
    let mut world = World::new(two_cameras()).await;
    world.peers.stored().away = true;
    world.record(420).await;
    let pack = world.run.outbox.waiting_packs()[0].clone();
    spoil(&world, &pack.segments[0], 1, 1);
    world.peers.stored().away = false;
    world.record(100).await;
    assert!(world.run.outbox.waiting_packs().iter().any(|waiting| waiting.id == pack.id), "it waits");
    world.plug.heal();
    world.record(500).await;
    world.finish().await;
    account(&world, |_, _| false);
    assert!(gaps_of(&world, 0).is_empty() && gaps_of(&world, 1).is_empty());
}

#[tokio::test]
async fn a_pack_that_had_arrived_is_done_although_it_cannot_be_read_again() {
    use super::peers::{Answer, Call};
    let mut world = World::new(Setup::default()).await;
    world.peers.arm(Call::Index, Answer::Lost);
    while world.peers.met() == 0 {
        world.record(12).await;
    }
    let pack = world.run.outbox.waiting_packs()[0].clone();
    spoil(&world, &pack.segments[0], 1, 1);
    world.record(500).await;
    world.finish().await;
    account(&world, |_, _| false);
    assert!(gaps_of(&world, 0).is_empty() && world.run.spool.damage().words().is_none());
}

#[tokio::test]
async fn what_was_given_up_stays_given_up_and_its_pack_dissolved_when_the_recorder_is_killed() {
    let mut world = World::new(two_cameras()).await;
    world.peers.stored().away = true;
    world.record(420).await;
    let pack = world.run.outbox.waiting_packs()[0].clone();
    let sealed = pack.segments[1].clone();
    spoil(&world, &sealed, 1, 1);
    world.peers.stored().away = false;
    while world.run.spool.damage().words().is_none() {
        world.record(12).await;
    }
    world.look().await;
    world.restart(Unsynced::Vanish).await;
    world.record(300).await;
    world.finish().await;
    let frames = frames_of(&world, &sealed);
    let of = world.cameras.iter().position(|id| *id == sealed.entry.header.camera).unwrap();
    account(&world, |camera, n| camera == of && frames.contains(&n));
    let gaps = gaps_of(&world, of);
    assert_eq!(gaps.iter().filter(|gap| gap.reason() == GapReason::DiskDamaged).count(), 1, "{gaps:?}");
}
