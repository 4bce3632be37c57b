//! The fault table: every step of the write protocol, what a fault there leaves, and what repairs it.
//!
//! | step | a crash there leaves | repaired by |
//! |---|---|---|
//! | ring | nothing: the frame was not acknowledged | a gap from the last durable frame to the next start |
//! | seal | nothing: sealed bytes are in memory only | the same gap |
//! | spool append | a torn record, or one that nobody was told of | the torn end is cut; what is whole counts |
//! | commit | records that may be durable without an acknowledgement | what is whole counts |
//! | pack | segments with or without the note that they are a pack | with it: the same pack; without it: another |
//! | read back | nothing | read again; what the disk has lost becomes a gap |
//! | URL | nothing | asked for again |
//! | PUT | an object without a row | the same object is put again under the same key |
//! | index | rows that the recorder does not know of | committed again, which changes nothing |
//! | key import | a key in custody that still waits here | imported again, which changes nothing |
//! | gaps | a gap that is indexed and still waits here | recorded again under the same id |
//! | free | segments that are stored and still here | sent again under the same pack id |
//!
//! A peer may also have done what it was asked and answer only when nobody waits any more, or do it only
//! then, behind everything that was asked since.
//!
//! Each fault hits twice: the first try and the retry. Where it ends the process, what was not synced
//! stays, vanishes or rots. Then more is recorded, everything is sent, and every frame is accounted for:
//! what was acknowledged is in exactly one segment that opens under its key and shows what was sent, and
//! what is missing lies in a gap with a reason.

mod account;
mod clock_steps;
mod full_disk;
mod given_up;
mod holes;
mod intake_key;
mod key_waits;
mod nobody_gets_through;
mod outage;
mod peers;
mod plug;
mod refused;
mod refused_gaps;
mod slow_disk;
mod terms;
mod tries;
mod unreadable;
mod world;

use std::{path::Path, sync::Arc, time::Duration};

use obscura_clock::SystemClock;

pub use self::plug::Plug;
use self::{
    account::account,
    peers::{Answer, Call},
    plug::{Op, Trouble, Unsynced},
    world::{Setup, World},
};
use crate::{
    segment::record,
    spool::{Limits, Serial, Spool, record::Kind},
    upload::Patience,
};

/// One step of the write protocol, and what can go wrong in it.
struct Row {
    step: &'static str,
    faults: &'static [Fault],
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The process ends so many frames into a second.
    Ends(u64),
    Disk(Op, Trouble),
    Peer(Call, Answer),
}

const CRASHES: [Trouble; 3] = [Trouble::EndsBefore, Trouble::EndsHalfway, Trouble::EndsAfter];

const TABLE: &[Row] = &[
    // A key frame that was only just received; one whose fragment is not full; one that waits for the next.
    Row { step: "ring", faults: &[Fault::Ends(1), Fault::Ends(5)] },
    Row { step: "seal", faults: &[Fault::Ends(11), Fault::Ends(24)] },
    Row {
        step: "spool append",
        faults: &[
            Fault::Disk(Op::Create, CRASHES[0]),
            Fault::Disk(Op::Create, CRASHES[2]),
            Fault::Disk(Op::Create, Trouble::Full),
            Fault::Disk(Op::Append(Kind::Open), CRASHES[1]),
            Fault::Disk(Op::Append(Kind::Data), CRASHES[0]),
            Fault::Disk(Op::Append(Kind::Data), CRASHES[1]),
            Fault::Disk(Op::Append(Kind::Data), CRASHES[2]),
            Fault::Disk(Op::Append(Kind::Data), Trouble::Full),
            Fault::Disk(Op::Append(Kind::Close), CRASHES[1]),
            Fault::Disk(Op::Append(Kind::Close), Trouble::Full),
        ],
    },
    Row {
        step: "commit",
        faults: &[
            Fault::Disk(Op::Sync, CRASHES[0]),
            Fault::Disk(Op::Sync, CRASHES[1]),
            Fault::Disk(Op::Sync, CRASHES[2]),
            Fault::Disk(Op::Sync, Trouble::Full),
        ],
    },
    Row {
        step: "pack",
        faults: &[
            Fault::Disk(Op::Append(Kind::Pack), CRASHES[0]),
            Fault::Disk(Op::Append(Kind::Pack), CRASHES[1]),
            Fault::Disk(Op::Append(Kind::Pack), CRASHES[2]),
            Fault::Disk(Op::Append(Kind::Pack), Trouble::Full),
        ],
    },
    Row {
        step: "read back",
        faults: &[
            Fault::Disk(Op::Read, Trouble::Unreadable),
            Fault::Disk(Op::Read, CRASHES[0]),
            Fault::Disk(Op::Read, CRASHES[2]),
        ],
    },
    Row {
        step: "URL",
        faults: &[
            Fault::Peer(Call::Url, Answer::Busy),
            Fault::Peer(Call::Url, Answer::Lost),
            Fault::Peer(Call::Url, Answer::Refused),
            Fault::Peer(Call::Url, Answer::Slow),
            Fault::Peer(Call::Url, Answer::Late),
            Fault::Peer(Call::Url, Answer::EndsBefore),
            Fault::Peer(Call::Url, Answer::EndsAfter),
        ],
    },
    Row {
        step: "PUT",
        faults: &[
            Fault::Peer(Call::Put, Answer::Busy),
            Fault::Peer(Call::Put, Answer::Lost),
            Fault::Peer(Call::Put, Answer::Slow),
            Fault::Peer(Call::Put, Answer::Late),
            Fault::Peer(Call::Put, Answer::Belated),
            Fault::Peer(Call::Put, Answer::Half),
            Fault::Peer(Call::Put, Answer::Lie),
            Fault::Peer(Call::Put, Answer::EndsBefore),
            Fault::Peer(Call::Put, Answer::EndsAfter),
        ],
    },
    Row {
        step: "index",
        faults: &[
            Fault::Peer(Call::Index, Answer::Busy),
            Fault::Peer(Call::Index, Answer::Lost),
            Fault::Peer(Call::Index, Answer::Refused),
            Fault::Peer(Call::Index, Answer::Slow),
            Fault::Peer(Call::Index, Answer::Late),
            Fault::Peer(Call::Index, Answer::Belated),
            Fault::Peer(Call::Index, Answer::EndsBefore),
            Fault::Peer(Call::Index, Answer::EndsAfter),
        ],
    },
    Row {
        step: "key import",
        faults: &[
            Fault::Disk(Op::Append(Kind::Key), CRASHES[1]),
            Fault::Disk(Op::Append(Kind::Key), Trouble::Full),
            Fault::Peer(Call::Import, Answer::Busy),
            Fault::Peer(Call::Import, Answer::Lost),
            Fault::Peer(Call::Import, Answer::Slow),
            Fault::Peer(Call::Import, Answer::Late),
            Fault::Peer(Call::Import, Answer::Belated),
            Fault::Peer(Call::Import, Answer::EndsBefore),
            Fault::Peer(Call::Import, Answer::EndsAfter),
        ],
    },
    Row {
        step: "gaps",
        faults: &[
            Fault::Disk(Op::Append(Kind::Gap), CRASHES[1]),
            Fault::Peer(Call::Gaps, Answer::Busy),
            Fault::Peer(Call::Gaps, Answer::Lost),
            Fault::Peer(Call::Gaps, Answer::Refused),
            Fault::Peer(Call::Gaps, Answer::Late),
            Fault::Peer(Call::Gaps, Answer::Belated),
            Fault::Peer(Call::Gaps, Answer::EndsBefore),
            Fault::Peer(Call::Gaps, Answer::EndsAfter),
        ],
    },
    Row {
        step: "free",
        faults: &[
            Fault::Disk(Op::Append(Kind::Done), CRASHES[0]),
            Fault::Disk(Op::Append(Kind::Done), CRASHES[1]),
            Fault::Disk(Op::Append(Kind::Done), CRASHES[2]),
            Fault::Disk(Op::Append(Kind::Done), Trouble::Full),
            Fault::Disk(Op::Remove, CRASHES[0]),
            Fault::Disk(Op::Remove, CRASHES[2]),
        ],
    },
];

impl Fault {
    fn ends_the_process(self) -> bool {
        match self {
            Self::Ends(_) => true,
            Self::Disk(_, trouble) => !matches!(trouble, Trouble::Full | Trouble::Unreadable),
            Self::Peer(_, answer) => matches!(answer, Answer::EndsBefore | Answer::EndsAfter),
        }
    }

    /// What may become of bytes that were not synced.
    fn aftermaths(self) -> &'static [Unsynced] {
        if self.ends_the_process() {
            &[Unsynced::Stay, Unsynced::Vanish, Unsynced::Rot]
        } else {
            &[Unsynced::Stay]
        }
    }

    fn outlasts_patience(self) -> bool {
        matches!(self, Self::Peer(_, Answer::Late | Answer::Belated))
    }

    fn is_about_keys(self) -> bool {
        matches!(self, Self::Peer(Call::Import, _) | Self::Disk(Op::Append(Kind::Key), _))
    }

    fn is_about_gaps(self) -> bool {
        matches!(self, Self::Peer(Call::Gaps, _) | Self::Disk(Op::Append(Kind::Gap), _))
    }
}

impl World {
    fn arm(&self, fault: Fault) {
        match fault {
            Fault::Ends(_) => {}
            Fault::Disk(op, trouble) => self.plug.arm(op, trouble),
            Fault::Peer(call, answer) => self.peers.arm(call, answer),
        }
    }

    fn met(&self) -> usize {
        self.plug.met() + self.peers.met()
    }

    /// Goes on until the fault was met so often.
    async fn meet(&mut self, fault: Fault, times: usize) {
        if let Fault::Ends(frames) = fault {
            let second = self.next.next_multiple_of(self.setup.key_every);
            self.record(second - self.next + frames).await;
            return;
        }
        let until = self.met() + times;
        for _ in 0..100 {
            if fault.is_about_keys() {
                self.run.lanes[0].recorder.parts.keys.forget();
            }
            if fault.is_about_gaps() {
                self.miss(3);
                self.lost_packets = 9;
            }
            self.record(12).await;
            if self.met() >= until {
                return;
            }
        }
        panic!("the fault was never met");
    }
}

/// Nobody waits ten seconds in a test.
fn setup(fault: Fault) -> Setup {
    let short = Duration::from_millis(500);
    let patience =
        if fault.outlasts_patience() { Patience { call: short, put: short } } else { Patience::default() };
    Setup { patience, ..Setup::default() }
}

/// The fault hits the first try and the retry; then every frame is accounted for.
async fn inject_twice(fault: Fault, unsynced: Unsynced) {
    let mut world = World::new(setup(fault)).await;
    world.record(130).await;
    if fault.ends_the_process() {
        for _ in 0..2 {
            world.arm(fault);
            world.meet(fault, 1).await;
            world.restart(unsynced).await;
        }
    } else {
        world.arm(fault);
        world.arm(fault);
        world.meet(fault, 2).await;
    }
    world.record(110).await;
    world.finish().await;
    world.peers.catch_up();
    account(&world);
    assert!(!world.reels[0].acknowledged.is_empty());
}

async fn try_out(step: &str) {
    let row = TABLE.iter().find(|row| row.step == step).unwrap();
    for fault in row.faults {
        for unsynced in fault.aftermaths() {
            println!("{step}: {fault:?}, unsynced bytes: {unsynced:?}");
            inject_twice(*fault, *unsynced).await;
        }
    }
}

/// A spool that met an error of the disk.
pub async fn dead_spool(dir: &Path) -> Arc<Spool> {
    let plug = Plug::default();
    let (disk, limits) = (Arc::new(plug.clone()), Limits::of_bytes(1 << 30));
    let (spool, _) = Spool::open_on(disk, dir.to_owned(), limits, SystemClock::shared()).unwrap();
    plug.pull();
    spool.append(&[record(Kind::Gap, Serial(1), b"x")]).unwrap();
    let mut committed = spool.committed();
    while committed.changed().await.is_ok() {}
    spool
}

#[test]
fn the_table_has_a_row_for_every_step() {
    let head = include_str!("fault_table.rs").lines().take_while(|line| line.starts_with("//!"));
    let rows = head.filter_map(|line| line.strip_prefix("//! | ")?.split(" |").next());
    let documented: Vec<&str> = rows.skip(1).collect();
    assert_eq!(documented, TABLE.iter().map(|row| row.step).collect::<Vec<_>>());
    assert!(TABLE.iter().all(|row| row.faults.len() >= 2));
}

#[tokio::test]
async fn what_a_killed_run_had_not_synced_is_durable_before_the_next_one_packs_it() {
    let mut world = World::new(Setup::default()).await;
    world.record(130).await;
    let killed = Fault::Disk(Op::Append(Kind::Data), Trouble::EndsAfter);
    world.arm(killed);
    world.meet(killed, 1).await;
    world.restart(Unsynced::Stay).await;
    // Its last segment is packed and indexed, the recorder does not hear of it, and the power fails.
    let indexed = Fault::Peer(Call::Index, Answer::EndsAfter);
    world.arm(indexed);
    world.meet(indexed, 1).await;
    world.restart(Unsynced::Vanish).await;
    world.record(110).await;
    world.finish().await;
    account(&world);
}

#[tokio::test]
async fn a_crash_with_frames_in_the_ring_loses_nothing_acknowledged() {
    try_out("ring").await;
}

#[tokio::test]
async fn a_crash_with_sealed_bytes_in_memory_loses_nothing_acknowledged() {
    try_out("seal").await;
}

#[tokio::test]
async fn a_fault_while_appending_to_the_spool_loses_nothing_acknowledged() {
    try_out("spool append").await;
}

#[tokio::test]
async fn a_fault_at_a_commit_loses_nothing_acknowledged() {
    try_out("commit").await;
}

#[tokio::test]
async fn a_fault_while_a_pack_is_formed_loses_nothing_and_packs_nothing_twice() {
    try_out("pack").await;
}

#[tokio::test]
async fn a_fault_while_the_spool_is_read_back_loses_nothing() {
    try_out("read back").await;
}

#[tokio::test]
async fn a_fault_while_a_url_is_asked_for_loses_nothing() {
    try_out("URL").await;
}

#[tokio::test]
async fn a_fault_while_a_pack_is_put_loses_nothing() {
    try_out("PUT").await;
}

#[tokio::test]
async fn a_fault_while_a_pack_is_indexed_loses_nothing_and_indexes_nothing_twice() {
    try_out("index").await;
}

#[tokio::test]
async fn a_fault_while_a_layer_key_is_imported_leaves_no_segment_without_its_key() {
    try_out("key import").await;
}

#[tokio::test]
async fn a_fault_while_gaps_are_told_leaves_no_hole_without_a_reason() {
    try_out("gaps").await;
}

#[tokio::test]
async fn a_fault_while_the_spool_is_freed_loses_nothing_and_sends_nothing_twice() {
    try_out("free").await;
}
