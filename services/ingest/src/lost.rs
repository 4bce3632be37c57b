//! Gaps for what the disk lost of the spool between two runs.

use std::collections::HashSet;

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, GapId, WriterEpoch};
use obscura_proto::footage::v1::{Gap, GapReason};
use prost::Message as _;

use crate::{
    outbox::Outbox,
    segment::{self, record},
    spool::{
        Error, Serial, Spool,
        record::{Kind, encode_serials},
        recovery::{Recovered, Segment},
    },
};

/// Records a gap for everything that the disk lost and no earlier start told, and raises the alarm. Returns the segments of
/// which the disk gives nothing back that can be shown. The gaps and the note that they were told go together.
pub fn tell(spool: &Spool, outbox: &Outbox, recovered: &Recovered) -> HashSet<Serial> {
    let mut unreadable = HashSet::new();
    let holes = recovered.losses.holes();
    let mut gaps: Vec<Gap> =
        holes.map(|hole| gap(hole.camera, hole.writer_epoch, hole.start, hole.end)).collect();
    for (serial, found) in
        recovered.segments.iter().filter(|(_, found)| found.entry.is_none() || segment::is_cut(found))
    {
        match segment::recovered(spool, *serial, found) {
            Ok(sealed) => {
                let end = sealed.map(|sealed| sealed.entry.span.end());
                gaps.extend(rest(recovered, *serial, found, end));
            }
            Err(error) if error.unreadable().is_some() => {
                note_unreadable(spool, &error);
                unreadable.insert(*serial);
                gaps.extend(all(recovered, *serial, found));
            }
            // Says nothing about the bytes: who reads them next meets it again.
            Err(_) => {}
        }
    }
    let gaps: Vec<(Serial, Gap)> = gaps.into_iter().map(|gap| (spool.next_serial(), gap)).collect();
    if !gaps.is_empty() || recovered.losses.news().next().is_some() {
        note(spool, recovered, &gaps);
        for (serial, gap) in gaps {
            outbox.add_gap(serial, gap);
        }
    }
    unreadable
}

fn note(spool: &Spool, recovered: &Recovered, gaps: &[(Serial, Gap)]) {
    for (bytes, path) in recovered.losses.news() {
        spool.damage().note(path);
        tracing::error!(
            file = %path.display(), from = bytes.start, to = bytes.end,
            "the disk lost part of a spool file; what lay in it is recorded as gaps: replace the disk"
        );
    }
    spool.damage().recorded(gaps.len());
    let told = recovered.losses.news().flat_map(|(bytes, _)| [Serial(bytes.start), Serial(bytes.end)]);
    let told = encode_serials(&told.collect::<Vec<_>>());
    let payloads: Vec<_> = gaps.iter().map(|(serial, gap)| (*serial, gap.encode_to_vec())).collect();
    let mut records: Vec<_> =
        payloads.iter().map(|(serial, bytes)| record(Kind::Gap, *serial, bytes)).collect();
    records.push(record(Kind::Lost, Serial(0), &told));
    match spool.append(&records) {
        Ok((extents, _)) => {
            gaps.iter().zip(extents).for_each(|((serial, _), extent)| spool.hold(*serial, extent));
        }
        Err(error) => tracing::error!(%error, "gaps could not be spooled; they are reported without"),
    }
}

fn note_unreadable(spool: &Spool, error: &Error) {
    if let Some(path) = error.unreadable() {
        spool.damage().note(path);
    }
    tracing::error!(%error, "a segment in the spool cannot be read and is given up for a gap");
}

/// What is missing of a segment whose first part is there up to `end`; or none of it.
fn rest(recovered: &Recovered, serial: Serial, found: &Segment, end: Option<Timestamp>) -> Option<Gap> {
    let cut = found.cut.as_ref().filter(|cut| recovered.losses.is_news(cut.spot))?;
    let (header, start) = segment::opened(&found.opening)?;
    let until = recovered.losses.until(serial).max(cut.until)?;
    let from = end.unwrap_or(start);
    (until > from).then(|| gap(header.camera, header.writer_epoch, from, until))
}

/// A segment of which nothing can be shown.
fn all(recovered: &Recovered, serial: Serial, found: &Segment) -> Option<Gap> {
    let (header, start) = segment::opened(&found.opening)?;
    let cut = found.cut.as_ref().and_then(|cut| cut.until);
    let until = recovered.losses.until(serial).max(cut).or(recovered.last_alive).unwrap_or(start);
    Some(gap(header.camera, header.writer_epoch, start, until.max(start)))
}

fn gap(camera: CameraId, writer_epoch: WriterEpoch, start: Timestamp, end: Timestamp) -> Gap {
    Gap {
        camera_id: camera.to_string(),
        gap_id: GapId::generate().to_string(),
        start_unix_ns: start.unix_nanos(),
        end_unix_ns: end.unix_nanos(),
        reason: GapReason::DiskDamaged.into(),
        writer_epoch: writer_epoch.0,
    }
}
