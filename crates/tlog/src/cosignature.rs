//! Cosignatures of witnesses (C2SP tlog-cosignature, Ed25519) and how many of them it takes.

use std::{fmt, str::FromStr};

use signed_note::Signature;

use crate::{
    Checkpoint, CheckpointError, KeyError, SignedCheckpoint,
    checkpoint::line,
    key::{NoteKey, PrivateKey},
};

/// Signature type of a witness: timestamped Ed25519.
const COSIGNATURE_TYPE: u8 = 4;
/// Witnesses that one policy may name.
const MAX_WITNESSES: usize = 32;

/// A witness's good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Name of the witness.
    pub name: String,
    /// When it signed, seconds since the Unix epoch by its own clock.
    pub unix_s: u64,
}

/// The key with which a witness cosigns.
pub struct WitnessKey(PrivateKey);

impl WitnessKey {
    /// The key of this seed (RFC 8032).
    ///
    /// # Errors
    /// Where the name is empty or has spaces or a plus.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        PrivateKey::from_seed(name, COSIGNATURE_TYPE, seed).map(Self)
    }

    /// The key of this PKCS#8 document (DER).
    ///
    /// # Errors
    /// As [`Self::from_seed`], and where it is no Ed25519 key.
    pub fn from_pkcs8(name: &str, pkcs8: &[u8]) -> Result<Self, KeyError> {
        PrivateKey::from_pkcs8(name, COSIGNATURE_TYPE, pkcs8).map(Self)
    }

    /// Name of the witness.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.public.name()
    }

    /// The public half as text: `name+hash+base64`.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.0.public.to_string()
    }

    /// What believes this key.
    #[must_use]
    pub fn verifier(&self) -> WitnessVerifier {
        WitnessVerifier(self.0.public.clone())
    }

    /// The signature line, with its newline, that says: at `unix_s` seconds since the Unix epoch
    /// this was the largest consistent tree of the log that the witness had seen.
    #[must_use]
    pub fn cosign(&self, checkpoint: &Checkpoint, unix_s: u64) -> String {
        let signature = self.0.sign(&message(&checkpoint.body(), unix_s));
        let bytes = [unix_s.to_be_bytes().as_slice(), &signature].concat();
        // Only an invalid name could fail, and the key was made with a valid one.
        self.0.public.signature(bytes).map(|signature| line(&signature)).unwrap_or_default()
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({})", self.verifier_key())
    }
}

/// A witness whose cosignatures are believed. Its text is the verifier key, with type 4.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessVerifier(NoteKey);

impl WitnessVerifier {
    /// Name of the witness.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// What the signature says, if it is this witness's and good for this text.
    pub(crate) fn check(&self, body: &str, signature: &Signature) -> Option<Cosigned> {
        if !self.0.claims(signature) {
            return None;
        }
        let (unix_s, bytes) = signature.signature().split_first_chunk::<8>()?;
        let unix_s = u64::from_be_bytes(*unix_s);
        // The specification's bound.
        i64::try_from(unix_s).ok()?;
        let good = self.0.is_signature(&message(body, unix_s), bytes);
        good.then(|| Cosigned { name: self.name().to_owned(), unix_s })
    }
}

impl FromStr for WitnessVerifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        NoteKey::parse(text, COSIGNATURE_TYPE).map(Self)
    }
}

impl fmt::Display for WitnessVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for WitnessVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessVerifier({self})")
    }
}

fn message(body: &str, unix_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {unix_s}\n{body}").into_bytes()
}

/// Why a policy makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Never or always met.
    #[error("a policy asks for 1 to {witnesses} of {witnesses} witnesses, not {quorum}")]
    Quorum {
        /// How many were asked for.
        quorum: usize,
        /// How many there are.
        witnesses: usize,
    },
    /// Too many.
    #[error("a policy names at most 32 witnesses, not {0}")]
    Witnesses(usize),
    /// The same witness would count twice.
    #[error("two witnesses have the name or the key of `{0}`: each may count once")]
    Twice(String),
}

/// How many of which witnesses must have cosigned.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    quorum: usize,
    witnesses: Vec<WitnessVerifier>,
}

impl Policy {
    /// The log's word is enough.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// At least `quorum` of these witnesses.
    ///
    /// # Errors
    /// Where that is none or more than there are, or a name or key comes twice.
    pub fn new(quorum: usize, witnesses: Vec<WitnessVerifier>) -> Result<Self, PolicyError> {
        if witnesses.len() > MAX_WITNESSES {
            return Err(PolicyError::Witnesses(witnesses.len()));
        }
        if quorum == 0 || quorum > witnesses.len() {
            return Err(PolicyError::Quorum { quorum, witnesses: witnesses.len() });
        }
        for (position, witness) in witnesses.iter().enumerate() {
            let same = |other: &WitnessVerifier| {
                other.name() == witness.name() || other.0.public() == witness.0.public()
            };
            if witnesses.iter().take(position).any(same) {
                return Err(PolicyError::Twice(witness.name().to_owned()));
            }
        }
        Ok(Self { quorum, witnesses })
    }

    /// The witnesses that count.
    #[must_use]
    pub fn witnesses(&self) -> &[WitnessVerifier] {
        &self.witnesses
    }

    /// Who of them cosigned.
    ///
    /// # Errors
    /// Where they are too few.
    pub fn check(&self, signed: &SignedCheckpoint) -> Result<Vec<Cosigned>, CheckpointError> {
        let cosigned = signed.cosignatures(&self.witnesses);
        if cosigned.len() < self.quorum {
            return Err(CheckpointError::Quorum { found: cosigned.len(), quorum: self.quorum });
        }
        Ok(cosigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Hash,
        test_support::{ORIGIN, log_key, witness_key},
    };

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: ORIGIN.to_owned(), size: 0, root: Hash::EMPTY, extension: String::new() }
    }

    fn signed_by(witnesses: &[u8]) -> SignedCheckpoint {
        let all: Vec<_> = (0..9).map(|number| witness_key(number).verifier()).collect();
        let mut signed = SignedCheckpoint::sign(checkpoint(), &log_key()).unwrap();
        for number in witnesses {
            signed.add_cosignatures(&witness_key(*number).cosign(&checkpoint(), 5), &all);
        }
        signed
    }

    #[test]
    fn a_quorum_counts_each_known_witness_once() {
        let known = (1..=3).map(|number| witness_key(number).verifier()).collect();
        let policy = Policy::new(2, known).unwrap();
        assert_eq!(policy.check(&signed_by(&[3, 1])).unwrap().len(), 2);
        for few in [&[][..], &[1], &[1, 1], &[1, 4, 5]] {
            let error = policy.check(&signed_by(few)).unwrap_err();
            assert!(matches!(error, CheckpointError::Quorum { quorum: 2, .. }), "{few:?}: {error}");
        }
        assert_eq!(Policy::none().check(&signed_by(&[])), Ok(Vec::new()));
    }

    #[test]
    fn a_witness_cannot_count_under_two_names_and_a_quorum_can_be_met() {
        let one = witness_key(1).verifier();
        let alias = WitnessKey::from_seed("other.example", &[101; 32]).unwrap().verifier();
        assert_eq!(
            Policy::new(1, vec![one.clone(), alias]).unwrap_err(),
            PolicyError::Twice("other.example".into())
        );
        assert_eq!(
            Policy::new(0, vec![one.clone()]).unwrap_err(),
            PolicyError::Quorum { quorum: 0, witnesses: 1 }
        );
        assert_eq!(Policy::new(2, vec![one]).unwrap_err(), PolicyError::Quorum { quorum: 2, witnesses: 1 });
    }

    #[test]
    fn no_bit_of_a_cosignature_can_be_changed() {
        let (line, witness) = (witness_key(1).cosign(&checkpoint(), 77), witness_key(1).verifier());
        let signature = Signature::from_bytes(line.trim_end().as_bytes()).unwrap();
        assert_eq!(witness.check(&checkpoint().body(), &signature).unwrap().unix_s, 77);
        for bit in 0..72 * 8 {
            let mut bytes = signature.signature().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = Signature::new(signature.name().to_owned(), signature.id(), bytes).unwrap();
            assert_eq!(witness.check(&checkpoint().body(), &changed), None, "bit {bit}");
        }
    }

    #[test]
    fn a_log_key_is_no_witness_and_a_verifier_key_reads_back() {
        assert_eq!(witness_key(1).verifier_key().parse(), Ok(witness_key(1).verifier()));
        let log = log_key().verifier_key();
        assert_eq!(log.parse::<WitnessVerifier>(), Err(KeyError::Type { found: 1, expected: 4 }));
    }
}
