//! What can be wrong with a source, in words that name the next step.

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
    /// The failure behind an error of the RTSP client.
    #[must_use]
    pub fn of_rtsp(error: &retina::Error) -> Self {
        match error.status_code() {
            Some(401 | 403) => Self::unauthorized(),
            Some(404 | 454 | 459) => Self::no_such_stream(),
            Some(status) => Self::protocol(format!("the camera answered with RTSP status {status}")),
            None => Self::of_text(&error.to_string()),
        }
    }

    /// The client tells these apart in its text only.
    fn of_text(text: &str) -> Self {
        let first = text.lines().next().unwrap_or_default();
        if first.starts_with("Unable to connect") {
            return Self::unreachable(first);
        }
        if first.starts_with("Error reading")
            || first.starts_with("Error writing")
            || first.starts_with("Timeout")
        {
            return Self::lost();
        }
        if text.contains("Received Unauthorized") || text.contains("credentials") {
            return Self::unauthorized();
        }
        Self::protocol(first.chars().take(160).collect())
    }

    fn unreachable(cause: &str) -> Self {
        let (finding, next_step) = if cause.contains("refused") {
            (
                "the host is up but nothing listens on this port",
                "check the port; cameras use 554 unless told otherwise",
            )
        } else if cause.contains("lookup") || cause.contains("Name or service") {
            ("the host name is not known", "check the name, or give the camera's IP address")
        } else {
            ("there is no route to the host", "check the address, the cable and the network of the recorder")
        };
        Self { reason: GapReason::Unreachable, finding: finding.into(), next_step }
    }

    fn unauthorized() -> Self {
        Self {
            reason: GapReason::Unauthorized,
            finding: "the camera refuses the user name or the password".into(),
            next_step: "check both on the camera's own page; many cameras want a user made for RTSP or ONVIF",
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
        Self { finding: "the camera ended the session".into(), ..Self::lost() }
    }

    fn lost() -> Self {
        Self {
            reason: GapReason::ConnectionLost,
            finding: "the connection broke".into(),
            next_step: "check the camera's power and network",
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
        let refused = Failure::of_text("Unable to connect to RTSP server: Connection refused (os error 111)");
        let unknown =
            Failure::of_text("Unable to connect to RTSP server: failed to lookup address information");
        assert_eq!((refused.reason, unknown.reason), (GapReason::Unreachable, GapReason::Unreachable));
        assert_ne!(refused.next_step, unknown.next_step);
        assert_eq!(Failure::of_text("Error reading from RTSP peer: x").reason, GapReason::ConnectionLost);
    }

    #[test]
    fn an_unsupported_camera_is_told_what_it_offers() {
        assert!(Failure::unsupported_codec(&["video/h265".into()]).finding.contains("video/h265"));
    }
}
