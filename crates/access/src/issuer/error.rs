//! What keeps the local issuer from its work.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the local issuer cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is an issuer in the directory already.
    #[error("{path} exists: this directory has an issuer already; its keys are never overwritten")]
    Exists {
        /// The key that is there.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others may read a private key.
    #[error(
        "{path} has mode {mode:o}, so others may use this key: run `chmod 600` on it, or replace the key"
    )]
    ReadableByOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{path} is not an Ed25519 private key (PKCS#8): restore it from a backup")]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
    /// There is no good receipt for the decision.
    #[error("no grant without a receipt of the audit log: {0}")]
    Receipt(#[from] crate::Refusal),
    /// The request is not one that any verifier would honour.
    #[error("no grant for this request: {0}")]
    Request(String),
    /// No randomness.
    #[error("the system gave no randomness for a new key")]
    Random,
}

impl Error {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}
