//! What the audit log hears from custody.
//!
//! Holds and destruction are staged in the transaction that brings them about; the rest is told once it is
//! done.

use obscura_clock::SharedClock;
use obscura_outbox::{Outbox, event};
use obscura_proto::{
    audit::v1::{Destruction, Event, HoldAct, KeyAct, Outcome, Person, event::Body, hold_act, key_act::Act},
    footage::v1::Span,
    keys::v1::{ReleasedKey, ShredCause, ShredReceipt, SignedShredReceipt},
};
use prost::Message as _;

use crate::hold::Hold;

/// Tells the audit log what is done with keys.
#[derive(Clone, Debug)]
pub struct Reports(Option<Outbox>);

impl Reports {
    /// Tells it through this outbox.
    pub const fn to(outbox: Outbox) -> Self {
        Self(Some(outbox))
    }

    /// Tells nobody.
    #[cfg(test)]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Something was done with keys by a person, where one is known.
    pub fn act(&self, clock: &SharedClock, actor: Option<Person>, act: Act, version: u32, detail: &str) {
        let body = KeyAct { act: act.into(), version, detail: detail.to_owned(), ..KeyAct::default() };
        self.record(Event { actor, ..event(clock, Outcome::Success, Body::Key(body)) });
    }

    /// Parts of keys were released under a grant; `released` has what really was.
    pub fn released(
        &self,
        clock: &SharedClock,
        actor: Option<Person>,
        grant_id: String,
        released: &[ReleasedKey],
    ) {
        let body = KeyAct {
            act: Act::Released.into(),
            grant_id,
            key_ids: released.iter().map(|key| key.key_id.clone()).collect(),
            released: released.iter().filter_map(|key| key.released).collect(),
            ..KeyAct::default()
        };
        self.record(Event { actor, ..event(clock, Outcome::Success, Body::Key(body)) });
    }

    /// A release was refused.
    pub fn refused(&self, clock: &SharedClock, actor: Option<Person>, why: &str) {
        let body = KeyAct { act: Act::Released.into(), detail: why.to_owned(), ..KeyAct::default() };
        self.record(Event { actor, ..event(clock, Outcome::Failure, Body::Key(body)) });
    }

    fn record(&self, event: Event) {
        if let Some(outbox) = &self.0 {
            outbox.record(event);
        }
    }
}

/// A hold was placed or released.
pub fn hold_event(clock: &SharedClock, actor: Person, act: hold_act::Act, hold: &Hold) -> Event {
    let message: obscura_proto::keys::v1::Hold = hold.clone().into();
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

/// Something was destroyed. `requested_by` is empty unless somebody asked for it before its time.
pub fn destruction_event(
    clock: &SharedClock,
    signed: &SignedShredReceipt,
    receipt: &ShredReceipt,
    requested_by: &str,
) -> Event {
    let mut camera_ids: Vec<_> = receipt.keys.iter().map(|key| key.camera_id.clone()).collect();
    camera_ids.sort_unstable();
    camera_ids.dedup();
    let body = Destruction {
        receipt: signed.encode_to_vec().into(),
        camera_ids,
        span: hull(receipt),
        early: receipt.cause() == ShredCause::Early,
    };
    let actor =
        (!requested_by.is_empty()).then(|| Person { id: requested_by.to_owned(), ..Person::default() });
    Event { actor, ..event(clock, Outcome::Success, Body::Destruction(body)) }
}

/// From the start of the first destroyed hour to the end of the last.
fn hull(receipt: &ShredReceipt) -> Option<Span> {
    const HOUR_NANOS: i64 = 3_600_000_000_000;
    let hours = || receipt.keys.iter().map(|key| i64::from(key.hour));
    let (first, last) = (hours().min()?, hours().max()?);
    Some(Span { start_unix_ns: first * HOUR_NANOS, end_unix_ns: (last + 1) * HOUR_NANOS })
}
