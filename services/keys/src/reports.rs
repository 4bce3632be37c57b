//! What the audit log hears from custody.
//!
//! All of it is staged in the key database: what changes the database in the transaction that changes it, the
//! rest before it is answered ([`crate::journal`]).

use obscura_clock::SharedClock;
use obscura_outbox::{event, words};
use obscura_proto::{
    audit::v1::{
        Change, Destruction, Event, HoldAct, KeyAct, Outcome, Person, event::Body, hold_act, key_act::Act,
    },
    footage::v1::Span,
    keys::v1::{self as messages, ShredCause, ShredReceipt, SignedShredReceipt},
};
use prost::Message as _;

use crate::{hold::Hold, release::ReleasedPart};

/// Most spans of one event: the log takes no more (`crates/ocsf`, `key.released`).
const MAX_SPANS: usize = 400;

/// Who acts where this program does by itself what otherwise persons do.
const PROGRAM: &str = "keys";

/// Something was done with keys by a person, where one is known.
pub fn act_event(clock: &SharedClock, actor: Option<Person>, act: Act, version: u32, detail: &str) -> Event {
    let body = KeyAct { act: act.into(), version, detail: words(detail), ..KeyAct::default() };
    Event { actor, ..event(clock, Outcome::Success, Body::Key(body)) }
}

/// Parts of keys are released under a grant. Every span that really is stands in one of the events; more than one
/// takes go into several.
pub fn release_events(
    clock: &SharedClock,
    actor: Option<&Person>,
    grant_id: &str,
    released: &[ReleasedPart],
) -> Vec<Event> {
    let mut acts = vec![KeyAct::default()];
    for part in released {
        // A key of which nothing is left is named without a span.
        let nothing = part.spans.is_empty().then_some(&[][..]);
        for spans in nothing.into_iter().chain(part.spans.chunks(MAX_SPANS)) {
            if acts.last().is_none_or(|act| act.released.len() + spans.len() > MAX_SPANS) {
                acts.push(KeyAct::default());
            }
            if let Some(act) = acts.last_mut() {
                act.key_ids.push(part.key.key_id.clone());
                act.released.extend_from_slice(spans);
            }
        }
    }
    let told = |act: KeyAct| {
        let body = KeyAct { act: Act::Released.into(), grant_id: grant_id.to_owned(), ..act };
        Event { actor: actor.cloned(), ..event(clock, Outcome::Success, Body::Key(body)) }
    };
    acts.into_iter().map(told).collect()
}

/// A release or a rehearsal was refused.
pub fn refusal_event(clock: &SharedClock, actor: Option<Person>, act: Act, why: &str) -> Event {
    let body = KeyAct { act: act.into(), detail: words(why), ..KeyAct::default() };
    Event { actor, ..event(clock, Outcome::Failure, Body::Key(body)) }
}

/// A hold was placed or released.
pub fn hold_event(clock: &SharedClock, actor: Person, act: hold_act::Act, message: messages::Hold) -> Event {
    let body = HoldAct {
        act: act.into(),
        hold_id: message.hold_id,
        camera_id: message.camera_id,
        span: message.span,
        basis: message.basis,
        review_on: message.review_on,
    };
    Event { actor: Some(actor), ..event(clock, Outcome::Success, Body::Hold(body)) }
}

/// A hold was released of whose row nothing but the id can be read.
pub fn unread_hold_event(clock: &SharedClock, actor: Person, hold_id: String) -> Event {
    let body = Change {
        object_kind: "hold".to_owned(),
        object_id: hold_id,
        changed_fields: vec!["released".to_owned()],
        ..Change::default()
    };
    Event { actor: Some(actor), ..event(clock, Outcome::Success, Body::Change(body)) }
}

/// A hold was placed in the place of one whose key is gone. This program did that, and what a person wrote about
/// that one is not told again in its name.
pub fn stand_in_event(clock: &SharedClock, hold: &Hold) -> Event {
    let program = Person { id: PROGRAM.to_owned(), ..Person::default() };
    hold_event(clock, program, hold_act::Act::Placed, Hold { basis: String::new(), ..hold.clone() }.into())
}

/// Something was destroyed. `requested_by` is empty unless somebody asked for it before its time.
pub fn destruction_event(
    clock: &SharedClock,
    signed: &SignedShredReceipt,
    receipt: &ShredReceipt,
    requested_by: &str,
) -> Event {
    let of_spans = receipt.spans.iter().map(|span| span.camera_id.clone());
    let mut camera_ids: Vec<_> =
        receipt.keys.iter().map(|key| key.camera_id.clone()).chain(of_spans).collect();
    camera_ids.sort_unstable();
    camera_ids.dedup();
    let body = Destruction {
        receipt: signed.encode_to_vec().into(),
        camera_ids,
        span: hull(receipt),
        early: receipt.cause() == ShredCause::Early,
        receipt_number: receipt.number,
        effective_unix_ns: receipt.effective_unix_ns,
        ..Destruction::default()
    };
    let actor =
        (!requested_by.is_empty()).then(|| Person { id: requested_by.to_owned(), ..Person::default() });
    Event { actor, ..event(clock, Outcome::Success, Body::Destruction(body)) }
}

/// The second approver's own event, which refers to the destruction; `None` where there was none.
pub fn approval_event(clock: &SharedClock, destruction: &Event, approved_by: &str) -> Option<Event> {
    if approved_by.is_empty() {
        return None;
    }
    let change = Change {
        object_kind: "destruction".to_owned(),
        object_id: destruction.event_id.clone(),
        changed_fields: vec!["approval".to_owned()],
        ..Change::default()
    };
    let actor = Some(Person { id: approved_by.to_owned(), ..Person::default() });
    Some(Event { actor, ..event(clock, Outcome::Success, Body::Change(change)) })
}

/// From the start of the first destroyed hour to the end of the last; what was asked for where nothing of it had
/// come.
fn hull(receipt: &ShredReceipt) -> Option<Span> {
    const HOUR_NANOS: i64 = 3_600_000_000_000;
    if receipt.keys.is_empty() {
        return receipt.spans.first()?.span;
    }
    let hours = || receipt.keys.iter().map(|key| i64::from(key.hour));
    let (first, last) = (hours().min()?, hours().max()?);
    Some(Span { start_unix_ns: first * HOUR_NANOS, end_unix_ns: (last + 1) * HOUR_NANOS })
}

#[cfg(test)]
mod tests;
