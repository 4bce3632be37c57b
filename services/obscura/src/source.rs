//! SOURCE of `camera add`: an RTSP URL or a video file.
//!
//! A source is where credentials enter Obscura. They are split from the URL at once, held in a
//! type that cannot be printed, and leave only sealed to the recorder. Camera makers also put
//! passwords into paths and queries, so nothing behind the host is ever shown.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use obscura_proto::ingest::v1::Source as SourceMessage;
use url::Url;

/// Longest URL, user name or password, in bytes.
const MAX_BYTES: usize = 2048;

/// Why a source cannot be used. Never repeats what was typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// `rtsps://`.
    #[error(
        "encrypted RTSP (rtsps://) is not supported yet; an rtsp:// source works and is flagged as not encrypted \
         on the network"
    )]
    EncryptedRtsp,
    /// Some other scheme.
    #[error("{0}:// sources cannot be recorded: give an rtsp:// URL or the path of a video file")]
    Scheme(String),
    /// Not a URL.
    #[error("this is not a complete URL ({0}): write rtsp://host:port/path, with %40 for an @ in a password")]
    Url(url::ParseError),
    /// No host in it.
    #[error("the URL names no host: write rtsp://host:port/path")]
    NoHost,
    /// Out of bounds.
    #[error("the URL, user name or password is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// `%FF` and the like.
    #[error("user name or password in the URL are not UTF-8 once %-decoded")]
    NotText,
    /// `#` in the URL.
    #[error("the URL has a `#`: write it as %23 where it belongs to a password or a path")]
    Fragment,
    /// Credentials in the URL and beside it.
    #[error("the URL holds credentials and --username gives others: use only one of them")]
    CredentialsTwice,
}

/// Where frames come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A camera on the network.
    Rtsp(Rtsp),
    /// A video file that the demo camera plays in a loop.
    Video(PathBuf),
}

/// An RTSP URL without credentials, and the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Rtsp {
    url: Url,
    username: String,
    password: String,
}

impl Rtsp {
    /// A stream of this machine, without credentials.
    pub fn local(port: u16, path: &str) -> Result<Self, Invalid> {
        parse_rtsp(&format!("rtsp://127.0.0.1:{port}/{path}"))
    }

    /// Adds credentials that were given beside the URL.
    pub fn with_credentials(mut self, username: String, password: String) -> Result<Self, Invalid> {
        if !self.username.is_empty() || !self.password.is_empty() {
            return Err(Invalid::CredentialsTwice);
        }
        if username.len() > MAX_BYTES || password.len() > MAX_BYTES {
            return Err(Invalid::TooLong);
        }
        (self.username, self.password) = (username, password);
        Ok(self)
    }

    /// The message that is sealed to the recorder: the only way out for the credentials.
    pub fn to_message(&self) -> SourceMessage {
        SourceMessage {
            url: self.url.to_string(),
            username: self.username.clone(),
            password: self.password.clone(),
        }
    }
}

impl FromStr for Source {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once("://") {
            None => Ok(Self::Video(Path::new(text).to_owned())),
            Some((scheme, _)) if !is_scheme(scheme) => Ok(Self::Video(Path::new(text).to_owned())),
            Some((scheme, _)) => match scheme.to_ascii_lowercase().as_str() {
                "rtsp" => parse_rtsp(text).map(Self::Rtsp),
                "rtsps" => Err(Invalid::EncryptedRtsp),
                other => Err(Invalid::Scheme(other.chars().take(20).collect())),
            },
        }
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn parse_rtsp(text: &str) -> Result<Rtsp, Invalid> {
    if text.len() > MAX_BYTES {
        return Err(Invalid::TooLong);
    }
    let mut url = Url::parse(text).map_err(Invalid::Url)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Invalid::NoHost);
    }
    if url.fragment().is_some() {
        return Err(Invalid::Fragment);
    }
    let username = percent_decoded(url.username())?;
    let password = percent_decoded(url.password().unwrap_or_default())?;
    // Both calls fail only for URLs without a host, and there is one.
    url.set_username("").map_err(|()| Invalid::NoHost)?;
    url.set_password(None).map_err(|()| Invalid::NoHost)?;
    Ok(Rtsp { url, username, password })
}

/// RFC 3986 section 2.1. A stray `%` stands for itself, as browsers have it.
fn percent_decoded(text: &str) -> Result<String, Invalid> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let pair = (first == b'%').then(|| tail.get(..2)).flatten();
        let decoded = pair.and_then(|pair| hex::decode(pair).ok()).unwrap_or_default();
        match decoded.first() {
            Some(&byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| Invalid::NotText)
}

impl fmt::Display for Rtsp {
    /// Scheme, host and port only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rtsp://{}:{}/…", self.url.host_str().unwrap_or_default(), self.url.port().unwrap_or(554))
    }
}

impl fmt::Debug for Rtsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rtsp({self})")
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtsp(rtsp) => rtsp.fmt(f),
            Self::Video(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rtsp(text: &str) -> Rtsp {
        match text.parse().unwrap() {
            Source::Rtsp(rtsp) => rtsp,
            Source::Video(path) => panic!("{} taken for a file", path.display()),
        }
    }

    #[test]
    fn credentials_leave_the_url_and_are_decoded() {
        let message = rtsp("rtsp://ad%40min:p%3Aw%2F%25@10.0.0.5:8554/stream1?x=1").to_message();
        assert_eq!(message.url, "rtsp://10.0.0.5:8554/stream1?x=1");
        assert_eq!((message.username.as_str(), message.password.as_str()), ("ad@min", "p:w/%"));
    }

    #[test]
    fn nothing_that_is_printed_shows_a_credential() {
        let source: Source =
            "rtsp://admin:hunter2@cam:8554/user=admin_password=hunter2?pw=hunter2".parse().unwrap();
        let shown = format!("{source} {source:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("admin"), "{shown}");
        assert!(shown.contains("rtsp://cam:8554/"), "{shown}");
    }

    #[test]
    fn errors_do_not_repeat_what_was_typed() {
        for text in [
            "rtsp://admin:hunter2@",
            "rtsp://admin:hunter2@[::1",
            "rtsps://admin:hunter2@cam/",
            "http://admin:hunter2@cam/",
            "rtsp://admin:hunter2@cam:99999/",
            "rtsp://a:hunter2@cam/#x",
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn schemes_that_cannot_be_recorded_are_refused_in_words() {
        let refusal = |text: &str| text.parse::<Source>().unwrap_err().to_string();
        assert!(refusal("rtsps://cam/1").contains("not supported yet"));
        assert!(refusal("http://cam/mjpeg").contains("http:// sources cannot be recorded"));
    }

    #[test]
    fn everything_without_a_scheme_is_a_file() {
        assert_eq!("clips/a b.mp4".parse(), Ok(Source::Video("clips/a b.mp4".into())));
        assert_eq!("./odd://name.mp4".parse(), Ok(Source::Video("./odd://name.mp4".into())));
    }

    #[test]
    fn credentials_may_come_from_one_side_only() {
        let added = rtsp("rtsp://cam/1").with_credentials("u".into(), "p".into()).unwrap().to_message();
        assert_eq!((added.username.as_str(), added.password.as_str()), ("u", "p"));
        let twice = rtsp("rtsp://u@cam/1").with_credentials("u".into(), "p".into());
        assert_eq!(twice, Err(Invalid::CredentialsTwice));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}") {
            let _ = text.parse::<Source>();
            let _ = format!("rtsp://{text}").parse::<Source>();
        }

        #[test]
        fn any_password_survives_being_encoded(password in "[ -~]{1,24}") {
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(rtsp(&format!("rtsp://u:{encoded}@cam/1")).to_message().password, password);
        }
    }
}
