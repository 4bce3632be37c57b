//! One connection: a client and the camera that it takes for its own.

use std::{fmt::Write as _, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use super::{
    packets::{Numbers, Video},
    request::{Input, MAX_INPUT_BYTES, Request},
};

/// A client that says nothing for this long is gone. It is told to say something every 60 s.
const IDLE: Duration = Duration::from_secs(150);
/// A client that takes nothing for this long is gone.
const STUCK: Duration = Duration::from_secs(10);

/// A connection and the state of its stream.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    video: Arc<Video>,
    numbers: Numbers,
    session: u64,
    state: State,
    /// Number of the next frame of the video.
    frame: usize,
    received: Vec<u8>,
    packets: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connected,
    SetUp,
    Playing,
    Ended,
}

impl Client {
    /// A client with numbers and a phase of its own.
    pub fn new(stream: TcpStream, video: Arc<Video>) -> Self {
        let numbers = Numbers {
            ssrc: rand::random(),
            channel: 0,
            sequence: rand::random(),
            first_timestamp: rand::random(),
            frames: 0,
        };
        let frame = rand::random_range(0..video.frames().max(1));
        let (received, packets) = (Vec::new(), Vec::new());
        Self {
            stream,
            video,
            numbers,
            session: rand::random(),
            state: State::Connected,
            frame,
            received,
            packets,
        }
    }

    /// Answers requests and sends frames until the client goes, or has to.
    pub async fn serve(mut self) -> io::Result<()> {
        // A frame is one write; waiting for more would only delay it.
        self.stream.set_nodelay(true)?;
        let mut pace = self.pace();
        let mut deadline = Instant::now() + IDLE;
        while self.state != State::Ended {
            tokio::select! {
                read = self.stream.read_buf(&mut self.received) => {
                    if read? == 0 {
                        break;
                    }
                    deadline = Instant::now() + IDLE;
                    let playing = self.state == State::Playing;
                    self.answer_all().await?;
                    if !playing && self.state == State::Playing {
                        pace = self.pace();
                    }
                }
                _ = pace.tick(), if self.state == State::Playing => self.send_frame().await?,
                () = sleep_until(deadline) => break,
            }
        }
        Ok(())
    }

    /// Ticks at the frame rate, from a random moment within the first frame on.
    fn pace(&self) -> Interval {
        let frame = Duration::from_secs(1) / self.video.fps().max(1);
        let mut pace = interval_at(Instant::now() + frame.mul_f64(rand::random()), frame);
        // A camera does not stop because this process was busy for a moment.
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    }

    async fn send_frame(&mut self) -> io::Result<()> {
        self.video.write(self.frame, &mut self.numbers, &mut self.packets);
        self.frame = (self.frame + 1) % self.video.frames().max(1);
        timeout(STUCK, self.stream.write_all(&self.packets)).await?
    }

    async fn answer_all(&mut self) -> io::Result<()> {
        let mut at = 0;
        while self.state != State::Ended {
            match Input::parse(self.received.get(at..).unwrap_or_default()) {
                Input::Incomplete => break,
                Input::Skip(bytes) => at += bytes,
                Input::Request(request, bytes) => {
                    at += bytes;
                    let answer = self.answer(&request);
                    timeout(STUCK, self.stream.write_all(answer.as_bytes())).await??;
                }
                Input::Malformed => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        self.received.drain(..at.min(self.received.len()));
        if self.received.len() > MAX_INPUT_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    /// The answer to a request; changes the state.
    fn answer(&mut self, request: &Request) -> String {
        let known = request.camera().is_some();
        match request.method.as_str() {
            "OPTIONS" => {
                let methods = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN";
                respond(request, "200 OK", &format!("Public: {methods}\r\n"), "")
            }
            "GET_PARAMETER" => respond(request, "200 OK", &self.session_header(), ""),
            "TEARDOWN" => {
                self.state = State::Ended;
                respond(request, "200 OK", &self.session_header(), "")
            }
            "DESCRIBE" | "SETUP" | "PLAY" if !known => respond(request, "404 Not Found", "", ""),
            "DESCRIBE" => {
                let base = format!("Content-Base: {}/\r\n", request.url.trim_end_matches('/'));
                respond(request, "200 OK", &(base + "Content-Type: application/sdp\r\n"), &self.video.sdp())
            }
            "SETUP" => self.set_up(request),
            "PLAY" => self.play(request),
            _ => respond(request, "501 Not Implemented", "", ""),
        }
    }

    fn set_up(&mut self, request: &Request) -> String {
        if self.state == State::Playing {
            return respond(request, "455 Method Not Valid in This State", "", "");
        }
        let Some(channel) = request.channel() else {
            return respond(request, "461 Unsupported Transport", "", "");
        };
        self.numbers.channel = channel;
        self.state = State::SetUp;
        let transport = format!(
            "Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{};ssrc={:08X}\r\n",
            channel.saturating_add(1),
            self.numbers.ssrc
        );
        respond(request, "200 OK", &(transport + &self.session_header()), "")
    }

    fn play(&mut self, request: &Request) -> String {
        if self.state == State::Connected {
            return respond(request, "455 Method Not Valid in This State", "", "");
        }
        self.state = State::Playing;
        let info = format!(
            "Range: npt=now-\r\nRTP-Info: url={}/trackID=0;seq={};rtptime={}\r\n",
            request.url.trim_end_matches('/'),
            self.numbers.sequence,
            self.video.timestamp(&self.numbers)
        );
        respond(request, "200 OK", &(info + &self.session_header()), "")
    }

    fn session_header(&self) -> String {
        format!("Session: {:016x};timeout=60\r\n", self.session)
    }
}

fn respond(request: &Request, status: &str, headers: &str, body: &str) -> String {
    let mut response = format!("RTSP/1.0 {status}\r\nCSeq: {}\r\n{headers}", request.sequence);
    if !body.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(response, "Content-Length: {}\r\n", body.len());
    }
    response + "\r\n" + body
}
