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
    SignedCheckpoint, WitnessKey, verify_consistency,
};

pub use refusal::Refusal;
pub use store::{FileStore, HeadStore, origin_hash};

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
        let (size, root) = known.as_ref().map_or((0, Hash::EMPTY), |known| {
            let known = known.checkpoint();
            (known.size, known.root)
        });
        check_head(&request, size, &root)?;
        let lines = self.key.cosign(checkpoint, unix_s);
        if known.is_none() || size != checkpoint.size {
            let mut head = request.checkpoint.with_signatures_of(&self.logs);
            head.add_cosignatures(&lines, &[self.key.verifier()]);
            store.save(&head).map_err(Refusal::Store)?;
        }
        Ok(lines)
    }

    /// The newest checkpoint that was cosigned, with the signatures of its log and of this witness, of the log with
    /// this [`origin_hash`]. Waits for the disk, as [`Self::add_checkpoint`].
    ///
    /// # Errors
    /// Where the log is unknown or nothing of it was cosigned yet, or the store fails.
    pub fn newest(&self, hash: &str) -> Result<SignedCheckpoint, Refusal> {
        let mut origins = self.logs.iter().map(LogVerifier::origin);
        let origin = origins.find(|origin| origin_hash(origin) == hash).ok_or(Refusal::UnknownLog)?;
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.load(origin).map_err(Refusal::Store)?.ok_or(Refusal::NothingYet)
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

/// Compares the request with size and root of the last tree that was cosigned.
fn check_head(request: &AddCheckpoint, known: u64, known_root: &Hash) -> Result<(), Refusal> {
    let Checkpoint { size, root, .. } = request.checkpoint.checkpoint();
    if request.old_size > *size {
        return Err(Refusal::Backwards);
    }
    if request.old_size != known {
        return Err(Refusal::Conflict { size: known });
    }
    if known == *size && known_root != root {
        return Err(Refusal::ForkAtHead { size: known });
    }
    verify_consistency(known, known_root, *size, root, &request.hashes).map_err(|_| Refusal::Fork)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        LogKey, WitnessVerifier,
        test_support::{ORIGIN, leaves, log_key, naive_consistency, naive_root, witness_key},
    };
    use proptest::prelude::*;
    use std::{collections::HashMap, io};

    #[derive(Debug, Default)]
    struct Memory {
        heads: HashMap<String, SignedCheckpoint>,
        fails: bool,
    }

    impl HeadStore for Memory {
        fn load(&mut self, origin: &str) -> io::Result<Option<SignedCheckpoint>> {
            Ok(self.heads.get(origin).cloned())
        }

        fn save(&mut self, head: &SignedCheckpoint) -> io::Result<()> {
            if self.fails {
                return Err(io::Error::other("disk full"));
            }
            self.heads.insert(head.checkpoint().origin.clone(), head.clone());
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
    fn whoever_asks_is_told_the_newest_checkpoint_that_was_cosigned_with_both_signatures_and_no_other() {
        let (witness, hashes) = (witness(), leaves(40));
        let known: [WitnessVerifier; 2] = [witness_key(1).verifier(), witness_key(2).verifier()];
        let newest = || witness.newest(&origin_hash(ORIGIN));
        assert_eq!(newest().unwrap_err().status(), 404);
        for (old, new) in [(0, 0), (0, 20), (20, 40), (40, 40)] {
            let mut request = request(old, &hashes[..new]);
            let other = witness_key(2).cosign(request.checkpoint.checkpoint(), 1);
            request.checkpoint.add_cosignatures(&other, &known);
            add(&witness, &request).unwrap();
            let told = log_key().verifier().verify(&newest().unwrap().to_string()).unwrap();
            assert_eq!(told.checkpoint(), request.checkpoint.checkpoint());
            let names: Vec<_> = told.cosignatures(&known).into_iter().map(|one| one.name).collect();
            assert_eq!(names, [witness_key(1).name()], "who else signed is not this witness's to tell");
        }
        add(&witness, &request(0, &hashes[..10])).unwrap_err();
        assert_eq!(newest().unwrap().checkpoint().size, 40, "what was refused is not remembered");
        assert_eq!(witness.newest(&origin_hash("example.org/other")).unwrap_err().status(), 404);
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
