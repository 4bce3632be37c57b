//! Proofs as files: C2SP tlog-proof for an entry, and the body of C2SP tlog-witness
//! `add-checkpoint` for a log that goes on.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    CheckpointError, Hash, LogVerifier, Policy, ProofError, SignedCheckpoint, decimal, leaf_hash,
    verify_consistency, verify_inclusion,
};

/// Hashes in the longest proof that is read: the specification's bound for witnesses.
pub const MAX_PROOF_HASHES: usize = 63;
const PROOF_HEAD: &str = "c2sp.org/tlog-proof@v1";
/// Longest extra data that is read, in base64.
const MAX_EXTRA_CHARACTERS: usize = 64 << 10;

/// The text is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Some line is not what belongs there.
    #[error("not a proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it is none.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Why a proof does not convince.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint is not believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead to it.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// A `.tlog-proof` file: an entry is in a log, and so many witnesses saw that log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// Whatever the maker added; not covered by any signature. Empty where there is none.
    pub extra: Vec<u8>,
    /// Index of the entry, from 0.
    pub index: u64,
    /// From the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The log that has the entry.
    pub checkpoint: SignedCheckpoint,
}

impl LogProof {
    /// Checks, with nothing but public keys, that `leaf` is the entry.
    ///
    /// # Errors
    /// Where the checkpoint is not of this log, not signed or cosigned enough, or the hashes lead
    /// elsewhere.
    pub fn verify(&self, log: &LogVerifier, policy: &Policy, leaf: &[u8]) -> Result<(), VerifyError> {
        log.check(&self.checkpoint)?;
        policy.check(&self.checkpoint)?;
        let tree = self.checkpoint.checkpoint();
        verify_inclusion(&leaf_hash(leaf), self.index, tree.size, &tree.root, &self.hashes)?;
        Ok(())
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_HEAD}")?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", BASE64_STANDARD.encode(&self.extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        write_rest(f, &self.hashes, &self.checkpoint)
    }
}

impl FromStr for LogProof {
    type Err = FileError;

    fn from_str(text: &str) -> Result<Self, FileError> {
        let (head, checkpoint) = split(text)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(PROOF_HEAD) {
            return Err(FileError::Malformed("the first line is not c2sp.org/tlog-proof@v1"));
        }
        let extra = match lines.next_if(|line| line.starts_with("extra ")) {
            Some(line) => parse_extra(line)?,
            None => Vec::new(),
        };
        let index = parse_number(lines.next(), "index ").ok_or(FileError::Malformed("no line `index N`"))?;
        Ok(Self { extra, index, hashes: parse_hashes(lines)?, checkpoint: checkpoint.parse()? })
    }
}

/// What is sent to a witness, and what proves that a log goes on from a smaller one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the prefix.
    pub old_size: u64,
    /// The consistency proof; empty where the old size is 0 or the new one.
    pub hashes: Vec<Hash>,
    /// The log that goes on.
    pub checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// Checks that the checkpoint is of this log and that it begins with the `old_size` entries
    /// that had `old_root`.
    ///
    /// # Errors
    /// Where the checkpoint is not of this log or not signed, or the hashes lead elsewhere.
    pub fn verify(&self, log: &LogVerifier, old_root: &Hash) -> Result<(), VerifyError> {
        log.check(&self.checkpoint)?;
        let tree = self.checkpoint.checkpoint();
        verify_consistency(self.old_size, old_root, tree.size, &tree.root, &self.hashes)?;
        Ok(())
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        write_rest(f, &self.hashes, &self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = FileError;

    fn from_str(text: &str) -> Result<Self, FileError> {
        let (head, checkpoint) = split(text)?;
        let mut lines = head.split('\n');
        let old_size = parse_number(lines.next(), "old ").ok_or(FileError::Malformed("no line `old N`"))?;
        Ok(Self { old_size, hashes: parse_hashes(lines)?, checkpoint: checkpoint.parse()? })
    }
}

fn write_rest(f: &mut fmt::Formatter<'_>, hashes: &[Hash], checkpoint: &SignedCheckpoint) -> fmt::Result {
    hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
    write!(f, "\n{checkpoint}")
}

/// The lines before the first empty line, and the checkpoint behind it.
fn split(text: &str) -> Result<(&str, &str), FileError> {
    text.split_once("\n\n").ok_or(FileError::Malformed("no empty line before a checkpoint"))
}

fn parse_extra(line: &str) -> Result<Vec<u8>, FileError> {
    let malformed = FileError::Malformed("the extra data is not base64, empty or longer than 64 KiB");
    let data = line.strip_prefix("extra ").filter(|data| (1..=MAX_EXTRA_CHARACTERS).contains(&data.len()));
    BASE64_STANDARD.decode(data.ok_or(malformed.clone())?).map_err(|_| malformed)
}

fn parse_number(line: Option<&str>, prefix: &str) -> Option<u64> {
    decimal::parse(line?.strip_prefix(prefix)?)
}

fn parse_hashes<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Hash>, FileError> {
    let mut hashes = Vec::new();
    for line in lines {
        if hashes.len() == MAX_PROOF_HASHES {
            return Err(FileError::Malformed("more than 63 hashes"));
        }
        hashes.push(line.parse().map_err(|_| FileError::Malformed("a line is no hash"))?);
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Checkpoint, LogKey,
        test_support::{ORIGIN, leaves, log_key, naive_consistency, naive_path, naive_root, witness_key},
    };
    use proptest::prelude::*;

    fn signed(size: usize) -> SignedCheckpoint {
        let root = naive_root(&leaves(size));
        let checkpoint =
            Checkpoint { origin: ORIGIN.into(), size: size as u64, root, extension: String::new() };
        SignedCheckpoint::sign(checkpoint, &log_key()).unwrap()
    }

    fn proof(index: usize, size: usize, extra: Vec<u8>) -> LogProof {
        let hashes = naive_path(index, &leaves(size));
        LogProof { extra, index: index as u64, hashes, checkpoint: signed(size) }
    }

    #[test]
    fn a_proof_has_the_lines_of_the_specification() {
        let text = proof(1, 3, b"why".to_vec()).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["c2sp.org/tlog-proof@v1", "extra d2h5", "index 1"]);
        assert_eq!(lines[3..6], [leaves(1)[0].to_string(), leaves(3)[2].to_string(), String::new()]);
        assert_eq!(lines[6..8], [ORIGIN, "3"]);
        let alone = proof(0, 1, Vec::new()).to_string();
        assert!(alone.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nexample.org/"), "{alone}");
        assert_eq!(alone.parse(), Ok(proof(0, 1, Vec::new())));
    }

    #[test]
    fn a_proof_convinces_of_its_leaf_and_of_no_other() {
        let proof = proof(5, 9, Vec::new());
        let log = log_key().verifier();
        proof.verify(&log, &Policy::none(), b"leaf 5").unwrap();
        let wrong = VerifyError::Proof(ProofError::Wrong);
        assert_eq!(proof.verify(&log, &Policy::none(), b"leaf 6"), Err(wrong));
        let stranger = LogKey::from_seed(ORIGIN, &[9; 32]).unwrap().verifier();
        assert!(matches!(
            proof.verify(&stranger, &Policy::none(), b"leaf 5"),
            Err(VerifyError::Checkpoint(_))
        ));
        let policy = Policy::new(1, vec![witness_key(1).verifier()]).unwrap();
        assert!(matches!(proof.verify(&log, &policy, b"leaf 5"), Err(VerifyError::Checkpoint(_))));
        let mut seen = proof.clone();
        let line = witness_key(1).cosign(proof.checkpoint.checkpoint(), 1);
        assert_eq!(seen.checkpoint.add_cosignatures(&line, policy.witnesses()), 1);
        seen.verify(&log, &policy, b"leaf 5").unwrap();
    }

    #[test]
    fn a_consistency_proof_convinces_of_its_prefix_and_of_no_other() {
        let (log, hashes) = (log_key().verifier(), naive_consistency(4, &leaves(11)));
        let proof = AddCheckpoint { old_size: 4, hashes, checkpoint: signed(11) };
        let text = proof.to_string();
        assert!(text.starts_with("old 4\n"), "{text}");
        assert_eq!(text.parse(), Ok(proof.clone()));
        proof.verify(&log, &naive_root(&leaves(4))).unwrap();
        proof.verify(&log, &naive_root(&leaves(5))).unwrap_err();
    }

    #[test]
    fn no_bit_of_a_proof_can_be_changed() {
        let log = log_key().verifier();
        let text = proof(5, 9, Vec::new()).to_string();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let good = changed
                .parse()
                .is_ok_and(|proof: LogProof| proof.verify(&log, &Policy::none(), b"leaf 5").is_ok());
            assert!(!good, "bit {bit}");
        }
    }

    #[test]
    fn long_and_odd_proofs_are_refused_in_words() {
        let hash = leaves(1)[0];
        let long = AddCheckpoint { old_size: 1, hashes: vec![hash; 64], checkpoint: signed(1) };
        assert_eq!(
            long.to_string().parse::<AddCheckpoint>(),
            Err(FileError::Malformed("more than 63 hashes"))
        );
        let text = proof(1, 3, Vec::new()).to_string();
        for (from, to) in
            [("index 1", "index 01"), ("index 1", "index 1\r"), ("@v1\n", "@v1\nextra \n"), ("@v1", "@v2")]
        {
            assert!(text.replacen(from, to, 1).parse::<LogProof>().is_err(), "{to:?}");
        }
    }

    proptest! {
        #[test]
        fn proofs_read_back(size in 1..40_usize, index: prop::sample::Index, extra: Vec<u8>) {
            let proof = proof(index.index(size), size, extra);
            prop_assert_eq!(proof.to_string().parse(), Ok(proof));
        }

        #[test]
        fn whatever_reads_as_a_proof_is_written_the_same(head in "(c2sp.org/tlog-proof@v1\n)(extra [a-z]{0,4}\n)?(index|old) [0-9]{0,3}(\n[A-Z]{43}=){0,2}") {
            let text = format!("{head}\n\n{}", signed(1));
            if let Ok(proof) = text.parse::<LogProof>() {
                prop_assert_eq!(proof.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text: String) {
            prop_assert!(text.parse::<LogProof>().is_err());
            prop_assert!(text.parse::<AddCheckpoint>().is_err());
        }
    }
}
