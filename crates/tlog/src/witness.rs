//! The core of a witness (C2SP tlog-witness): cosigns a checkpoint only if it goes on from the last
//! one that it cosigned. Its HTTP face belongs to whoever runs it.
//!
//! Trust: whoever can change the store of a witness can make it forget what it saw, and so help a
//! log to fork. That is why a witness belongs to another administration than the log.

mod refusal;
mod store;

use std::sync::{Mutex, PoisonError};

use obscura_clock::Timestamp;

use crate::{
    AddCheckpoint, Checkpoint, CheckpointError, Hash, LogVerifier, MAX_CHECKPOINT_BYTES, MAX_PROOF_HASHES,
    WitnessKey, verify_consistency,
};

pub use refusal::Refusal;
pub use store::{FileStore, Head, HeadStore};

/// Longest request that is read: a size, a proof and a checkpoint.
pub const MAX_REQUEST_BYTES: usize = 64 + 45 * MAX_PROOF_HASHES + MAX_CHECKPOINT_BYTES;

/// Cosigns the checkpoints of the logs that it knows.
#[derive(Debug)]
pub struct Witness<S> {
    key: WitnessKey,
    logs: Vec<LogVerifier>,
    store: Mutex<S>,
}

impl<S: HeadStore> Witness<S> {
    /// A witness of these logs. A log that has several keys comes several times.
    pub const fn new(key: WitnessKey, logs: Vec<LogVerifier>, store: S) -> Self {
        Self { key, logs, store: Mutex::new(store) }
    }

    /// Answers the body of an `add-checkpoint`: with signature lines once the new head is durable,
    /// or with the refusal that the specification asks for. Waits for the disk: not for a thread of
    /// an async runtime.
    ///
    /// # Errors
    /// Where the request makes no sense, the log is unknown or did not sign, or what was cosigned
    /// before is not the beginning of the new tree.
    pub fn add_checkpoint(&self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request = parse(body)?;
        self.check_signature(&request)?;
        let unix_s = u64::try_from(now.unix_nanos() / 1_000_000_000).map_err(|_| Refusal::Clock)?;
        let checkpoint = request.checkpoint.checkpoint();
        // Compared and stored under one lock: a slower request can never put an older head back.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let known = store.load(&checkpoint.origin).map_err(Refusal::Store)?;
        let known = known.unwrap_or(Head { size: 0, root: Hash::EMPTY });
        check_head(&request, &known)?;
        let head = Head { size: checkpoint.size, root: checkpoint.root };
        if head != known {
            store.save(&checkpoint.origin, &head).map_err(Refusal::Store)?;
        }
        Ok(self.key.cosign(checkpoint, unix_s))
    }

    fn check_signature(&self, request: &AddCheckpoint) -> Result<(), Refusal> {
        let origin = &request.checkpoint.checkpoint().origin;
        let mut known = self.logs.iter().filter(|log| log.origin() == *origin).peekable();
        if known.peek().is_none() {
            return Err(Refusal::UnknownLog);
        }
        if known.any(|log| log.check(&request.checkpoint).is_ok()) { Ok(()) } else { Err(Refusal::Unsigned) }
    }
}

fn parse(body: &[u8]) -> Result<AddCheckpoint, Refusal> {
    let text =
        Some(body).filter(|body| body.len() <= MAX_REQUEST_BYTES).and_then(|body| str::from_utf8(body).ok());
    let text = text.ok_or_else(|| {
        Refusal::Malformed(CheckpointError::Malformed("not text, or longer than any request").into())
    })?;
    text.parse().map_err(Refusal::Malformed)
}

fn check_head(request: &AddCheckpoint, known: &Head) -> Result<(), Refusal> {
    let Checkpoint { size, root, .. } = request.checkpoint.checkpoint();
    if request.old_size > *size {
        return Err(Refusal::Backwards);
    }
    if request.old_size != known.size {
        return Err(Refusal::Conflict { size: known.size });
    }
    if known.size == *size && known.root != *root {
        return Err(Refusal::ForkAtHead { size: known.size });
    }
    verify_consistency(known.size, &known.root, *size, root, &request.hashes).map_err(|_| Refusal::Fork)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        LogKey, SignedCheckpoint, WitnessVerifier,
        test_support::{ORIGIN, leaves, log_key, naive_consistency, naive_root, witness_key},
    };
    use proptest::prelude::*;
    use std::{collections::HashMap, io};

    #[derive(Debug, Default)]
    struct Memory {
        heads: HashMap<String, Head>,
        fails: bool,
    }

    impl HeadStore for Memory {
        fn load(&mut self, origin: &str) -> io::Result<Option<Head>> {
            Ok(self.heads.get(origin).cloned())
        }

        fn save(&mut self, origin: &str, head: &Head) -> io::Result<()> {
            if self.fails {
                return Err(io::Error::other("disk full"));
            }
            self.heads.insert(origin.to_owned(), head.clone());
            Ok(())
        }
    }

    fn witness() -> Witness<Memory> {
        Witness::new(witness_key(1), vec![log_key().verifier()], Memory::default())
    }

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn signed(hashes: &[Hash], key: &LogKey) -> SignedCheckpoint {
        let (origin, size, root) = (key.origin().to_owned(), hashes.len() as u64, naive_root(hashes));
        SignedCheckpoint::sign(Checkpoint { origin, size, root, extension: String::new() }, key).unwrap()
    }

    fn request(old: usize, hashes: &[Hash]) -> AddCheckpoint {
        let proof = if old == 0 || old > hashes.len() { Vec::new() } else { naive_consistency(old, hashes) };
        AddCheckpoint { old_size: old as u64, hashes: proof, checkpoint: signed(hashes, &log_key()) }
    }

    fn add(witness: &Witness<Memory>, request: &AddCheckpoint) -> Result<String, Refusal> {
        witness.add_checkpoint(request.to_string().as_bytes(), now())
    }

    fn status(witness: &Witness<Memory>, request: &AddCheckpoint) -> u16 {
        add(witness, request).unwrap_err().status()
    }

    #[test]
    fn a_log_that_goes_on_is_cosigned_at_each_size() {
        let (witness, hashes) = (witness(), leaves(40));
        let mut old = 0;
        for new in [1, 1, 5, 8, 8, 39, 40] {
            let request = request(old, &hashes[..new]);
            let lines = add(&witness, &request).unwrap();
            let mut checkpoint = request.checkpoint.clone();
            let known: [WitnessVerifier; 1] = [witness_key(1).verifier()];
            assert_eq!(checkpoint.add_cosignatures(&lines, &known), 1, "{old} to {new}");
            assert_eq!(checkpoint.cosignatures(&known)[0].unix_s, 1_795_428_000);
            old = new;
        }
    }

    #[test]
    fn a_rolled_back_log_is_told_the_size_that_was_seen() {
        let (witness, hashes) = (witness(), leaves(40));
        add(&witness, &request(0, &hashes[..20])).unwrap();
        for (old, new) in [(0, 10), (10, 15), (0, 40), (19, 40), (21, 40)] {
            let refusal = add(&witness, &request(old, &hashes[..new])).unwrap_err();
            assert_eq!((refusal.status(), refusal.body().as_str()), (409, "20\n"), "{old} to {new}");
            assert_eq!(refusal.content_type(), "text/x.tlog.size");
        }
        assert_eq!(status(&witness, &request(20, &hashes[..10])), 400);
    }

    #[test]
    fn a_forked_log_is_refused_and_the_honest_one_still_goes_on() {
        let (witness, hashes) = (witness(), leaves(40));
        add(&witness, &request(0, &hashes[..20])).unwrap();
        let mut forked = hashes.clone();
        forked[7] = forked[8];
        assert_eq!(status(&witness, &request(20, &forked)), 422);
        assert_eq!(status(&witness, &request(20, &forked[..20])), 409);
        let mut unproven = request(20, &hashes);
        unproven.hashes.pop();
        assert_eq!(status(&witness, &unproven), 422);
        add(&witness, &request(20, &hashes)).unwrap();
    }

    #[test]
    fn strangers_and_unsigned_logs_are_refused() {
        let (witness, hashes) = (witness(), leaves(2));
        let stranger = LogKey::from_seed("example.org/other", &[1; 32]).unwrap();
        let unknown = AddCheckpoint { checkpoint: signed(&hashes, &stranger), ..request(0, &hashes) };
        assert_eq!(status(&witness, &unknown), 404);
        let forger = LogKey::from_seed(ORIGIN, &[5; 32]).unwrap();
        let forged = AddCheckpoint { checkpoint: signed(&hashes, &forger), ..request(0, &hashes) };
        assert_eq!(status(&witness, &forged), 403);
        for body in [&b"old 0\n"[..], b"", b"\xff", &vec![b'a'; MAX_REQUEST_BYTES + 1]] {
            assert_eq!(witness.add_checkpoint(body, now()).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn nothing_is_cosigned_that_could_not_be_stored() {
        let hashes = leaves(3);
        let witness = Witness::new(
            witness_key(1),
            vec![log_key().verifier()],
            Memory { fails: true, ..Memory::default() },
        );
        assert_eq!(status(&witness, &request(0, &hashes)), 500);
        witness.store.lock().unwrap().fails = false;
        add(&witness, &request(0, &hashes)).unwrap();
    }

    proptest! {
        /// Whatever is asked for in whatever order: all cosigned trees lie on one line.
        #[test]
        fn invariant_cosigned_trees_never_contradict(steps in prop::collection::vec((0..30_usize, 0..30_usize, any::<bool>()), 0..40)) {
            let (witness, honest) = (witness(), leaves(30));
            let mut forked = honest.clone();
            forked[3] = forked[4];
            let mut seen: Vec<(usize, bool)> = Vec::new();
            for (old, new, fork) in steps {
                let hashes = if fork { &forked[..new] } else { &honest[..new] };
                if add(&witness, &request(old.min(new), hashes)).is_ok() {
                    prop_assert!(seen.iter().all(|(size, _)| *size <= new));
                    prop_assert!(seen.iter().all(|(size, other)| *size <= 3 || new <= 3 || *other == fork));
                    seen.push((new, fork));
                }
            }
        }

        #[test]
        fn any_body_is_refused_without_a_panic(body: Vec<u8>) {
            prop_assert_eq!(witness().add_checkpoint(&body, now()).unwrap_err().status(), 400);
        }
    }
}
