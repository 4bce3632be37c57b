//! The zone authority's key: who may say where footage rests.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use obscura_proto::registry::v1::{Placement as PlacementMessage, SignedPlacement, SignedSnapshot, Snapshot};
use prost::Message as _;

use crate::{Error, MAX_SNAPSHOT_BYTES, Placement};

/// Domain string of snapshot signatures (`registry.proto`, `SignedSnapshot.signature`).
const SNAPSHOT_DOMAIN: &[u8] = b"obscura snapshot v1";
/// Domain string of placement signatures (`registry.proto`, `SignedPlacement.signature`).
const PLACEMENT_DOMAIN: &[u8] = b"obscura placement v1";

/// The zone authority's Ed25519 key pair. Only the registry holds it.
pub struct Authority {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl Authority {
    /// A new key in PKCS #8, to be kept in a file that only its owner may read (mode 0600).
    ///
    /// # Panics
    /// Where the operating system has no randomness: no key is better than a guessable one.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "without randomness there is no key and nothing sensible to go on with"
    )]
    pub fn generate_pkcs8() -> Vec<u8> {
        let pair = Ed25519KeyPair::generate().expect("the operating system has randomness");
        pair.to_pkcs8().expect("a generated key can be written down").as_ref().to_vec()
    }

    /// The key in these bytes, made by [`Authority::generate_pkcs8`].
    ///
    /// # Errors
    /// [`Error::Key`] where they are not an Ed25519 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| Error::Key)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| Error::Key)?;
        Ok(Self { pair, public })
    }

    /// The public half, 32 bytes, as it stands in every consumer's trust file.
    #[must_use]
    pub const fn public_key(&self) -> [u8; 32] {
        self.public
    }

    /// Signs a snapshot. The same snapshot gives the same bytes each time.
    #[must_use]
    pub fn sign_snapshot(&self, snapshot: &Snapshot) -> SignedSnapshot {
        let snapshot = snapshot.encode_to_vec();
        let signature = self.sign(SNAPSHOT_DOMAIN, &snapshot);
        SignedSnapshot { snapshot: snapshot.into(), signature: signature.into() }
    }

    /// Signs a placement.
    #[must_use]
    pub fn sign_placement(&self, placement: &PlacementMessage) -> SignedPlacement {
        let placement = placement.encode_to_vec();
        let signature = self.sign(PLACEMENT_DOMAIN, &placement);
        SignedPlacement { placement: placement.into(), signature: signature.into() }
    }

    fn sign(&self, domain: &[u8], bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(&signed_bytes(domain, bytes)).as_ref().to_vec()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("public", &hex::encode(self.public)).finish_non_exhaustive()
    }
}

/// The public half of the zone authority's key: verifies what the registry signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthorityKey([u8; 32]);

impl AuthorityKey {
    /// The key with these 32 bytes, from the trust file.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Verifies a placement and reads it.
    ///
    /// # Errors
    /// [`Error::Forged`] where the signature is not the authority's, [`Error::Malformed`] where
    /// a field makes no sense.
    pub fn verify_placement(&self, signed: &SignedPlacement) -> Result<Placement, Error> {
        self.verify(PLACEMENT_DOMAIN, &signed.placement, &signed.signature)
            .map_err(|()| Error::Forged("placement"))?;
        let message = PlacementMessage::decode(signed.placement.clone())
            .map_err(|error| Error::malformed("placement", error))?;
        Placement::from_verified(message)
    }

    /// Verifies a snapshot and reads it.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Forged`] where the signature is not the authority's, and
    /// [`Error::Malformed`].
    pub fn verify_snapshot(&self, signed: &SignedSnapshot) -> Result<Snapshot, Error> {
        if signed.snapshot.len() > MAX_SNAPSHOT_BYTES {
            return Err(Error::TooLarge(signed.snapshot.len()));
        }
        self.verify(SNAPSHOT_DOMAIN, &signed.snapshot, &signed.signature)
            .map_err(|()| Error::Forged("snapshot"))?;
        let snapshot =
            Snapshot::decode(signed.snapshot.clone()).map_err(|error| Error::malformed("snapshot", error))?;
        if snapshot.version == 0 {
            return Err(Error::malformed("snapshot", "versions start at 1"));
        }
        Ok(snapshot)
    }

    fn verify(&self, domain: &[u8], bytes: &[u8], signature: &[u8]) -> Result<(), ()> {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&signed_bytes(domain, bytes), signature)
            .map_err(|_| ())
    }
}

impl From<[u8; 32]> for AuthorityKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({})", hex::encode(self.0))
    }
}

/// The domain string keeps a signature about one kind of message from passing for another.
fn signed_bytes(domain: &[u8], bytes: &[u8]) -> Vec<u8> {
    [domain, &[0], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn authority() -> Authority {
        Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap()
    }

    fn key(authority: &Authority) -> AuthorityKey {
        AuthorityKey::from_bytes(authority.public_key())
    }

    fn snapshot(version: u64) -> Snapshot {
        Snapshot { version, made_unix_ns: 5, ..Snapshot::default() }
    }

    #[test]
    fn a_signed_snapshot_is_verified_and_read_back() {
        let authority = authority();
        let signed = authority.sign_snapshot(&snapshot(3));
        assert_eq!(key(&authority).verify_snapshot(&signed).unwrap(), snapshot(3));
        assert_eq!(authority.sign_snapshot(&snapshot(3)), signed, "the same bytes each time");
    }

    #[test]
    fn a_snapshot_of_another_authority_is_forged() {
        let signed = authority().sign_snapshot(&snapshot(3));
        let verdict = key(&authority()).verify_snapshot(&signed);
        assert!(matches!(verdict, Err(Error::Forged("snapshot"))));
    }

    #[test]
    fn a_placement_signature_does_not_pass_for_a_snapshot_signature() {
        let authority = authority();
        let placement = authority.sign_placement(&PlacementMessage::default());
        let swapped = SignedSnapshot { snapshot: placement.placement, signature: placement.signature };
        assert!(matches!(key(&authority).verify_snapshot(&swapped), Err(Error::Forged(_))));
    }

    #[test]
    fn version_zero_is_refused_because_it_means_none() {
        let authority = authority();
        let signed = authority.sign_snapshot(&snapshot(0));
        assert!(matches!(key(&authority).verify_snapshot(&signed), Err(Error::Malformed { .. })));
    }

    #[test]
    fn what_is_not_a_key_is_refused_and_a_key_never_shows_itself() {
        assert!(matches!(Authority::from_pkcs8(b"not a key"), Err(Error::Key)));
        let pkcs8 = Authority::generate_pkcs8();
        let shown = format!("{:?}", Authority::from_pkcs8(&pkcs8).unwrap());
        assert!(!shown.contains(&hex::encode(&pkcs8[16..48])));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_never_a_snapshot_or_a_placement(
            body in prop::collection::vec(any::<u8>(), 0..200),
            signature in prop::collection::vec(any::<u8>(), 0..80),
            public: [u8; 32],
        ) {
            let key = AuthorityKey::from_bytes(public);
            let snapshot = SignedSnapshot { snapshot: body.clone().into(), signature: signature.clone().into() };
            prop_assert!(key.verify_snapshot(&snapshot).is_err());
            let placement = SignedPlacement { placement: body.into(), signature: signature.into() };
            prop_assert!(key.verify_placement(&placement).is_err());
        }

        #[test]
        fn one_flipped_bit_is_a_forgery(version in 1..u64::MAX, position: prop::sample::Index, bit in 0..8_u8) {
            let authority = authority();
            let signed = authority.sign_snapshot(&snapshot(version));
            let mut body = signed.snapshot.to_vec();
            let position = position.index(body.len());
            body[position] ^= 1 << bit;
            let verdict = key(&authority).verify_snapshot(&SignedSnapshot { snapshot: body.into(), ..signed });
            prop_assert!(matches!(verdict, Err(Error::Forged("snapshot"))));
        }

        #[test]
        fn signed_but_senseless_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let authority = authority();
            let sign = |domain| authority.sign(domain, &body).into();
            let snapshot = SignedSnapshot { snapshot: body.clone().into(), signature: sign(SNAPSHOT_DOMAIN) };
            let _ = key(&authority).verify_snapshot(&snapshot);
            let placement = SignedPlacement { placement: body.clone().into(), signature: sign(PLACEMENT_DOMAIN) };
            let _ = key(&authority).verify_placement(&placement);
        }
    }
}
