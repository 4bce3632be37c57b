//! What can be wrong with a source, in words that name the next step.

pub mod rtsp;

use std::time::Duration;

use obscura_proto::footage::v1::GapReason;

/// A source could not be opened, or stopped.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Why, as gaps record it.
    pub reason: GapReason,
    /// What was found, without credentials.
    pub finding: String,
    /// What to do next.
    pub next_step: &'static str,
}

impl Failure {
    fn unreachable(cause: &str) -> Self {
        let network = "check the address, the cable and the network of the recorder";
        let (finding, next_step) = if cause.contains("refused") {
            let port = "check the port; cameras use 554 unless told otherwise";
            ("the host is up but nothing listens on this port".into(), port)
        } else if cause.contains("lookup") || cause.contains("Name or service") {
            ("the host name is not known".into(), "check the name, or give the camera's IP address")
        } else if cause.contains("No route") || cause.contains("unreachable") {
            ("there is no route to the host".into(), network)
        } else {
            (format!("no connection could be made: {cause}"), network)
        };
        Self { reason: GapReason::Unreachable, finding, next_step }
    }

    fn unauthorized() -> Self {
        Self {
            reason: GapReason::Unauthorized,
            finding: "the camera refuses the user name or the password".into(),
            next_step: "check both on the camera's own page; many cameras want a user made for RTSP or ONVIF",
        }
    }

    fn credentials_wanted() -> Self {
        Self {
            finding: "the camera asks for a user name and a password, and none is given".into(),
            next_step: "add the camera with a user name and a password",
            ..Self::unauthorized()
        }
    }

    fn unknown_authentication() -> Self {
        Self {
            finding: "the camera asks for the password in a way that is not understood".into(),
            next_step: "choose digest authentication for RTSP on the camera's own page",
            ..Self::unauthorized()
        }
    }

    fn no_such_stream() -> Self {
        Self {
            reason: GapReason::NoSuchStream,
            finding: "the camera has no stream at this path".into(),
            next_step: "look up the RTSP path in the camera's manual, for example /Streaming/Channels/101 or /live",
        }
    }

    /// No stream with a codec that is recorded.
    #[must_use]
    pub fn unsupported_codec(offered: &[String]) -> Self {
        let offered = if offered.is_empty() { "nothing".into() } else { offered.join(", ") };
        Self {
            reason: GapReason::UnsupportedCodec,
            finding: format!("the camera offers {offered}, and no H.264 video"),
            next_step: "choose H.264 in the camera's video settings, or give the path of its H.264 stream",
        }
    }

    /// The session did not open in time.
    #[must_use]
    pub fn no_answer(after: Duration) -> Self {
        Self {
            reason: GapReason::Unreachable,
            finding: format!("no answer within {} s", after.as_secs()),
            next_step: "check the address and that no firewall drops the connection",
        }
    }

    /// The session stands but nothing comes.
    #[must_use]
    pub fn frame_timeout(after: Duration, never_any: bool) -> Self {
        let finding =
            if never_any { "the session opened but no picture came" } else { "no picture came any more" };
        Self {
            reason: GapReason::FrameTimeout,
            finding: format!("{finding} for {} s", after.as_secs()),
            next_step: "look at the camera's own page; it may be starting, overloaded or out of sessions",
        }
    }

    /// The camera ended the session.
    #[must_use]
    pub fn ended() -> Self {
        Self::lost_because("the camera ended the session")
    }

    fn lost_because(finding: &str) -> Self {
        Self { finding: finding.into(), ..Self::lost() }
    }

    fn lost() -> Self {
        Self {
            reason: GapReason::ConnectionLost,
            finding: "the connection broke".into(),
            next_step: "check the camera's power and network",
        }
    }

    /// The camera says that it cannot serve the stream now.
    fn not_ready(request: &str, status: u16) -> Self {
        Self {
            reason: GapReason::NotReady,
            finding: format!("the camera answered {request} with RTSP status {status}: it is not ready"),
            next_step: "wait while it starts; if it stays so, close other viewers of it or restart it",
        }
    }

    /// Only RTP in the RTSP connection is taken.
    fn no_tcp() -> Self {
        Self {
            next_step: "switch on RTP over RTSP (TCP) on the camera's own page",
            ..Self::protocol("the camera does not send RTP over TCP".into())
        }
    }

    /// The camera sent what no camera should.
    #[must_use]
    pub fn protocol(finding: String) -> Self {
        Self {
            reason: GapReason::ProtocolError,
            finding,
            next_step: "update the camera's firmware, or try its second stream",
        }
    }

    /// It may not be recorded as configured.
    #[must_use]
    pub fn not_permitted(finding: impl Into<String>, next_step: &'static str) -> Self {
        Self { reason: GapReason::NotPermitted, finding: finding.into(), next_step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_errors_are_told_apart_by_their_cause() {
        let refused = Failure::unreachable("Connection refused (os error 111)");
        let unknown = Failure::unreachable("failed to lookup address information");
        assert_eq!((refused.reason, unknown.reason), (GapReason::Unreachable, GapReason::Unreachable));
        assert_ne!(refused.next_step, unknown.next_step);
    }

    #[test]
    fn an_unsupported_camera_is_told_what_it_offers() {
        assert!(Failure::unsupported_codec(&["video/h265".into()]).finding.contains("video/h265"));
    }
}
