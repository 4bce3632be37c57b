//! What the recorder's own disk does not give back any more.
//!
//! A sector that cannot be read is the fault of what lies in it, not of who should take it: waiting helps
//! only for as long as the disk may recover. After a few tries the segments that cannot be read are given up
//! for a gap, and those of their pack that can be read form another one: nothing behind them waits for them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use obscura_ids::GapId;
use obscura_proto::footage::v1::{Gap, GapReason};
use prost::Message as _;

use super::{Uploader, outage};
use crate::{
    outbox::Formed,
    segment::{Sealed, record},
    spool::{
        Error, Serial, Spool,
        record::{Kind, encode_serials},
    },
};

/// A disk may recover within so many tries in a row. Between the first and the last lie 15.5 s, or more where others
/// take their turn.
const MOST_TRIES: u32 = 6;

/// Times that a segment is read before it counts as lost, as often as a block at a start.
const TRIES: usize = 3;

/// What became of the segments of a pack.
struct Sorted {
    whole: Vec<Sealed>,
    lost: Vec<Sealed>,
    files: Vec<PathBuf>,
}

impl Uploader {
    /// A pack could not be read on its way: it is tried again, and what is lost of it is given up in the end.
    pub(super) async fn cannot_read(&self, mut pack: Formed, cause: &str) {
        let before = pack.unreadable;
        pack.unreadable = before.saturating_add(1);
        if before == 0 {
            tracing::warn!(pack = %pack.id, cause, "a pack cannot be read back from the spool; it is tried again");
        }
        if pack.unreadable >= MOST_TRIES {
            match self.give_up_lost(&pack).await {
                Ok(whole) => {
                    self.outbox.put_back(whole, self.clock.monotonic());
                    self.outbox.pack_done(&pack);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "what the disk lost could not be noted; it is tried again");
                }
            }
        }
        pack.not_before = outage::later(self.clock.monotonic(), before);
        self.outbox.pack_failed(pack);
    }

    /// A pack that waits could not be read when it was to be moved.
    pub(super) async fn cannot_move(&self, pack: &Formed, error: Error) -> Result<(), Error> {
        let tries = pack.unreadable.saturating_add(1);
        if tries < MOST_TRIES {
            self.outbox.pack_moved(pack, Some(Formed { unreadable: tries, ..pack.clone() }));
            return Err(error);
        }
        let whole = self.give_up_lost(pack).await?;
        self.outbox.put_back(whole, self.clock.monotonic());
        self.outbox.pack_moved(pack, None);
        Ok(())
    }

    /// Records gaps for the segments that cannot be read, dissolves their pack, and returns the others. Where
    /// the disk has recovered these are all. Gaps, and the note that the pack is none any more, go together
    /// and before anything else is formed of its segments: no crash leaves one of them in two packs.
    async fn give_up_lost(&self, pack: &Formed) -> Result<Vec<Sealed>, Error> {
        let Sorted { whole, lost, files } = self.sort(pack).await?;
        let gaps: Vec<(Serial, Gap)> = runs(&pack.segments, &lost)
            .into_iter()
            .filter_map(|run| Some((self.spool.next_serial(), gap(&run)?)))
            .collect();
        let freed: Vec<Serial> = lost.iter().map(|sealed| sealed.serial).chain([pack.serial]).collect();
        let (payloads, done): (Vec<_>, _) = (
            gaps.iter().map(|(serial, gap)| (*serial, gap.encode_to_vec())).collect(),
            encode_serials(&freed),
        );
        let mut records: Vec<_> =
            payloads.iter().map(|(serial, bytes)| record(Kind::Gap, *serial, bytes)).collect();
        records.push(record(Kind::Done, Serial(0), &done));
        let (extents, end) = self.spool.append(&records)?;
        for ((serial, gap), extent) in gaps.iter().zip(extents) {
            self.spool.hold(*serial, extent);
            self.outbox.add_gap(*serial, gap.clone());
        }
        self.freeing().noted.push((end, freed));
        self.tell(pack, &files, (lost.len(), gaps.len()));
        Ok(whole)
    }

    fn tell(&self, pack: &Formed, files: &[PathBuf], (segments, gaps): (usize, usize)) {
        for file in files {
            self.spool.damage().note(file);
        }
        let Some(file) = files.first() else { return };
        self.spool.damage().recorded(gaps);
        tracing::error!(
            pack = %pack.id,
            file = %file.display(),
            segments,
            "the disk does not read footage back that was not stored yet; it was given up and is a gap: replace the disk"
        );
    }

    /// Reads every segment of a pack.
    async fn sort(&self, pack: &Formed) -> Result<Sorted, Error> {
        let (spool, segments) = (Arc::clone(&self.spool), pack.segments.clone());
        let sorted = tokio::task::spawn_blocking(move || sort(&spool, segments)).await;
        sorted.unwrap_or_else(|stopped| Err(Error::Failed(stopped.to_string())))
    }
}

/// Reads all of a segment.
fn check(spool: &Spool, sealed: &Sealed) -> Result<(), Error> {
    sealed.extents.iter().try_for_each(|extent| spool.check(*extent))
}

fn sort(spool: &Spool, segments: Vec<Sealed>) -> Result<Sorted, Error> {
    let mut sorted = Sorted { whole: Vec::new(), lost: Vec::new(), files: Vec::new() };
    for sealed in segments {
        let mut read = check(spool, &sealed);
        for _ in 1..TRIES {
            read =
                read.or_else(
                    |error| if error.unreadable().is_some() { check(spool, &sealed) } else { Err(error) },
                );
        }
        match read.as_ref().map_err(Error::unreadable) {
            Ok(()) => sorted.whole.push(sealed),
            Err(Some(file)) => {
                sorted.files.push(Path::to_owned(file));
                sorted.lost.push(sealed);
            }
            Err(None) => return read.map(|()| sorted),
        }
    }
    Ok(sorted)
}

/// Lost segments that follow each other without one that was not.
fn runs<'a>(all: &[Sealed], lost: &'a [Sealed]) -> Vec<Vec<&'a Sealed>> {
    let mut runs: Vec<Vec<&Sealed>> = Vec::new();
    let mut follows = false;
    for sealed in all {
        let found = lost.iter().find(|other| other.serial == sealed.serial);
        match (found, runs.last_mut()) {
            (Some(found), Some(run)) if follows => run.push(found),
            (Some(found), _) => runs.push(vec![found]),
            (None, _) => {}
        }
        follows = found.is_some();
    }
    runs
}

fn gap(run: &[&Sealed]) -> Option<Gap> {
    let (first, last) = (run.first()?, run.last()?);
    let header = &first.entry.header;
    Some(Gap {
        camera_id: header.camera.to_string(),
        gap_id: GapId::generate().to_string(),
        start_unix_ns: first.entry.span.start().unix_nanos(),
        end_unix_ns: last.entry.span.end().max(first.entry.span.start()).unix_nanos(),
        reason: GapReason::DiskDamaged.into(),
        writer_epoch: header.writer_epoch.0,
    })
}
