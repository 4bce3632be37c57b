//! What is refused does not hold the spool.
//!
//! The spool frees its files oldest first, so that one record that waits keeps everything behind it.
//! What waits for a peer that is away leaves with the rest; what is refused may wait until somebody
//! looks, while all others come and go. When it holds up half of the spool it is written to the end
//! once more and its old place is freed: once in a turn of the whole log, so that it costs little.
//!
//! It may come to a quarter of the spool, or of what its disk has room for. Where more is refused although
//! others get through, the oldest of it is given up for a gap: recording outlives everything else. Where
//! nothing gets through between one refusal and the next it is an outage like any other, and nothing is given up.

use std::{sync::Arc, time::Duration};

use obscura_clock::Monotonic;
use obscura_ids::GapId;
use obscura_proto::{
    footage::v1::{Gap, GapReason},
    keys::v1::ImportLayerKeyRequest,
};
use prost::Message as _;

use super::Uploader;
use crate::{
    outbox::{Formed, Refused},
    segment::{Sealed, again, record},
    spool::{Error, Serial, record::Kind},
};

/// Others get through where a pack arrived within this time, and after the refusal.
const LATELY: Duration = Duration::from_secs(600);
/// Moved in one round at most: layer keys and packs wait for it.
const MOST_AT_ONCE: usize = 16;
/// How long the commit of a move is waited for.
const LONGEST_COMMIT: Duration = Duration::from_secs(1);
/// How long a copy waits for the disk, in steps.
const STEP: Duration = Duration::from_millis(20);
const MOST_STEPS: u32 = 250;

impl Uploader {
    /// Moves what is refused and holds up the rest, the oldest first.
    pub(super) async fn make_way(&self) {
        for _ in 0..MOST_AT_ONCE {
            if !self.move_oldest().await {
                return;
            }
            self.let_go().await;
        }
    }

    /// What was moved leaves its old place, so that the next oldest can be seen.
    async fn let_go(&self) {
        let target = self.spool.appended_bytes();
        let mut committed = self.spool.committed();
        self.spool.commit_soon();
        // A disk that does not get so far, or never will, is seen by the next round.
        let _ = tokio::time::timeout(LONGEST_COMMIT, committed.wait_for(|at| at.0 >= target)).await;
        self.free_committed();
    }

    /// Whether there was something to move, and it was.
    async fn move_oldest(&self) -> bool {
        let now = self.clock.monotonic();
        if !self.is_held_up() || !self.held_up.may_try(now) {
            return false;
        }
        let Some(oldest) = self.spool.oldest_needed() else { return false };
        let done = match self.outbox.refused_at(oldest) {
            Some(Refused::Key(request)) => self.move_key(oldest, &request),
            Some(Refused::Gaps(gaps)) => self.move_gaps(&gaps),
            Some(Refused::Pack(pack)) if pack.after > *self.spool.committed().borrow() => return false,
            Some(Refused::Pack(pack)) if self.outbox.refused_bytes() <= self.spool.reachable_bytes() / 4 => {
                self.move_pack(pack).await
            }
            Some(Refused::Pack(pack)) if self.others_arrive(&pack, now) => self.give_up(&pack),
            Some(Refused::Pack(_)) | None => return false,
        };
        match &done {
            Ok(()) => self.held_up.over(),
            Err(error) => self.held_up.goes_on(now, &error.to_string()),
        }
        done.is_ok()
    }

    /// A pack got through.
    pub(super) fn arrived(&self) {
        *self.last_arrival() = Some(self.clock.monotonic());
    }

    fn is_held_up(&self) -> bool {
        let spool = &self.spool;
        spool.used_bytes() > spool.reachable_bytes() / 2 && !spool.disk_is_full() && !spool.is_behind()
    }

    fn others_arrive(&self, pack: &Formed, now: Monotonic) -> bool {
        let last = *self.last_arrival();
        last.is_some_and(|last| now.since(last) <= LATELY && self.outbox.is_singled_out(pack, last))
    }

    fn move_key(&self, from: Serial, request: &ImportLayerKeyRequest) -> Result<(), Error> {
        let to = self.spool.next_serial();
        let (extents, _) = self.spool.append_again(&[record(Kind::Key, to, &request.encode_to_vec())])?;
        extents.first().into_iter().for_each(|extent| self.spool.hold(to, *extent));
        self.outbox.key_moved(from, to);
        self.free(&[from]);
        Ok(())
    }

    fn move_gaps(&self, gaps: &[(Serial, Gap)]) -> Result<(), Error> {
        let copy = |(from, gap): &(Serial, Gap)| (*from, self.spool.next_serial(), gap.encode_to_vec());
        let copies: Vec<_> = gaps.iter().map(copy).collect();
        let records: Vec<_> = copies.iter().map(|(_, to, bytes)| record(Kind::Gap, *to, bytes)).collect();
        let (extents, _) = self.spool.append_again(&records)?;
        for ((from, to, _), extent) in copies.iter().zip(extents) {
            self.spool.hold(*to, extent);
            self.outbox.gap_moved(*from, *to);
        }
        self.free(&gaps.iter().map(|(from, _)| *from).collect::<Vec<_>>());
        Ok(())
    }

    async fn move_pack(&self, pack: Formed) -> Result<(), Error> {
        let mut copies = Vec::with_capacity(pack.segments.len());
        match self.copy_pack(&pack, &mut copies).await {
            Ok(moved) => {
                self.outbox.pack_moved(&pack, Some(moved));
                self.free(&pack.serials());
                Ok(())
            }
            Err(error) => {
                let copied: Vec<Serial> = copies.iter().map(|sealed| sealed.serial).collect();
                self.free(&copied);
                if error.unreadable().is_some() { self.cannot_move(&pack, error).await } else { Err(error) }
            }
        }
    }

    async fn copy_pack(&self, pack: &Formed, copies: &mut Vec<Sealed>) -> Result<Formed, Error> {
        for sealed in &pack.segments {
            copies.push(self.copy(sealed.clone()).await?);
        }
        let (serial, after) = self.note_pack(pack.id, copies)?;
        Ok(Formed { serial, after, segments: copies.clone(), unreadable: 0, ..pack.clone() })
    }

    /// Recording goes first: a copy waits while much is on its way to the disk.
    async fn copy(&self, sealed: Sealed) -> Result<Sealed, Error> {
        for _ in 0..MOST_STEPS {
            if !self.spool.is_behind() {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
        let spool = Arc::clone(&self.spool);
        let copied = tokio::task::spawn_blocking(move || again(&spool, &sealed)).await;
        copied.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))
    }

    /// The gap goes before the note that the footage is no longer needed.
    fn give_up(&self, pack: &Formed) -> Result<(), Error> {
        let spans = || pack.segments.iter().map(|sealed| sealed.entry.span);
        let first = pack.segments.first().ok_or_else(|| Error::Failed("a pack without segments".into()))?;
        let gap = Gap {
            camera_id: first.entry.header.camera.to_string(),
            gap_id: GapId::generate().to_string(),
            start_unix_ns: spans().map(|span| span.start().unix_nanos()).min().unwrap_or_default(),
            end_unix_ns: spans().map(|span| span.end().unix_nanos()).max().unwrap_or_default(),
            reason: GapReason::SpoolFull.into(),
            writer_epoch: first.entry.header.writer_epoch.0,
        };
        let serial = self.spool.next_serial();
        let (extents, _) = self.spool.append(&[record(Kind::Gap, serial, &gap.encode_to_vec())])?;
        extents.first().into_iter().for_each(|extent| self.spool.hold(serial, *extent));
        self.outbox.add_gap(serial, gap);
        self.outbox.pack_moved(pack, None);
        self.free(&pack.serials());
        tracing::error!(
            pack = %pack.id,
            bytes = pack.bytes(),
            "footage that is refused filled a quarter of the spool; the oldest of it was given up and is a gap: remove the cause of the refusal"
        );
        Ok(())
    }
}
