//! Whether somebody purged the stream: seen by comparing two looks at it.

use std::time::Duration;

use async_nats::jetstream::stream::State;
use obscura_clock::Monotonic;

/// How often a stream is looked at. A purge is noticed by then.
const INTERVAL: Duration = Duration::from_secs(10);
/// No stream forgets messages that are younger than this by itself.
const YOUNGEST_TO_EXPIRE: Duration = Duration::from_hours(1);

/// What the stream had at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    at: Monotonic,
    last_sequence: u64,
}

impl Looked {
    /// What it has now.
    pub const fn now(state: &State, at: Monotonic) -> Self {
        Self { at, last_sequence: state.last_sequence }
    }

    /// Whether it is too early to look again.
    pub fn is_recent(&self, now: Monotonic) -> bool {
        now.since(self.at) < INTERVAL
    }

    /// Whether a message that came after this look is gone already, and all before with it: only a
    /// purge does that. (Of a stream that was made anew its last message tells.)
    pub fn was_purged_since(&self, state: &State, now: Monotonic) -> bool {
        let forgot = state.first_sequence > self.last_sequence.saturating_add(1);
        let is_empty = state.messages == 0 && state.last_sequence > 0;
        now.since(self.at) < YOUNGEST_TO_EXPIRE && (forgot || is_empty)
    }
}
