//! The disk of the spool runs full although the bound is not reached: because somebody else fills it.

use std::{path::Path, process::Command};

use obscura_proto::footage::v1::GapReason;
use tempfile::TempDir;

use super::{
    account::account,
    plug::{Plug, Unsynced},
    world::{Setup, World},
};
use crate::spool::{Disk as _, Limits};

const DISK_BYTES: u64 = 12 << 20;
const LIMITS: Limits = Limits::new(1 << 30, 1 << 20);

/// A small file system of its own, where the test may mount one; otherwise a directory that refuses
/// more than as many bytes.
struct SmallDisk {
    dir: Option<TempDir>,
    mounted: bool,
}

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        Self { dir: Some(dir), mounted: mount.is_ok_and(|status| status.success()) }
    }

    fn plug(&self) -> Plug {
        let plug = Plug::default();
        if !self.mounted {
            println!("no file system may be mounted here: the disk is simulated");
            plug.set_capacity(DISK_BYTES);
        }
        plug
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take().filter(|_| self.mounted) {
            let _ = Command::new("umount").arg("--lazy").arg(dir.path()).status();
        }
    }
}

/// Somebody else takes all that is left.
fn fill(plug: &Plug, dir: &Path) {
    let left = usize::try_from(plug.available(dir).unwrap()).unwrap();
    std::fs::write(dir.join("filler"), vec![0; left]).unwrap();
}

async fn runs_full_and_heals(dir: TempDir, plug: Plug) {
    let mut world = World::on(Setup { limits: LIMITS, ..Setup::default() }, dir, plug).await;
    world.record(130).await;
    world.peers.stored().away = true;
    world.record(125).await;
    let waiting = world.run.outbox.waiting_segments(None);
    fill(&world.plug, world.spool_dir());
    world.record(400).await;
    assert!(world.run.spool.disk_is_full());
    assert!(world.run.pressure.forecast().alarm);
    assert!(world.run.lanes[0].recorder.gauge.is_paused(), "the camera is paused, with a reason");
    assert!(world.run.outbox.gaps().iter().any(|gap| gap.reason() == GapReason::SpoolFull));
    assert!(world.run.outbox.waiting_segments(None) >= waiting, "what was recorded keeps waiting");

    // A new start on the full disk: it comes up, and is as full as before.
    world.restart(Unsynced::Stay).await;
    world.record(50).await;
    assert!(world.run.spool.disk_is_full());

    // Everything leaves although the disk stays full: there is room for saying so.
    world.peers.stored().away = false;
    world.record(100).await;
    assert_eq!(world.run.outbox.waiting_segments(None), 0);
    std::fs::remove_file(world.spool_dir().join("filler")).unwrap();
    world.record(130).await;
    assert!(!world.run.spool.disk_is_full() && world.run.lanes[0].recorder.gauge.is_recording());
    world.finish().await;
    account(&world);
}

#[tokio::test]
async fn a_disk_that_somebody_else_fills_pauses_cameras_and_loses_nothing_acknowledged() {
    let disk = SmallDisk::new();
    let plug = disk.plug();
    let path = disk.dir.as_ref().unwrap().path().join("spool");
    std::fs::create_dir(&path).unwrap();
    let spool = tempfile::Builder::new().tempdir_in(&path).unwrap();
    runs_full_and_heals(spool, plug).await;
}

#[tokio::test]
async fn a_simulated_disk_of_the_same_size_behaves_the_same() {
    let plug = Plug::default();
    plug.set_capacity(DISK_BYTES);
    runs_full_and_heals(tempfile::tempdir().unwrap(), plug).await;
}

#[tokio::test]
async fn near_the_bound_the_least_important_camera_is_paused_first_and_comes_back_last() {
    let limits = Limits::of_bytes(20 << 20);
    let setup = Setup { cameras: 3, priorities: vec![1, 5, 9], limits, ..Setup::default() };
    let mut world = World::new(setup).await;
    world.peers.stored().away = true;
    let mut paused = Vec::new();
    for _ in 0..200 {
        world.record(12).await;
        let now = |lane: &super::world::Lane| lane.recorder.gauge.is_paused();
        for (camera, _) in world.run.lanes.iter().enumerate().filter(|(_, lane)| now(lane)) {
            if !paused.contains(&camera) {
                paused.push(camera);
            }
        }
    }
    assert_eq!(paused, [0, 1, 2], "in the order of their priority");
    world.peers.stored().away = false;
    world.record(250).await;
    assert!(world.run.lanes.iter().all(|lane| lane.recorder.gauge.is_recording()));
    world.finish().await;
    account(&world);
    let gaps: Vec<_> = world.peers.stored().gaps.values().cloned().collect();
    let until = |camera: usize| {
        let of = |gap: &&obscura_proto::footage::v1::Gap| gap.camera_id == world.cameras[camera].to_string();
        gaps.iter().filter(of).map(|gap| gap.end_unix_ns).max().unwrap()
    };
    assert!(until(2) <= until(1) && until(1) <= until(0), "they come back in the reverse order");
    assert!(gaps.iter().all(|gap| gap.reason() == GapReason::SpoolFull));
}
