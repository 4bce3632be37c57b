//! The frames of one session on their way into segments.

use std::{sync::Arc, time::Duration};

use obscura_clock::{ClockQuality, Timestamp};
use obscura_media::SenderReport;
use obscura_proto::footage::v1::GapReason;

use super::Recorder;
use crate::{
    error::Error,
    frame::{Clear, Frame, Picture, Release, Released},
    gauge::{Gauge, State},
    reorder::{Reorder, Timed},
    ring::{Cursor, Read, Ring},
    segment::{FRAGMENT_EVERY, SegmentWriter},
    spool,
    synchronised::clock_is_synchronised,
    timeline::{MEDIA_HZ, Step, Timeline},
};

/// A segment ends at the first key frame after this long.
const SHORTEST: Duration = Duration::from_secs(2);
/// A segment ends here even without a key frame; the next one is marked dependent.
const LONGEST: Duration = Duration::from_secs(10);
/// A frame that seems to last longer marks a break in the camera's time.
const LONGEST_FRAME: i64 = 10 * MEDIA_HZ;

/// How much later than due a fragment may be spooled for the sake of the frame that spools it anyway.
const PATIENCE: Duration = Duration::from_millis(50);

/// How far recorded time may lead the clock without the clock having been set.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);
/// A segment ends here whatever comes, so that any segment fits into a pack.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// One session of one camera.
pub struct Track {
    release: Release,
    ring: Ring<Released>,
    cursor: Cursor,
    reorder: Reorder,
    timeline: Option<Timeline>,
    quality: ClockQuality,
    report: Option<SenderReport>,
    /// The frame whose duration is not yet known.
    held: Option<Timed>,
    writer: Option<SegmentWriter>,
    /// Whether the next segment continues a group of pictures.
    continues: bool,
    /// Whether packets of the running group of pictures were lost: what follows in it cannot be shown
    /// as it was, in whichever segment it lies.
    damaged: bool,
    /// Lost packets that no segment has counted yet, because none was open.
    uncounted: u32,
    /// Segments do not start before this: the end of the one before, unless a clock was set.
    floor: Option<Timestamp>,
    gauge: Arc<Gauge>,
}

impl Track {
    /// Before the first frame.
    pub fn new(release: Release, gauge: Arc<Gauge>, now: Timestamp) -> Self {
        // A clock that was set back between two sessions makes what was recorded lie in the future.
        let floor = gauge.recorded_through().filter(|through| *through <= now + CLOCK_TOLERANCE);
        let ring = Ring::default();
        let cursor = ring.cursor();
        Self {
            release,
            ring,
            cursor,
            reorder: Reorder::default(),
            timeline: None,
            quality: ClockQuality::FreeRunning,
            report: None,
            held: None,
            writer: None,
            continues: false,
            damaged: false,
            uncounted: 0,
            floor,
            gauge,
        }
    }

    /// The camera said what time it is.
    pub fn heard(&mut self, report: SenderReport) {
        self.report = Some(report);
    }

    /// Takes a frame off the network.
    pub fn take(&mut self, recorder: &mut Recorder, frame: Frame<Clear>) {
        let Some(frame) = self.release.release(frame) else { return };
        self.observe(recorder, frame.picture());
        let random_access = frame.picture().random_access;
        self.ring.push(frame, random_access);
        loop {
            match self.ring.read(&mut self.cursor) {
                Read::Frame(frame) => self.order(recorder, frame),
                Read::Skipped(frames) => {
                    tracing::warn!(camera = %recorder.camera, frames, "frames were overtaken before they were sealed");
                    self.end(recorder);
                    let now = recorder.clock.wall();
                    recorder.gaps.not_recording(now, now, GapReason::SlowDisk);
                }
                Read::Empty => break,
            }
        }
        self.ring.trim(self.cursor);
    }

    /// Spools frames whose fragment is due although no further frame came, and says when to look again.
    pub fn spool_due(&mut self, recorder: &mut Recorder) -> Duration {
        let Some((writer, since)) = self.writer.as_mut().and_then(|w| w.pending_since().map(|at| (w, at)))
        else {
            return FRAGMENT_EVERY;
        };
        let age = recorder.clock.monotonic().since(since);
        if age < FRAGMENT_EVERY {
            // Most cameras send a frame soon after, which spools the fragment without anybody waking up.
            return FRAGMENT_EVERY.saturating_sub(age) + PATIENCE;
        }
        let Some(timeline) = &self.timeline else { return FRAGMENT_EVERY };
        match writer.spool_pending(&recorder.parts, |media| timeline.wall(media)) {
            Ok(Some(spooled)) => self.gauge.spooled(spooled.position, spooled.through),
            Ok(None) => {}
            Err(error) => self.give_up(recorder, &error),
        }
        FRAGMENT_EVERY
    }

    /// Ends the open segment now; the next frame continues it in another one.
    pub fn cut(&mut self, recorder: &mut Recorder) {
        let open = self.writer.is_some();
        self.close(recorder);
        self.continues = open;
    }

    /// Ends the session: nothing that was received stays behind.
    pub fn end(&mut self, recorder: &mut Recorder) {
        while let Some(timed) = self.reorder.pop() {
            self.advance(recorder, timed);
        }
        if let Some(last) = self.held.take() {
            self.write(recorder, last, MEDIA_HZ / 25);
        }
        self.close(recorder);
        self.continues = false;
        self.reorder = Reorder::default();
    }

    /// Follows the clocks. A step of ours ends the run: wall time may not jump inside one.
    fn observe(&mut self, recorder: &mut Recorder, picture: &Picture) {
        self.gauge.received(picture.lost_packets);
        let (media, wall, monotonic) = (picture.media_time, picture.arrived, picture.arrived_monotonic);
        let stepped = match &mut self.timeline {
            Some(timeline) => timeline.observe(media, wall, monotonic).err(),
            None => {
                self.timeline = Some(Timeline::start(media, wall, monotonic));
                self.quality = quality();
                None
            }
        };
        let Some(step) = stepped else { return };
        let recording = self.writer.is_some();
        self.end(recorder);
        // The pictures follow each other all the same.
        self.continues = recording;
        self.timeline = Some(Timeline::start(media, wall, monotonic));
        match step {
            Step::Camera => tracing::warn!(camera = %recorder.camera, "the camera's time jumped"),
            Step::Recorder(by_nanos) => {
                tracing::warn!(camera = %recorder.camera, by_ms = by_nanos / 1_000_000, "the recorder's clock was set");
                self.quality = ClockQuality::Stepped;
                self.floor = None;
                let before = self.gauge.rebase(wall);
                if let Some(before) = before.filter(|before| *before < wall) {
                    recorder.gaps.passed(before, wall, GapReason::ClockStep);
                }
            }
        }
    }

    fn order(&mut self, recorder: &mut Recorder, frame: Frame<Released>) {
        if frame.picture().random_access {
            while let Some(timed) = self.reorder.pop() {
                self.advance(recorder, timed);
            }
        }
        if let Some(timed) = self.reorder.push(frame) {
            self.advance(recorder, timed);
        }
    }

    /// The next frame tells how long the one before lasted.
    fn advance(&mut self, recorder: &mut Recorder, next: Timed) {
        if let Some(held) = self.held.take() {
            let lasted = next.decode_time.saturating_sub(held.decode_time);
            let broken = lasted > LONGEST_FRAME;
            self.write(recorder, held, if broken { MEDIA_HZ / 25 } else { lasted });
            if broken {
                self.close(recorder);
                self.continues = false;
                let now = recorder.clock.wall();
                let since = self.gauge.recorded_through().unwrap_or(now).min(now);
                recorder.gaps.not_recording(since, now, GapReason::FrameTimeout);
            }
        }
        self.held = Some(next);
    }

    fn write(&mut self, recorder: &mut Recorder, timed: Timed, lasted: i64) {
        let picture = timed.frame.picture();
        self.note_loss(recorder, &timed);
        if self.must_end(picture) || (picture.random_access && recorder.has_new_terms()) {
            self.close(recorder);
            self.continues = !picture.random_access;
        }
        if picture.random_access {
            self.damaged = false;
            self.uncounted = 0;
        }
        if self.writer.is_none() && !self.open(recorder, &timed) {
            return;
        }
        let duration = u32::try_from(lasted.max(1)).unwrap_or(1);
        let Some(timeline) = &self.timeline else { return };
        let Some(writer) = &mut self.writer else { return };
        match writer.push(&recorder.parts, timed, duration, |media| timeline.wall(media)) {
            Ok(Some(spooled)) => self.gauge.spooled(spooled.position, spooled.through),
            Ok(None) => {}
            Err(error) => self.give_up(recorder, &error),
        }
    }

    fn must_end(&self, picture: &Picture) -> bool {
        let Some(writer) = &self.writer else { return false };
        let lasted = writer.media_duration();
        let long_enough = picture.random_access && lasted >= SHORTEST;
        long_enough
            || lasted >= LONGEST
            || writer.sealed_bytes() >= MOST_BYTES
            || !writer.has_parameters(&picture.parameters)
    }

    /// Starts a segment: at a key frame, or where a long group of pictures was split.
    fn open(&mut self, recorder: &mut Recorder, timed: &Timed) -> bool {
        let picture = timed.frame.picture();
        let dependent = !picture.random_access;
        if dependent && !self.continues {
            return false;
        }
        recorder.take_terms();
        if !recorder.is_admitted() {
            self.refuse(recorder, &Error::Paused);
            return false;
        }
        let Some(timeline) = &self.timeline else { return false };
        let wall = timeline.wall(timed.decode_time);
        let start = self.floor.map_or(wall, |floor| wall.max(floor));
        let parameters = Arc::clone(&picture.parameters);
        match SegmentWriter::open(&mut recorder.parts, parameters, start, timed.decode_time, dependent) {
            Ok((mut writer, key)) => {
                if self.damaged {
                    writer.lost(std::mem::take(&mut self.uncounted));
                }
                if let Some((serial, request)) = key {
                    recorder.outbox.add_key(serial, request);
                }
                recorder.gaps.recording(start);
                self.gauge.set_state(State::Recording);
                self.writer = Some(writer);
                self.continues = false;
                true
            }
            Err(error) => {
                self.refuse(recorder, &error);
                false
            }
        }
    }

    fn close(&mut self, recorder: &mut Recorder) {
        recorder.gaps.loss_is_over();
        let Some(writer) = self.writer.take() else { return };
        let Some(timeline) = &self.timeline else { return };
        let wall = |media| timeline.wall(media);
        match writer.close(&recorder.parts, wall, self.quality, self.report, timeline.drift_ppm()) {
            Ok(sealed) => {
                self.gauge.spooled(sealed.end, sealed.entry.span.end());
                self.gauge.sealed(&sealed.entry);
                self.floor = Some(sealed.entry.span.end());
                recorder.outbox.add_segment(sealed, recorder.clock.monotonic());
            }
            Err((writer, error)) => {
                self.writer = Some(*writer);
                self.give_up(recorder, &error);
            }
        }
        self.quality = quality();
    }

    /// Keeps of the open segment what is in the spool already.
    fn give_up(&mut self, recorder: &mut Recorder, error: &Error) {
        if let Some(writer) = self.writer.take() {
            recorder.outbox.give_up(writer.abandon());
        }
        self.refuse(recorder, error);
    }

    /// Nothing is recorded until the next key frame that the spool takes.
    fn refuse(&mut self, recorder: &mut Recorder, error: &Error) {
        let reason = match error {
            Error::Paused | Error::Spool(spool::Error::Full { .. } | spool::Error::NoRoom) => {
                GapReason::SpoolFull
            }
            Error::Spool(_) => GapReason::SlowDisk,
            Error::Seal(_) | Error::NoHour(_) => GapReason::NotPermitted,
            Error::Media(_) => GapReason::UnsupportedCodec,
        };
        self.continues = false;
        let now = recorder.clock.wall();
        recorder.gaps.not_recording(self.gauge.recorded_through().unwrap_or(now), now, reason);
        if self.gauge.set_state(State::Waiting(reason)) {
            tracing::error!(camera = %recorder.camera, %error, "frames are dropped until this is over");
        }
    }

    /// Lost packets took frames with them: the span between the frames around them is a gap. They were
    /// sent before this frame, so they are missing in the segment that is open before it.
    fn note_loss(&mut self, recorder: &mut Recorder, timed: &Timed) {
        let packets = timed.frame.picture().lost_packets;
        let Some(timeline) = &self.timeline else { return };
        if packets == 0 {
            return;
        }
        self.damaged = true;
        let before = match &mut self.writer {
            Some(writer) => {
                writer.lost(packets.into());
                Some(timeline.wall(writer.last_frame_at()))
            }
            None => {
                self.uncounted = self.uncounted.saturating_add(packets.into());
                self.floor.filter(|_| self.continues)
            }
        };
        if let Some(before) = before {
            let at = timeline.wall(timed.decode_time);
            recorder.gaps.lost(before.min(at), at);
        }
    }
}

fn quality() -> ClockQuality {
    if clock_is_synchronised() { ClockQuality::Synchronised } else { ClockQuality::FreeRunning }
}
