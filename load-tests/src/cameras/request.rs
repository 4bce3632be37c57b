//! What a client sends: RTSP requests, and interleaved packets that are not of interest.

/// Largest request with its body, and largest interleaved packet, in bytes.
pub const MAX_INPUT_BYTES: usize = 65_540;
/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 8192;
/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 8192;

/// What the first bytes of the input are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Not yet complete.
    Incomplete,
    /// So many bytes that nobody needs: an interleaved packet, or an empty line.
    Skip(usize),
    /// A request, in so many bytes.
    Request(Request, usize),
    /// Not RTSP, or too large.
    Malformed,
}

/// A request as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// As the client wrote it.
    pub url: String,
    pub sequence: u32,
    pub transport: Option<String>,
}

impl Input {
    /// Looks at the beginning of what came.
    pub fn parse(bytes: &[u8]) -> Self {
        match bytes {
            [b'$', _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if rest.len() < length { Self::Incomplete } else { Self::Skip(4 + length) }
            }
            [] | [b'$', ..] => Self::Incomplete,
            [b'\r', b'\n', ..] => Self::Skip(2),
            _ => Self::parse_request(bytes),
        }
    }

    fn parse_request(bytes: &[u8]) -> Self {
        let Some(head) = bytes.windows(4).take(MAX_HEAD_BYTES).position(|window| window == b"\r\n\r\n")
        else {
            return if bytes.len() > MAX_HEAD_BYTES { Self::Malformed } else { Self::Incomplete };
        };
        let text = bytes.get(..head).and_then(|head| std::str::from_utf8(head).ok());
        let Some((request, body)) = text.and_then(Request::parse) else { return Self::Malformed };
        let end = head + 4 + body;
        if bytes.len() < end { Self::Incomplete } else { Self::Request(request, end) }
    }
}

impl Request {
    /// The request, and the length of its body.
    fn parse(head: &str) -> Option<(Self, usize)> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, url, version) = (words.next()?, words.next()?, words.next()?);
        if version != "RTSP/1.0" || words.next().is_some() {
            return None;
        }
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let header = |name: &str| {
            let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim())
        };
        let body = header("content-length").map_or(Some(0), |length| length.parse().ok())?;
        let request = Self {
            method: method.to_owned(),
            url: url.to_owned(),
            sequence: header("cseq")?.parse().ok()?,
            transport: header("transport").map(str::to_owned),
        };
        (body <= MAX_BODY_BYTES).then_some((request, body))
    }

    /// Number of the camera in the URL, where there is one.
    pub fn camera(&self) -> Option<u32> {
        let path = self.url.strip_prefix("rtsp://")?.split_once('/')?.1;
        let number = path.strip_prefix("cam/")?.split(['/', '?']).next()?;
        number.parse().ok()
    }

    /// Interleaved channel for RTP, where the client asks for TCP.
    pub fn channel(&self) -> Option<u8> {
        // Alternatives are separated by commas (RFC 2326 12.39).
        let wanted =
            self.transport.as_deref()?.split(',').find(|transport| transport.contains("RTP/AVP/TCP"))?;
        let channels = wanted.split(';').find_map(|part| part.trim().strip_prefix("interleaved="));
        let first = channels.unwrap_or("0-1").split('-').next()?;
        first.parse().ok().filter(|channel| *channel < u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETUP: &[u8] = b"SETUP rtsp://h:1/cam/7/trackID=0 RTSP/1.0\r\nCSeq: 3\r\n\
        Transport: RTP/AVP;unicast;client_port=1-2,RTP/AVP/TCP;unicast;interleaved=4-5\r\n\r\n";

    fn setup() -> Request {
        match Input::parse(SETUP) {
            Input::Request(request, consumed) if consumed == SETUP.len() => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_names_camera_and_channel() {
        let request = setup();
        assert_eq!((request.sequence, request.camera(), request.channel()), (3, Some(7), Some(4)));
    }

    #[test]
    fn a_request_waits_for_its_body() {
        let whole = b"GET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\nping";
        assert_eq!(Input::parse(&whole[..whole.len() - 1]), Input::Incomplete);
        assert!(matches!(Input::parse(whole), Input::Request(_, consumed) if consumed == whole.len()));
    }

    #[test]
    fn an_interleaved_packet_is_skipped() {
        assert_eq!(Input::parse(b"$\x01\0\x02ab$"), Input::Skip(6));
        assert_eq!(Input::parse(b"$\x01\0\x02a"), Input::Incomplete);
    }

    #[test]
    fn a_request_without_end_or_with_a_huge_body_is_refused() {
        assert_eq!(Input::parse(&[b'A'; MAX_HEAD_BYTES + 1]), Input::Malformed);
        let huge = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 999999\r\n\r\n";
        assert_eq!(Input::parse(huge), Input::Malformed);
        assert_eq!(Input::parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Input::Malformed);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            if let Input::Skip(consumed) | Input::Request(_, consumed) = Input::parse(&bytes) {
                prop_assert!(0 < consumed && consumed <= bytes.len());
            }
        }

        #[test]
        fn a_damaged_request_never_panics(at in 0..SETUP.len(), byte: u8) {
            let mut bytes = SETUP.to_vec();
            bytes[at] = byte;
            if let Input::Request(request, consumed) = Input::parse(&bytes) {
                prop_assert!(consumed <= bytes.len());
                let _ = (request.camera(), request.channel());
            }
        }
    }
}
