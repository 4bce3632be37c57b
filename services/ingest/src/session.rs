//! One RTSP session: from DESCRIBE to a stream of clear frames.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use obscura_clock::{Monotonic, SharedClock, Timestamp};
use obscura_media::{SenderReport, VideoParameters};
use retina::{
    client::{
        Demuxed, InitialSequenceNumberPolicy, PlayOptions, Session as Rtsp, SessionOptions, SetupOptions,
    },
    codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame},
};

use tokio::time::{Instant, Sleep};

use crate::{
    failure::{Failure, rtsp::begins_in_the_middle},
    frame::{Clear, Frame, Picture},
    source::Source,
};

/// How long opening a session may take.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a camera may send nothing before the session is given up.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// The end of [`FRAME_TIMEOUT`], kept for one more look at the socket. A recorder that stood still (stopped by a
/// signal, a suspended machine) wakes up to a watchdog that is due and to pictures that wait: they are
/// read first, or a camera that sent all the time would be said to have been silent.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// No real camera sends a larger picture.
const MAX_PICTURE_BYTES: usize = 8 * 1024 * 1024;

/// In how many packets a picture may end that had begun before the session: as many as the largest
/// picture has in packets of an Ethernet.
const MAX_PIECES_BEFORE: u32 = 8 * 1024;

/// Something that came from the camera.
#[derive(Debug)]
pub enum Event {
    /// A frame.
    Frame(Frame<Clear>),
    /// The camera said what time it is.
    SenderReport(SenderReport),
}

/// An open session.
pub struct Session {
    demuxed: Demuxed,
    stream: usize,
    parameters: Option<Arc<VideoParameters>>,
    clock: SharedClock,
    watchdog: Pin<Box<Sleep>>,
    last_frame: Monotonic,
    /// Whether the socket is looked at for the last time before the session is given up.
    last_look: bool,
    /// How many pieces of the picture that had begun before the session are still left out.
    pieces_before: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a session and starts its H.264 stream, interleaved in the RTSP connection.
    ///
    /// # Errors
    /// A [`Failure`] in words.
    pub async fn open(source: &Source, clock: SharedClock) -> Result<Self, Failure> {
        let opening = Self::open_unbounded(source, clock);
        tokio::time::timeout(OPEN_TIMEOUT, opening)
            .await
            .unwrap_or_else(|_| Err(Failure::no_answer(OPEN_TIMEOUT)))
    }

    async fn open_unbounded(source: &Source, clock: SharedClock) -> Result<Self, Failure> {
        let options = SessionOptions::default().creds(source.credentials()).user_agent("Obscura".into());
        let mut session =
            Rtsp::describe(source.url().clone(), options).await.map_err(|e| Failure::of_rtsp(&e))?;
        let offered = || session.streams().iter().map(|s| format!("{}/{}", s.media(), s.encoding_name()));
        let stream = session
            .streams()
            .iter()
            .position(|stream| stream.media() == "video" && stream.encoding_name() == "h264")
            .ok_or_else(|| Failure::unsupported_codec(&offered().collect::<Vec<_>>()))?;
        let setup = SetupOptions::default().frame_format(FrameFormat::MP4);
        session.setup(stream, setup).await.map_err(|e| Failure::of_rtsp(&e))?;
        let playing = session.play(play_options()).await.map_err(|e| Failure::of_rtsp(&e))?;
        let demuxed = playing.demuxed().map_err(|e| Failure::of_rtsp(&e))?;
        let last_frame = clock.monotonic();
        Ok(Self {
            demuxed,
            stream,
            parameters: None,
            clock,
            watchdog: Box::pin(tokio::time::sleep(FRAME_TIMEOUT.saturating_sub(LAST_LOOK))),
            last_frame,
            last_look: false,
            pieces_before: MAX_PIECES_BEFORE,
        })
    }

    /// The next event. Frames before the first parameter sets cannot be decoded and are left out.
    ///
    /// # Errors
    /// A [`Failure`] where the session ended or nothing came for [`FRAME_TIMEOUT`].
    pub async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            let item = tokio::select! {
                biased;
                item = self.demuxed.next() => item.ok_or_else(Failure::ended)?,
                () = &mut self.watchdog => {
                    self.check_silence()?;
                    continue;
                }
            };
            let item = match item {
                Err(error) if self.pieces_before > 0 && begins_in_the_middle(&error) => {
                    self.pieces_before -= 1;
                    continue;
                }
                item => item.map_err(|error| Failure::of_rtsp(&error))?,
            };
            match item {
                CodecItem::VideoFrame(frame) => {
                    self.pieces_before = 0;
                    if let Some(frame) = self.receive(frame)? {
                        return Ok(Event::Frame(frame));
                    }
                }
                CodecItem::Rtcp(packet) => {
                    if let Some(report) = sender_report(&packet, self.clock.wall()) {
                        return Ok(Event::SenderReport(report));
                    }
                }
                _ => {}
            }
        }
    }

    /// The watchdog is not set anew with every frame, which would cost more than the frame: it looks
    /// once in a while, and then sleeps until the camera could have been silent for too long.
    fn check_silence(&mut self) -> Result<(), Failure> {
        let silent = self.clock.monotonic().since(self.last_frame);
        let nearly = FRAME_TIMEOUT.saturating_sub(LAST_LOOK);
        let wait = if silent < nearly {
            self.last_look = false;
            nearly.saturating_sub(silent)
        } else if self.last_look {
            return Err(Failure::frame_timeout(FRAME_TIMEOUT, self.parameters.is_none()));
        } else {
            self.last_look = true;
            LAST_LOOK
        };
        self.watchdog.as_mut().reset(Instant::now() + wait);
        Ok(())
    }

    fn receive(&mut self, frame: VideoFrame) -> Result<Option<Frame<Clear>>, Failure> {
        if frame.data().len() > MAX_PICTURE_BYTES {
            return Err(Failure::protocol(format!("a picture of {} bytes", frame.data().len())));
        }
        if frame.has_new_parameters() || self.parameters.is_none() {
            self.parameters = self.read_parameters()?;
        }
        let Some(parameters) = &self.parameters else { return Ok(None) };
        self.last_frame = self.clock.monotonic();
        Ok(Some(Frame::received(Picture {
            media_time: frame.timestamp().elapsed(),
            arrived: self.clock.wall(),
            arrived_monotonic: self.last_frame,
            random_access: frame.is_random_access_point(),
            lost_packets: frame.loss(),
            parameters: Arc::clone(parameters),
            data: Bytes::from(frame.into_data()),
        })))
    }

    fn read_parameters(&self) -> Result<Option<Arc<VideoParameters>>, Failure> {
        let stream = self.demuxed.streams().get(self.stream);
        let Some(ParametersRef::Video(video)) = stream.and_then(retina::client::Stream::parameters) else {
            return Ok(None);
        };
        let sample_entry = video.mp4_sample_entry().build().map_err(|error| Failure::of_rtsp(&error))?;
        let (width, height) = video.pixel_dimensions();
        Ok(Some(Arc::new(VideoParameters {
            sample_entry: Bytes::from(sample_entry),
            width: u16::try_from(width).unwrap_or(u16::MAX),
            height: u16::try_from(height).unwrap_or(u16::MAX),
            codec: video.rfc6381_codec().to_owned(),
        })))
    }
}

/// The first packet says itself which one it is. What the answer to PLAY says about it (`RTP-Info`,
/// RFC 2326, section 12.33) is too late by a packet where a server that others watch already sends
/// between reading the number and answering; the client would take the first packet for an old one.
fn play_options() -> PlayOptions {
    PlayOptions::default().initial_seq(InitialSequenceNumberPolicy::Ignore)
}

fn sender_report(packet: &retina::rtcp::ReceivedCompoundPacket, received: Timestamp) -> Option<SenderReport> {
    packet.pkts().find_map(|packet| {
        let report = packet.as_sender_report().ok().flatten()?;
        Some(SenderReport { ntp: report.ntp_timestamp().0, rtp: report.rtp_timestamp(), received })
    })
}

#[cfg(test)]
mod broken_camera;
#[cfg(test)]
mod tests;
