//! Puts what an earlier run left in the spool back into the outbox.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use obscura_clock::{Monotonic, Timestamp};
use obscura_ids::{CameraId, Layer, PackId, Sequence, WriterEpoch};
use obscura_proto::{footage::v1::Gap, keys::v1::ImportLayerKeyRequest};
use prost::Message as _;

use crate::{
    lost,
    outbox::{Formed, Outbox},
    segment::{self, Sealed},
    spool::{
        Error, Serial, Spool,
        record::{Kind, encode_serials},
        recovery::Recovered,
    },
};

/// A recorder commits and a camera spools several times a second: a camera whose newest footage is
/// older than this was not recording any more when the recorder stopped.
const STILL_RECORDING: Duration = Duration::from_secs(5);
/// Nothing waits longer. What seems to was recorded by a clock that was set since.
const LONGEST_WAIT: Duration = Duration::from_hours(31 * 24);

/// What no two segments have in common.
type Place = (CameraId, Layer, WriterEpoch, Sequence);

/// Up to when each camera is recorded in what was found.
pub type RecordedThrough = HashMap<CameraId, Timestamp>;

/// Keys, gaps, packs that were formed, and all other segments in the order in which they began. A run
/// that ended while it copied something to the end of the spool left both: the copy is forgotten.
///
/// # Errors
/// Where the spool cannot be read.
pub fn enqueue(
    spool: &Arc<Spool>,
    outbox: &Outbox,
    recovered: &Recovered,
    now: Monotonic,
) -> Result<RecordedThrough, Error> {
    // The record of what is of no use any more would keep its file for ever.
    let mut broken = Vec::new();
    for (serial, (_, bytes)) in &recovered.keys {
        match ImportLayerKeyRequest::decode(bytes.as_slice()) {
            Ok(request) => outbox.add_key(*serial, request),
            Err(error) => {
                tracing::error!(%error, "a layer key in the spool is unreadable and was dropped; its segments cannot be opened");
                outbox.note_unreadable();
                broken.push(*serial);
            }
        }
    }
    for (serial, (_, bytes)) in &recovered.gaps {
        match Gap::decode(bytes.as_slice()) {
            Ok(gap) => outbox.add_gap(*serial, gap),
            Err(error) => {
                tracing::error!(%error, "a gap in the spool is unreadable and was dropped");
                outbox.note_unreadable();
                broken.push(*serial);
            }
        }
    }
    let unreadable = lost::tell(spool, outbox, recovered);
    let after = recovered.end;
    let mut packed: HashSet<&Serial> = HashSet::new();
    let mut known: HashSet<PackId> = HashSet::new();
    let mut placed: HashSet<Place> = HashSet::new();
    let mut through = RecordedThrough::new();
    for (serial, _, id, serials) in &recovered.packs {
        if known.contains(id) {
            packed.extend(serials);
            broken.extend(serials.iter().chain([serial]));
            continue;
        }
        let segments = serials
            .iter()
            .filter(|serial| !unreadable.contains(serial))
            .map(|serial| sealed(spool, recovered, *serial, now))
            .collect::<Result<Vec<_>, _>>()?;
        // A segment that is missing here was freed with its pack; then nothing of the pack is left.
        let segments: Vec<Sealed> = segments.into_iter().flatten().collect();
        // One that the disk has shortened must not go under the id of the pack that had all of it.
        let cut = |serial| recovered.segments.get(serial).is_some_and(segment::is_cut);
        if segments.len() == serials.len() && !serials.iter().any(cut) {
            packed.extend(serials);
            known.insert(*id);
            placed.extend(segments.iter().map(place));
            segments.iter().for_each(|sealed| note_end(&mut through, sealed));
            outbox.add_pack(Formed::new(*id, (*serial, after), segments, now));
        } else {
            // A pack that is not whole any more.
            broken.push(*serial);
        }
    }
    let loose = recovered.segments.iter().filter(|(serial, _)| !packed.contains(serial));
    let (mut count, mut empty) = (0_u32, broken);
    for (serial, found) in loose {
        if unreadable.contains(serial) {
            empty.push(*serial);
            continue;
        }
        match sealed(spool, recovered, *serial, now)? {
            Some(sealed) if !placed.insert(place(&sealed)) => empty.push(*serial),
            Some(sealed) => {
                note_end(&mut through, &sealed);
                outbox.add_segment(sealed, now);
                count += 1;
            }
            None => {
                let beginning = segment::beginning(found);
                beginning.into_iter().for_each(|(camera, start)| note(&mut through, camera, start));
                empty.push(*serial);
            }
        }
    }
    forget(spool, &empty)?;
    if count > 0 || !recovered.packs.is_empty() {
        tracing::info!(
            segments = count,
            packs = recovered.packs.len(),
            keys = recovered.keys.len(),
            "found in the spool"
        );
    }
    Ok(through)
}

/// Since when a camera was not recorded, where the recorder was last alive at `last_alive`: its frames
/// of the last moments had not reached the spool.
#[must_use]
pub fn stopped_since(last_alive: Timestamp, through: Option<Timestamp>) -> Timestamp {
    let near =
        |through: &Timestamp| last_alive.since(*through).max(through.since(last_alive)) <= STILL_RECORDING;
    through.filter(near).unwrap_or(last_alive)
}

fn place(sealed: &Sealed) -> Place {
    let header = &sealed.entry.header;
    (header.camera, header.layer, header.writer_epoch, header.sequence)
}

fn note_end(through: &mut RecordedThrough, sealed: &Sealed) {
    note(through, sealed.entry.header.camera, sealed.entry.span.end());
}

fn note(through: &mut RecordedThrough, camera: CameraId, until: Timestamp) {
    let latest = through.entry(camera).or_insert(until);
    *latest = until.max(*latest);
}

/// Segments that were started and of which no frame was committed: nothing of them is missed.
fn forget(spool: &Spool, empty: &[Serial]) -> Result<(), Error> {
    if !empty.is_empty() {
        spool.append(&[segment::record(Kind::Done, Serial(0), &encode_serials(empty))])?;
        spool.release(empty);
    }
    Ok(())
}

/// How long a segment waited before this start is told by the last run's own clock: what happened to
/// it while nobody looked is not known.
fn sealed(
    spool: &Spool,
    recovered: &Recovered,
    serial: Serial,
    now: Monotonic,
) -> Result<Option<Sealed>, Error> {
    let Some(found) = recovered.segments.get(&serial) else { return Ok(None) };
    let sealed = segment::recovered(spool, serial, found)?;
    Ok(sealed.map(|sealed| {
        let waited = recovered.last_alive.map(|alive| alive.since(sealed.entry.span.end()));
        let waited_before = waited.filter(|waited| *waited <= LONGEST_WAIT).unwrap_or_default();
        Sealed { since: now, waited_before, ..sealed }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_begins_where_footage_ends_and_not_where_the_recorder_was_last_alive() {
        let at = |seconds: i64| Timestamp::from_unix_nanos(seconds * 1_000_000_000);
        assert_eq!(stopped_since(at(100), Some(at(99))), at(99));
        assert_eq!(stopped_since(at(100), Some(at(101))), at(101));
        assert_eq!(stopped_since(at(100), Some(at(60))), at(100), "it was not recording any more");
        assert_eq!(stopped_since(at(100), None), at(100));
    }
    #[tokio::test]
    async fn a_key_or_gap_that_nobody_can_read_is_dropped_and_told_about() {
        let dir = tempfile::tempdir().unwrap();
        let clock = obscura_clock::SystemClock::shared();
        let limits = crate::spool::Limits::of_bytes(1 << 30);
        let open = || Spool::open(dir.path().to_owned(), limits, Arc::clone(&clock)).unwrap();
        let (spool, _) = open();
        for kind in [Kind::Key, Kind::Gap] {
            spool.append(&[segment::record(kind, spool.next_serial(), b"\xff\xff")]).unwrap();
        }
        spool.close();

        let (outbox, (spool, found)) = (Outbox::default(), open());
        assert_eq!((found.keys.len(), found.gaps.len()), (1, 1));
        enqueue(&spool, &outbox, &found, Monotonic::from_nanos(0)).unwrap();
        assert_eq!(outbox.unreadable(), 2);
        assert_eq!(spool.oldest_needed(), None, "nothing keeps their file");
        spool.close();
        assert!(open().1.needed().is_empty(), "the next start does not find them again");
    }
}
