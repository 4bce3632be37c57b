//! How wide the gaps are for what the disk lost of the spool.

use std::time::Duration;

use obscura_clock::{Clock as _, Timestamp};
use obscura_ids::WriterEpoch;

use super::{
    plug::Unsynced,
    world::{Setup, World},
};
use crate::{
    segment,
    spool::{
        FileSystem,
        record::{self, Found, HEADER_BYTES, Kind, Record},
        recovery::{self, losses::Hole},
    },
};

/// Spoils the record for which `rank` says most.
fn rot(world: &World, rank: impl Fn(&Record<'_>) -> Option<i64>) {
    let files = std::fs::read_dir(world.spool_dir()).unwrap().map(|item| item.unwrap().path());
    let mut best = None;
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "log")) {
        let bytes = std::fs::read(&path).unwrap();
        let mut at = 0;
        while let Found::Record(record, length) = record::read(&bytes[at..]) {
            best = best.max(rank(&record).map(|rank| (rank, path.clone(), at + HEADER_BYTES)));
            at += length;
        }
    }
    let (_, path, at) = best.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Spoils the last record before this moment that says that the recorder was alive.
fn rot_alive(world: &World, before: Timestamp) {
    rot(world, |record| {
        let alive = i64::from_be_bytes(record.payload.try_into().ok()?);
        (record.kind == Kind::Alive && alive < before.unix_nanos()).then_some(alive)
    });
}

/// Spoils the first record since this moment that begins a segment.
fn rot_beginning(world: &World, since: Timestamp) {
    rot(world, |record| {
        let (_, start) = segment::opened(record.payload).filter(|_| record.kind == Kind::Open)?;
        (start >= since).then_some(-start.unix_nanos())
    });
}

fn holes(world: &World) -> Vec<Hole> {
    let (_, recovered) = recovery::read(&FileSystem, world.spool_dir()).unwrap();
    recovered.losses.holes().cloned().collect()
}

async fn two_cameras() -> World {
    let world = World::new(Setup { cameras: 2, priorities: vec![5, 5], ..Setup::default() }).await;
    world.peers.stored().away = true;
    world
}

/// Nothing of the last camera is recorded any more.
async fn end_last_camera(world: &mut World) {
    let mut lane = world.run.lanes.pop().unwrap();
    lane.track.end(&mut lane.recorder);
    world.look().await;
}

fn assert_short(holes: &[Hole]) {
    let short = |hole: &Hole| hole.start < hole.end && hole.end.since(hole.start) <= Duration::from_secs(13);
    assert!(holes.iter().all(short), "{holes:?}");
}

#[tokio::test]
async fn a_loss_at_the_end_of_one_run_is_no_hole_up_to_the_start_of_the_next() {
    let mut world = two_cameras().await;
    world.record(420).await;
    let mut lanes = std::mem::take(&mut world.run.lanes);
    lanes.iter_mut().for_each(|lane| lane.track.end(&mut lane.recorder));
    world.look().await;
    let stopped = world.clock.wall();
    world.miss(25 * 3_600);
    world.restart(Unsynced::Stay).await;
    world.record(200).await;
    world.run.spool.close();

    rot_alive(&world, stopped + Duration::from_secs(1));
    let holes = holes(&world);
    assert_short(&holes);
    assert!(holes.iter().all(|hole| hole.writer_epoch == WriterEpoch(1)), "{holes:?}");
}

#[tokio::test]
async fn a_loss_at_the_start_of_a_run_is_no_hole_back_to_the_end_of_the_one_before() {
    let mut world = two_cameras().await;
    world.record(420).await;
    world.miss(25 * 3_600);
    world.restart(Unsynced::Stay).await;
    let started = world.clock.wall();
    world.record(200).await;
    world.run.spool.close();

    rot_beginning(&world, started);
    let holes = holes(&world);
    assert_short(&holes);
    let of_second = |hole: &&Hole| hole.writer_epoch == WriterEpoch(2) && hole.start >= started;
    assert_eq!(holes.iter().filter(of_second).count(), 1, "{holes:?}");
}

#[tokio::test]
async fn a_camera_that_ended_before_a_loss_has_no_hole_up_to_the_next_one() {
    let mut world = two_cameras().await;
    world.record(300).await;
    end_last_camera(&mut world).await;
    let first = world.clock.wall() + Duration::from_secs(3);
    world.record(1_500).await;
    world.run.spool.close();

    let second = world.clock.wall() - Duration::from_secs(3);
    rot_alive(&world, second);
    rot_alive(&world, first);
    assert_short(&holes(&world));
}
