//! Early destruction of a span: co-path, new key of its epoch, receipt; and of what comes later ([`crate::late`]).

use std::collections::BTreeMap;

use obscura_ocsf::ground;
use obscura_proto::keys::v1::{ShredCause, ShredRequest, SignedShredReceipt};

use crate::{
    custody::Custody,
    destruction::{Decision, Punctures},
    error::Error,
    hold::{MAX_PERSON, Selection, text},
    holds::layers_touch,
    keyring::Keyring,
    ledger::KeyLedger,
    store::{Writer, hold, kept_key},
};

impl Custody {
    /// Destroys the keys of a span before its retention ends; complete on return. What of it is still in a
    /// recorder's spool is destroyed as it comes.
    ///
    /// Requester and approver must be two people. That they are who they say, by their own signatures over
    /// this very request, is checked as soon as there is a service that knows people and their keys.
    ///
    /// # Errors
    /// [`Error::SameApprover`], [`Error::Held`] with the holds in the way, [`Error::NothingToDestroy`].
    pub async fn shred(&self, request: &ShredRequest) -> Result<SignedShredReceipt, Error> {
        let (selection, decision) = self.read_shred(request)?;
        let _turn = self.changing.lock().await;
        self.check_may_number()?;
        self.finish().await?;
        let alone = self.alone().await;
        let writer = self.parts.store.write().await?;
        self.check_not_held(&writer, &selection).await?;
        let mut decision = self.take_out(&writer, &selection, decision).await?;
        decision.spans.extend(self.remember_span(&writer, &selection).await?);
        if decision.is_empty() {
            return Err(Error::NothingToDestroy);
        }
        self.await_receipts(&writer, ShredCause::Early, None, decision).await?;
        writer.commit().await?;
        drop(alone);
        self.finish().await?.pop().ok_or(Error::NothingToDestroy)
    }

    fn read_shred(&self, request: &ShredRequest) -> Result<(Selection, Decision), Error> {
        let limits = &self.parts.limits;
        let selection = Selection::read(&request.camera_id, &request.layers, request.span.as_ref(), limits)?;
        // Whoever is named on a receipt would be named in the audit log in clear, for ever.
        if !ground::is_reason(&request.reason) {
            let expected = "it must be the code of a ground, for example `objection`, and after a space the number \
                            of the case where there is one";
            return Err(Error::malformed("reason", expected));
        }
        let decision = Decision {
            reason: request.reason.clone(),
            requested_by: text("requester", &request.requested_by, 1..=MAX_PERSON)?,
            approved_by: text("approver", &request.approved_by, 1..=MAX_PERSON)?,
            ..Decision::default()
        };
        if decision.requested_by.to_lowercase() == decision.approved_by.to_lowercase() {
            return Err(Error::SameApprover);
        }
        Ok((selection, decision))
    }

    async fn check_not_held(&self, writer: &Writer<'_>, selection: &Selection) -> Result<(), Error> {
        let holds = hold::touching(writer.tx(), &self.parts.zone, selection.camera, selection.span).await?;
        // One that cannot be read may hold anything.
        let holds = holds.into_iter().collect::<Result<Vec<_>, _>>()?;
        let holds = holds.into_iter().filter(|row| layers_touch(&row.hold, &selection.layers));
        let ids: Vec<String> = holds.map(|row| row.hold.id.to_string()).collect();
        if ids.is_empty() { Ok(()) } else { Err(Error::Held(ids)) }
    }

    /// Takes the slots out of every key of the selection.
    pub(crate) async fn take_out(
        &self,
        writer: &Writer<'_>,
        selection: &Selection,
        mut decision: Decision,
    ) -> Result<Decision, Error> {
        let mut keyring = Keyring::new(self, writer.tx());
        let (zone, mut left) = (&self.parts.zone, Punctures::default());
        let rows = kept_key::of_camera(writer.tx(), zone, selection.camera, selection.hours()).await?;
        let mut closed = Vec::new();
        for row in self.damage.sift(rows)? {
            let wanted = selection.slots(row.context.hour, row.context.layer);
            let live = self.damage.opened(keyring.kept(&row).await)?.slots();
            if live.is_empty() && !wanted.is_empty() {
                closed.push(row);
                continue;
            }
            // Held slots refused the whole request above, so no hold matters here.
            let taken = KeyLedger::new(live, BTreeMap::new()).shred(&wanted);
            if !taken.is_empty() {
                decision.add(&(&row).into(), &taken);
                self.puncture(writer, &mut keyring, row, &taken, &mut left).await?;
            }
        }
        self.renew_lost(writer, &mut keyring, &closed).await?;
        self.exchange_epochs(writer, left).await?;
        Ok(decision)
    }
}

#[cfg(test)]
mod tests;
