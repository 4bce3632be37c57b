//! What a producer may send.
//!
//! Every field and every list has a limit, so that a valid event always fits a leaf. Complaints name
//! the field and never repeat its value.

mod bodies;
mod checks;

use obscura_proto::audit::v1::{Event, Outcome, Person};

pub use bodies::MAX_PSEUDONYMS;
pub(crate) use bodies::is_pseudonym;
use checks::{Checked, known, text, uuid};

/// Longest id, name or address of a person, in bytes.
const MAX_PERSON_BYTES: usize = 256;

/// The event is not one that the log takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct Invalid {
    /// Path of the field in the message, for example `view.camera_id`.
    pub field: String,
    /// What is wrong with it and what is expected, without its value.
    pub why: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

/// Checks required fields, ids and limits.
///
/// # Errors
/// Names the first field that is wrong. What is about a person is refused where nobody acted: there
/// would be no key to seal it under.
pub fn validate(event: &Event) -> Checked {
    uuid("event_id", &event.event_id)?;
    if event.time_unix_ns <= 0 {
        return Err(Invalid::new("time_unix_ns", "is not set; expected nanoseconds since the Unix epoch"));
    }
    known::<Outcome>("outcome", event.outcome)?;
    if let Some(actor) = &event.actor {
        person(actor)?;
    }
    let body =
        event.body.as_ref().ok_or_else(|| Invalid::new("body", "is not set; an event says what happened"))?;
    bodies::check(body, event.actor.is_some())
}

fn person(actor: &Person) -> Checked {
    if actor.id.is_empty() {
        return Err(Invalid::new("actor.id", "is empty; leave `actor` unset where no person acted"));
    }
    text("actor.id", &actor.id, MAX_PERSON_BYTES)?;
    text("actor.name", &actor.name, MAX_PERSON_BYTES)?;
    text("actor.address", &actor.address, MAX_PERSON_BYTES)
}
