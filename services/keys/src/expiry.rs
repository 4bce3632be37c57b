//! Destroying what has expired: every minute, at most an hour after the promise, and not with a clock or a
//! volume that is in doubt.

use std::collections::BTreeMap;

use obscura_proto::{
    audit::v1::{Person, key_act::Act},
    keys::v1::ShredCause,
};
use obscura_seal::SlotSet;

use crate::{
    custody::Custody,
    destruction::Decision,
    error::Error,
    expiry_hour::ExpiryHour,
    guard::{Doubt, Norm, Reading, Witness, proven_hours},
    hold::HoldId,
    keyring::{Keyring, secrets_of},
    ledger::KeyLedger,
    reports::act_event,
    store::{
        Writer,
        destroyed_key::{self, DestroyedRow},
        doomed_secret, epoch, held_key,
        kept_key::{self, KeptRow},
        note::{self, Note},
    },
};

/// Rows of a transaction that takes no further epoch.
const ROWS_AT_ONCE: usize = 4_000;
/// Most epochs in one transaction, with or without rows.
const MAX_EPOCHS_AT_ONCE: usize = 64;

/// What one round destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Epochs.
    pub epochs: u64,
    /// Layer keys.
    pub layer_keys: u64,
}

impl Custody {
    /// Finishes what was decided before and destroys what is due. Where something stands in the way,
    /// nothing is destroyed and [`Custody::stopped`] says why until it is gone.
    ///
    /// # Errors
    /// As [`Custody::stopped`] then says.
    pub async fn expire(&self) -> Result<Destroyed, Error> {
        let _turn = self.changing.lock().await;
        let outcome = self.destroy_due(false).await;
        self.set_stopped(outcome.as_ref().err()).await;
        outcome
    }

    /// A named person has looked at the clock and at what is due: both count as right now.
    ///
    /// # Errors
    /// What stands in the way beside them.
    pub async fn resume_destruction(
        &self,
        confirmed_by: &str,
        actor: Option<Person>,
    ) -> Result<(String, Destroyed), Error> {
        crate::hold::text("confirmed_by", confirmed_by, 1..=crate::hold::MAX_PERSON)?;
        let _turn = self.changing.lock().await;
        let words = "an operator confirms clock and volume: destruction goes on";
        self.tell(act_event(&self.parts.clock, actor, Act::DestructionResumed, 0, words)).await?;
        let was_stopped = self.stopped().unwrap_or_default();
        let now = self.reading();
        let trusted = self.watch().guard.confirm(&now);
        // Where something else stands in the way that is a stop of its own.
        self.watch().stop_told = false;
        self.parts.store_trusted(&trusted)?;
        tracing::warn!("an operator confirmed the clock and what is due for destruction");
        let outcome = self.destroy_due(true).await;
        self.set_stopped(outcome.as_ref().err()).await;
        Ok((was_stopped, outcome?))
    }

    /// Why destruction stands still; `None` where it does not.
    pub fn stopped(&self) -> Option<String> {
        self.watch().stopped.clone()
    }

    /// Keeps in mind why destruction stands still, and tells the audit log once that it does.
    async fn set_stopped(&self, error: Option<&Error>) {
        self.note_stopped(error);
        let reason = self.stopped().filter(|_| !self.watch().stop_told);
        let Some(reason) = reason else { return };
        let event = act_event(&self.parts.clock, None, Act::DestructionStopped, 0, &reason);
        match self.tell(event).await {
            Ok(()) => self.watch().stop_told = true,
            Err(error) => {
                tracing::error!(%error, "that destruction stands still is told to the audit log with the next round");
            }
        }
    }

    fn note_stopped(&self, error: Option<&Error>) {
        let mut watch = self.watch();
        let text = error.map(ToString::to_string);
        if text != watch.stopped {
            match &text {
                Some(reason) => tracing::error!(%reason, "destruction of expired keys stands still"),
                None => tracing::info!("destruction of expired keys goes on"),
            }
        }
        watch.stop_told &= text.is_some();
        watch.stopped = text;
    }

    async fn destroy_due(&self, confirmed: bool) -> Result<Destroyed, Error> {
        self.check_may_destroy()?;
        self.finish().await?;
        self.complete_stand_ins().await?;
        self.apply_retentions().await?;
        let (now, hours) = self.believed_hours().await?;
        let current = ExpiryHour::now(now.wall);
        let due = self.due(current).await?;
        if !confirmed {
            self.check_volume(current, due, hours).await?;
        }
        let epochs = epoch::before(self.parts.store.reader(), &self.parts.zone, current).await?;
        let mut left = epochs.as_slice();
        while !left.is_empty() {
            left = self.destroy_some(left).await?;
        }
        self.erase_returned(current).await?;
        self.remember(current, due, hours).await?;
        self.forget_spans(now.wall).await?;
        let trusted = self.watch().guard.trusted(&now);
        self.parts.store_trusted(&trusted)?;
        Ok(Destroyed { epochs: u64::try_from(epochs.len()).unwrap_or(u64::MAX), layer_keys: due })
    }

    /// The time, where it is believed, and the hours that demonstrably passed since the last round.
    async fn believed_hours(&self) -> Result<(Reading, u32), Error> {
        let server = self.parts.store.server_time().await?;
        let now = self.reading();
        let proven = {
            let mut watch = self.watch();
            if let Some(server) = server {
                watch.guard.witness(Witness::Database, server, now.monotonic);
            }
            watch.guard.check(&now)?
        };
        let up_to = self.destroyed_up_to().await?;
        Ok((now.clone(), proven_hours(proven, up_to, now.wall)))
    }

    async fn destroyed_up_to(&self) -> Result<Option<ExpiryHour>, Error> {
        let hour = note::get(self.parts.store.reader(), Note::DestroyedUpTo).await?;
        Ok(hour.and_then(|hour| u32::try_from(hour).ok()).map(ExpiryHour::from_number))
    }

    /// Layer keys of epochs that end before this hour.
    async fn due(&self, current: ExpiryHour) -> Result<u64, Error> {
        let Some(last) = current.number().checked_sub(1) else { return Ok(0) };
        let hours = ExpiryHour::from_number(0)..=ExpiryHour::from_number(last);
        Ok(kept_key::count_of(self.parts.store.reader(), &self.parts.zone, hours).await?)
    }

    async fn check_volume(&self, current: ExpiryHour, due: u64, hours: u32) -> Result<(), Error> {
        let reader = self.parts.store.reader();
        let hours_kept = current..=ExpiryHour::from_number(u32::MAX);
        let kept = kept_key::count_of(reader, &self.parts.zone, hours_kept).await?;
        let past = epoch::before(reader, &self.parts.zone, current).await?.len();
        let epochs = epoch::count(reader).await?.saturating_sub(u64::try_from(past).unwrap_or(u64::MAX));
        Ok(self.norm().await?.check(due, hours, mean(kept, epochs))?)
    }

    async fn norm(&self) -> Result<Norm, Error> {
        let reader = self.parts.store.reader();
        let thousandths = note::get(reader, Note::Norm).await?.and_then(|number| u32::try_from(number).ok());
        let hours = note::get(reader, Note::NormHours).await?.and_then(|number| u32::try_from(number).ok());
        let per_hour = f64::from(thousandths.unwrap_or_default()) / 1_000.0;
        Ok(Norm { per_hour, hours: hours.unwrap_or_default() })
    }

    /// Writes down how far destruction has come and, once an hour, what is usual.
    async fn remember(&self, current: ExpiryHour, destroyed: u64, hours: u32) -> Result<(), Error> {
        let up_to = self.destroyed_up_to().await?;
        if up_to == Some(current) {
            return Ok(());
        }
        let norm = self.norm().await?;
        let norm = if up_to.is_some() { norm.with(destroyed, hours) } else { norm };
        let writer = self.parts.store.write().await?;
        note::put(writer.tx(), Note::DestroyedUpTo, current.number().into()).await?;
        note::put(writer.tx(), Note::Norm, thousandths(norm.per_hour)).await?;
        note::put(writer.tx(), Note::NormHours, norm.hours.into()).await?;
        Ok(writer.commit().await?)
    }

    /// Destroys the first of these epochs, as many as one transaction may take, and returns the others.
    async fn destroy_some<'a>(&self, epochs: &'a [ExpiryHour]) -> Result<&'a [ExpiryHour], Error> {
        let (now, later) = epochs.split_at(self.decide_epochs(epochs).await?);
        self.finish().await?;
        let prefixes: Vec<String> = now.iter().map(|hour| secrets_of(*hour)).collect();
        self.parts.secrets.erase_strays(&prefixes)?;
        Ok(later)
    }

    /// Releases and imports wait meanwhile, so it stops once it has decided on enough; returns on how many.
    async fn decide_epochs(&self, epochs: &[ExpiryHour]) -> Result<usize, Error> {
        let _alone = self.alone().await;
        let writer = self.parts.store.write().await?;
        let (mut decided, mut rows) = (0, 0);
        for hour in epochs.iter().take(MAX_EPOCHS_AT_ONCE) {
            rows += self.decide_epoch(&writer, *hour).await?;
            decided += 1;
            if rows >= ROWS_AT_ONCE {
                break;
            }
        }
        writer.commit().await?;
        Ok(decided)
    }

    /// Destroys an epoch: its rows, its half in the database and its secret outside; what holds have of
    /// its keys stays under theirs. Returns how many rows there were.
    async fn decide_epoch(&self, writer: &Writer<'_>, hour: ExpiryHour) -> Result<usize, Error> {
        let zone = &self.parts.zone;
        let rows = self.damage.sift(kept_key::of_epoch(writer.tx(), zone, hour).await?)?;
        let decision = self.expired(writer, &rows).await?;
        let gone: Vec<DestroyedRow> = rows.iter().map(DestroyedRow::from).collect();
        destroyed_key::put(writer.tx(), zone, &gone).await?;
        kept_key::delete_of_epoch(writer.tx(), zone, hour).await?;
        // The secret of a row that cannot be read goes with the strays of its hour.
        if let Some(row) = self.damage.readable(epoch::get(writer.tx(), zone, hour).await)?.flatten() {
            doomed_secret::put(writer.tx(), &row.secret).await?;
        }
        epoch::delete(writer.tx(), zone, hour).await?;
        self.await_receipts(writer, ShredCause::Expiry, Some(hour), decision).await?;
        Ok(rows.len())
    }

    /// What no longer opens when the retention of these keys ends.
    async fn expired(&self, writer: &Writer<'_>, rows: &[KeptRow]) -> Result<Decision, Error> {
        let mut keyring = Keyring::new(self, writer.tx());
        let ids: Vec<_> = rows.iter().map(|row| row.context.key_id).collect();
        let mut holds: BTreeMap<_, BTreeMap<HoldId, SlotSet>> = BTreeMap::new();
        for row in self.damage.sift(held_key::of_keys(writer.tx(), &ids).await?)? {
            let slots = self.damage.opened(keyring.held(&row).await)?.slots();
            holds.entry(row.context.key_id).or_default().insert(row.hold, slots);
        }
        let mut decision = Decision::default();
        for row in rows {
            let nodes = self.damage.opened(keyring.kept(row).await)?;
            // Damaged or under a lost secret: it opens nothing, and the receipt says so.
            let live = if nodes.is_empty() { SlotSet::whole_hour() } else { nodes.slots() };
            let held = holds.remove(&row.context.key_id).unwrap_or_default();
            decision.add(&row.into(), &KeyLedger::new(live, held).expire());
        }
        Ok(decision)
    }
}

impl From<Doubt> for Error {
    fn from(doubt: Doubt) -> Self {
        Self::InDoubt(doubt.to_string())
    }
}

#[expect(clippy::cast_precision_loss, reason = "an average needs no exact count")]
fn mean(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

#[expect(clippy::cast_possible_truncation, reason = "a positive average; the cast saturates")]
const fn thousandths(average: f64) -> i64 {
    (average * 1_000.0) as i64
}

#[cfg(test)]
mod tests;
