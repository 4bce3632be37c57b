//! Grants on one machine until policy exists: the grant key lives with the administrator's CLI.
//!
//! The order is the order of the real thing, and types keep it: [`LocalIssuer::prepare`] gives claims
//! that nothing honours, the audit log appends the decision and answers with a receipt, and only with
//! that receipt does [`LocalIssuer::sign`] give a grant.

mod error;
#[cfg(any(test, feature = "test-issuer"))]
mod self_receipting;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use obscura_clock::{SharedClock, Span, Timestamp};
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, GrantId, Layer};
use obscura_proto::{
    access::v1::{GrantClaims, SignedGrant, SignedReceipt, SignedStatusNote, StatusNote},
    audit::v1::GrantDecision,
    footage::v1 as footage,
};
use prost::Message as _;

use crate::{
    claims::Claims,
    key_file,
    signing::{self, sha256},
    verification::verify_receipt,
};

pub use error::Error;
#[cfg(any(test, feature = "test-issuer"))]
pub use self_receipting::SelfReceipting;

/// Longest validity of a local grant.
pub const MAX_VALID_FOR: Duration = Duration::from_secs(15 * 60);

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

/// Claims that were decided and are not in the log yet: nobody honours them.
#[derive(Clone, Debug)]
pub struct Prepared {
    claims: GrantClaims,
    bytes: Vec<u8>,
}

impl Prepared {
    /// What goes into the log before there is a grant.
    #[must_use]
    pub fn decision(&self) -> GrantDecision {
        let claims = self.claims.clone();
        GrantDecision {
            claims_hash: sha256(&self.bytes).as_bytes().to_vec().into(),
            grant_id: claims.grant_id,
            camera_ids: claims.camera_ids,
            layers: claims.layers,
            span: claims.span,
            purpose: claims.purpose,
            reason: claims.reason,
            holder: claims.holder,
            expires_unix_ns: claims.expires_unix_ns,
            lift: false,
            refusal: String::new(),
        }
    }

    /// UUID of the grant to be.
    #[must_use]
    pub fn grant_id(&self) -> &str {
        &self.claims.grant_id
    }
}

/// Signs grants and status notes with an Ed25519 key of its own.
pub struct LocalIssuer {
    key: Ed25519KeyPair,
    clock: SharedClock,
}

impl fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIssuer").finish_non_exhaustive()
    }
}

impl LocalIssuer {
    /// Makes `grant.key` (mode 0600) in `directory`.
    ///
    /// # Errors
    /// [`Error::Exists`] where an issuer is there already, or what the file system says.
    pub fn create(directory: &Path) -> Result<(), Error> {
        let path = key_path(directory);
        if path.exists() {
            return Err(Error::Exists { path });
        }
        std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
        key_file::create(&path)
    }

    /// Opens the key.
    ///
    /// # Errors
    /// A key that is absent, readable by others or no key.
    pub fn open(directory: &Path, clock: SharedClock) -> Result<Self, Error> {
        Ok(Self { key: key_file::open(&key_path(directory))?, clock })
    }

    /// The public half, for the trust files of the services.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        public(&self.key)
    }

    /// Decides about a request. The local issuer permits whatever keeps to the limits.
    ///
    /// # Errors
    /// [`Error::Request`] for a request beyond any limit.
    pub fn prepare(&self, request: GrantRequest) -> Result<Prepared, Error> {
        if request.valid_for > MAX_VALID_FOR {
            let limit = MAX_VALID_FOR.as_secs() / 60;
            return Err(Error::Request(format!("it is to be valid for more than {limit} minutes")));
        }
        let claims = claims(request, self.clock.wall());
        let bytes = claims.encode_to_vec();
        Claims::parse(&bytes.clone().into()).map_err(|refusal| Error::Request(refusal.to_string()))?;
        Ok(Prepared { claims, bytes })
    }

    /// Signs the grant, once the log whose public key is `audit` has acknowledged the decision.
    ///
    /// # Errors
    /// [`Error::Receipt`] where the receipt is not from that log, or about other claims.
    pub fn sign(
        &self,
        prepared: Prepared,
        receipt: SignedReceipt,
        audit: &[u8; 32],
    ) -> Result<SignedGrant, Error> {
        let said = verify_receipt(audit, &receipt)?;
        if said.claims_hash != sha256(&prepared.bytes).as_bytes()[..] {
            return Err(Error::Receipt(crate::Refusal::ReceiptForOtherClaims));
        }
        let message = signing::grant_message(&prepared.bytes, &receipt.receipt);
        let signature = self.key.sign(&message).as_ref().to_vec().into();
        Ok(SignedGrant { claims: prepared.bytes.into(), receipt: Some(receipt), signature })
    }

    /// A status note of this moment. The local issuer revokes nothing: its grants end by themselves.
    #[must_use]
    pub fn status_note(&self) -> SignedStatusNote {
        let note = StatusNote { made_unix_ns: self.clock.wall().unix_nanos(), ..StatusNote::default() };
        let note = note.encode_to_vec();
        let signature = self.key.sign(&signing::note_message(&note)).as_ref().to_vec().into();
        SignedStatusNote { note: note.into(), signature }
    }
}

fn key_path(directory: &Path) -> PathBuf {
    directory.join("grant.key")
}

fn claims(request: GrantRequest, now: Timestamp) -> GrantClaims {
    GrantClaims {
        grant_id: GrantId::generate().to_string(),
        subject: request.subject,
        camera_ids: request.cameras.iter().map(ToString::to_string).collect(),
        layers: request.layers.iter().map(|layer| i32::from(layer.code())).collect(),
        span: Some(footage::Span {
            start_unix_ns: request.span.start().unix_nanos(),
            end_unix_ns: request.span.end().unix_nanos(),
        }),
        purpose: request.purpose,
        reason: request.reason,
        approvals: Vec::new(),
        holder: request.holder.to_string(),
        relay: String::new(),
        not_before_unix_ns: now.unix_nanos(),
        expires_unix_ns: (now + request.valid_for).unix_nanos(),
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
    use obscura_proto::audit::v1::{Event, Outcome, Person, event::Body};

    use super::*;
    use crate::{
        Refusal,
        test_support::{Signers, holder, now},
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

    fn issuer() -> (tempfile::TempDir, std::sync::Arc<SimulatedClock>, SelfReceipting) {
        let directory = tempfile::tempdir().unwrap();
        SelfReceipting::create(directory.path()).unwrap();
        let clock = SimulatedClock::at(now());
        let issuer = SelfReceipting::open(directory.path(), clock.clone()).unwrap();
        (directory, clock, issuer)
    }

    #[test]
    fn a_decision_is_an_event_that_the_log_takes() {
        let clock = SimulatedClock::at(now());
        let folder = tempfile::tempdir().unwrap();
        SelfReceipting::create(folder.path()).unwrap();
        let issuer = LocalIssuer::open(folder.path(), clock.clone()).unwrap();
        let decision = issuer.prepare(request()).unwrap().decision();
        let event = Event {
            event_id: CameraId::generate().to_string(),
            time_unix_ns: clock.wall().unix_nanos(),
            outcome: Outcome::Success.into(),
            actor: Some(Person { id: "unix:1000".into(), ..Person::default() }),
            body: Some(Body::Grant(decision)),
        };
        obscura_ocsf::validate(&event).unwrap();
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
    fn the_key_is_private_and_never_replaced() {
        let (directory, _clock, issuer) = issuer();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(LocalIssuer::create(directory.path()), Err(Error::Exists { .. })));
        let reopened = LocalIssuer::open(directory.path(), SimulatedClock::at(now())).unwrap();
        assert_eq!(reopened.public_key(), issuer.public_keys().grant_issuer);
    }

    #[test]
    fn a_request_beyond_the_limits_is_not_even_prepared() {
        let (_directory, _clock, issuer) = issuer();
        let too_long = GrantRequest { valid_for: MAX_VALID_FOR + Duration::from_secs(1), ..request() };
        assert!(matches!(issuer.issue(too_long), Err(Error::Request(_))));
        let nobody = GrantRequest { cameras: BTreeSet::new(), ..request() };
        assert!(matches!(issuer.issue(nobody), Err(Error::Request(_))));
    }

    #[test]
    fn nothing_is_signed_on_the_receipt_of_another_log_or_of_other_claims() {
        let (directory, clock, issuer) = issuer();
        let audit = issuer.public_keys().audit;
        let issuer = LocalIssuer::open(directory.path(), clock).unwrap();
        let (one, other) = (issuer.prepare(request()).unwrap(), issuer.prepare(request()).unwrap());
        let foreign = Signers::new().sign_receipt(&one.bytes);
        let refused = issuer.sign(one.clone(), foreign, &audit);
        assert!(matches!(refused, Err(Error::Receipt(Refusal::BadSignature { .. }))));
        let signers = Signers::new();
        let elsewhere = signers.sign_receipt(&other.bytes);
        let refused = issuer.sign(one, elsewhere, &signers.trust().audit);
        assert!(matches!(refused, Err(Error::Receipt(Refusal::ReceiptForOtherClaims))));
    }

    #[test]
    fn the_decision_carries_the_hash_of_the_very_claims_that_are_signed() {
        let (directory, clock, own) = issuer();
        let issuer = LocalIssuer::open(directory.path(), clock).unwrap();
        let prepared = issuer.prepare(request()).unwrap();
        let decision = prepared.decision();
        let signed = own.sign(prepared.clone()).unwrap();
        assert_eq!(decision.claims_hash, sha256(&signed.claims).as_bytes()[..]);
        assert_eq!(decision.grant_id, prepared.grant_id());
    }

    #[test]
    fn a_debug_print_shows_no_key() {
        let (directory, clock, _issuer) = issuer();
        let issuer = LocalIssuer::open(directory.path(), clock).unwrap();
        assert!(!format!("{issuer:?}").contains("KeyPair"));
    }
}
