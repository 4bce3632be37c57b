//! Cameras that stop, stumble or break the protocol, each in one way, before the true client.

use std::net::SocketAddr;

use obscura_clock::SystemClock;
use obscura_proto::{footage::v1::GapReason, ingest::v1 as proto};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::rtsp_camera::{answer, packet, parameter_sets, respond, small_picture};

/// Number of the first packet, and RTP time from one picture to the next.
const FIRST: u16 = 100;
const STEP: u32 = 3_600;

/// What a camera does once it has said something.
#[derive(Clone, Copy)]
enum Then {
    Listens,
    Closes,
    Resets,
}

/// What is said to a request.
type Script = fn(&str) -> (Vec<u8>, Then);

/// Serves one connection, which stays open as long as the client wants.
async fn start(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0, script).await });
    address
}

async fn serve(mut stream: TcpStream, script: Script) {
    let mut asked = Vec::new();
    let mut piece = [0; 2048];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        asked.extend_from_slice(&piece[..read]);
        while let Some(end) = asked.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let request: Vec<u8> = asked.drain(..end + 4).collect();
            let (said, then) = script(&String::from_utf8_lossy(&request));
            if stream.write_all(&said).await.is_err() {
                return;
            }
            match then {
                Then::Listens => {}
                Then::Closes => return,
                Then::Resets => return stream.set_zero_linger().unwrap(),
            }
        }
    }
}

/// How many pictures came before the session ended, or until there were `enough`.
async fn watch(address: SocketAddr, enough: usize) -> (usize, Result<(), Failure>) {
    let source = proto::Source { url: format!("rtsp://{address}/secret"), ..proto::Source::default() };
    let mut pictures = 0;
    let ended = async {
        let mut session = Session::open(&Source::try_new(source).unwrap(), SystemClock::shared()).await?;
        while pictures < enough {
            if let Event::Frame(_) = session.next().await? {
                pictures += 1;
            }
        }
        Ok(())
    }
    .await;
    (pictures, ended)
}

/// A camera's answer to `method`; to others it gives those of a camera that works.
fn to(method: &str, request: &str, said: (Vec<u8>, Then)) -> (Vec<u8>, Then) {
    if request.starts_with(method) { said } else { (answer(request).into_bytes(), Then::Listens) }
}

fn refuses(method: &str, request: &str, status: &str) -> (Vec<u8>, Then) {
    to(method, request, (respond(request, status, "").into_bytes(), Then::Listens))
}

/// Plays, and sends this behind three pictures.
fn shows(request: &str, then: Then, behind: &[&[u8]]) -> (Vec<u8>, Then) {
    plays(request, then, &[&pictures(), &behind.concat()])
}

fn plays(request: &str, then: Then, stream: &[&[u8]]) -> (Vec<u8>, Then) {
    to("PLAY", request, ([answer(request).as_bytes(), &stream.concat()].concat(), then))
}

/// Parameter sets and three pictures, in the packets from [`FIRST`] on.
fn pictures() -> Vec<u8> {
    let (sps, pps) = parameter_sets();
    let mut stream = [packet(FIRST, 0, false, sps), packet(FIRST + 1, 0, false, pps)].concat();
    (0..3).for_each(|n| stream.extend(picture(n)));
    stream
}

/// Picture `n` in the packet that is its own.
fn picture(n: u16) -> Vec<u8> {
    packet(FIRST + 2 + n, u32::from(n) * STEP, true, &small_picture(n.into()))
}

/// A piece of a picture in an FU-A (RFC 6184, section 5.8), the last one where `head` says so.
fn piece(sequence: u16, head: u8) -> Vec<u8> {
    packet(sequence, 0, head & 0x40 != 0, &[0x7c, head, 0xaa, 0xaa])
}

struct Row {
    script: Script,
    pictures: usize,
    reason: GapReason,
    finding: &'static str,
}

const fn row(script: Script, pictures: usize, reason: GapReason, finding: &'static str) -> Row {
    Row { script, pictures, reason, finding }
}

async fn try_out(table: &[Row]) {
    for (at, row) in table.iter().enumerate() {
        let (pictures, ended) = watch(start(row.script).await, usize::MAX).await;
        let failure = ended.unwrap_err();
        assert_eq!((failure.reason, pictures), (row.reason, row.pictures), "row {at}: {}", failure.finding);
        assert!(failure.finding.contains(row.finding), "row {at}: {}", failure.finding);
        assert!(!failure.finding.contains("secret"), "row {at}: {}", failure.finding);
    }
}

#[tokio::test]
async fn a_camera_that_goes_away_did_not_break_the_protocol() {
    const MIDDLE: &str = "closed the connection in the middle of a message";
    try_out(&[
        row(|_| (Vec::new(), Then::Closes), 0, GapReason::ConnectionLost, "broke"),
        row(|_| (Vec::new(), Then::Resets), 0, GapReason::ConnectionLost, "broke"),
        row(|_| (b"RTSP/1".into(), Then::Closes), 0, GapReason::ConnectionLost, MIDDLE),
        row(|_| (b"RTSP/1.0 200 OK\r\nCSe".into(), Then::Closes), 0, GapReason::ConnectionLost, MIDDLE),
        row(
            |asked| (respond(asked, "200 OK", "Content-Length: 99\r\n").into_bytes(), Then::Closes),
            0,
            GapReason::ConnectionLost,
            MIDDLE,
        ),
        row(|asked| to("PLAY", asked, (Vec::new(), Then::Closes)), 0, GapReason::ConnectionLost, "broke"),
        row(|asked| shows(asked, Then::Closes, &[]), 3, GapReason::ConnectionLost, "ended the session"),
        row(|asked| shows(asked, Then::Closes, &[b"$"]), 3, GapReason::ConnectionLost, MIDDLE),
        row(|asked| shows(asked, Then::Closes, &[&picture(3)[..40]]), 3, GapReason::ConnectionLost, MIDDLE),
    ])
    .await;
}

#[tokio::test]
async fn a_camera_that_resets_the_connection_did_not_break_the_protocol() {
    let (_, ended) = watch(start(|asked| shows(asked, Then::Resets, &[b"$"])).await, usize::MAX).await;
    assert_eq!(ended.unwrap_err().reason, GapReason::ConnectionLost);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let (_, refused) = watch(nobody, usize::MAX).await;
    assert_eq!(refused.unwrap_err().reason, GapReason::Unreachable);
}

#[tokio::test]
async fn a_camera_that_says_no_is_believed() {
    let lost = GapReason::ConnectionLost;
    let row = |script, reason, finding| row(script, 0, reason, finding);
    try_out(&[
        row(|asked| refuses("DESCRIBE", asked, "503 Service Unavailable"), GapReason::NotReady, "DESCRIBE"),
        row(|asked| refuses("SETUP", asked, "453 Not Enough Bandwidth"), GapReason::NotReady, "453"),
        row(|asked| refuses("PLAY", asked, "500 Internal Server Error"), GapReason::NotReady, "PLAY"),
        row(|asked| refuses("PLAY", asked, "454 Session Not Found"), lost, "no longer knows the session"),
        row(|asked| refuses("DESCRIBE", asked, "404 Not Found"), GapReason::NoSuchStream, "no stream"),
        row(|asked| refuses("DESCRIBE", asked, "403 Forbidden"), GapReason::Unauthorized, "refuses"),
        row(
            |asked| refuses("DESCRIBE", asked, "401 Unauthorized"),
            GapReason::Unauthorized,
            "not understood",
        ),
        row(|asked| refuses("SETUP", asked, "461 Unsupported Transport"), GapReason::ProtocolError, "TCP"),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_breaks_the_protocol_and_the_finding_says_how() {
    let row = |script, finding| row(script, 0, GapReason::ProtocolError, finding);
    try_out(&[
        row(|_| (b"\x00\x01garbage\r\n\r\n".into(), Then::Listens), "Invalid RTSP message"),
        row(|_| (respond("CSeq: 77", "200 OK", "").into_bytes(), Then::Listens), "response with CSeq 77"),
        row(
            |asked| {
                let page = "Content-Type: text/html\r\nContent-Length: 4\r\n";
                ([respond(asked, "200 OK", page).as_bytes(), b"page"].concat(), Then::Listens)
            },
            "the answer to DESCRIBE cannot be used: DESCRIBE response at … has unexpected content type",
        ),
        row(
            |asked| {
                let headers = "Transport: RTP/AVP/TCP;unicast\r\nSession: 7\r\n";
                to("SETUP", asked, (respond(asked, "200 OK", headers).into_bytes(), Then::Listens))
            },
            "the answer to SETUP cannot be used: Transport header is missing interleaved parameter",
        ),
        row(
            |asked| to("SETUP", asked, (respond(asked, "200 OK", "").into_bytes(), Then::Listens)),
            "Missing Session header",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_stream_that_is_not_one_breaks_the_protocol_and_the_finding_says_how() {
    let row = |script, finding| row(script, 3, GapReason::ProtocolError, finding);
    try_out(&[
        row(|asked| shows(asked, Then::Listens, &[b"\x00\x01garbage\r\n"]), "Invalid RTSP message"),
        row(|asked| shows(asked, Then::Listens, &[&with(picture(3), 4, 0x40)]), "must be version 2"),
        row(|asked| shows(asked, Then::Listens, &[&with(picture(3), 15, 1)]), "wrong ssrc"),
        row(|asked| shows(asked, Then::Listens, &[&picture(1)]), "Out-of-order packet"),
        row(|asked| shows(asked, Then::Listens, &[&piece(FIRST + 5, 0x45)]), "FU-A has start bit unset"),
        row(
            |asked| shows(asked, Then::Listens, &[respond("CSeq: 77", "200 OK", "").as_bytes()]),
            "Unexpected RTSP response",
        ),
    ])
    .await;
}

/// With one byte changed.
fn with(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    packet
}

#[tokio::test]
async fn a_viewer_that_joins_a_running_stream_is_shown_it() {
    // The packet that went out while the answer was written has the number before the one it names.
    let joined: Script = |asked| {
        let info = format!("Session: 7\r\nRTP-Info: url=/video;seq={};rtptime=0\r\n", FIRST + 1);
        let said = [respond(asked, "200 OK", &info).as_bytes(), &pictures()].concat();
        to("PLAY", asked, (said, Then::Listens))
    };
    // The rest of the picture that the others see.
    let in_the_middle: Script = |asked| {
        let rest = [piece(FIRST - 3, 0x05), piece(FIRST - 2, 0x05), piece(FIRST - 1, 0x45)].concat();
        plays(asked, Then::Listens, &[&rest, &pictures()])
    };
    for script in [joined, in_the_middle] {
        let (pictures, ended) = watch(start(script).await, 3).await;
        assert!(ended.is_ok(), "{:?}", ended.unwrap_err());
        assert_eq!(pictures, 3);
    }
}

#[tokio::test]
async fn what_a_camera_left_out_and_foreign_channels_end_no_session() {
    let script: Script = |asked| {
        let later = packet(FIRST + 900, 3_600 * 90_000, true, &small_picture(25));
        shows(asked, Then::Listens, &[b"$\x08\x00\x02xx", &later, &with(later.clone(), 1, 9)])
    };
    let (pictures, ended) = watch(start(script).await, 4).await;
    assert!(ended.is_ok(), "{:?}", ended.unwrap_err());
    assert_eq!(pictures, 4);
}

#[tokio::test]
async fn a_stream_without_a_beginning_ends_the_session() {
    let endless: Script = |asked| {
        let pieces =
            (0..=MAX_PIECES_BEFORE).flat_map(|n| piece(u16::try_from(n).unwrap(), 0x05)).collect::<Vec<u8>>();
        plays(asked, Then::Listens, &[&pieces])
    };
    let (pictures, ended) = watch(start(endless).await, usize::MAX).await;
    assert_eq!((pictures, ended.unwrap_err().reason), (0, GapReason::ProtocolError));
}
