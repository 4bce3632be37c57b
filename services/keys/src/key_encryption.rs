//! The key-encryption key: a versioned key behind a small trait, so that it may live in a file, an
//! HSM or a key management service. Every back end passes [`conformance::run`].

pub mod conformance;
mod local_file;

use std::{fmt, io, path::PathBuf};

use async_trait::async_trait;
use obscura_ids::ZoneId;
use zeroize::Zeroizing;

pub use local_file::LocalKeyFile;

/// Domain of the associated data.
const DOMAIN: &[u8] = b"obscura key encryption v1\0";

/// Version of the key-encryption key: 1 at first, one more with each rotation, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyVersion(pub u32);

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of row a wrapped secret stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    /// The private half of the intake key.
    IntakeKey = 1,
    /// The key of a daily epoch, as they were before.
    EpochKey = 2,
    /// The half of an epoch's key that is inside the database.
    EpochHalf = 3,
    /// The half of a hold's key that is inside the database.
    HoldHalf = 4,
    /// The seed of the key that signs receipts of destruction.
    ReceiptSeed = 5,
}

/// The row that a wrapped secret is bound to: in any other it does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Kind.
    pub kind: RowKind,
    /// Id among the rows of its kind, at most 255 bytes are meant.
    pub id: &'a str,
    /// Zone.
    pub zone: &'a ZoneId,
}

impl Row<'_> {
    /// Associated data: domain, kind, u32 BE version, u32 BE length of the id, id, zone. Only the
    /// last field has no length of its own, so there is one encoding of each row.
    #[must_use]
    pub fn aad(&self, version: KeyVersion) -> Vec<u8> {
        let length = u32::try_from(self.id.len()).unwrap_or(u32::MAX).to_be_bytes();
        let kind = [self.kind as u8];
        let zone = self.zone.as_str().as_bytes();
        [DOMAIN, &kind, &version.0.to_be_bytes(), &length, self.id.as_bytes(), zone].concat()
    }
}

/// A secret under one version of the key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedSecret {
    /// The version it is under.
    pub version: KeyVersion,
    /// What the back end made of it; opaque.
    pub bytes: Vec<u8>,
}

/// Why the back end did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key of this version is gone or was never here.
    #[error("there is no version {0} of the key-encryption key")]
    UnknownVersion(KeyVersion),
    /// The secret does not open: other row, other version or changed bytes.
    #[error("a secret under version {0} does not open: it belongs to another row or was changed")]
    DoesNotOpen(KeyVersion),
    /// The version in use cannot be retired.
    #[error("version {0} is in use: rotate before retiring it")]
    InUse(KeyVersion),
    /// Versions are used up, or rotations left too many behind.
    #[error("no further version can be made: {0} versions are still needed; finish the last rotation first")]
    TooManyVersions(usize),
    /// The key never leaves this back end.
    #[error("the key-encryption key never leaves its back end: use the back end's own backup")]
    NoRoot,
    /// More than one version is needed, so that no single one is the root.
    #[error(
        "{0} versions of the key-encryption key are in use: finish the rotation first (`obscura key rotate`)"
    )]
    Rotating(usize),
    /// The key file is gone although the database needs it.
    #[error(
        "{0} is missing and the key database needs it: restore it from a backup; a new key would open nothing"
    )]
    KeyFileMissing(PathBuf),
    /// The key file is not one.
    #[error("{path} is not a key file of this service: {why}")]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process has it.
    #[error("{0} is in use by another process: only one key service may run on a data directory")]
    Locked(PathBuf),
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] obscura_row_cipher::Failed),
}

/// Wraps small secrets under a versioned key that never leaves the back end.
///
/// A version works from the return of [`KeyEncryption::rotate`] (then it is durable) until
/// [`KeyEncryption::retire`]. New secrets go under the newest version.
#[async_trait]
pub trait KeyEncryption: Send + Sync + fmt::Debug {
    /// The newest version.
    async fn current(&self) -> Result<KeyVersion, Error>;

    /// Every version that still opens something, oldest first.
    async fn versions(&self) -> Result<Vec<KeyVersion>, Error>;

    /// Wraps a secret of at most 4 KiB under the newest version, bound to its row.
    async fn wrap(&self, row: Row<'_>, secret: &[u8]) -> Result<WrappedSecret, Error>;

    /// Opens a secret.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`] and [`Error::DoesNotOpen`].
    async fn unwrap(&self, row: Row<'_>, wrapped: &WrappedSecret) -> Result<Zeroizing<Vec<u8>>, Error>;

    /// Makes the next version, which is durable on return. Older versions go on opening.
    async fn rotate(&self) -> Result<KeyVersion, Error>;

    /// Destroys a version under which nothing is left. Retiring one that is gone is harmless.
    ///
    /// # Errors
    /// [`Error::InUse`] for the newest version.
    async fn retire(&self, version: KeyVersion) -> Result<(), Error>;

    /// The only version and its key, for recovery shares.
    ///
    /// # Errors
    /// [`Error::NoRoot`] where the key never leaves the back end, [`Error::Rotating`] where there are
    /// several versions.
    async fn root(&self) -> Result<(KeyVersion, Zeroizing<[u8; 32]>), Error> {
        Err(Error::NoRoot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_never_share_their_associated_data() {
        let (ab, b): (ZoneId, ZoneId) = ("ab".parse().unwrap(), "b".parse().unwrap());
        let row = Row { kind: RowKind::EpochKey, id: "1a", zone: &b };
        let shifted = Row { kind: RowKind::EpochKey, id: "1", zone: &ab };
        assert_ne!(row.aad(KeyVersion(1)), shifted.aad(KeyVersion(1)));
        assert_ne!(row.aad(KeyVersion(1)), row.aad(KeyVersion(2)));
        let other_kind = Row { kind: RowKind::IntakeKey, ..row };
        assert_ne!(row.aad(KeyVersion(1)), other_kind.aad(KeyVersion(1)));
    }
}
