//! A camera for tests: speaks just enough RTSP, RTP and H.264 (RFC 2326, RFC 3550, RFC 6184) over TCP.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Parameter sets of the tiny picture in `tests/data`.
const SAMPLE_ENTRY: &[u8] = include_bytes!("../tests/data/avc1.bin");
/// Longest piece of a NAL unit in one packet.
const PIECE_BYTES: usize = 60_000;
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                   a=control:video\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n";

/// Shows picture after picture to everyone who connects, each connection from its first one on.
pub async fn start(every: Duration, picture: fn(u64) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Viewer { stream, every, sequence: 0, playing: false }.serve(picture));
        }
    });
    address
}

/// A NAL unit; every 25th is a key frame.
pub fn small_picture(n: u64) -> Vec<u8> {
    let mut nal = vec![if n.is_multiple_of(25) { 0x65 } else { 0x41 }, 0x88];
    nal.extend([0xaa; 500]);
    nal
}

struct Viewer {
    stream: TcpStream,
    every: Duration,
    sequence: u16,
    playing: bool,
}

impl Viewer {
    /// Ends with the connection.
    async fn serve(mut self, picture: fn(u64) -> Vec<u8>) {
        let mut ticks = tokio::time::interval(self.every);
        let mut pictures = 0..;
        let mut asked = Vec::new();
        let mut piece = [0; 2048];
        loop {
            tokio::select! {
                read = self.stream.read(&mut piece) => {
                    let Ok(1..) = read else { return };
                    asked.extend_from_slice(&piece[..read.unwrap()]);
                }
                _ = ticks.tick(), if self.playing => {
                    let n = pictures.next().unwrap();
                    if self.show(n, &picture(n)).await.is_err() {
                        return;
                    }
                }
            }
            while let Some(end) = asked.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let request: Vec<u8> = asked.drain(..end + 4).collect();
                if self.answer(&String::from_utf8_lossy(&request)).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn answer(&mut self, request: &str) -> std::io::Result<()> {
        self.stream.write_all(answer(request).as_bytes()).await?;
        if request.starts_with("PLAY") {
            self.playing = true;
        }
        Ok(())
    }

    async fn show(&mut self, n: u64, nal: &[u8]) -> std::io::Result<()> {
        let time = u32::try_from(u128::from(n) * self.every.as_millis() * 90).unwrap();
        if n == 0 {
            let (sps, pps) = parameter_sets();
            self.send(time, false, &[sps]).await?;
            self.send(time, false, &[pps]).await?;
        }
        if nal.len() <= PIECE_BYTES {
            return self.send(time, true, &[nal]).await;
        }
        // FU-A, RFC 6184, section 5.8.
        let pieces = nal[1..].chunks(PIECE_BYTES);
        let last = pieces.len() - 1;
        for (index, piece) in pieces.enumerate() {
            let start = if index == 0 { 0x80 } else { 0 };
            let end = if index == last { 0x40 } else { 0 };
            let head = [(nal[0] & 0xe0) | 28, start | end | (nal[0] & 0x1f)];
            self.send(time, index == last, &[&head, piece]).await?;
        }
        Ok(())
    }

    async fn send(&mut self, time: u32, marker: bool, payload: &[&[u8]]) -> std::io::Result<()> {
        let packet = packet(self.sequence, time, marker, &payload.concat());
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await
    }
}

/// The answer of a camera that works.
pub fn answer(request: &str) -> String {
    match request.split(' ').next().unwrap_or_default() {
        "DESCRIBE" => {
            let headers = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n", SDP.len());
            respond(request, "200 OK", &headers) + SDP
        }
        "SETUP" => {
            let headers = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n";
            respond(request, "200 OK", headers)
        }
        _ => respond(request, "200 OK", "Session: 7\r\n"),
    }
}

/// The head of an answer to a request.
pub fn respond(request: &str, status: &str, headers: &str) -> String {
    let number = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0");
    format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n{headers}\r\n")
}

/// An RTP packet, interleaved in channel 0.
pub fn packet(sequence: u16, time: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![b'$', 0];
    packet.extend(u16::try_from(12 + payload.len()).unwrap().to_be_bytes());
    packet.extend([0x80, 96 | u8::from(marker) << 7]);
    packet.extend(sequence.to_be_bytes());
    packet.extend(time.to_be_bytes());
    packet.extend([0, 0, 0, 9]);
    packet.extend(payload);
    packet
}

/// SPS and PPS from the sample entry's `avcC` (ISO/IEC 14496-15, section 5.3.3).
pub fn parameter_sets() -> (&'static [u8], &'static [u8]) {
    let at = SAMPLE_ENTRY.windows(4).position(|name| name == b"avcC").unwrap() + 4;
    let record = &SAMPLE_ENTRY[at + 6..];
    let (sps, rest) = with_length(record);
    (sps, with_length(&rest[1..]).0)
}

fn with_length(bytes: &'static [u8]) -> (&'static [u8], &'static [u8]) {
    let (length, rest) = bytes.split_first_chunk::<2>().unwrap();
    rest.split_at(usize::from(u16::from_be_bytes(*length)))
}
