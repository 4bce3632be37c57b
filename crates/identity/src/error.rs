use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{InvalidSpiffeId, SpiffeId};

/// What can go wrong with identities and the connections that rest on them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is not one.
    #[error(transparent)]
    Name(#[from] InvalidSpiffeId),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file has a content that cannot be used.
    #[error("{}: {why}", path.display())]
    Invalid {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is a CA already; another one would lock out everyone who trusts the first.
    #[error("{} holds a CA already: open it, or choose another folder", .0.display())]
    CaExists(PathBuf),
    /// The CA is past its end.
    #[error("the CA in {} has expired: create a new one in another folder and re-issue every certificate", .0.display())]
    CaExpired(PathBuf),
    /// The asked validity is no short life.
    #[error("a certificate cannot be valid for {asked:?}: choose 1 s to {} days", limit.as_secs() / 86_400)]
    Validity {
        /// What was asked for.
        asked: Duration,
        /// The longest allowed.
        limit: Duration,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The new files belong to someone else.
    #[error("{} now names {found}, but this process is {own}: put the right certificate there", path.display())]
    OtherIdentity {
        /// Which folder.
        path: PathBuf,
        /// Who the process is.
        own: SpiffeId,
        /// Who the files say it is.
        found: SpiffeId,
    },
    /// Nobody answered, or not in time.
    #[error("cannot reach {peer} at {address}: {source}; is it running?")]
    Unreachable {
        /// The expected service.
        peer: SpiffeId,
        /// Where it should be.
        address: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Whoever answered did not prove to be the expected service, or did not accept us.
    #[error("{address} is not {peer}, or does not accept us: {source}")]
    Handshake {
        /// The expected service.
        peer: SpiffeId,
        /// Who was dialled.
        address: String,
        /// Why the handshake failed.
        source: io::Error,
    },
    /// A request to a URL that is not `https://host:port/…`.
    #[error("a request needs a URL like https://host:port/path")]
    Url,
    /// The exchange broke off.
    #[error("request failed: {0}")]
    Http(#[from] hyper_util::client::legacy::Error),
}

impl Error {
    /// For `map_err`: what was tried with which file.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn invalid(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Invalid { path: path.to_owned(), why: why.into() }
    }
}
