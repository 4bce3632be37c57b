//! Keys that sign notes, and their public halves (C2SP signed-note, verifier keys).

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use signed_note::{Signature, is_key_name_valid, key_id};

use crate::{CheckpointError, SignedCheckpoint};

/// Signature type of a log: plain Ed25519.
const ED25519_TYPE: u8 = 1;

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name would not survive in a note.
    #[error("the name of a key must have no space and no plus, and must not be empty")]
    Name,
    /// Not a private key.
    #[error("not an Ed25519 private key")]
    Private,
    /// Not `name+hash+base64`.
    #[error("not a verifier key: expected `name+hash+base64` for Ed25519")]
    Verifier,
    /// Of another kind.
    #[error("the key has signature type {found}, expected {expected}: 1 is a log, 4 a witness")]
    Type {
        /// What it is.
        found: u8,
        /// What was asked for.
        expected: u8,
    },
    /// A typing error, most likely.
    #[error("the hash in the verifier key does not belong to it")]
    Hash,
}

/// A public key with the name and type under which it signs notes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NoteKey {
    name: String,
    kind: u8,
    public: [u8; 32],
    id: u32,
}

impl NoteKey {
    pub fn new(name: &str, kind: u8, public: &[u8; 32]) -> Result<Self, KeyError> {
        // Controls would make the whole note unreadable; a key name has no use for them.
        if !is_key_name_valid(name) || name.chars().any(char::is_control) {
            return Err(KeyError::Name);
        }
        let id = key_id(name, &typed(kind, public));
        Ok(Self { name: name.to_owned(), kind, public: *public, id })
    }

    pub fn parse(text: &str, expected: u8) -> Result<Self, KeyError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Verifier);
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| KeyError::Verifier)?;
        let (found, public) = key.split_first().ok_or(KeyError::Verifier)?;
        if *found != expected {
            return Err(KeyError::Type { found: *found, expected });
        }
        let public = public.try_into().map_err(|_| KeyError::Verifier)?;
        let parsed = Self::new(name, expected, public)?;
        // The hash in the middle is compared with the whole.
        if parsed.to_string() == text { Ok(parsed) } else { Err(KeyError::Hash) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Whether the signature says that it is by this key.
    pub fn claims(&self, signature: &Signature) -> bool {
        signature.name() == self.name && signature.id() == self.id
    }

    pub fn is_signature(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(message, signature).is_ok()
    }

    pub fn signature(&self, bytes: Vec<u8>) -> Result<Signature, CheckpointError> {
        Signature::new(self.name.clone(), self.id, bytes)
            .map_err(|_| CheckpointError::Malformed("the name of the key is none"))
    }
}

impl signed_note::Verifier for NoteKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.is_signature(message, signature)
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode(typed(self.kind, &self.public));
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

fn typed(kind: u8, public: &[u8; 32]) -> Vec<u8> {
    [&[kind], public.as_slice()].concat()
}

/// A private Ed25519 key with its name; says nothing of itself when printed.
pub(crate) struct PrivateKey {
    pair: Ed25519KeyPair,
    pub public: NoteKey,
}

impl PrivateKey {
    pub fn from_seed(name: &str, kind: u8, seed: &[u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, kind, Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Private)?)
    }

    pub fn from_pkcs8(name: &str, kind: u8, pkcs8: &[u8]) -> Result<Self, KeyError> {
        Self::new(name, kind, Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Private)?)
    }

    fn new(name: &str, kind: u8, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Private)?;
        Ok(Self { public: NoteKey::new(name, kind, public)?, pair })
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }
}

/// The key with which a log signs its checkpoints. Its name is the log's origin.
pub struct LogKey(PrivateKey);

impl LogKey {
    /// The key of this seed (RFC 8032).
    ///
    /// # Errors
    /// Where the origin is empty or has spaces or a plus.
    pub fn from_seed(origin: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        PrivateKey::from_seed(origin, ED25519_TYPE, seed).map(Self)
    }

    /// The key of this PKCS#8 document (DER).
    ///
    /// # Errors
    /// As [`Self::from_seed`], and where it is no Ed25519 key.
    pub fn from_pkcs8(origin: &str, pkcs8: &[u8]) -> Result<Self, KeyError> {
        PrivateKey::from_pkcs8(origin, ED25519_TYPE, pkcs8).map(Self)
    }

    /// Name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.0.public.name()
    }

    /// The public half, 32 bytes.
    #[must_use]
    pub const fn public_key(&self) -> [u8; 32] {
        self.0.public.public()
    }

    /// The public half as text: `name+hash+base64`.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.0.public.to_string()
    }

    /// What believes this key.
    #[must_use]
    pub fn verifier(&self) -> LogVerifier {
        LogVerifier(self.0.public.clone())
    }

    /// Signs a message that carries its own domain string, such as that of a receipt.
    #[must_use]
    pub fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }

    pub(crate) fn sign_note(&self, body: &str) -> Result<Signature, CheckpointError> {
        self.0.public.signature(self.0.sign(body.as_bytes()).to_vec())
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({})", self.verifier_key())
    }
}

/// A log whose checkpoints are believed. Its text is the verifier key.
#[derive(Clone, PartialEq, Eq)]
pub struct LogVerifier(NoteKey);

impl LogVerifier {
    /// The log of this name that signs with this Ed25519 key.
    ///
    /// # Errors
    /// Where the origin is empty or has spaces or a plus.
    pub fn new(origin: &str, public_key: &[u8; 32]) -> Result<Self, KeyError> {
        NoteKey::new(origin, ED25519_TYPE, public_key).map(Self)
    }

    /// Name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.0.name()
    }

    /// Reads a checkpoint and checks that it is of this log and signed by it.
    ///
    /// # Errors
    /// Where it is no checkpoint, of another log, or not signed by this key.
    pub fn verify(&self, note: &str) -> Result<SignedCheckpoint, CheckpointError> {
        let signed: SignedCheckpoint = note.parse()?;
        self.check(&signed)?;
        Ok(signed)
    }

    /// Checks that a checkpoint is of this log and signed by it.
    ///
    /// # Errors
    /// Where it is of another log, or not signed by this key.
    pub fn check(&self, signed: &SignedCheckpoint) -> Result<(), CheckpointError> {
        signed.check(&self.0)
    }

    /// Whether the signature is by this log and good for this text.
    pub(crate) fn is_signature(&self, body: &str, signature: &Signature) -> bool {
        self.0.claims(signature) && self.0.is_signature(body.as_bytes(), signature.signature())
    }
}

impl FromStr for LogVerifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        NoteKey::parse(text, ED25519_TYPE).map(Self)
    }
}

impl fmt::Display for LogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogVerifier({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{ORIGIN, log_key};
    use aws_lc_rs::rand::SystemRandom;
    use proptest::prelude::*;

    #[test]
    fn a_verifier_key_reads_back_and_a_mistyped_one_is_refused() {
        let text = log_key().verifier_key();
        assert_eq!(text.parse(), Ok(log_key().verifier()));
        assert_eq!(LogVerifier::new(ORIGIN, &log_key().public_key()), Ok(log_key().verifier()));
        assert_eq!(text.replacen("audit", "adit", 1).parse::<LogVerifier>(), Err(KeyError::Hash));
        assert_eq!("a+b".parse::<LogVerifier>(), Err(KeyError::Verifier));
        let witness = crate::test_support::witness_key(1).verifier_key();
        assert_eq!(witness.parse::<LogVerifier>(), Err(KeyError::Type { found: 4, expected: 1 }));
    }

    #[test]
    fn a_key_from_pkcs8_signs_and_names_that_break_notes_are_refused() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = LogKey::from_pkcs8(ORIGIN, pkcs8.as_ref()).unwrap();
        assert!(key.verifier().0.is_signature(b"message", &key.sign_raw(b"message")));
        assert!(!format!("{key:?}").is_empty());
        assert_eq!(LogKey::from_pkcs8(ORIGIN, b"no key").unwrap_err(), KeyError::Private);
        for name in ["", "a b", "a+b", "a\u{2003}b", "a\u{1}"] {
            assert_eq!(LogKey::from_seed(name, &[0; 32]).unwrap_err(), KeyError::Name, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in "[a-z.]{0,4}\\+?[0-9a-f]{0,8}\\+?[A-Za-z0-9+/=]{0,50}") {
            prop_assert!(text.parse::<LogVerifier>().is_err());
        }
    }
}
