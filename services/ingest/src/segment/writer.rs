//! Frames in, sealed records out: a fragment at a time, nothing copied twice.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use obscura_clock::{ClockQuality, Monotonic, Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, Sequence, WriterEpoch, ZoneId};
use obscura_media::{Sample, SenderReport, Trailer, VideoParameters, fragment_head, init_segment};
use obscura_pack::Entry;
use obscura_proto::{footage::v1::PackEntry, keys::v1::ImportLayerKeyRequest, registry::v1::SignedPlacement};
use obscura_seal::{Hour, SegmentCipher, SegmentHeader, SegmentSealer};
use prost::Message as _;

use super::{
    GivenUp, Opening, Sealed, Tail,
    opening::sealed_part,
    scratch,
    torn::{digest, record},
};
use crate::{
    error::Error,
    frame::Picture,
    layer_key::LayerKeys,
    reorder::Timed,
    spool::{self, Extent, Position, Serial, Spool, record::Kind},
    timeline::{MEDIA_HZ, media_nanos},
};

/// A fragment is sealed and spooled when it is this old. Together with the commit interval of the spool this
/// bounds what a crash loses to less than a second at five frames a second and more; at lower rates to about a
/// second and a frame, because a frame is held until the next one says how long it lasted.
pub const FRAGMENT_EVERY: Duration = Duration::from_millis(400);
/// A fragment is sealed and spooled when it is this large,
const FRAGMENT_BYTES: usize = 1024 * 1024;
/// or lasts this long by the camera's time, in ticks: frames that waited for a recorder that stood still arrive all at
/// once. Longer than [`FRAGMENT_EVERY`], so that arrival decides otherwise.
const FRAGMENT_TICKS: i64 = MEDIA_HZ;
/// A segment is given up when so much sealed data cannot be spooled.
const MAX_UNSPOOLED_BYTES: usize = 8 * 1024 * 1024;

/// What all segments of a camera have in common.
pub struct Parts {
    /// Where sealed bytes go.
    pub spool: Arc<Spool>,
    /// How they are sealed.
    pub cipher: Arc<dyn SegmentCipher>,
    /// Keys of the layer.
    pub keys: LayerKeys,
    /// Where the footage may rest.
    pub placement: SignedPlacement,
    /// The zone of this data plane.
    pub zone: ZoneId,
    /// The camera.
    pub camera: CameraId,
    /// The layer.
    pub layer: Layer,
    /// This run of the recorder.
    pub writer_epoch: WriterEpoch,
    /// Hash of the mask set in force.
    pub mask_set_hash: Digest,
    /// Number of the next segment.
    pub next_sequence: u64,
}

/// A segment that is being written.
pub struct SegmentWriter {
    serial: Serial,
    header: SegmentHeader,
    parameters: Arc<VideoParameters>,
    sealer: Box<dyn SegmentSealer>,
    hash: Context,
    /// Sealed bytes that are not yet in the spool.
    out: Vec<u8>,
    length: u64,
    extents: Vec<Extent>,
    placement: SignedPlacement,
    pending: Vec<(Timed, u32)>,
    pending_bytes: usize,
    pending_since: Option<Monotonic>,
    fragments: u32,
    first_decode_time: i64,
    last_end: i64,
    last_start: i64,
    last_tail: Option<(Tail, Extent)>,
    start: Timestamp,
    frames: u32,
    lost_packets: u32,
    damaged: bool,
    end: Position,
}

/// What was spooled by one step.
#[derive(Debug)]
pub struct Spooled {
    /// Durable once the spool has committed up to here.
    pub position: Position,
    /// Wall time up to which frames are in it.
    pub through: Timestamp,
}

impl SegmentWriter {
    /// Starts a segment at a frame. Returns the layer key that must be imported, where a new one was made.
    ///
    /// # Errors
    /// Where the key cannot be made, or the spool does not take the start.
    pub fn open(
        parts: &mut Parts,
        parameters: Arc<VideoParameters>,
        start: Timestamp,
        first_decode_time: i64,
        dependent: bool,
    ) -> Result<(Self, Option<(Serial, ImportLayerKeyRequest)>), Error> {
        let (hour, slot) = Hour::of(start).ok_or(Error::NoHour(start))?;
        let init = init_segment(&parameters)?;
        let init_hash = sha256(&init);
        let key = parts.keys.of(hour)?;
        let header = SegmentHeader {
            key_id: key.id,
            hour,
            slot,
            zone: parts.zone.clone(),
            camera: parts.camera,
            layer: parts.layer,
            dependent,
            writer_epoch: parts.writer_epoch,
            sequence: Sequence(parts.next_sequence),
            init_hash,
            mask_set_hash: parts.mask_set_hash,
        };
        let mut prefix = Vec::with_capacity(256);
        let mut sealer = parts.cipher.begin(&key.key.leaf(slot), &header, &mut prefix)?;
        let import = key
            .wrapped
            .map(|key| ImportLayerKeyRequest { key: Some(key), placement: Some(parts.placement.clone()) });
        let spooled = spool_start(parts, &import, start, &prefix);
        let Started { serial, extent, end, key } = match spooled {
            Ok(started) => started,
            Err(error) => {
                parts.keys.forget();
                return Err(error.into());
            }
        };
        parts.next_sequence += 1;
        let mut hash = Context::new(&SHA256);
        hash.update(&prefix);
        let mut out = Vec::new();
        sealer.update(&init, &mut out);
        let writer = Self {
            serial,
            header,
            parameters,
            sealer,
            hash,
            out,
            length: prefix.len() as u64,
            extents: vec![extent],
            placement: parts.placement.clone(),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since: None,
            fragments: 0,
            first_decode_time,
            last_end: first_decode_time,
            last_start: first_decode_time,
            last_tail: None,
            start,
            frames: 0,
            lost_packets: 0,
            damaged: false,
            end,
        };
        Ok((writer, key.zip(import)))
    }

    /// Adds a frame that lasts `duration` ticks. Seals and spools the fragment when it is due.
    ///
    /// # Errors
    /// Where sealing fails or the spool refuses for too long; end the segment with [`Self::abandon`].
    pub fn push(
        &mut self,
        parts: &Parts,
        timed: Timed,
        duration: u32,
        wall: impl Fn(i64) -> Timestamp,
    ) -> Result<Option<Spooled>, Error> {
        let picture = timed.frame.picture();
        let arrived = picture.arrived_monotonic;
        self.frames += 1;
        self.pending_bytes += picture.data.len();
        self.last_start = timed.decode_time;
        self.last_end = timed.decode_time + i64::from(duration);
        self.pending.push((timed, duration));
        let since = *self.pending_since.get_or_insert(arrived);
        if arrived.since(since) < FRAGMENT_EVERY
            && self.pending_bytes < FRAGMENT_BYTES
            && self.pending_ticks() < FRAGMENT_TICKS
        {
            return Ok(None);
        }
        self.flush_unless_slow(parts, &wall)
    }

    /// Since when frames wait for their fragment to be sealed.
    #[must_use]
    pub fn pending_since(&self) -> Option<Monotonic> {
        self.pending_since
    }

    /// Seals and spools the frames that wait, however few.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn spool_pending(
        &mut self,
        parts: &Parts,
        wall: impl Fn(i64) -> Timestamp,
    ) -> Result<Option<Spooled>, Error> {
        if self.pending.is_empty() { Ok(None) } else { self.flush_unless_slow(parts, &wall) }
    }

    fn pending_ticks(&self) -> i64 {
        self.pending.first().map_or(0, |(first, _)| self.last_end - first.decode_time)
    }

    /// Packets of the group of pictures that is being written were lost: so many that no segment has
    /// counted yet, none where only an earlier segment of the same group lost some.
    pub fn lost(&mut self, packets: u32) {
        self.damaged = true;
        self.lost_packets = self.lost_packets.saturating_add(packets);
    }

    /// How long the segment is by the camera's time.
    #[must_use]
    pub fn media_duration(&self) -> Duration {
        Duration::from_nanos(media_nanos(self.last_end - self.first_decode_time).unsigned_abs())
    }

    /// Whether the segment was started with these parameter sets.
    #[must_use]
    pub fn has_parameters(&self, parameters: &Arc<VideoParameters>) -> bool {
        Arc::ptr_eq(&self.parameters, parameters) || self.parameters.sample_entry == parameters.sample_entry
    }

    /// When the last frame was, in the camera's time.
    #[must_use]
    pub fn last_frame_at(&self) -> i64 {
        self.last_start
    }

    /// Sealed bytes so far.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        self.length + self.out.len() as u64
    }

    /// Completes the segment.
    ///
    /// # Errors
    /// Where sealing fails or the spool refuses; end the segment with [`Self::abandon`].
    pub fn close(
        mut self,
        parts: &Parts,
        wall: impl Fn(i64) -> Timestamp,
        quality: ClockQuality,
        report: Option<SenderReport>,
        drift_ppm: i32,
    ) -> Result<Sealed, (Box<Self>, Error)> {
        self.seal_pending();
        let end = wall(self.last_end).max(self.start);
        let trailer = Trailer {
            start: self.refined_start(&wall),
            wall_duration: end.since(self.start),
            media_duration_90k: u64::try_from(self.last_end - self.first_decode_time).unwrap_or(0),
            frames: self.frames,
            lost_packets: self.lost_packets,
            dependent: self.header.dependent,
            clock_quality: quality,
            rtcp_sender_report: report,
            drift_ppm,
        };
        self.sealer.update(&trailer.encode(), &mut self.out);
        let sealer = std::mem::replace(&mut self.sealer, Box::new(Finished));
        if let Err(error) = sealer.finish(&mut self.out) {
            self.out.clear();
            return Err((Box::new(self), error.into()));
        }
        let entry = self.entry(end, None, quality, true);
        match self.spool_close(parts, &entry) {
            Ok(()) => Ok(self.sealed(entry)),
            Err(error) => Err((Box::new(self), error.into())),
        }
    }

    /// Ends a segment that cannot be completed: what is in the spool of it is kept as a torn segment,
    /// its last tail included.
    #[must_use]
    pub fn abandon(mut self) -> GivenUp {
        self.out.clear();
        self.pending.clear();
        let prefix = self.extents.first().map_or(0, |prefix| u64::from(prefix.length));
        let chunk = (obscura_seal::CHUNK_BYTES + obscura_seal::TAG_BYTES) as u64;
        let chunks = u32::try_from(self.length.saturating_sub(prefix) / chunk).unwrap_or(u32::MAX);
        let Some((tail, extent)) = self.last_tail.take() else { return GivenUp::Empty(self.serial) };
        if tail.full_chunks == chunks {
            self.hash.update(&tail.sealed);
            self.length += u64::from(extent.length);
            self.extents.push(extent);
        }
        let entry = Entry {
            frames: tail.frames,
            media_duration: Duration::from_nanos(tail.media_nanos),
            damaged: tail.damaged,
            ..self.entry(tail.end, Some(chunks), ClockQuality::FreeRunning, false)
        };
        GivenUp::Torn(Box::new(self.sealed(entry)))
    }

    /// The segment's start as it is known now, never outside the slot whose key seals it.
    fn refined_start(&self, wall: &impl Fn(i64) -> Timestamp) -> Timestamp {
        let first = self.header.hour.slot_start(self.header.slot);
        let last = first + obscura_seal::SLOT_DURATION - Duration::from_nanos(1);
        wall(self.first_decode_time).clamp(first, last)
    }

    /// While the spool would refuse them, frames wait in the memory that they have: sealed bytes would need more.
    fn flush_unless_slow(
        &mut self,
        parts: &Parts,
        wall: &impl Fn(i64) -> Timestamp,
    ) -> Result<Option<Spooled>, Error> {
        let waiting = self.pending_bytes + self.out.len();
        if waiting < MAX_UNSPOOLED_BYTES && parts.spool.is_slow() {
            return Ok(None);
        }
        self.flush(parts, wall)
    }

    fn flush(&mut self, parts: &Parts, wall: &impl Fn(i64) -> Timestamp) -> Result<Option<Spooled>, Error> {
        self.seal_pending();
        let through = wall(self.last_end).max(self.start);
        let tail = Tail {
            full_chunks: self.sealer.full_chunks(),
            end: through,
            media_nanos: media_nanos(self.last_end - self.first_decode_time).unsigned_abs(),
            frames: self.frames,
            damaged: self.damaged,
            sealed: self.sealer.checkpoint()?,
        };
        let payload = tail.encode();
        let data = record(Kind::Data, self.serial, &self.out);
        let both = [data, record(Kind::Tail, self.serial, &payload)];
        let records = if self.out.is_empty() { &both[1..] } else { &both[..] };
        match parts.spool.append(records) {
            Ok((extents, position)) => {
                self.hash.update(&self.out);
                self.took(&extents);
                self.last_tail = extents.last().map(|extent| (tail, sealed_part(*extent)));
                self.end = position;
                Ok(Some(Spooled { position, through }))
            }
            Err(spool::Error::Slow(_)) if self.out.len() < MAX_UNSPOOLED_BYTES => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn seal_pending(&mut self) {
        self.make_room();
        let Some((first, _)) = self.pending.first() else { return };
        let base = u64::try_from(first.decode_time - self.first_decode_time).unwrap_or(0);
        let samples: Vec<Sample<'_>> =
            self.pending.iter().map(|(timed, duration)| sample(timed, *duration)).collect();
        self.fragments += 1;
        self.sealer.update(&fragment_head(self.fragments, base, &samples), &mut self.out);
        for sample in samples {
            self.sealer.update(sample.data, &mut self.out);
        }
        self.pending.clear();
        self.pending_bytes = 0;
        self.pending_since = None;
    }

    /// Memory for what is sealed next, where none is in use.
    fn make_room(&mut self) {
        if self.out.capacity() == 0 {
            self.out = scratch::take();
        }
    }

    /// The sealed bytes are in the spool, at the first of these places, and hashed.
    fn took(&mut self, extents: &[Extent]) {
        if !self.out.is_empty() {
            self.length += self.out.len() as u64;
            self.extents.extend(extents.first());
        }
        scratch::give_back(std::mem::take(&mut self.out));
    }

    fn entry(
        &self,
        end: Timestamp,
        torn: Option<u32>,
        clock_quality: ClockQuality,
        with_unspooled: bool,
    ) -> Entry {
        let mut hash = self.hash.clone();
        let mut length = self.length;
        if with_unspooled {
            hash.update(&self.out);
            length += self.out.len() as u64;
        }
        Entry {
            header: self.header.clone(),
            offset: 0,
            length,
            sha256: digest(hash),
            span: Span::try_new(self.start, end.max(self.start)).unwrap_or_else(|| instant(self.start)),
            media_duration: self.media_duration(),
            frames: self.frames,
            damaged: self.damaged,
            torn_after_chunks: torn,
            clock_quality,
        }
    }

    fn spool_close(&mut self, parts: &Parts, entry: &Entry) -> Result<(), spool::Error> {
        let entry = PackEntry::from(entry.clone()).encode_to_vec();
        let data = record(Kind::Data, self.serial, &self.out);
        let close = record(Kind::Close, self.serial, &entry);
        let both = [data, close];
        let records = if self.out.is_empty() { &both[1..] } else { &both[..] };
        let (extents, end) = parts.spool.append(records)?;
        self.took(&extents);
        self.end = end;
        Ok(())
    }

    fn sealed(self, entry: Entry) -> Sealed {
        Sealed {
            serial: self.serial,
            entry,
            extents: self.extents,
            placement: self.placement,
            end: self.end,
            since: Monotonic::from_nanos(0),
            waited_before: Duration::ZERO,
        }
    }
}

/// Notes the end of a segment that was given up.
///
/// # Errors
/// Where the spool does not take it now; nothing was appended then.
pub fn note_torn(spool: &Spool, sealed: &mut Sealed) -> Result<(), spool::Error> {
    let entry = PackEntry::from(sealed.entry.clone()).encode_to_vec();
    let (_, end) = spool.append(&[record(Kind::Close, sealed.serial, &entry)])?;
    sealed.end = end;
    Ok(())
}

struct Started {
    serial: Serial,
    extent: Extent,
    end: Position,
    key: Option<Serial>,
}

/// The key goes before the segment that it seals.
fn spool_start(
    parts: &Parts,
    import: &Option<ImportLayerKeyRequest>,
    start: Timestamp,
    prefix: &[u8],
) -> Result<Started, spool::Error> {
    let serial = parts.spool.next_serial();
    let opening = Opening { placement: parts.placement.clone(), start, prefix: prefix.to_vec() }.encode();
    let key = import.as_ref().map(|request| (parts.spool.next_serial(), request.encode_to_vec()));
    let mut records = Vec::with_capacity(2);
    if let Some((serial, bytes)) = &key {
        records.push(record(Kind::Key, *serial, bytes));
    }
    records.push(record(Kind::Open, serial, &opening));
    let (extents, end) = parts.spool.append(&records)?;
    if let (Some((key, _)), Some(extent)) = (&key, extents.first()) {
        parts.spool.hold(*key, *extent);
    }
    let open =
        extents.last().copied().ok_or_else(|| spool::Error::Failed("an append returned no place".into()))?;
    parts.spool.hold(serial, open);
    let before = (opening.len() - prefix.len()) as u64;
    let extent = Extent {
        start: Position(open.start.0 + before),
        length: u32::try_from(prefix.len()).unwrap_or(u32::MAX),
    };
    Ok(Started { serial, extent, end, key: key.map(|(serial, _)| serial) })
}

fn sample(timed: &Timed, duration: u32) -> Sample<'_> {
    let picture: &Picture = timed.frame.picture();
    Sample {
        data: &picture.data,
        duration,
        random_access: picture.random_access,
        composition_offset: timed.composition_offset,
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    digest(context)
}

#[expect(clippy::expect_used, reason = "a moment is never before itself")]
fn instant(at: Timestamp) -> Span {
    Span::try_new(at, at).expect("a moment is never before itself")
}

/// Stands in for a sealer that has finished.
#[derive(Debug)]
struct Finished;

impl SegmentSealer for Finished {
    fn update(&mut self, _: &[u8], _: &mut Vec<u8>) {}

    fn full_chunks(&self) -> u32 {
        0
    }

    fn checkpoint(&self) -> Result<Vec<u8>, obscura_seal::Error> {
        Err(obscura_seal::Error::Library("seal after the end"))
    }

    fn finish(self: Box<Self>, _: &mut Vec<u8>) -> Result<(), obscura_seal::Error> {
        Ok(())
    }
}
