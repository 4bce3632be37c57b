use obscura_proto::footage::v1::GapReason;

use super::*;

/// Status and text of an error, the reason of the gap, and what the finding says.
type Row = (Option<u16>, &'static str, GapReason, &'static str);

/// Every kind of error of retina 0.4.21.
const TABLE: &[Row] = &[
    // ConnectError
    (
        None,
        "Unable to connect to RTSP server: Connection refused (os error 111)",
        GapReason::Unreachable,
        "nothing listens",
    ),
    (
        None,
        "Unable to connect to RTSP server: failed to lookup address information: Name or service not known",
        GapReason::Unreachable,
        "not known",
    ),
    (
        None,
        "Unable to connect to RTSP server: No route to host (os error 113)",
        GapReason::Unreachable,
        "no route",
    ),
    (
        None,
        "Unable to connect to RTSP server: Too many open files (os error 24)",
        GapReason::Unreachable,
        "Too many open files",
    ),
    // RtspReadError, WriteError, UdpRecvError, Timeout
    (
        None,
        "Error reading from RTSP peer: Connection reset by peer (os error 104)\n\nconn: x",
        GapReason::ConnectionLost,
        "broke",
    ),
    (
        None,
        "Error reading from RTSP peer: EOF while expecting response to PLAY CSeq 3",
        GapReason::ConnectionLost,
        "broke",
    ),
    (
        None,
        "Error reading from RTSP peer: Server failed to respond to keepalive 5 within 30s",
        GapReason::ConnectionLost,
        "answers no more",
    ),
    (None, "Error writing to RTSP peer: Broken pipe (os error 32)", GapReason::ConnectionLost, "broke"),
    (
        None,
        "Error writing to RTSP peer: Unable to write keepalive 5 within 30s",
        GapReason::ConnectionLost,
        "answers no more",
    ),
    (None, "Error receiving UDP packet: Network is down (os error 100)", GapReason::ConnectionLost, "broke"),
    (None, "Timeout", GapReason::ConnectionLost, "broke"),
    // RtspFramingError
    (
        None,
        "RTSP framing error: Incomplete RTSP message at EOF (at stream position 9); buffered:\n24 00",
        GapReason::ConnectionLost,
        "in the middle of a message",
    ),
    (
        None,
        "RTSP framing error: Invalid RTSP message: method: invalid; buffered:\n00",
        GapReason::ProtocolError,
        "Invalid RTSP message",
    ),
    (
        None,
        "RTSP framing error: Expected response to SETUP CSeq 2, got OK response with CSeq 9",
        GapReason::ProtocolError,
        "got OK response with CSeq 9",
    ),
    (
        None,
        "RTSP framing error: Unexpected RTSP response Response {\n",
        GapReason::ProtocolError,
        "Unexpected RTSP response",
    ),
    // RtspUnassignedChannelError: data of an older session, a fault of old live555 servers
    (
        None,
        "Received interleaved data on unassigned channel 4: \n00",
        GapReason::ProtocolError,
        "unassigned channel 4",
    ),
    // PacketError, RtpPacketError
    (
        None,
        "corrupt RTP header while expecting seq=None: \"must be version 2\"\n00",
        GapReason::ProtocolError,
        "must be version 2",
    ),
    (
        None,
        "wrong ssrc after 9 RTP pkts + 0 RTCP pkts; expecting ssrc=None seq=None",
        GapReason::ProtocolError,
        "wrong ssrc",
    ),
    (
        None,
        "Out-of-order packet or large loss; expecting ssrc=None seq=None",
        GapReason::ProtocolError,
        "Out-of-order packet",
    ),
    (
        None,
        "timestamp changed from 1 to 2 in the middle of a fragmented NAL",
        GapReason::ProtocolError,
        "fragmented NAL",
    ),
    // Unsupported, Internal, FailedPrecondition, InvalidArgument
    (None, "Unsupported: a codec", GapReason::UnsupportedCodec, "a codec"),
    (None, "Internal error: username contains a colon", GapReason::Unauthorized, "not understood"),
    (
        None,
        "Internal error: Unexpectedly not ready to send keepalive",
        GapReason::ConnectionLost,
        "answers no more",
    ),
    (None, "Failed precondition: no connection", GapReason::ProtocolError, "no connection"),
    (
        None,
        "Invalid argument: Bad URL http://cam/; only scheme rtsp supported",
        GapReason::ProtocolError,
        "Bad URL …",
    ),
    // RtspResponseError
    (
        Some(401),
        "401 Unauthorized response to DESCRIBE CSeq=2: Received Unauthorized after trying digest auth",
        GapReason::Unauthorized,
        "refuses",
    ),
    (
        Some(401),
        "401 Unauthorized response to DESCRIBE CSeq=1: Authentication requested and no credentials supplied",
        GapReason::Unauthorized,
        "none is given",
    ),
    (
        Some(401),
        "401 Unauthorized response to DESCRIBE CSeq=1: Can't understand WWW-Authenticate header: x",
        GapReason::Unauthorized,
        "not understood",
    ),
    (
        Some(401),
        "401 Unauthorized response to DESCRIBE CSeq=1: Unauthorized without WWW-Authenticate header",
        GapReason::Unauthorized,
        "not understood",
    ),
    (
        Some(403),
        "403 Forbidden response to SETUP CSeq=2: Unexpected RTSP response status",
        GapReason::Unauthorized,
        "refuses",
    ),
    (
        Some(404),
        "404 Not Found response to DESCRIBE CSeq=1: Unexpected RTSP response status",
        GapReason::NoSuchStream,
        "no stream",
    ),
    (
        Some(408),
        "408 Request Timeout response to PLAY CSeq=3: Unexpected RTSP response status",
        GapReason::ConnectionLost,
        "in vain",
    ),
    (
        Some(410),
        "410 Gone response to DESCRIBE CSeq=1: Unexpected RTSP response status",
        GapReason::NoSuchStream,
        "no stream",
    ),
    (
        Some(453),
        "453 Not Enough Bandwidth response to SETUP CSeq=2: Unexpected RTSP response status",
        GapReason::NotReady,
        "SETUP with RTSP status 453",
    ),
    (
        Some(454),
        "454 Session Not Found response to PLAY CSeq=3: Unexpected RTSP response status",
        GapReason::ConnectionLost,
        "no longer knows the session",
    ),
    (
        Some(459),
        "459 Aggregate Operation Not Allowed response to PLAY CSeq=3: Unexpected RTSP response status",
        GapReason::NoSuchStream,
        "no stream",
    ),
    (
        Some(461),
        "461 Unsupported Transport response to SETUP CSeq=2: Unexpected RTSP response status",
        GapReason::ProtocolError,
        "RTP over TCP",
    ),
    (
        Some(500),
        "500 Internal Server Error response to PLAY CSeq=3: Unexpected RTSP response status",
        GapReason::NotReady,
        "PLAY with RTSP status 500",
    ),
    (
        Some(502),
        "502 Bad Gateway response to DESCRIBE CSeq=1: Unexpected RTSP response status",
        GapReason::NotReady,
        "502",
    ),
    (
        Some(503),
        "503 Service Unavailable response to DESCRIBE CSeq=1: Unexpected RTSP response status",
        GapReason::NotReady,
        "DESCRIBE with RTSP status 503",
    ),
    (
        Some(504),
        "504 Gateway Timeout response to DESCRIBE CSeq=1: Unexpected RTSP response status",
        GapReason::NotReady,
        "504",
    ),
    (
        Some(302),
        "302 Moved Temporarily response to DESCRIBE CSeq=1: Unexpected RTSP response status",
        GapReason::ProtocolError,
        "DESCRIBE with RTSP status 302",
    ),
    (
        Some(455),
        "455 Method Not Valid in This State response to PLAY CSeq=3: Unexpected RTSP response status",
        GapReason::ProtocolError,
        "PLAY with RTSP status 455",
    ),
    (
        Some(501),
        "501 Not Implemented response to PLAY CSeq=3: Unexpected RTSP response status",
        GapReason::ProtocolError,
        "501",
    ),
    (
        Some(200),
        "200 OK response to SETUP CSeq=2: Missing Session header",
        GapReason::ProtocolError,
        "SETUP cannot be used: Missing Session header",
    ),
];

#[test]
fn every_error_of_the_client_has_the_reason_that_a_person_can_act_on() {
    for (status, text, reason, finding) in TABLE {
        let failure = Failure::of_status_and_text(*status, text);
        assert_eq!(failure.reason, *reason, "{text}");
        assert!(failure.finding.contains(finding), "{text}: {}", failure.finding);
        assert!(!failure.next_step.is_empty(), "{text}");
    }
}

#[test]
fn a_finding_has_no_address_no_session_and_no_second_line() {
    let secrets = [
        (
            Some(200),
            "200 OK response to DESCRIBE CSeq=1: DESCRIBE response at rtsp://10.0.0.7/a?pw=hunter2 has unexpected content type text/html",
        ),
        (
            Some(200),
            "200 OK response to DESCRIBE CSeq=1: unable to join base url rtsp://h/a with control url \"/b?pw=hunter2 c\": bad",
        ),
        (Some(200), "200 OK response to SETUP CSeq=3: session id changed from \"hunter2\" to \"10.0.0.7\""),
        (
            None,
            "RTSP framing error: Expected response to SETUP CSeq 2, got /a?pw=hunter2 response with CSeq 9",
        ),
        (None, "RTSP framing error: Invalid\u{1b} RTSP message: x\n\nconn: 10.0.0.7 hunter2"),
    ];
    for (status, text) in secrets {
        let failure = Failure::of_status_and_text(status, text);
        assert_eq!(failure.reason, GapReason::ProtocolError, "{text}");
        let finding = failure.finding;
        assert!(!finding.contains("hunter2") && !finding.contains("10.0.0.7"), "{finding}");
        assert!(!finding.chars().any(char::is_control), "{finding}");
    }
}

#[test]
fn a_finding_is_bounded() {
    let finding = Failure::of_text(&"x".repeat(5_000)).finding;
    assert_eq!(finding.len(), DETAIL_CHARS);
}
