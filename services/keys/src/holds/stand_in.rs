//! Holds whose own key is gone: the secret outside the database was lost, or a half does not open.
//!
//! A restore without the folder of secrets ([`crate::secrets`]) leaves every standing hold like this. What such a
//! hold had beyond retention stays closed, and it cannot be extended, but no layer key may wait for it: recorders
//! would keep the key in their spools until recording stops. So another hold with the same terms stands in for
//! it, with a key of its own. An import that needs one makes it in its own transaction, and each round of expiry
//! completes it with everything of the span that still opens, before anything is destroyed. From the loss on
//! nothing that was to be held expires unheld.
//!
//! The hold that lost its key stays until a person releases it: its secret may come back with a disk that was
//! not mounted. A stand-in is made beyond the quota too; there is at most
//! one for each hold that lost its key.

use std::collections::BTreeSet;

use obscura_outbox::staged;
use obscura_seal::LayerKeyContext;
use sea_orm::ConnectionTrait;

use super::Openable;
use crate::{
    custody::Custody,
    error::Error,
    hold::{Hold, HoldId},
    keyring::Keyring,
    reports::stand_in_event,
    row_key::RowKey,
    store::{
        Writer, held_key,
        hold::{self, HoldRow},
    },
};

/// Most holds that an alarm names.
const MAX_NAMED: usize = 4;

/// Whether one holds for the other's case: everything that a person said of them is the same.
fn same_terms(one: &Hold, other: &Hold) -> bool {
    let terms =
        |hold: &Hold| (hold.selection(), hold.owner.clone(), hold.basis.clone(), hold.review_on.clone());
    one.id != other.id && terms(one) == terms(other)
}

impl Custody {
    /// Whether the key of this hold is gone.
    async fn is_keyless<C: ConnectionTrait>(
        &self,
        keyring: &mut Keyring<'_, C>,
        id: HoldId,
    ) -> Result<bool, Error> {
        Ok(self.damage.readable(keyring.hold(id).await)?.flatten().is_none())
    }

    /// The one among these that stands in for a hold whose key is gone.
    async fn stand_in_of<'a, C: ConnectionTrait>(
        &self,
        keyring: &mut Keyring<'_, C>,
        lost: &Hold,
        standing: &'a [HoldRow],
    ) -> Result<Option<&'a Hold>, Error> {
        for HoldRow { hold, .. } in standing {
            if same_terms(hold, lost) && !self.is_keyless(keyring, hold.id).await? {
                return Ok(Some(hold));
            }
        }
        Ok(None)
    }

    /// A stand-in for a hold whose key is gone, with its key; `None` where one stands already, or was made for
    /// another one with the same terms.
    pub(super) async fn make_stand_in<C: ConnectionTrait>(
        &self,
        writer: &Writer<'_>,
        keyring: &mut Keyring<'_, C>,
        lost: &Hold,
        standing: &[HoldRow],
        made: &[Hold],
    ) -> Result<Option<(Hold, RowKey)>, Error> {
        self.watch().keyless_holds.insert(lost.id);
        let known = made.iter().any(|hold| same_terms(hold, lost));
        if known || self.stand_in_of(keyring, lost, standing).await?.is_some() {
            return Ok(None);
        }
        let hold = Hold { id: HoldId::generate(), placed: self.parts.clock.wall(), ..lost.clone() };
        let (secret, half, key) = self.make_hold_key(hold.id).await?;
        let row = HoldRow { hold: hold.clone(), secret, half: Some(half) };
        hold::put(writer.tx(), &self.parts.zone, &row).await?;
        staged::stage(writer.tx(), &stand_in_event(&self.parts.clock, &hold)).await?;
        tracing::error!(
            hold = %lost.id, stand_in = %hold.id,
            "the key of a hold is gone, and what only it had stays closed; another hold with its terms stands in \
             for it: release the old one (`obscura hold release`)"
        );
        Ok(Some((hold, key)))
    }

    /// Which of these holds have a row of a layer key.
    pub(super) async fn holders(
        &self,
        writer: &Writer<'_>,
        context: &LayerKeyContext,
    ) -> Result<BTreeSet<HoldId>, Error> {
        let rows = self.damage.sift(held_key::of_keys(writer.tx(), &[context.key_id]).await?)?;
        Ok(rows.into_iter().map(|row| row.hold).collect())
    }

    /// Looks for holds whose key is gone and completes their stand-ins, once in a run for each that
    /// has one, and again when a hold was released. Call it with `changing` in hand, and before anything is destroyed.
    pub(crate) async fn complete_stand_ins(&self) -> Result<(), Error> {
        let reader = self.parts.store.reader();
        let standing = self.damage.sift(hold::standing(reader, &self.parts.zone).await?)?;
        let (mut keyring, mut keyless) = (Keyring::new(self, reader), BTreeSet::new());
        for HoldRow { hold, .. } in &standing {
            if self.is_keyless(&mut keyring, hold.id).await? {
                keyless.insert(hold.id);
            }
        }
        for HoldRow { hold, .. } in standing.iter().filter(|row| keyless.contains(&row.hold.id)) {
            if !self.watch().completed_holds.contains(&hold.id) && self.complete_stand_in(hold).await? {
                self.watch().completed_holds.insert(hold.id);
            }
        }
        let mut watch = self.watch();
        // One that got its key back and loses it again is completed again.
        watch.completed_holds.retain(|id| keyless.contains(id));
        watch.keyless_holds = keyless;
        Ok(())
    }

    /// Holds by the stand-in of a hold what of its span still opens; one that would have nothing is not made. Returns
    /// whether one stands now.
    async fn complete_stand_in(&self, lost: &Hold) -> Result<bool, Error> {
        let writer = self.parts.store.write().await?;
        let wanted = lost.selection();
        let openable = self.openable(&writer, &wanted).await?;
        let of = |key: &Openable| wanted.slots(key.context.hour, key.context.layer);
        let standing = self.damage.sift(hold::standing(writer.tx(), &self.parts.zone).await?)?;
        let mut keyring = Keyring::new(self, writer.tx());
        if openable.values().all(|key| key.nodes.restrict(&of(key)).is_empty()) {
            return Ok(self.stand_in_of(&mut keyring, lost, &standing).await?.is_some());
        }
        let placed = match self.make_stand_in(&writer, &mut keyring, lost, &standing, &[]).await? {
            Some((hold, key)) => self.hold_what_is_there(&writer, hold, &key).await?,
            None => {
                let Some(hold) = self.stand_in_of(&mut keyring, lost, &standing).await? else {
                    return Ok(false);
                };
                let Some(key) = keyring.hold(hold.id).await? else { return Ok(false) };
                self.hold_what_is_there(&writer, hold.clone(), &key).await?
            }
        };
        writer.commit().await?;
        self.parts.store.staged();
        tracing::warn!(
            hold = %lost.id, stand_in = %placed.hold.id, keys = placed.keys, lost_slots = placed.lost_slots,
            "a stand-in holds what of the span still opens"
        );
        Ok(true)
    }

    /// What an operator is told of holds whose key is gone; nothing where there is none.
    pub fn keyless_holds(&self) -> Option<String> {
        let watch = self.watch();
        let count = watch.keyless_holds.len();
        let named: Vec<_> = watch.keyless_holds.iter().take(MAX_NAMED).map(ToString::to_string).collect();
        (count > 0).then(|| {
            format!(
                "{count} holds have lost their keys, and other holds with the same terms stand in for them; mount or \
                 restore `epoch-secrets` and start again, or `obscura hold release`: {}{}",
                named.join(", "),
                if count > MAX_NAMED { ", ..." } else { "" }
            )
        })
    }
}

#[cfg(test)]
mod tests;
