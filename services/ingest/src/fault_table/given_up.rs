//! A segment that could not be completed, because the spool did not even take its end.

use super::{
    account::account,
    dead_spool,
    plug::Unsynced,
    world::{Setup, World},
};

/// Records until the end of a segment is refused, and lets the spool be written again.
async fn refuse_an_end(world: &mut World) {
    let dir = tempfile::tempdir().unwrap();
    let dead = dead_spool(dir.path()).await;
    world.record(40).await;
    let recorder = &mut world.run.lanes[0].recorder;
    let good = std::mem::replace(&mut recorder.parts.spool, dead);
    world.record(30).await;
    world.run.lanes[0].recorder.parts.spool = good;
}

#[tokio::test]
async fn it_leaves_with_its_last_tail_before_the_next_start() {
    let mut world = World::new(Setup::default()).await;
    refuse_an_end(&mut world).await;
    world.record(200).await;
    world.finish().await;
    account(&world);
    let stored = world.peers.stored();
    let torn: Vec<_> = stored.index.values().filter(|i| i.entry.torn_after_chunks.is_some()).collect();
    assert_eq!(torn.len(), 1);
    assert!(torn[0].entry.frames > 30, "its last tail has frames of the last half second");
    let sequence = torn[0].entry.header.sequence;
    assert!(stored.index.keys().any(|(_, _, other)| *other > sequence), "recording went on");
}

#[tokio::test]
async fn it_is_the_same_segment_when_the_recorder_was_started_anew() {
    let mut world = World::new(Setup::default()).await;
    world.peers.stored().away = true;
    refuse_an_end(&mut world).await;
    world.record(60).await;
    world.restart(Unsynced::Vanish).await;
    world.restart(Unsynced::Stay).await;
    world.peers.stored().away = false;
    world.record(130).await;
    world.finish().await;
    account(&world);
}
