//! What an error of the RTSP client says about the camera.
//!
//! The client (`retina`) gives the status of an answer as a number and everything else as text, whose
//! first line names the kind and whose other lines have addresses and bytes. So the kind is read from
//! the first line, and `session/broken_camera.rs` holds the client to these words: it breaks a camera
//! in each of these ways.
//!
//! A camera breaks the protocol where it sends what RFC 2326, 3550 or 6184 do not allow. One that went
//! away in the middle of a message, was restarted or says that it is busy does not.

use super::Failure;

/// Longest detail of a finding, in characters.
const DETAIL_CHARS: usize = 160;

impl Failure {
    /// The failure behind an error of the RTSP client.
    #[must_use]
    pub fn of_rtsp(error: &retina::Error) -> Self {
        Self::of_status_and_text(error.status_code(), &error.to_string())
    }

    fn of_status_and_text(status: Option<u16>, text: &str) -> Self {
        let first = text.lines().next().unwrap_or_default();
        match status {
            Some(status) => Self::of_answer(status, first),
            None => Self::of_text(first),
        }
    }

    /// An answer that says no, or that cannot be used (RFC 2326, section 11.3).
    fn of_answer(status: u16, first: &str) -> Self {
        let request = requested(first);
        match status {
            401 if first.contains("Can't understand") || first.contains("without WWW-Authenticate") => {
                Self::unknown_authentication()
            }
            401 if first.contains("no credentials supplied") => Self::credentials_wanted(),
            401 | 403 => Self::unauthorized(),
            404 | 410 | 459 => Self::no_such_stream(),
            408 => Self::lost_because("the camera waited in vain for a request"),
            454 => Self::lost_because(
                "the camera no longer knows the session: it was restarted or let it time out",
            ),
            453 | 500 | 502..=504 => Self::not_ready(request, status),
            461 => Self::no_tcp(),
            200..=299 => {
                Self::protocol(format!("the answer to {request} cannot be used: {}", unquoted(first)))
            }
            _ => Self::protocol(format!("the camera answered {request} with RTSP status {status}")),
        }
    }

    /// Everything but answers. Reads at most one line.
    fn of_text(first: &str) -> Self {
        if let Some(cause) = first.strip_prefix("Unable to connect to RTSP server: ") {
            return Self::unreachable(&detail(cause));
        }
        if first.contains("Incomplete RTSP message at EOF") {
            return Self::lost_because("the camera closed the connection in the middle of a message");
        }
        if first.contains("keepalive") {
            return Self::lost_because("the camera answers no more");
        }
        if ["Error reading", "Error writing", "Error receiving", "Timeout"]
            .iter()
            .any(|x| first.starts_with(x))
        {
            return Self::lost();
        }
        if first.starts_with("Internal error") {
            // Over TCP the client's own failures are that of the keep-alive and that to present a password.
            return Self::unknown_authentication();
        }
        if first.starts_with("Unsupported") {
            return Self::unsupported_codec(&[detail(first)]);
        }
        Self::protocol(detail(first))
    }
}

/// Whether an error only says that the stream began in the middle of a picture, as it may for whoever
/// joins a stream that others watch already.
pub fn begins_in_the_middle(error: &retina::Error) -> bool {
    error.to_string().starts_with("FU-A has start bit unset while no frag in progress")
}

/// The method of the request that was answered.
fn requested(first: &str) -> &str {
    let behind = first.split_once(" response to ").map_or("", |(_, behind)| behind);
    let method = behind.split_whitespace().next().unwrap_or_default();
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
        return "a request";
    }
    method
}

/// The description in an answer that cannot be used, without what it quotes of the camera: there, ids
/// of sessions and paths may stand.
fn unquoted(first: &str) -> String {
    let description = first.split_once(": ").map_or(first, |(_, description)| description);
    let pieces = description.split('"').enumerate();
    let outside: String = pieces.map(|(at, piece)| if at % 2 == 0 { piece } else { "…" }).collect();
    detail(&outside)
}

/// Text of the client or the camera as it may be logged: one line, bounded, without anything that may
/// be an address, because cameras take passwords in those.
fn detail(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if is_address(word) { "…" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS).collect()
}

fn is_address(word: &str) -> bool {
    word.contains("://")
        || word.contains(['?', '@', '&'])
        || word.trim_start_matches(['"', '(', '\'']).starts_with('/')
}

#[cfg(test)]
mod tests;
