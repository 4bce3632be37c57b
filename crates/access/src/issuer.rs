//! Grants on one machine until policy exists: the keys live with the administrator's CLI.
//!
//! The order is the order of the real thing: the claims are appended durably to the journal, only
//! then is the receipt signed, and only then the grant.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use obscura_clock::{SharedClock, Span, Timestamp};
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, Digest, GrantId, Layer};
use obscura_proto::{
    access::v1::{GrantClaims, Receipt, SignedGrant, SignedReceipt, SignedStatusNote, StatusNote},
    footage::v1 as footage,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::{
    AccessTrust,
    claims::Claims,
    journal::{Journal, Leaf},
    key_file,
    signing::{self, sha256},
};

/// Longest validity of a local grant.
pub const MAX_VALID_FOR: Duration = Duration::from_secs(15 * 60);
/// Name of the journal in receipts.
const LOG_NAME: &str = "obscura local journal";

/// Why the local issuer cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is an issuer in the directory already.
    #[error("{path} exists: this directory has an issuer already; its keys are never overwritten")]
    Exists {
        /// The journal that is there.
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
    /// The chain does not hold.
    #[error("{path}, line {line}: the line {why}; the journal was changed: keep it as evidence")]
    Journal {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process appends for too long.
    #[error("{path} has been locked by another process for 5 s: wait for it and try again")]
    Busy {
        /// Which file.
        path: PathBuf,
    },
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

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct GrantRequest {
    /// Pseudonymous id of who looks, at most 256 bytes.
    pub subject: String,
    /// Cameras, 1 to 1,000.
    pub cameras: BTreeSet<CameraId>,
    /// Layers, at least one.
    pub layers: BTreeSet<Layer>,
    /// Which footage; not empty.
    pub span: Span,
    /// Purpose, at most 1,024 bytes.
    pub purpose: String,
    /// Reason, at most 4,096 bytes.
    pub reason: String,
    /// The service that will use the grant.
    pub holder: SpiffeId,
    /// How long the grant counts from now on, at most [`MAX_VALID_FOR`].
    pub valid_for: Duration,
}

/// Issues grants and status notes with two Ed25519 keys of its own.
pub struct LocalIssuer {
    grants: Ed25519KeyPair,
    receipts: Ed25519KeyPair,
    journal: Mutex<Journal>,
    clock: SharedClock,
}

impl fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIssuer").field("journal", &self.journal).finish_non_exhaustive()
    }
}

impl LocalIssuer {
    /// Makes `grant.key`, `receipt.key` (both mode 0600) and `journal.jsonl` in `directory`.
    ///
    /// The journal comes last: where it is absent an earlier attempt was cut short, and the keys it
    /// left are kept.
    ///
    /// # Errors
    /// [`Error::Exists`] where an issuer is there already, or what the file system says.
    pub fn create(directory: &Path) -> Result<(), Error> {
        let files = Files::of(directory);
        if files.journal.exists() {
            return Err(Error::Exists { path: files.journal });
        }
        std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
        for key in [&files.grants, &files.receipts] {
            if !key.exists() {
                key_file::create(key)?;
            }
        }
        Journal::create(&files.journal)
    }

    /// Opens the keys and verifies the journal; a torn last line is cut with a warning.
    ///
    /// # Errors
    /// A key that is absent, readable by others or no key; a journal whose chain does not hold.
    pub fn open(directory: &Path, clock: SharedClock) -> Result<Self, Error> {
        let files = Files::of(directory);
        Ok(Self {
            grants: key_file::open(&files.grants)?,
            receipts: key_file::open(&files.receipts)?,
            journal: Mutex::new(Journal::open(&files.journal)?),
            clock,
        })
    }

    /// The public halves, for the trust files of the services.
    #[must_use]
    pub fn public_keys(&self) -> AccessTrust {
        AccessTrust { grant_issuer: public(&self.grants), audit: public(&self.receipts) }
    }

    /// Writes the claims to the journal, waits until they are durable, then signs receipt and grant.
    ///
    /// # Errors
    /// [`Error::Request`] for a request beyond any limit; nothing is written then. Otherwise what
    /// kept the line from the disk; nothing is signed then.
    pub fn issue(&self, request: GrantRequest) -> Result<SignedGrant, Error> {
        let now = self.clock.wall();
        let claims = JournalClaims::new(request, now)?;
        let bytes = claims.to_proto().encode_to_vec();
        Claims::parse(&bytes.clone().into()).map_err(|refusal| Error::Request(refusal.to_string()))?;
        let leaf = self.journal.lock().unwrap_or_else(PoisonError::into_inner).append(claims, now)?;
        let receipt = self.sign_receipt(&leaf);
        let message = signing::grant_message(&bytes, &receipt.receipt);
        let signature = self.grants.sign(&message).as_ref().to_vec().into();
        Ok(SignedGrant { claims: bytes.into(), receipt: Some(receipt), signature })
    }

    /// A status note of this moment. The local issuer revokes nothing: its grants end by themselves.
    #[must_use]
    pub fn status_note(&self) -> SignedStatusNote {
        let note = StatusNote { made_unix_ns: self.clock.wall().unix_nanos(), ..StatusNote::default() };
        let note = note.encode_to_vec();
        let signature = self.grants.sign(&signing::note_message(&note)).as_ref().to_vec().into();
        SignedStatusNote { note: note.into(), signature }
    }

    fn sign_receipt(&self, leaf: &Leaf) -> SignedReceipt {
        let receipt = Receipt {
            log: LOG_NAME.to_owned(),
            leaf_index: leaf.index,
            claims_hash: leaf.claims_hash.as_bytes().to_vec().into(),
            committed_unix_ns: leaf.committed.unix_nanos(),
        };
        let receipt = receipt.encode_to_vec();
        let signature = self.receipts.sign(&signing::receipt_message(&receipt)).as_ref().to_vec().into();
        SignedReceipt { receipt: receipt.into(), signature }
    }
}

struct Files {
    grants: PathBuf,
    receipts: PathBuf,
    journal: PathBuf,
}

impl Files {
    fn of(directory: &Path) -> Self {
        Self {
            grants: directory.join("grant.key"),
            receipts: directory.join("receipt.key"),
            journal: directory.join("journal.jsonl"),
        }
    }
}

/// An Ed25519 public key has 32 bytes (RFC 8032), so every one of them is copied.
fn public(key: &Ed25519KeyPair) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.public_key().as_ref());
    bytes
}

/// The claims as a person reads them in the journal; they serialise to the very bytes of the grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalClaims {
    grant_id: GrantId,
    subject: String,
    cameras: BTreeSet<CameraId>,
    layers: BTreeSet<Layer>,
    span: Span,
    purpose: String,
    reason: String,
    holder: String,
    not_before_unix_ns: i64,
    expires_unix_ns: i64,
}

impl JournalClaims {
    fn new(request: GrantRequest, now: Timestamp) -> Result<Self, Error> {
        if request.valid_for > MAX_VALID_FOR {
            let limit = MAX_VALID_FOR.as_secs() / 60;
            return Err(Error::Request(format!("it is to be valid for more than {limit} minutes")));
        }
        Ok(Self {
            grant_id: GrantId::generate(),
            subject: request.subject,
            cameras: request.cameras,
            layers: request.layers,
            span: request.span,
            purpose: request.purpose,
            reason: request.reason,
            holder: request.holder.to_string(),
            not_before_unix_ns: now.unix_nanos(),
            expires_unix_ns: (now + request.valid_for).unix_nanos(),
        })
    }

    /// SHA-256 of the serialised claims.
    pub(crate) fn hash(&self) -> Digest {
        sha256(&self.to_proto().encode_to_vec())
    }

    fn to_proto(&self) -> GrantClaims {
        GrantClaims {
            grant_id: self.grant_id.to_string(),
            subject: self.subject.clone(),
            camera_ids: self.cameras.iter().map(ToString::to_string).collect(),
            layers: self.layers.iter().map(|layer| i32::from(layer.code())).collect(),
            span: Some(footage::Span {
                start_unix_ns: self.span.start().unix_nanos(),
                end_unix_ns: self.span.end().unix_nanos(),
            }),
            purpose: self.purpose.clone(),
            reason: self.reason.clone(),
            approvals: Vec::new(),
            holder: self.holder.clone(),
            relay: String::new(),
            not_before_unix_ns: self.not_before_unix_ns,
            expires_unix_ns: self.expires_unix_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use obscura_clock::{Clock as _, SimulatedClock};

    use super::*;
    use crate::{
        Refusal,
        test_support::{holder, now},
        verify,
    };

    fn request() -> GrantRequest {
        GrantRequest {
            subject: "u-17".into(),
            cameras: [CameraId::generate()].into(),
            layers: [Layer::Original].into(),
            span: Span::try_new(now() - Duration::from_secs(60), now()).unwrap(),
            purpose: "theft".into(),
            reason: "case 12".into(),
            holder: holder(),
            valid_for: Duration::from_secs(300),
        }
    }

    fn issuer() -> (tempfile::TempDir, std::sync::Arc<SimulatedClock>, LocalIssuer) {
        let directory = tempfile::tempdir().unwrap();
        LocalIssuer::create(directory.path()).unwrap();
        let clock = SimulatedClock::at(now());
        let issuer = LocalIssuer::open(directory.path(), clock.clone()).unwrap();
        (directory, clock, issuer)
    }

    #[test]
    fn what_the_local_issuer_signs_is_honoured_until_it_expires() {
        let (_directory, clock, issuer) = issuer();
        let request = request();
        let signed = issuer.issue(request.clone()).unwrap();
        let check = || verify(&issuer.public_keys(), &signed, &issuer.status_note(), &holder(), clock.wall());
        let grant = check().unwrap();
        assert_eq!(
            (grant.cameras, grant.layers, grant.span),
            (request.cameras, request.layers, request.span)
        );
        assert_eq!(grant.expires, now() + request.valid_for);
        clock.advance(request.valid_for);
        assert_eq!(check(), Err(Refusal::Expired(grant.expires)));
    }

    #[test]
    fn an_old_note_of_the_local_issuer_does_not_count() {
        let (_directory, clock, issuer) = issuer();
        let signed = issuer.issue(request()).unwrap();
        let note = issuer.status_note();
        clock.advance(Duration::from_secs(31));
        let refused = verify(&issuer.public_keys(), &signed, &note, &holder(), clock.wall());
        assert_eq!(refused, Err(Refusal::StaleNote { made: now() }));
    }

    #[test]
    fn every_file_of_the_issuer_is_private_and_none_is_ever_replaced() {
        let (directory, _clock, issuer) = issuer();
        issuer.issue(request()).unwrap();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(LocalIssuer::create(directory.path()), Err(Error::Exists { .. })));
        let reopened = LocalIssuer::open(directory.path(), SimulatedClock::at(now())).unwrap();
        assert_eq!(reopened.public_keys(), issuer.public_keys());
    }

    #[test]
    fn a_creation_that_was_cut_short_is_finished_with_the_keys_it_left() {
        let directory = tempfile::tempdir().unwrap();
        key_file::create(&directory.path().join("grant.key")).unwrap();
        let before = fs::read(directory.path().join("grant.key")).unwrap();
        LocalIssuer::create(directory.path()).unwrap();
        assert_eq!(fs::read(directory.path().join("grant.key")).unwrap(), before);
    }

    #[test]
    fn a_request_beyond_the_limits_leaves_no_line_behind() {
        let (directory, _clock, issuer) = issuer();
        let too_long = GrantRequest { valid_for: MAX_VALID_FOR + Duration::from_secs(1), ..request() };
        assert!(matches!(issuer.issue(too_long), Err(Error::Request(_))));
        let nobody = GrantRequest { cameras: BTreeSet::new(), ..request() };
        assert!(matches!(issuer.issue(nobody), Err(Error::Request(_))));
        assert_eq!(fs::metadata(directory.path().join("journal.jsonl")).unwrap().len(), 0);
    }

    #[test]
    fn nothing_is_signed_when_the_journal_cannot_take_the_line() {
        let (directory, _clock, issuer) = issuer();
        issuer.issue(request()).unwrap();
        // Another process put a line there that does not follow from ours.
        let path = directory.path().join("journal.jsonl");
        let line = fs::read(&path).unwrap();
        fs::write(&path, line.repeat(2)).unwrap();
        assert!(matches!(issuer.issue(request()), Err(Error::Journal { line: 2, .. })));
    }

    #[test]
    fn the_receipt_names_the_line_that_is_already_on_the_disk() {
        let (directory, _clock, issuer) = issuer();
        for index in 0..3 {
            let signed = issuer.issue(request()).unwrap();
            let receipt = Receipt::decode(signed.receipt.unwrap().receipt).unwrap();
            assert_eq!(receipt.leaf_index, index);
            let journal = fs::read_to_string(directory.path().join("journal.jsonl")).unwrap();
            let last = journal.lines().last().unwrap();
            assert!(last.contains(&hex::encode(&receipt.claims_hash)), "{last}");
        }
    }

    #[test]
    fn a_debug_print_shows_no_key() {
        let (_directory, _clock, issuer) = issuer();
        assert!(!format!("{issuer:?}").contains("KeyPair"));
    }
}
