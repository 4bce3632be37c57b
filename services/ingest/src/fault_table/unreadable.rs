//! The disk of the spool does not give back what it took.

use std::ops::Range;

use obscura_proto::footage::v1::{Gap, GapReason};

use super::{
    account::frames,
    plug::Unsynced,
    world::{Setup, World, lies_in},
};
use crate::{
    segment::Sealed,
    spool::record::{self, Found, Kind},
};

/// What is within these bytes of the spool's file that holds the `part`th part of a segment is lost.
pub fn spoil(world: &World, sealed: &Sealed, part: usize, length: u64) -> Range<u64> {
    let (path, offset) = world.run.spool.place(sealed.extents[part]);
    world.plug.spoil(&path, offset..offset + length);
    offset..offset + length
}

pub fn gaps_of(world: &World, camera: usize) -> Vec<Gap> {
    let id = world.cameras[camera].to_string();
    world.peers.stored().gaps.values().filter(|gap| gap.camera_id == id).cloned().collect()
}

/// As [`super::account::account`], where the disk lost something: nothing is missing without a gap, and what is not of
/// `lost` is missing nowhere.
pub fn account(world: &World, lost: impl Fn(usize, u64) -> bool) {
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

/// Where the file lies that holds the first part of a segment, and where in it the second part begins.
fn place(world: &World, sealed: &Sealed) -> (std::path::PathBuf, usize) {
    let (path, offset) = world.run.spool.place(sealed.extents[1]);
    (path, usize::try_from(offset).unwrap())
}

/// Both cameras record while storage is away; returns a segment of the first.
async fn backlog() -> (World, Sealed) {
    let mut world = World::new(two_cameras()).await;
    world.peers.stored().away = true;
    world.record(620).await;
    let camera = world.cameras[0];
    let packs = world.run.outbox.waiting_packs();
    let pack = packs.iter().find(|pack| pack.segments[0].entry.header.camera == camera).unwrap();
    let sealed = pack.segments[1].clone();
    (world, sealed)
}

/// The recorder starts twice, everything leaves, and only frames of these segments are missing.
async fn start_and_account(mut world: World, lost: impl Fn(&World, usize, u64) -> bool) -> World {
    world.restart(Unsynced::Vanish).await;
    assert!(world.run.spool.damage().words().unwrap().contains("/spool-"));
    world.record(50).await;
    world.restart(Unsynced::Stay).await;
    assert!(world.run.spool.damage().words().is_none(), "it was told");
    world.peers.stored().away = false;
    world.record(600).await;
    world.finish().await;
    account(&world, |camera, n| lost(&world, camera, n));
    let told = gaps_of(&world, 0).into_iter().chain(gaps_of(&world, 1));
    let told = told.filter(|gap| gap.reason() == GapReason::DiskDamaged).count();
    assert!((1..=4).contains(&told), "{told} gaps");
    world
}

#[tokio::test]
async fn a_bit_that_rots_in_the_spool_costs_the_rest_of_one_segment_and_is_a_gap() {
    let (world, sealed) = backlog().await;
    let (path, at) = place(&world, &sealed);
    world.run.spool.close();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let frames = frames_of(&world, &sealed);
    let world = start_and_account(world, |_, camera, n| camera == 0 && frames.contains(&n)).await;
    assert!(gaps_of(&world, 1).iter().all(|gap| gap.reason() == GapReason::RecorderStopped));
}

#[tokio::test]
async fn a_beginning_that_rots_costs_its_segment_and_is_a_gap() {
    let (world, sealed) = backlog().await;
    let (path, offset) = world.run.spool.place(sealed.extents[0]);
    world.run.spool.close();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let frames = frames_of(&world, &sealed);
    let world = start_and_account(world, |_, camera, n| camera == 0 && frames.contains(&n)).await;
    let gaps = gaps_of(&world, 0);
    let gaps: Vec<_> = gaps.iter().filter(|gap| gap.reason() == GapReason::DiskDamaged).collect();
    let span = sealed.entry.span;
    assert_eq!(gaps.len(), 1);
    let told = (gaps[0].start_unix_ns, gaps[0].end_unix_ns);
    assert_eq!(told, (span.start().unix_nanos(), span.end().unix_nanos()));
}

#[tokio::test]
async fn a_sector_that_cannot_be_read_at_a_start_costs_what_lies_in_it_and_recording_begins() {
    let (world, sealed) = backlog().await;
    let (path, at) = place(&world, &sealed);
    world.plug.spoil(&path, at as u64..at as u64 + 4_096);
    // Blocks around it hold a little of the other camera as well.
    let near = frames_of(&world, &sealed);
    let near = near.start.saturating_sub(60)..near.end + 60;
    start_and_account(world, |_, _, n| near.contains(&n)).await;
}

#[tokio::test]
async fn many_seconds_of_the_log_that_are_gone_are_gaps_of_every_camera() {
    let (world, sealed) = backlog().await;
    let (path, at) = place(&world, &sealed);
    world.run.spool.close();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len().min(at + 1_500_000);
    bytes[at..end].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let start = frames_of(&world, &sealed).start.saturating_sub(150);
    start_and_account(world, |_, _, n| (start..start + 500).contains(&n)).await;
}

#[tokio::test]
async fn what_is_lost_behind_a_lost_end_is_told_at_the_next_start() {
    let (mut world, _) = backlog().await;
    let newest = |world: &World| {
        let files = std::fs::read_dir(world.spool_dir()).unwrap().map(|item| item.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
    };
    let torn = newest(&world);
    let length = std::fs::metadata(&torn).unwrap().len();
    world.plug.spoil(&torn, length / 4..length);
    world.restart(Unsynced::Stay).await;
    assert!(world.run.spool.damage().words().is_some());
    world.record(300).await;

    // The disk loses some of what was recorded since, within as many bytes from its start on.
    let second = std::fs::read_dir(world.spool_dir()).unwrap().map(|item| item.unwrap().path());
    let second = second.filter(|path| path.extension().is_some_and(|end| end == "log") && *path > torn);
    let second = second.min().unwrap();
    world.run.spool.close();
    let mut bytes = std::fs::read(&second).unwrap();
    let (from, until) = (100_000, usize::try_from(length / 2).unwrap());
    bytes[from..until].fill(0x5a);
    std::fs::write(&second, bytes).unwrap();
    world.restart(Unsynced::Stay).await;
    let words = world.run.spool.damage().words().expect("the second loss is news");
    assert!(words.contains(&second.display().to_string()), "{words}");
    world.record(100).await;
    world.peers.stored().away = false;
    world.restart(Unsynced::Stay).await;
    assert!(world.run.spool.damage().words().is_none(), "both were told");
    world.record(300).await;
    world.finish().await;
    account(&world, |_, _| true);
}

#[tokio::test]
async fn a_tail_whose_sealed_bytes_the_disk_lost_claims_no_footage() {
    let (mut world, _) = backlog().await;
    world.record(17).await;
    world.look().await;
    world.plug.pull();
    world.run.spool.close();
    let files = std::fs::read_dir(world.spool_dir()).unwrap().map(|item| item.unwrap().path());
    let path = files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The last sealed bytes of a segment that was being written, and the tail behind them.
    let (mut at, mut last, mut whole) = (0, None, None);
    while let Found::Record(record, length) = record::read(&bytes[at..]) {
        match record.kind {
            Kind::Data => last = Some((record.serial, at)),
            Kind::Tail if last.is_some_and(|(serial, _)| serial == record.serial) => whole = last,
            _ => {}
        }
        at += length;
    }
    let (serial, place) = whole.unwrap();
    assert_eq!(last, whole, "a tail follows the last sealed bytes");
    bytes[place + record::HEADER_BYTES] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    world.restart(Unsynced::Stay).await;
    assert!(world.run.spool.damage().words().is_some(), "{serial:?}");
    world.peers.stored().away = false;
    world.record(300).await;
    world.finish().await;
    account(&world, |_, _| true);
    let told = gaps_of(&world, 0).into_iter().chain(gaps_of(&world, 1));
    assert!(told.filter(|gap| gap.reason() == GapReason::DiskDamaged).count() > 0);
}

/// Whether a layer key lies within these bytes: what it sealed cannot be opened without it.
fn holds_key(bytes: &[u8], range: &Range<usize>) -> bool {
    let mut at = 0;
    while let Found::Record(record, length) = record::read(&bytes[at..]) {
        if record.kind == Kind::Key && at < range.end && range.start < at + length {
            return true;
        }
        at += length;
    }
    false
}

/// Overwrites so many bytes in one of the files of the spool; false where there is no such place.
fn overwrite(world: &World, number: usize, tenths: usize, length: usize) -> bool {
    let files = std::fs::read_dir(world.spool_dir()).unwrap().map(|item| item.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    files.sort();
    let Some(path) = files.get(number) else { return false };
    let mut bytes = std::fs::read(path).unwrap();
    let from = bytes.len() * tenths / 10;
    let range = from..bytes.len().min(from + length);
    if holds_key(&bytes, &range) {
        return false;
    }
    bytes[range].iter_mut().for_each(|byte| *byte ^= 0xa5);
    std::fs::write(path, bytes).unwrap();
    true
}

#[tokio::test]
async fn whatever_is_overwritten_nothing_is_lost_without_a_gap_and_nothing_else_is_lost() {
    let mut tried = 0;
    for number in [1, 3, 6] {
        for tenths in [0, 5, 9] {
            for length in [1, 5_000, 400_000] {
                let mut world = World::new(two_cameras()).await;
                world.peers.stored().away = true;
                world.record(360).await;
                world.plug.pull();
                world.run.spool.close();
                if !overwrite(&world, number, tenths, length) {
                    continue;
                }
                println!("file {number}, from {tenths} tenths on, {length} bytes");
                tried += 1;
                world.restart(Unsynced::Vanish).await;
                world.record(60).await;
                world.peers.stored().away = false;
                world.restart(Unsynced::Stay).await;
                world.record(200).await;
                world.finish().await;
                account(&world, |_, _| true);
                let missing = |camera: usize| {
                    let found = frames(&world, &world.peers.stored(), camera);
                    world.reels[camera].acknowledged.keys().filter(|n| !found.contains(n)).count()
                };
                // Bytes of one segment cost at most that segment; others what is in them.
                let (most, missing) = (120 + 2 * length / 12_000, missing(0) + missing(1));
                assert!(missing <= most, "{missing} frames are missing");
            }
        }
    }
    assert!(tried > 15, "{tried}");
}
