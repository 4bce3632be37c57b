//! From frames to sealed segments and back, with the zone's private intake key in the test's hand.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use obscura_clock::{Clock as _, SystemClock};
use obscura_ids::{Digest, Layer, LayerKeyId, WriterEpoch, ZoneId};
use obscura_media::{nal_units, read_segment};
use obscura_proto::{
    footage::v1::Gap,
    keys::v1::{ImportLayerKeyRequest, WrappedLayerKey},
    registry::v1::SignedPlacement,
};
use obscura_seal::{
    ClearSegment, Cobblestone256, Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, NodeSet, RecipientKeyPair,
    SegmentCipher as _, SlotRange, Wrapped, unwrap,
};

use super::*;
use crate::{
    frame::{Clear, Frame, samples},
    layer_key::LayerKeys,
    outbox::PackPolicy,
    pressure::Priority,
    recovered,
    segment::Sealed,
    spool::{Limits, Spool},
};

const SECOND: i64 = 1_000_000_000;
/// 2026-11-23T10:00:00Z, the start of an hour.
const START: i64 = 1_795_428_000 * SECOND;
const EVERYTHING: PackPolicy =
    PackPolicy { footage: std::time::Duration::from_secs(86_400), age: std::time::Duration::ZERO };

struct Bench {
    recorder: Recorder,
    track: Track,
    outbox: Arc<Outbox>,
    spool: Arc<Spool>,
    intake: RecipientKeyPair,
    dir: tempfile::TempDir,
}

fn limits() -> Limits {
    Limits::of_bytes(1 << 30)
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path().to_owned(), limits(), SystemClock::shared()).unwrap();
    let outbox = Arc::new(Outbox::default());
    let intake = RecipientKeyPair::generate().unwrap();
    let camera = CameraId::generate();
    let zone: ZoneId = "eea".parse().unwrap();
    let writer_epoch = WriterEpoch(3);
    let gauge = Arc::new(Gauge::new(camera, true));
    let recorder = Recorder {
        camera,
        source: Err(Failure::ended()),
        release: Release::Unmasked,
        parts: Parts {
            spool: Arc::clone(&spool),
            cipher: Arc::new(Cobblestone256),
            keys: LayerKeys::new(
                camera,
                Layer::Original,
                zone.clone(),
                writer_epoch,
                watch::channel(intake.public()).1,
            ),
            placement: SignedPlacement::default(),
            zone,
            camera,
            layer: Layer::Original,
            writer_epoch,
            mask_set_hash: Digest::ZERO,
            next_sequence: 0,
        },
        gaps: Gaps::new(
            camera,
            writer_epoch,
            Arc::clone(&spool),
            Arc::clone(&outbox),
            crate::reports::Reports::nobody(),
        ),
        outbox: Arc::clone(&outbox),
        gauge: Arc::clone(&gauge),
        clock: SystemClock::shared(),
        pressure: Arc::new(Pressure::new(std::time::Duration::from_secs(90))),
        stopped_since: None,
        predecessor: None,
        handed_over: Arc::default(),
        terms: watch::channel(Terms { placement: SignedPlacement::default(), priority: Priority::of(None) })
            .1,
        cut: watch::channel(0).1,
        shutdown: CancellationToken::new(),
    };
    Bench {
        track: Track::new(Release::Unmasked, gauge, Timestamp::from_unix_nanos(START)),
        recorder,
        outbox,
        spool,
        intake,
        dir,
    }
}

/// Frame `n` of a 25 Hz stream with a key frame each second.
fn frame(n: i64) -> Frame<Clear> {
    samples::frame(n * 3_600, START + n * SECOND / 25, n % 25 == 0)
}

impl Bench {
    fn take(&mut self, frames: std::ops::Range<i64>) {
        for n in frames {
            self.track.take(&mut self.recorder, frame(n));
        }
    }

    fn segments(&self) -> Vec<Sealed> {
        let now = obscura_clock::Monotonic::from_nanos(u64::MAX);
        self.outbox.take_full(EVERYTHING, now, |_| true).unwrap_or_default()
    }

    /// As a viewer with every key would.
    fn open(&self, sealed: &Sealed) -> ClearSegment {
        open(&self.spool, &self.intake, &self.outbox, sealed)
    }
}

fn open(spool: &Spool, intake: &RecipientKeyPair, outbox: &Outbox, sealed: &Sealed) -> ClearSegment {
    spool.close();
    let mut bytes = Vec::new();
    sealed.extents.iter().for_each(|extent| bytes.extend(spool.read(*extent).unwrap()));
    assert_eq!(bytes.len() as u64, sealed.entry.length);
    let hash = digest::digest(&digest::SHA256, &bytes);
    assert_eq!(Digest::try_from(hash.as_ref()).unwrap(), sealed.entry.sha256);
    let keys: BTreeMap<LayerKeyId, LayerKey> = outbox
        .keys(obscura_clock::Monotonic::from_nanos(u64::MAX))
        .iter()
        .map(|(_, key)| unwrapped(intake, key))
        .collect();
    let nodes = keys[&sealed.entry.header.key_id].cover(SlotRange::WHOLE_HOUR);
    Cobblestone256.open(&NodeSet::new(nodes), &bytes, sealed.entry.torn_after_chunks).unwrap()
}

fn unwrapped(intake: &RecipientKeyPair, request: &ImportLayerKeyRequest) -> (LayerKeyId, LayerKey) {
    let key: &WrappedLayerKey = request.key.as_ref().unwrap();
    let context = LayerKeyContext {
        key_id: key.key_id.parse().unwrap(),
        camera: key.camera_id.parse().unwrap(),
        layer: Layer::Original,
        hour: Hour::new(key.hour).unwrap(),
        zone: key.zone.parse().unwrap(),
        writer_epoch: WriterEpoch(key.writer_epoch),
    };
    let wrapped =
        Wrapped { encapsulated_key: key.encapsulated_key.to_vec(), ciphertext: key.ciphertext.to_vec() };
    let secret = unwrap(intake, LAYER_KEY_INFO, &context.aad(), &wrapped).unwrap();
    (context.key_id, LayerKey::from_bytes(secret.as_slice().try_into().unwrap()))
}

fn nal_kinds(clear: &ClearSegment) -> Vec<u8> {
    let segment = read_segment(clear.as_bytes()).unwrap();
    let data = |range: &std::ops::Range<usize>| clear.as_bytes()[range.clone()].to_vec();
    segment
        .samples
        .iter()
        .flat_map(|sample| nal_units(&data(&sample.range)).map(|nal| nal[0]).collect::<Vec<_>>())
        .collect()
}

fn reasons(gaps: &[Gap]) -> Vec<GapReason> {
    gaps.iter().map(Gap::reason).collect()
}

#[tokio::test]
async fn frames_become_segments_of_two_seconds_that_follow_each_other_without_a_hole() {
    let mut bench = bench();
    bench.take(0..126);
    bench.track.end(&mut bench.recorder);
    let segments = bench.segments();
    let frames: Vec<u32> = segments.iter().map(|sealed| sealed.entry.frames).collect();
    assert_eq!(frames, [50, 50, 26]);
    assert!(segments.windows(2).all(|pair| pair[0].entry.span.end() == pair[1].entry.span.start()));
    assert_eq!(segments[0].entry.span.start(), Timestamp::from_unix_nanos(START));
    let sequences: Vec<u64> = segments.iter().map(|sealed| sealed.entry.header.sequence.0).collect();
    assert_eq!(sequences, [0, 1, 2]);
    assert_eq!(bench.outbox.waiting_keys(), 1, "one layer key for the hour");
}

#[tokio::test]
async fn other_parameter_sets_start_another_segment_with_their_own_initialisation() {
    let mut bench = bench();
    let mut other = (*samples::parameters()).clone();
    let mut entry = other.sample_entry.to_vec();
    *entry.last_mut().unwrap() ^= 1;
    other.sample_entry = entry.into();
    let other = Arc::new(other);
    for n in 0..50 {
        let mut picture = samples::picture(n * 3_600, START + n * SECOND / 25, n % 25 == 0);
        if n >= 25 {
            picture.parameters = Arc::clone(&other);
        }
        bench.track.take(&mut bench.recorder, Frame::received(picture));
    }
    bench.track.end(&mut bench.recorder);
    let segments = bench.segments();
    let told = |sealed: &Sealed| (sealed.entry.frames, sealed.entry.header.dependent);
    assert_eq!(segments.iter().map(told).collect::<Vec<_>>(), [(25, false), (25, false)]);
    assert_ne!(segments[0].entry.header.init_hash, segments[1].entry.header.init_hash);
    assert_eq!(segments[0].entry.span.end(), segments[1].entry.span.start(), "nothing is missing between");
}

#[tokio::test]
async fn few_frames_do_not_wait_for_more_before_they_are_spooled() {
    let mut bench = bench();
    let clock = obscura_clock::SimulatedClock::at(Timestamp::from_unix_nanos(START));
    bench.recorder.clock = Arc::clone(&clock) as _;
    let every = std::time::Duration::from_millis(200);
    for n in 0..3 {
        let mut picture = samples::picture(n * 18_000, START + n * SECOND / 5, n == 0);
        picture.arrived_monotonic = clock.monotonic();
        bench.track.take(&mut bench.recorder, Frame::received(picture));
        if n < 2 {
            assert!(bench.track.spool_due(&mut bench.recorder) > every, "nothing is due");
            clock.advance(every);
        }
    }
    assert_eq!(bench.recorder.gauge.recorded_through(), None, "no frame was late enough to spool the others");
    bench.track.spool_due(&mut bench.recorder);
    let through = Timestamp::from_unix_nanos(START + 2 * SECOND / 5);
    assert_eq!(bench.recorder.gauge.recorded_through(), Some(through), "all but the frame that may go on");
    bench.track.end(&mut bench.recorder);
    let sealed = bench.segments().remove(0);
    assert_eq!(nal_kinds(&bench.open(&sealed)), [0x65, 0x41, 0x41]);
}

#[tokio::test]
async fn a_segment_opens_to_exactly_the_nal_units_that_came_and_says_when() {
    let mut bench = bench();
    bench.take(0..51);
    bench.track.end(&mut bench.recorder);
    let sealed = bench.segments().remove(0);
    let clear = bench.open(&sealed);
    let mut expected = vec![0x41; 50];
    (expected[0], expected[25]) = (0x65, 0x65);
    assert_eq!(nal_kinds(&clear), expected);
    let trailer = read_segment(clear.as_bytes()).unwrap().trailer.unwrap();
    assert_eq!((trailer.frames, trailer.media_duration_90k), (50, 180_000));
}

#[tokio::test]
async fn a_segment_that_a_crash_cut_opens_up_to_its_last_fragment() {
    let mut bench = bench();
    bench.take(0..45);
    let (spool, intake) = (
        Arc::clone(&bench.spool),
        RecipientKeyPair::from_private_bytes(&bench.intake.private_bytes()).unwrap(),
    );
    spool.close(); // Commits, as the last moment before the crash; nothing of the segment is closed.
    drop((bench.track, bench.recorder));
    let (spool, found) = Spool::open(bench.dir.path().to_owned(), limits(), SystemClock::shared()).unwrap();
    let outbox = Outbox::default();
    recovered::enqueue(&spool, &outbox, &found, obscura_clock::Monotonic::from_nanos(0)).unwrap();
    let sealed =
        outbox.take_full(EVERYTHING, obscura_clock::Monotonic::from_nanos(1), |_| true).unwrap().remove(0);
    assert_eq!(sealed.entry.torn_after_chunks, Some(0));
    let clear = open(&spool, &intake, &outbox, &sealed);
    let kept = nal_kinds(&clear).len();
    assert_eq!(kept, sealed.entry.frames as usize);
    assert!((33..45).contains(&kept), "less than half a second is lost: {kept} of 45 frames");
    assert!(read_segment(clear.as_bytes()).unwrap().trailer.is_none());
}

#[tokio::test]
async fn a_long_group_of_pictures_is_split_and_the_rest_marked_dependent() {
    let mut bench = bench();
    for n in 0..300 {
        bench.track.take(&mut bench.recorder, samples::frame(n * 3_600, START + n * SECOND / 25, n == 0));
    }
    bench.track.end(&mut bench.recorder);
    let dependent: Vec<bool> = bench.segments().iter().map(|sealed| sealed.entry.header.dependent).collect();
    assert_eq!(dependent, [false, true]);
}

#[tokio::test]
async fn a_stepped_clock_ends_the_segment_and_leaves_a_gap_with_its_reason() {
    let mut bench = bench();
    bench.take(0..60);
    for n in 60..120 {
        let monotonic = (START + n * SECOND / 25).unsigned_abs();
        let mut picture = samples::picture(n * 3_600, START + n * SECOND / 25 + 3_600 * SECOND, n % 25 == 0);
        picture.arrived_monotonic = obscura_clock::Monotonic::from_nanos(monotonic);
        bench.track.take(&mut bench.recorder, Frame::received(picture));
    }
    bench.track.end(&mut bench.recorder);
    assert_eq!(reasons(&bench.outbox.gaps()), [GapReason::ClockStep]);
    let segments = bench.segments();
    let hours: std::collections::BTreeSet<u32> = segments.iter().map(|s| s.entry.header.hour.get()).collect();
    assert_eq!(hours.len(), 2, "the step crossed an hour, so there are two layer keys");
    assert_eq!(bench.outbox.waiting_keys(), 2);
}

#[tokio::test]
async fn lost_packets_mark_the_segment_and_are_reported_as_a_gap() {
    let mut bench = bench();
    bench.take(0..30);
    let mut picture = samples::picture(33 * 3_600, START + 33 * SECOND / 25, false);
    picture.lost_packets = 4;
    bench.track.take(&mut bench.recorder, Frame::received(picture));
    bench.take(34..51);
    bench.track.end(&mut bench.recorder);
    assert_eq!(reasons(&bench.outbox.gaps()), [GapReason::PacketLoss]);
    assert!(bench.segments()[0].entry.damaged);
}

/// Frame `n`, before which so many packets were lost.
fn after_loss(n: i64, key: bool, lost_packets: u16) -> Frame<Clear> {
    let mut picture = samples::picture(n * 3_600, START + n * SECOND / 25, key);
    picture.lost_packets = lost_packets;
    Frame::received(picture)
}

impl Bench {
    /// Whether each segment is damaged, and how many packets its trailer says were lost.
    fn losses(&self) -> Vec<(bool, u32)> {
        let trailer = |sealed: &Sealed| read_segment(self.open(sealed).as_bytes()).unwrap().trailer.unwrap();
        self.segments().iter().map(|s| (s.entry.damaged, trailer(s).lost_packets)).collect()
    }
}

#[tokio::test]
async fn a_segment_that_continues_a_damaged_group_of_pictures_is_damaged_and_the_next_group_is_not() {
    let mut bench = bench();
    bench.take(0..30);
    bench.track.take(&mut bench.recorder, after_loss(30, false, 4));
    bench.take(31..35);
    // The rest of the group goes into a segment of its own, in which nothing more is lost.
    bench.track.cut(&mut bench.recorder);
    bench.take(35..51);
    bench.track.cut(&mut bench.recorder);
    bench.take(51..60);
    bench.track.cut(&mut bench.recorder);
    bench.track.take(&mut bench.recorder, after_loss(60, false, 2));
    bench.track.end(&mut bench.recorder);
    assert_eq!(bench.losses(), [(true, 4), (true, 0), (false, 0), (true, 2)]);
}

#[tokio::test]
async fn a_loss_before_a_key_frame_marks_the_segment_that_lost_its_end_and_not_the_one_that_begins() {
    let mut bench = bench();
    bench.take(0..48);
    bench.track.take(&mut bench.recorder, after_loss(50, true, 7));
    bench.take(51..75);
    // Too early to end the segment: the loss lies in the middle of it.
    bench.track.take(&mut bench.recorder, after_loss(75, true, 3));
    bench.take(76..101);
    bench.track.end(&mut bench.recorder);
    assert_eq!(bench.losses(), [(true, 7), (true, 3), (false, 0)]);
    assert_eq!(reasons(&bench.outbox.gaps())[0], GapReason::PacketLoss);
}

#[tokio::test]
async fn a_full_spool_becomes_a_gap_and_recording_goes_on_when_there_is_room() {
    let mut bench = bench();
    let full = tempfile::tempdir().unwrap();
    let (small, _) = Spool::open(full.path().to_owned(), Limits::of_bytes(0), SystemClock::shared()).unwrap();
    small
        .append(&[crate::segment::record(crate::spool::record::Kind::Done, crate::spool::Serial(0), b"")])
        .unwrap();
    let good = std::mem::replace(&mut bench.recorder.parts.spool, small);
    bench.take(0..30);
    assert_eq!(reasons(&bench.outbox.gaps()), [GapReason::SpoolFull]);
    bench.recorder.parts.spool = good;
    bench.take(30..110);
    bench.track.end(&mut bench.recorder);
    let gaps = bench.outbox.gaps();
    assert!(gaps.last().unwrap().end_unix_ns > 0, "the gap has ended");
    assert_eq!(bench.segments()[0].entry.span.start().unix_nanos(), START + 2 * SECOND);
}

#[tokio::test]
async fn without_a_key_frame_nothing_is_recorded_and_with_a_permanent_mask_nothing_ever() {
    let mut bench = bench();
    bench.take(1..25);
    assert_eq!(bench.spool.used_bytes(), 0);
    bench.track = Track::new(
        Release::NeedsMasking,
        Arc::clone(&bench.recorder.gauge),
        Timestamp::from_unix_nanos(START),
    );
    bench.take(25..100);
    assert_eq!(bench.spool.used_bytes(), 0);
}

#[tokio::test]
async fn a_clock_that_is_set_back_leaves_footage_with_its_own_time_and_length() {
    let mut bench = bench();
    bench.take(0..60);
    for n in 60..180 {
        let mut picture = samples::picture(n * 3_600, START + n * SECOND / 25 - 1_800 * SECOND, n % 25 == 0);
        picture.arrived_monotonic =
            obscura_clock::Monotonic::from_nanos((START + n * SECOND / 25).unsigned_abs());
        bench.track.take(&mut bench.recorder, Frame::received(picture));
    }
    bench.track.end(&mut bench.recorder);
    let after: Vec<_> =
        bench.segments().into_iter().filter(|s| s.entry.span.start().unix_nanos() < START).collect();
    assert!(after.len() >= 2);
    assert!(after.iter().all(|sealed| !sealed.entry.span.duration().is_zero()));
    assert!(after.windows(2).all(|pair| pair[0].entry.span.end() == pair[1].entry.span.start()));
}

#[tokio::test]
async fn a_camera_whose_own_time_jumps_keeps_the_recorders_wall_time() {
    for jump in [-3_600 * 90_000, 3_600 * 90_000] {
        let mut bench = bench();
        bench.take(0..75);
        for n in 75..150 {
            let frame = samples::frame(n * 3_600 + jump, START + n * SECOND / 25, n % 25 == 0);
            bench.track.take(&mut bench.recorder, frame);
        }
        bench.track.end(&mut bench.recorder);
        let last = bench.segments().pop().unwrap();
        let off = last.entry.span.end().unix_nanos() - (START + 6 * SECOND);
        assert!(off.abs() < SECOND / 2, "off by {off} ns after a jump of {jump}");
    }
}
