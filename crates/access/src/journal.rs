//! The local issuer's journal: one JSON line per grant, chained by hashes, durable before anything
//! is signed.
//!
//! 1. A line's hash covers the previous hash, the position, the time and the hash of the claims; the
//!    claims themselves stand beside it, so that a person's data can be erased (`"claims":null`)
//!    while the chain still holds.
//! 2. Appending is: lock the file, read what another process added, write the line, fsync. A crash
//!    in between leaves a line without its end or one that nobody got a signature for.
//! 3. Opening verifies every line. A last line without its end is cut with a warning: its signature
//!    cannot exist, since signing follows the fsync. Any other damage is an error.
//!
//! Whole lines taken off the end show only against receipts already issued; a log with witnesses
//! takes over from this journal.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use obscura_clock::Timestamp;
use obscura_ids::Digest;
use serde::{Deserialize, Serialize};

use crate::{IssuerError as Error, issuer::JournalClaims, key_file, signing::sha256};

/// Longest line; claims at their limits stay below.
const MAX_LINE_BYTES: u64 = 256 << 10;
/// Domain of a line's hash.
const DOMAIN: &[u8] = b"obscura journal v1\0";
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const LOCK_TRIES: u32 = 250;

/// Where a line stands in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Position, from 0.
    pub(crate) index: u64,
    /// When it was written.
    pub(crate) committed: Timestamp,
    /// SHA-256 of the claims that it is about.
    pub(crate) claims_hash: Digest,
}

impl Leaf {
    fn hash(&self, previous: Digest) -> Digest {
        let index = self.index.to_be_bytes();
        let committed = self.committed.unix_nanos().to_be_bytes();
        let parts = [DOMAIN, previous.as_bytes(), &index, &committed, self.claims_hash.as_bytes()];
        sha256(&parts.concat())
    }
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    committed_unix_ns: i64,
    claims_hash: String,
    hash: String,
    claims: Option<JournalClaims>,
}

/// The journal, verified up to `length`.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    next_index: u64,
    head: Digest,
}

impl Journal {
    /// Makes an empty journal. Never overwrites.
    pub(crate) fn create(path: &Path) -> Result<(), Error> {
        key_file::create_private(path, b"").map_err(Error::file(path))
    }

    /// Opens the journal, verifies every line and cuts a torn last one.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(Error::file(path))?;
        let mut journal = Self { path: path.to_owned(), file, length: 0, next_index: 0, head: Digest::ZERO };
        journal.locked(Self::catch_up)?;
        Ok(journal)
    }

    /// Appends one line; it is durable on return.
    pub(crate) fn append(&mut self, claims: JournalClaims, committed: Timestamp) -> Result<Leaf, Error> {
        self.locked(|journal| {
            // Reads what others appended, and cuts what an append of ours that failed left behind.
            journal.catch_up()?;
            let leaf = Leaf { index: journal.next_index, committed, claims_hash: claims.hash() };
            let line = encode(&leaf, leaf.hash(journal.head), claims)?;
            journal.write(&line)?;
            journal.accept(&line)?;
            Ok(leaf)
        })
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Error> {
        let mut write = || {
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(line)?;
            self.file.sync_data()
        };
        let written = write();
        if written.is_err() {
            // After a failed fsync the kernel may call pages clean that never reached the disk: the
            // line must go, so that the next one is written anew. Where this fails too, the next
            // append finds the rest and cuts it or builds on it.
            let _ = self.file.set_len(self.length);
        }
        written.map_err(Error::file(&self.path))
    }

    /// Runs `work` while no other process appends. Waits at most 5 s for the lock.
    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        lock(&self.file, &self.path)?;
        let result = work(self);
        self.file.unlock().map_err(Error::file(&self.path))?;
        result
    }

    /// Verifies the lines behind `length`.
    fn catch_up(&mut self) -> Result<(), Error> {
        loop {
            let line = self.read_line()?;
            match line.last() {
                None => return Ok(()),
                Some(b'\n') => self.accept(&line)?,
                Some(_) if line.len() as u64 > MAX_LINE_BYTES => return Err(self.broken("is too long")),
                Some(_) => return self.cut(line.len()),
            }
        }
    }

    fn read_line(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let mut read = || {
            self.file.seek(SeekFrom::Start(self.length))?;
            BufReader::new(&self.file).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)
        };
        read().map_err(Error::file(&self.path))?;
        Ok(line)
    }

    /// Checks one whole line against the chain and moves behind it.
    fn accept(&mut self, line: &[u8]) -> Result<(), Error> {
        let parsed: Line = serde_json::from_slice(line).map_err(|_| self.broken("is not a journal line"))?;
        let leaf = Leaf {
            index: parsed.index,
            committed: Timestamp::from_unix_nanos(parsed.committed_unix_ns),
            claims_hash: parsed.claims_hash.parse().map_err(|_| self.broken("has no hash of claims"))?,
        };
        let hash = leaf.hash(self.head);
        if leaf.index != self.next_index || hash.to_string() != parsed.hash {
            return Err(self.broken("does not follow from the line before it"));
        }
        if parsed.claims.is_some_and(|claims| claims.hash() != leaf.claims_hash) {
            return Err(self.broken("holds other claims than its hash says"));
        }
        self.length += line.len() as u64;
        self.next_index += 1;
        self.head = hash;
        Ok(())
    }

    fn cut(&mut self, bytes: usize) -> Result<(), Error> {
        tracing::warn!(bytes, line = self.next_index + 1, "cutting a torn last line off the grant journal");
        self.file.set_len(self.length).and_then(|()| self.file.sync_all()).map_err(Error::file(&self.path))
    }

    fn broken(&self, why: &'static str) -> Error {
        Error::Journal { path: self.path.clone(), line: self.next_index + 1, why }
    }
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(Error::file(path)(error)),
        }
    }
    Err(Error::Busy { path: path.to_owned() })
}

fn encode(leaf: &Leaf, hash: Digest, claims: JournalClaims) -> Result<Vec<u8>, Error> {
    let line = Line {
        index: leaf.index,
        committed_unix_ns: leaf.committed.unix_nanos(),
        claims_hash: leaf.claims_hash.to_string(),
        hash: hash.to_string(),
        claims: Some(claims),
    };
    let mut line = serde_json::to_vec(&line).map_err(|error| Error::Request(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn claims(reason: &str) -> JournalClaims {
        serde_json::from_value(serde_json::json!({
            "grant_id": "01890a5d-ac96-774b-bcce-b302099a8057", "subject": "u", "cameras": [],
            "layers": ["original"], "span": {"start": 1, "end": 2}, "purpose": "p", "reason": reason,
            "holder": "spiffe://example.org/obscura/cli", "not_before_unix_ns": 1, "expires_unix_ns": 2,
        }))
        .unwrap()
    }

    fn moment(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    fn journal_of(lines: i64) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        Journal::create(&path).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        for line in 0..lines {
            let leaf = journal.append(claims(&format!("case {line}")), moment(line)).unwrap();
            assert_eq!(leaf.index, line.unsigned_abs());
        }
        (directory, path)
    }

    #[test]
    fn a_journal_goes_on_where_it_stopped() {
        let (_directory, path) = journal_of(3);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.append(claims("x"), moment(9)).unwrap().index, 3);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    }

    #[test]
    fn a_torn_last_line_is_cut_wherever_it_was_torn_and_the_chain_goes_on() {
        let (_directory, path) = journal_of(2);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for torn in first + 1..whole.len() {
            fs::write(&path, &whole[..torn]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), first as u64);
            assert_eq!(journal.append(claims("again"), moment(7)).unwrap().index, 1);
            assert_eq!(Journal::open(&path).unwrap().next_index, 2);
        }
    }

    #[test]
    fn two_processes_append_to_one_chain() {
        let (_directory, path) = journal_of(1);
        let (mut one, mut two) = (Journal::open(&path).unwrap(), Journal::open(&path).unwrap());
        for index in [1, 3, 5] {
            assert_eq!(one.append(claims("one"), moment(1)).unwrap().index, index);
            assert_eq!(two.append(claims("two"), moment(2)).unwrap().index, index + 1);
        }
        assert_eq!(Journal::open(&path).unwrap().next_index, 7);
    }

    #[test]
    fn an_erased_body_keeps_the_chain_whole() {
        let (_directory, path) = journal_of(2);
        let mut lines: Vec<Line> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        lines[0].claims = None;
        let text: Vec<String> =
            lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        fs::write(&path, text.concat()).unwrap();
        assert_eq!(Journal::open(&path).unwrap().next_index, 2);
    }

    #[test]
    fn changing_removing_or_swapping_lines_is_found_at_the_first_wrong_one() {
        let (_directory, path) = journal_of(3);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let cases = [
            (text.replace("case 1", "case 7"), 2),
            (text.replace("\"index\":1", "\"index\":4"), 2),
            (text.replace("\"committed_unix_ns\":2", "\"committed_unix_ns\":5"), 3),
            (format!("{}\n{}\n", lines[0], lines[2]), 2),
            (format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2]), 1),
            (format!("{}\nhello\n", lines[0]), 2),
        ];
        for (changed, at) in cases {
            fs::write(&path, changed).unwrap();
            let Err(Error::Journal { line, .. }) = Journal::open(&path) else { panic!("line {at} passed") };
            assert_eq!(line, at);
        }
    }

    #[test]
    fn a_journal_locked_by_someone_else_is_waited_for() {
        let (_directory, path) = journal_of(1);
        let mut journal = Journal::open(&path).unwrap();
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        let waiting = thread::spawn(move || journal.append(claims("late"), moment(3)).unwrap().index);
        thread::sleep(Duration::from_millis(100));
        other.unlock().unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("journal.jsonl");
            fs::write(&path, &bytes).unwrap();
            let opened = Journal::open(&path);
            prop_assert_eq!(opened.is_ok(), !bytes.contains(&b'\n'));
        }
    }
}
