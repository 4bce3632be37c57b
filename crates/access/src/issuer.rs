//! Grants on one machine until policy exists: the keys live with the administrator's CLI.
//!
//! The order is the order of the real thing: the claims are appended durably to the journal, only
//! then is the receipt signed, and only then the grant.

mod error;
mod journal_claims;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use obscura_clock::{SharedClock, Span};
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, Layer};
use obscura_proto::access::v1::{Receipt, SignedGrant, SignedReceipt, SignedStatusNote, StatusNote};
use prost::Message as _;

use crate::{
    AccessTrust,
    claims::Claims,
    journal::{Journal, Leaf},
    key_file, signing,
};

pub use error::Error;
pub(crate) use journal_claims::JournalClaims;

/// Longest validity of a local grant.
pub const MAX_VALID_FOR: Duration = Duration::from_secs(15 * 60);
/// Name of the journal in receipts.
const LOG_NAME: &str = "obscura local journal";

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
            ..Receipt::default()
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
