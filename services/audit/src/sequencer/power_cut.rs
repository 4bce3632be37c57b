//! Power cuts under SQLite: whatever the log did not have synced is lost, cut off or damaged.
//!
//! A receipt follows a commit, and SQLite syncs its write-ahead log before a commit returns. So what the log had when
//! the last receipt was handed out is on the disk, and of everything behind it any part may be: files are copied
//! in the middle of a storm of appends, as the kernel has them at that moment, and cut or overwritten at any byte from
//! there on. Each such disk must give a log with every acknowledged entry and without a fork. One byte less, and
//! an entry is missing: the first test below would notice. Not proved here: that a disk keeps what it says is synced.

use std::fs;

use obscura_access::verify_receipt;
use obscura_proto::audit::v1::Event;
use obscura_tlog::SignedCheckpoint;

use super::*;
use crate::{
    fault::NoFaults,
    test_support::{Backend, Bench, CLI, Place, Receipts, test_event},
};

const DATABASE: &str = "audit.sqlite";
const WAL: &str = "audit.sqlite-wal";
const SECRETS: &str = "person-keys.json";
/// A frame of SQLite's write-ahead log: 24 bytes about a page of 4 KiB.
const FRAME: usize = 24 + 4_096;
/// Events that wait for an answer when the power goes.
const STORM: usize = 400;

/// What the kernel had when the power went, and what was acknowledged.
struct Cut {
    /// The database before anything was appended, and at the end.
    databases: [Vec<u8>; 2],
    wal: Vec<u8>,
    secrets: Vec<u8>,
    /// Bytes of the write-ahead log when the last receipt was handed out.
    synced: usize,
    receipts: Receipts,
    seen: Vec<SignedCheckpoint>,
}

impl Cut {
    async fn in_a_storm() -> Self {
        let bench = Arc::new(Bench::sqlite().await);
        let file = |name: &str| fs::read(bench.place.path(name)).unwrap();
        let (at_first, mut receipts, mut seen) = (file(DATABASE), Receipts::new(), Vec::new());
        for round in 0..30 {
            let event = test_event("acknowledged");
            receipts.insert(event.event_id.clone(), bench.log.append(CLI, &event).await.unwrap().receipt);
            if round % 10 == 0 {
                bench.publish().await;
                seen.push(bench.verify(&seen));
            }
        }
        let synced = file(WAL).len();
        let storm: Vec<_> = (0..STORM)
            .map(|_| {
                let (bench, event) = (bench.clone(), test_event("in the air"));
                tokio::spawn(async move { bench.log.append(CLI, &event).await })
            })
            .collect();
        while file(WAL).len() < synced + 20 * FRAME {
            tokio::task::yield_now().await;
        }
        let (wal, database) = (file(WAL), file(DATABASE));
        for answer in storm {
            answer.await.unwrap().unwrap();
        }
        assert!(wal.len() > synced && !wal.is_empty());
        Self { databases: [at_first, database], wal, secrets: file(SECRETS), synced, receipts, seen }
    }

    /// A disk with this write-ahead log.
    fn disk(&self, database: &[u8], wal: &[u8]) -> Place {
        let place = Place::new(Backend::Sqlite);
        fs::write(place.path(DATABASE), database).unwrap();
        fs::write(place.path(WAL), wal).unwrap();
        crate::persons::Lock::take(&place.path(SECRETS)).unwrap();
        obscura_daemon::write_atomically(&place.path(SECRETS), &self.secrets, 0o600).unwrap();
        place
    }

    /// Everything acknowledged is there, and the log goes on from what was seen of it.
    async fn holds(&self, place: Place, how: &str) {
        let bench = place.start(Arc::new(NoFaults)).await;
        for (event_id, receipt) in &self.receipts {
            let receipt = verify_receipt(&Place::key().public_key(), receipt).unwrap();
            let row = bench.log.parts.store.entry(receipt.leaf_index).await.unwrap();
            let row = row.unwrap_or_else(|| panic!("entry {} is lost: {how}", receipt.leaf_index));
            assert_eq!(row.event_id.to_string(), *event_id, "{how}");
            assert_eq!(leaf_hash(&row.leaf).as_bytes()[..], receipt.leaf_hash[..], "{how}");
        }
        let event: Event = test_event("after the cut");
        bench.append(&event).await;
        bench.publish().await;
        bench.verify(&self.seen);
    }

    /// Moments of the cut: at, before and behind the end of a frame, of its head, and in the middle.
    fn ends(&self) -> Vec<usize> {
        const OFFSETS: [usize; 6] = [0, 1, 23, 24, FRAME / 2, FRAME - 1];
        let frames = self.sample(FRAME).into_iter();
        let ends = frames.zip(OFFSETS.into_iter().cycle()).map(|(start, offset)| start + offset);
        ends.map(|end| end.min(self.wal.len())).chain([self.synced, self.wal.len()]).collect()
    }

    /// At most so many places of this length behind what was synced, the first ones and others up to the end.
    fn sample(&self, length: usize) -> Vec<usize> {
        const AT_MOST: usize = 18;
        let places: Vec<usize> = (self.synced..self.wal.len()).step_by(length).collect();
        let step = (places.len() / AT_MOST).max(1);
        let later = places.iter().skip(AT_MOST / 3).step_by(step);
        places.iter().take(AT_MOST / 3).chain(later).copied().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_byte_behind_the_last_receipt_loses_no_acknowledged_entry() {
    let cut = Cut::in_a_storm().await;
    for end in cut.ends() {
        let how = format!("cut at {end}, {} behind what was synced", end - cut.synced);
        cut.holds(cut.disk(&cut.databases[end % 2], &cut.wal[..end]), &how).await;
    }
    let newest = cut
        .receipts
        .values()
        .map(|receipt| verify_receipt(&Place::key().public_key(), receipt).unwrap().leaf_index);
    let store = cut.disk(&cut.databases[0], &cut.wal[..cut.synced - 1]).store().await;
    assert!(store.entry(newest.max().unwrap()).await.unwrap().is_none(), "one byte less is one entry less");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_kept_only_some_of_what_was_not_synced_loses_no_acknowledged_entry() {
    const BLOCK: usize = 4_096;
    let cut = Cut::in_a_storm().await;
    let damages: [fn(&mut [u8]); 3] = [
        |block| block.fill(0),
        |block| block.fill(0xff),
        |block| block.iter_mut().for_each(|byte| *byte ^= 0x10),
    ];
    for (start, damage) in cut.sample(BLOCK).into_iter().zip(damages.into_iter().cycle()) {
        let mut wal = cut.wal.clone();
        let end = (start + BLOCK).min(wal.len());
        damage(&mut wal[start..end]);
        cut.holds(cut.disk(&cut.databases[0], &wal), &format!("a block at {start} is damaged")).await;
    }
}
