//! Layer keys that come after their span was destroyed.
//!
//! A recorder keeps a layer key in its spool until custody has it, so an early destruction cannot reach it
//! there. It is remembered instead, in the transaction that decides it, and what of a later key lies in the span
//! is taken out before the key is written down for the first time: nothing of it ever was in custody. A receipt
//! names it as if it had been, so that `storage` marks the segments.
//!
//! A span is remembered for 400 days, longer than any retention: a key that comes even later has expired, and
//! the next round of expiry destroys it.

use std::time::Duration;

use obscura_clock::{Span, Timestamp};
use obscura_proto::{
    footage::v1 as footage,
    keys::v1::{ShredCause, ShreddedSpan},
};
use obscura_seal::{Hour, SLOT_DURATION, SlotSet};

use crate::{
    custody::Custody,
    destruction::Decision,
    error::Error,
    expiry_hour::ExpiryHour,
    hold::{Limits, Selection},
    holds::hour_span,
    retention,
    store::{Writer, destroyed_key::DestroyedRow, retention as retentions, shredded_span},
};

/// How long spans are remembered after their end. A placement may say 365 days at most.
const KEPT: Duration = Duration::from_hours(24 * 400);
/// What receipts say about keys that came late.
const CAME_LATE: &str = "its span had been destroyed before it came";

impl Custody {
    /// Remembers what of a span was recorded and may still come; `None` where that is nothing, or is remembered
    /// already. What lies ahead is not destroyed: whoever wants that stops the camera.
    pub(crate) async fn remember_span(
        &self,
        writer: &Writer<'_>,
        selection: &Selection,
    ) -> Result<Option<ShreddedSpan>, Error> {
        let now = self.parts.clock.wall();
        let Some(recorded) = recorded(selection, now) else { return Ok(None) };
        let periods = retentions::of_camera(writer.tx(), recorded.camera).await?;
        let last = Hour::new(*recorded.hours().end()).ok();
        let expiry = last.and_then(|hour| retention::expiry(hour, &periods));
        if expiry.is_none_or(|expiry| expiry < ExpiryHour::now(now)) {
            return Ok(None);
        }
        let known = shredded_span::touching(writer.tx(), recorded.camera, recorded.span).await?;
        if recorded.layers.iter().all(|layer| known.iter().any(|known| covers(known, *layer, recorded.span)))
        {
            return Ok(None);
        }
        shredded_span::put(writer.tx(), &recorded).await?;
        Ok(Some(message(&recorded)))
    }

    /// Slots of a key that were destroyed before it came.
    pub(crate) async fn destroyed_before(
        &self,
        writer: &Writer<'_>,
        key: &DestroyedRow,
    ) -> Result<SlotSet, Error> {
        let Some(hour) = hour_span(key.hour) else { return Ok(SlotSet::EMPTY) };
        let spans = shredded_span::touching(writer.tx(), key.camera, hour).await?;
        let slots = spans.iter().map(|span| span.slots(key.hour, key.layer));
        Ok(slots.fold(SlotSet::EMPTY, |all, slots| all.union(&slots)))
    }

    /// The receipt of what never came into custody; to be numbered when it is finished.
    pub(crate) async fn await_late_receipt(
        &self,
        writer: &Writer<'_>,
        key: &DestroyedRow,
        slots: &SlotSet,
    ) -> Result<(), Error> {
        let mut decision = late_decision();
        decision.add(key, slots);
        self.await_receipts(writer, ShredCause::Early, None, decision).await
    }

    /// Numbers the receipt of a late key, unless a destruction is under way, which takes it along or leaves it to
    /// the next round. The key itself is done.
    pub(crate) async fn finish_late(&self) {
        let Ok(_turn) = self.changing.try_lock() else { return };
        if let Err(error) = self.finish().await {
            tracing::warn!(%error, "the receipt of a key that came late waits for the next round");
        }
    }

    /// Forgets spans that no key can come of any more.
    pub(crate) async fn forget_spans(&self, now: Timestamp) -> Result<(), Error> {
        let writer = self.parts.store.write().await?;
        shredded_span::prune(writer.tx(), now - KEPT).await?;
        Ok(writer.commit().await?)
    }
}

/// A decision about keys that came late.
pub fn late_decision() -> Decision {
    Decision { reason: CAME_LATE.to_owned(), ..Decision::default() }
}

/// What a receipt says about a span; `None` where no custody writes that.
pub fn read_span(message: &ShreddedSpan) -> Option<Selection> {
    let limits = Limits { days: u32::MAX, ..Limits::default() };
    if message.layers.is_empty() {
        return None;
    }
    Selection::read(&message.camera_id, &message.layers, message.span.as_ref(), &limits).ok()
}

/// The part up to the end of the slot of now.
fn recorded(selection: &Selection, now: Timestamp) -> Option<Selection> {
    let slot = i64::try_from(SLOT_DURATION.as_nanos()).ok()?;
    let into = now.unix_nanos().rem_euclid(slot);
    let end = Timestamp::from_unix_nanos(now.unix_nanos().checked_add(slot.checked_sub(into)?)?);
    let span = Span::try_new(selection.span.start(), selection.span.end().min(end))?;
    Some(Selection { span, ..selection.clone() })
}

fn covers(known: &Selection, layer: obscura_ids::Layer, span: Span) -> bool {
    known.layers.contains(&layer) && known.span.start() <= span.start() && span.end() <= known.span.end()
}

fn message(selection: &Selection) -> ShreddedSpan {
    ShreddedSpan {
        camera_id: selection.camera.to_string(),
        layers: selection.layers.iter().map(|layer| i32::from(layer.code())).collect(),
        span: Some(footage::Span {
            start_unix_ns: selection.span.start().unix_nanos(),
            end_unix_ns: selection.span.end().unix_nanos(),
        }),
    }
}

#[cfg(test)]
mod tests;
