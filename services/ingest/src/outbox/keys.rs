//! Layer keys on their way into custody.
//!
//! One that custody does not take waits by itself: it is tried again ever more rarely up to a bound, and
//! after those that failed less often, so that a key that never goes through takes nobody's turn.

use std::collections::BTreeMap;

use obscura_clock::Monotonic;
use obscura_ids::LayerKeyId;
use obscura_proto::keys::v1::ImportLayerKeyRequest;

use super::{MOST_REFUSALS, Outbox, key_id};
use crate::{spool::Serial, upload::later};

/// A layer key that failed so often is told about: it waits for somebody to look.
const MOST_FAILURES: u32 = 8;

/// All layer keys that have not left.
#[derive(Debug, Default)]
pub struct Keys {
    waiting: BTreeMap<Serial, Key>,
    /// Keys that custody has taken from this run.
    taken: u64,
}

/// A layer key that has not left.
#[derive(Debug)]
pub struct Key {
    /// What custody is asked to take.
    pub request: ImportLayerKeyRequest,
    /// Times that it was refused for good.
    refusals: u32,
    /// Times that it did not go through otherwise.
    failures: u32,
    /// Those of them that were answered after another key had gone through: what is away takes none.
    passed_over: u32,
    /// When it first failed or was refused, and how many keys custody had taken by then.
    since: Option<(Monotonic, u64)>,
    not_before: Monotonic,
}

impl Key {
    fn new(request: ImportLayerKeyRequest) -> Self {
        let not_before = Monotonic::from_nanos(0);
        Self { request, refusals: 0, failures: 0, passed_over: 0, since: None, not_before }
    }

    fn is_set_aside(&self) -> bool {
        self.refusals >= MOST_REFUSALS
    }

    /// Since when it does not go through.
    pub fn since(&self) -> Option<Monotonic> {
        self.since.map(|(since, _)| since)
    }

    /// Whether it waits for a reason of its own while others go through, and must not hold up the spool.
    pub fn is_aside(&self) -> bool {
        self.is_set_aside() || self.passed_over >= MOST_REFUSALS
    }
}

impl Keys {
    /// A layer key was made.
    pub fn add(&mut self, serial: Serial, request: ImportLayerKeyRequest) {
        self.waiting.insert(serial, Key::new(request));
    }

    /// The key of this record.
    pub fn get(&self, serial: Serial) -> Option<&Key> {
        self.waiting.get(&serial)
    }

    /// Those that wait for a reason of their own.
    pub fn aside(&self) -> impl Iterator<Item = &Key> {
        self.waiting.values().filter(|key| key.is_aside())
    }

    /// Whether another key has gone through since one began to be refused: what refuses all is an outage.
    pub fn others_went_since(&self, key: &Key) -> bool {
        key.since.is_some_and(|(_, taken)| taken < self.taken)
    }

    /// A key has another record.
    pub fn moved(&mut self, from: Serial, to: Serial) {
        if let Some(key) = self.waiting.remove(&from) {
            self.waiting.insert(to, key);
        }
    }

    /// A key is in custody. Returns its id.
    pub fn done(&mut self, serial: Serial) -> Option<LayerKeyId> {
        let key = self.waiting.remove(&serial)?;
        self.taken = self.taken.saturating_add(1);
        key_id(&key.request)
    }

    /// Those that are due, the ones that failed least often first and among them the oldest.
    fn due(&self, now: Monotonic) -> Vec<(Serial, ImportLayerKeyRequest)> {
        let due = self.waiting.iter().filter(|(_, key)| !key.is_set_aside() && key.not_before <= now);
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(serial, key)| (key.failures, **serial));
        due.into_iter().map(|(serial, key)| (*serial, key.request.clone())).collect()
    }

    fn failed(&mut self, serial: Serial, now: Monotonic, answered: bool) -> bool {
        let taken = self.taken;
        self.waiting.get_mut(&serial).is_some_and(|key| {
            let others_went = key.since.get_or_insert((now, taken)).1 < taken;
            key.passed_over = key.passed_over.saturating_add((answered && others_went).into());
            key.not_before = later(now, key.failures);
            key.failures = key.failures.saturating_add(1);
            key.failures == MOST_FAILURES
        })
    }
}

impl Outbox {
    /// The keys that are due, in the order in which they should be tried. Those that were set aside
    /// never are.
    #[must_use]
    pub fn keys(&self, now: Monotonic) -> Vec<(Serial, ImportLayerKeyRequest)> {
        self.lock().keys.due(now)
    }

    /// A key was refused for a reason that does not pass; true where it is set aside now. Its footage
    /// keeps waiting.
    pub fn key_refused(&self, serial: Serial, now: Monotonic) -> bool {
        let keys = &mut self.lock().keys;
        let taken = keys.taken;
        keys.waiting.get_mut(&serial).is_some_and(|key| {
            key.since.get_or_insert((now, taken));
            key.not_before = later(now, key.refusals);
            key.refusals = key.refusals.saturating_add(1);
            key.is_set_aside()
        })
    }

    /// A key did not go through now, whether custody said so or nobody answered. True where it has failed
    /// so often that somebody should hear of it.
    pub fn key_failed(&self, serial: Serial, now: Monotonic, answered: bool) -> bool {
        self.lock().keys.failed(serial, now, answered)
    }

    /// Layer keys that have not left.
    #[must_use]
    pub fn waiting_keys(&self) -> usize {
        self.lock().keys.waiting.len()
    }

    /// Layer keys among them that were set aside because they are refused.
    #[must_use]
    pub fn refused_keys(&self) -> usize {
        self.lock().keys.waiting.values().filter(|key| key.is_set_aside()).count()
    }

    /// Layer keys among them that are not refused and failed again and again.
    #[must_use]
    pub fn failing_keys(&self) -> usize {
        let failing = |key: &&Key| !key.is_set_aside() && key.failures >= MOST_FAILURES;
        self.lock().keys.waiting.values().filter(failing).count()
    }
}
