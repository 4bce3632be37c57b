use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use obscura_clock::SystemClock;
use obscura_direct_file::{BLOCK_BYTES, DirectReader};

use super::{record::Kind, *};

const LIMITS: Limits = Limits::of_bytes(1024 * 1024 * 1024);

fn open(dir: &tempfile::TempDir) -> (Arc<Spool>, recovery::Recovered) {
    Spool::open(dir.path().to_owned(), LIMITS, SystemClock::shared()).unwrap()
}

fn record(kind: Kind, serial: Serial, payload: &[u8]) -> Record<'_> {
    Record { kind, serial, payload }
}

fn segment(spool: &Spool, data: &[u8]) -> (Serial, Extent) {
    let serial = spool.next_serial();
    let (extents, _) =
        spool.append(&[record(Kind::Open, serial, b"opening"), record(Kind::Data, serial, data)]).unwrap();
    spool.hold(serial, extents[0]);
    (serial, extents[1])
}

#[tokio::test]
async fn what_is_committed_is_read_back_by_this_run_and_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&dir);
    let (serial, extent) = segment(&spool, b"sealed bytes");
    let (_, end) = spool.append(&[record(Kind::Close, serial, b"entry")]).unwrap();
    spool.wait_committed(end).await.unwrap();
    assert_eq!(spool.read(extent).unwrap(), b"sealed bytes");
    let other = spool.read_into(extent, &mut [0; 11]);
    assert!(matches!(other, Err(Error::Length { expected: 12, given: 11 })), "{other:?}");
    drop(spool); // As a crash: nothing is closed.

    let (spool, recovered) = open(&dir);
    let found = &recovered.segments[&serial];
    assert_eq!((&found.opening[..], found.entry.as_deref()), (&b"opening"[..], Some(&b"entry"[..])));
    assert_eq!(spool.read(found.data[0]).unwrap(), b"sealed bytes");
    assert!(recovered.last_alive.is_some());
    assert!(spool.next_serial() > serial);
}

#[test]
fn a_torn_end_is_cut_and_everything_before_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&dir);
    let (serial, _) = segment(&spool, b"whole");
    spool.close();
    let path = file::path(dir.path(), Position(0));
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0, 0, 0, 9, 1, 2, 3]).unwrap();

    for _ in 0..2 {
        let (spool, recovered) = open(&dir);
        assert!(recovered.segments.contains_key(&serial));
        assert_eq!(recovered.end.0, std::fs::metadata(&path).unwrap().len());
        spool.close();
    }
}

#[test]
fn what_is_done_is_gone_after_a_restart_and_its_files_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&dir);
    let (kept, _) = segment(&spool, b"kept");
    let (freed, _) = segment(&spool, b"freed");
    let done = record::encode_serials(&[freed]);
    spool.append(&[record(Kind::Done, Serial(0), &done)]).unwrap();
    spool.release(&[freed]);
    spool.close();

    let (spool, recovered) = open(&dir);
    assert_eq!(recovered.segments.keys().copied().collect::<Vec<_>>(), [kept]);
    segment(&spool, b"a new file, since every start begins one");
    spool.close();
    let (spool, _) = open(&dir);
    spool.release(&[kept]);
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "the first file holds nothing that is needed");
}

#[test]
fn an_older_file_stays_while_anything_in_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&dir);
    segment(&spool, b"old and needed");
    spool.close();
    let (spool, _) = open(&dir);
    let (newer, _) = segment(&spool, b"newer");
    spool.close();
    let (spool, _) = open(&dir);
    spool.release(&[newer]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_full_spool_refuses_new_segments_but_lets_open_ones_end() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path().to_owned(), Limits::of_bytes(10), SystemClock::shared()).unwrap();
    let (serial, _) = segment(&spool, b"more than ten bytes");
    let refused = spool.append(&[record(Kind::Open, spool.next_serial(), b"x")]);
    assert!(matches!(refused, Err(Error::Full { limit: 10, .. })));
    spool.append(&[record(Kind::Close, serial, b"entry")]).unwrap();
}

/// Three segments, of which the second has the byte `at` of its data changed; `closed` where another file follows.
fn rotten(dir: &tempfile::TempDir, closed: bool, change: impl Fn(&mut Vec<u8>, usize)) -> [Serial; 3] {
    let (spool, _) = open(dir);
    let (first, _) = segment(&spool, b"first");
    let (second, _) = segment(&spool, b"second");
    let (third, _) = segment(&spool, b"third");
    spool.close();
    if closed {
        let (spool, _) = open(dir);
        segment(&spool, b"in the next file");
        spool.close();
    }
    let path = file::path(dir.path(), Position(0));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    change(&mut bytes, at);
    std::fs::write(&path, bytes).unwrap();
    [first, second, third]
}

/// Damage of a payload, of the length before it, and of all that is around.
const CHANGES: [fn(&mut Vec<u8>, usize); 4] = [
    |bytes, at| bytes[at] ^= 1,
    |bytes, at| bytes[at - record::HEADER_BYTES] ^= 0x80,
    |bytes, at| bytes[at - record::HEADER_BYTES + 3] ^= 1,
    |bytes, at| bytes[at - record::HEADER_BYTES..at + 6].fill(0),
];

#[test]
fn damage_in_the_middle_of_any_file_costs_only_the_record_that_it_hit() {
    for closed in [false, true] {
        for change in CHANGES {
            let dir = tempfile::tempdir().unwrap();
            let [first, second, third] = rotten(&dir, closed, change);
            let (_, recovered) = recovery::read(&FileSystem, dir.path()).unwrap();
            let data = |serial: &Serial| recovered.segments[serial].data.len();
            assert_eq!([&first, &second, &third].map(data), [1, 0, 1]);
            let news: Vec<_> = recovered.losses.news().collect();
            assert_eq!(news.len(), 1);
            assert_eq!(news[0].0.end - news[0].0.start, record::HEADER_BYTES as u64 + 6);
            let (_, again) = recovery::read(&FileSystem, dir.path()).unwrap();
            assert_eq!((again.end, again.losses.news().count()), (recovered.end, 1));
        }
    }
}

#[test]
fn a_closed_file_that_was_cut_short_has_lost_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = rotten(&dir, true, Vec::truncate);
    let (_, recovered) = recovery::read(&FileSystem, dir.path()).unwrap();
    assert!(recovered.segments[&first].data.len() == 1 && recovered.segments[&second].data.is_empty());
    assert!(!recovered.segments.contains_key(&third));
    assert_eq!(recovered.losses.news().count(), 1);
}

#[test]
fn a_file_of_which_nothing_is_given_back_is_kept_under_another_name_and_the_spool_opens() {
    let dir = tempfile::tempdir().unwrap();
    let [.., third] = rotten(&dir, true, |_, _| {});
    let path = file::path(dir.path(), Position(0));
    let plug = crate::fault_table::Plug::default();
    plug.spoil(&path, 0..u64::MAX);
    let (spool, recovered) =
        Spool::open_on(Arc::new(plug), dir.path().to_owned(), LIMITS, SystemClock::shared()).unwrap();
    assert_eq!((recovered.segments.len(), recovered.losses.news().count()), (1, 1));
    spool.close();
    let aside = dir.path().join(format!("{}.unreadable", path.file_name().unwrap().display()));
    assert!(aside.exists() && !path.exists(), "it is kept for a person to examine");
    let (_, recovered) = recovery::read(&FileSystem, dir.path()).unwrap();
    assert!(!recovered.segments.contains_key(&third), "the spool does not take it back");
}

/// A disk that reads nothing but the beginning of each file, and counts what it was asked for.
#[derive(Debug, Default)]
struct Failing(AtomicUsize);

impl Disk for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appending>> {
        FileSystem.create(path)
    }
    fn keep(&self, path: &Path, length: u64) -> io::Result<()> {
        FileSystem.keep(path, length)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        FileSystem.remove(path)
    }
    fn set_aside(&self, path: &Path, bytes: u64) -> io::Result<()> {
        FileSystem.set_aside(path, bytes)
    }
    fn read(&self, path: &Path, file: &DirectReader, into: &mut [u8], offset: u64) -> io::Result<()> {
        if offset == 0 && into.len() <= BLOCK_BYTES {
            return FileSystem.read(path, file, into, offset);
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(libc::EIO))
    }
    fn available(&self, dir: &Path) -> io::Result<u64> {
        FileSystem.available(dir)
    }
}

#[test]
fn a_disk_that_fails_everywhere_is_not_tried_for_long_before_the_recorder_starts() {
    const FILES: u64 = 8;
    const BYTES: u64 = 4 << 20;
    let dir = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        std::fs::write(file::path(dir.path(), Position(number * BYTES)), vec![0x5a; 4 << 20]).unwrap();
    }
    let disk = Failing::default();
    let (_, recovered) = recovery::read(&disk, dir.path()).unwrap();
    assert!(recovered.losses.news().count() as u64 >= FILES);
    let windows = usize::try_from((FILES * BYTES) >> 20).unwrap();
    let failed = disk.0.load(Ordering::Relaxed);
    assert!(failed <= windows + 120, "{failed} tries failed");
}

#[tokio::test]
async fn after_a_stall_no_more_is_at_stake_at_once_than_at_other_times() {
    const PAYLOAD: usize = 1 << 20;
    let (dir, disk) = (tempfile::tempdir().unwrap(), crate::fault_table::Plug::default());
    // So large that everything goes into one file: the end of a file is committed anyway.
    let limits = Limits::of_bytes(FILES * MOST_FILE_BYTES);
    let (spool, _) =
        Spool::open_on(Arc::new(disk.clone()), dir.path().to_owned(), limits, SystemClock::shared()).unwrap();
    disk.stand_still();
    let payload = vec![0x5a; PAYLOAD];
    let mut end = Position(0);
    for _ in 0..64 {
        (_, end) = spool.append(&[record(Kind::Data, spool.next_serial(), &payload)]).unwrap();
    }
    disk.go_on();
    spool.wait_committed(end).await.unwrap();
    let most = disk.most_unsynced();
    assert!((PAYLOAD..=MOST_UNCOMMITTED_BYTES + 2 * PAYLOAD).contains(&most), "{most} bytes");
}

#[test]
fn whatever_a_power_cut_leaves_of_unsynced_bytes_everything_committed_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&dir);
    let (committed, _) = segment(&spool, b"committed");
    spool.close();
    let path = file::path(dir.path(), Position(0));
    let zeros = std::fs::read(&path).unwrap();
    recovery::read(&FileSystem, dir.path()).unwrap();
    let durable = std::fs::read(&path).unwrap();
    assert!(zeros.starts_with(&durable) && zeros[durable.len()..].iter().all(|byte| *byte == 0));
    let mut unsynced = Vec::new();
    for (kind, payload) in [(Kind::Open, &b"opening"[..]), (Kind::Data, b"data"), (Kind::Close, b"entry")] {
        record(kind, Serial(committed.0 + 1), payload).encode(&mut unsynced);
    }
    for cut in 0..=unsynced.len() {
        for rotten in [false, true] {
            let mut found = [&durable[..], &unsynced[..cut]].concat();
            if let Some(last) = found[durable.len()..].last_mut().filter(|_| rotten) {
                *last ^= 0x55;
            }
            std::fs::write(&path, &found).unwrap();
            let (_, recovered) = recovery::read(&FileSystem, dir.path()).unwrap();
            assert_eq!(recovered.segments[&committed].data.len(), 1, "cut at {cut}");
            let (_, again) = recovery::read(&FileSystem, dir.path()).unwrap();
            assert_eq!(again.end, recovered.end, "reading repairs, and then there is nothing to repair");
            let whole = recovered.segments.get(&Serial(committed.0 + 1)).is_some_and(|s| s.entry.is_some());
            assert_eq!(whole, cut == unsynced.len() && !rotten, "cut at {cut}");
        }
    }
}

#[test]
fn a_file_goes_only_when_nothing_in_it_is_needed_and_stays_where_it_cannot_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&dir);
    let (old, _) = segment(&spool, b"old");
    spool.close();
    let (spool, _) = open(&dir);
    segment(&spool, b"newer");
    spool.close();
    let first = file::path(dir.path(), Position(0));
    // A directory in its place cannot be removed as a file is.
    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir(&first).unwrap();
    let used = spool.used_bytes();
    spool.release(&[old]);
    assert_eq!(spool.used_bytes(), used, "it still counts");
    std::fs::remove_dir(&first).unwrap();
    spool.release(&[]);
    assert!(spool.used_bytes() < used);
}
