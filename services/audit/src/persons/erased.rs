//! Who was erased and when, by keyed tags: what still waits somewhere about them must not bring them back.
//!
//! An event may wait in a producer's outbox while the person in it is erased. Appended afterwards under a new key, it
//! would have their name and words in the log again. So the moment of an erasure is remembered for as long as entries
//! are kept, and what happened before it is sealed under a key that nobody keeps.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use obscura_clock::Timestamp;
use obscura_row_cipher::Key;

use crate::store::ErasedRow;

/// The erased, in memory.
#[derive(Default)]
pub struct ErasedIds {
    key: Option<hmac::Key>,
    moments: HashMap<Vec<u8>, Timestamp>,
}

impl ErasedIds {
    /// Those in the rows; without the key of their tags nobody is found.
    pub fn new(key: Option<&Key>, rows: Vec<ErasedRow>) -> Self {
        let key = key.map(hmac_key);
        Self { key, moments: rows.into_iter().map(|row| (row.tag, row.erased)).collect() }
    }

    /// Whether what happened to this person at this moment was erased since.
    pub fn covers(&self, id: &str, happened: Timestamp) -> bool {
        if self.moments.is_empty() {
            return false;
        }
        let Some(key) = &self.key else { return false };
        let tag = hmac::sign(key, id.as_bytes());
        self.moments.get(tag.as_ref()).is_some_and(|erased| happened < *erased)
    }

    /// One more.
    pub fn add(&mut self, key: &Key, row: ErasedRow) {
        self.key = Some(hmac_key(key));
        self.moments.insert(row.tag, row.erased);
    }

    /// Without those of before this moment.
    pub fn forget(&mut self, before: Timestamp) {
        self.moments.retain(|_, erased| *erased >= before);
    }
}

/// The row for a person who is erased at this moment.
pub fn row(key: &Key, id: &str, erased: Timestamp) -> ErasedRow {
    ErasedRow { tag: hmac::sign(&hmac_key(key), id.as_bytes()).as_ref().to_vec(), erased }
}

fn hmac_key(key: &Key) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
}
