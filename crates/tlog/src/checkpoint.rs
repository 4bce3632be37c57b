//! Checkpoints: size and root of a log as a signed note (C2SP tlog-checkpoint, signed-note).

use std::{fmt, str::FromStr};

use signed_note::{Note, Signature, VerifierList};

use crate::{
    Hash, LogKey, LogVerifier, MAX_SIZE,
    cosignature::{Cosigned, WitnessVerifier},
    key::NoteKey,
};

/// Where the newest checkpoint of a log is.
pub const CHECKPOINT_PATH: &str = "checkpoint";
/// Longest checkpoint with its signatures.
pub const MAX_CHECKPOINT_BYTES: usize = 64 << 10;

/// Why a checkpoint is none, or is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note with a checkpoint in it.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// Of another log.
    #[error("the checkpoint is of the log `{found}`, expected `{expected}`")]
    Origin {
        /// What it says.
        found: String,
        /// Whose key there is.
        expected: String,
    },
    /// The log did not sign it.
    #[error("no good signature of `{0}`")]
    Unsigned(String),
    /// Too few witnesses.
    #[error("{found} of the witnesses cosigned, {quorum} are needed")]
    Quorum {
        /// How many did.
        found: usize,
        /// How many are needed.
        quorum: usize,
    },
}

/// What a log says about itself at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of all entries.
    pub root: Hash,
    /// Further lines, each with its newline; empty where there are none.
    pub extension: String,
}

impl Checkpoint {
    /// What is signed.
    #[must_use]
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n{}", self.origin, self.size, self.root, self.extension)
    }

    fn parse(body: &str) -> Result<Self, CheckpointError> {
        let parsed = tlog_tiles::Checkpoint::from_bytes(body.as_bytes())
            .map_err(|_| CheckpointError::Malformed("expected the lines origin, size and root hash"))?;
        if parsed.size() > MAX_SIZE {
            return Err(CheckpointError::Malformed("the size is beyond 2^56"));
        }
        let checkpoint = Self {
            origin: parsed.origin().to_owned(),
            size: parsed.size(),
            root: (*parsed.hash()).into(),
            extension: parsed.extension().to_owned(),
        };
        if checkpoint.body() == body {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Malformed("the lines are not written in their one way"))
        }
    }
}

/// A checkpoint with signatures of its log and of witnesses, good or not: parsing proves nothing,
/// [`crate::LogVerifier::verify`] does.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signatures: Vec<Signature>,
}

impl Eq for SignedCheckpoint {}

impl SignedCheckpoint {
    /// The log's own statement.
    ///
    /// # Errors
    /// Where the checkpoint is of another log than the key, or has lines that cannot be read back.
    pub fn sign(checkpoint: Checkpoint, key: &LogKey) -> Result<Self, CheckpointError> {
        check_origin(&checkpoint, key.origin())?;
        let body = checkpoint.body();
        if Checkpoint::parse(&body)? != checkpoint {
            return Err(CheckpointError::Malformed("an extension is lines that are not empty"));
        }
        let signed = Self { checkpoint, signatures: vec![key.sign_note(&body)?] };
        signed.note()?;
        Ok(signed)
    }

    /// What is signed.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The same checkpoint with nothing but the good signatures of these keys of its log.
    pub(crate) fn with_signatures_of(&self, logs: &[LogVerifier]) -> Self {
        let body = self.checkpoint.body();
        let is_good = |signature: &Signature| logs.iter().any(|log| log.is_signature(&body, signature));
        let signatures = self.signatures.iter().filter(|signature| is_good(signature)).cloned().collect();
        Self { checkpoint: self.checkpoint.clone(), signatures }
    }

    /// Adds the signature lines of witnesses, as `add-checkpoint` answers them: only good ones of
    /// the given witnesses, of each its newest. Returns how many lines were kept.
    pub fn add_cosignatures(&mut self, lines: &str, witnesses: &[WitnessVerifier]) -> usize {
        let mut kept = 0;
        for signature in lines.lines().filter_map(|line| Signature::from_bytes(line.as_bytes()).ok()) {
            kept += usize::from(self.add_cosignature(signature, witnesses));
        }
        kept
    }

    fn add_cosignature(&mut self, signature: Signature, witnesses: &[WitnessVerifier]) -> bool {
        let body = self.checkpoint.body();
        let Some(new) = witnesses.iter().find_map(|witness| witness.check(&body, &signature)) else {
            return false;
        };
        let same = |other: &Signature| other.name() == signature.name() && other.id() == signature.id();
        let newest = self.cosignatures(witnesses).into_iter().find(|old| old.name == new.name);
        if newest.is_some_and(|old| old.unix_s >= new.unix_s) {
            return false;
        }
        self.signatures.retain(|other| !same(other));
        self.signatures.push(signature);
        true
    }

    /// Which of these witnesses signed, each at most once, in the order of the signatures.
    #[must_use]
    pub fn cosignatures(&self, witnesses: &[WitnessVerifier]) -> Vec<Cosigned> {
        let body = self.checkpoint.body();
        let mut found: Vec<Cosigned> = Vec::new();
        for signature in &self.signatures {
            let cosigned = witnesses.iter().find_map(|witness| witness.check(&body, signature));
            found.extend(cosigned.filter(|new| found.iter().all(|old| old.name != new.name)));
        }
        found
    }

    /// Checks origin and signature.
    pub(crate) fn check(&self, key: &NoteKey) -> Result<(), CheckpointError> {
        check_origin(&self.checkpoint, key.name())?;
        let keys = VerifierList::new(vec![Box::new(key.clone())]);
        self.note()?.verify(&keys).map(drop).map_err(|_| CheckpointError::Unsigned(key.name().to_owned()))
    }

    fn note(&self) -> Result<Note, CheckpointError> {
        Note::new(self.checkpoint.body().as_bytes(), &self.signatures)
            .map_err(|_| CheckpointError::Malformed("the text is no note"))
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.checkpoint.body())?;
        self.signatures.iter().try_for_each(|signature| f.write_str(&line(signature)))
    }
}

impl FromStr for SignedCheckpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > MAX_CHECKPOINT_BYTES {
            return Err(CheckpointError::Malformed("longer than 64 KiB"));
        }
        let malformed = CheckpointError::Malformed("expected a text, an empty line and signatures");
        // The library checks characters, the number of signatures and each of them.
        let note = Note::from_bytes(text.as_bytes()).map_err(|_| malformed.clone())?;
        let body = str::from_utf8(note.text()).map_err(|_| malformed.clone())?;
        let signatures = text.get(body.len() + 1..).ok_or_else(|| malformed.clone())?;
        let signatures = signatures
            .lines()
            .map(|line| Signature::from_bytes(line.as_bytes()).map_err(|_| malformed.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self { checkpoint: Checkpoint::parse(body)?, signatures })
    }
}

/// One signature line with its newline.
pub(crate) fn line(signature: &Signature) -> String {
    String::from_utf8_lossy(&signature.to_bytes()).into_owned()
}

fn check_origin(checkpoint: &Checkpoint, expected: &str) -> Result<(), CheckpointError> {
    if checkpoint.origin == expected {
        return Ok(());
    }
    Err(CheckpointError::Origin { found: checkpoint.origin.clone(), expected: expected.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{ORIGIN, leaves, log_key, witness_key};
    use proptest::prelude::*;

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: ORIGIN.to_owned(), size, root: leaves(1)[0], extension: String::new() }
    }

    #[test]
    fn a_signed_checkpoint_reads_back_and_is_believed() {
        let signed = SignedCheckpoint::sign(checkpoint(7), &log_key()).unwrap();
        let text = signed.to_string();
        assert!(text.starts_with("example.org/obscura/audit/eu\n7\n"), "{text}");
        assert_eq!(text.parse::<SignedCheckpoint>().unwrap(), signed);
        assert_eq!(log_key().verifier().verify(&text).unwrap(), signed);
    }

    #[test]
    fn a_checkpoint_of_another_log_or_key_is_refused() {
        let text = SignedCheckpoint::sign(checkpoint(7), &log_key()).unwrap().to_string();
        let other = LogKey::from_seed("example.org/other", &[1; 32]).unwrap();
        assert!(matches!(other.verifier().verify(&text), Err(CheckpointError::Origin { .. })));
        let forged = LogKey::from_seed(ORIGIN, &[2; 32]).unwrap();
        assert_eq!(forged.verifier().verify(&text), Err(CheckpointError::Unsigned(ORIGIN.to_owned())));
        assert!(matches!(SignedCheckpoint::sign(checkpoint(7), &other), Err(CheckpointError::Origin { .. })));
    }

    #[test]
    fn no_bit_of_a_checkpoint_can_be_changed() {
        let key = log_key().verifier();
        let text = SignedCheckpoint::sign(checkpoint(7), &log_key()).unwrap().to_string();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = String::from_utf8(bytes);
            assert!(changed.is_err() || key.verify(&changed.unwrap()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lines_that_would_read_differently_are_not_signed() {
        for extension in ["no newline", "\n", "a\n\nb\n"] {
            let odd = Checkpoint { extension: extension.to_owned(), ..checkpoint(1) };
            assert!(SignedCheckpoint::sign(odd, &log_key()).is_err(), "{extension:?}");
        }
        let lines = Checkpoint { extension: "pruned 5\nmore\n".to_owned(), ..checkpoint(1) };
        let text = SignedCheckpoint::sign(lines.clone(), &log_key()).unwrap().to_string();
        assert_eq!(*log_key().verifier().verify(&text).unwrap().checkpoint(), lines);
    }

    #[test]
    fn only_good_cosignatures_of_known_witnesses_are_kept_and_of_each_the_newest() {
        let known = [witness_key(1).verifier(), witness_key(2).verifier()];
        let mut signed = SignedCheckpoint::sign(checkpoint(7), &log_key()).unwrap();
        let lines = [
            witness_key(1).cosign(&checkpoint(7), 100),
            witness_key(3).cosign(&checkpoint(7), 100),
            witness_key(2).cosign(&checkpoint(8), 100),
            "nonsense\n".to_owned(),
        ];
        assert_eq!(signed.add_cosignatures(&lines.concat(), &known), 1);
        assert_eq!(signed.add_cosignatures(&witness_key(1).cosign(&checkpoint(7), 99), &known), 0);
        assert_eq!(signed.add_cosignatures(&witness_key(1).cosign(&checkpoint(7), 101), &known), 1);
        let read: SignedCheckpoint = signed.to_string().parse().unwrap();
        assert_eq!(
            read.cosignatures(&known),
            [Cosigned { name: "witness1.example".to_owned(), unix_s: 101 }]
        );
        assert!(log_key().verifier().verify(&signed.to_string()).is_ok());
    }

    proptest! {
        #[test]
        fn whatever_reads_as_a_checkpoint_is_written_the_same(
            size in "(0|[0-9]{1,3}|x)", extension in "([a-z ]{0,3}\n){0,2}", tail in "\n{0,2}(— a [A-Za-z0-9+/]{8}\n){0,2}",
        ) {
            let text = format!("{ORIGIN}\n{size}\n{}\n{extension}{tail}", Hash::EMPTY);
            if let Ok(signed) = text.parse::<SignedCheckpoint>() {
                prop_assert_eq!(signed.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text: String) {
            prop_assert!(text.parse::<SignedCheckpoint>().is_err());
        }
    }
}
