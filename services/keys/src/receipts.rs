//! Receipts of destruction: signed with custody's own key, numbered without gaps, replayed after the
//! restore of a backup.

mod key;
mod replay;
mod strike;

use obscura_outbox::staged;
use obscura_proto::{
    audit::v1::Event,
    keys::v1::{ShredReceipt, SignedShredReceipt},
};
use prost::Message as _;

#[cfg(test)]
pub use key::verifies;
pub use key::{ReceiptKey, rewrap as rewrap_key};

use crate::{
    custody::Custody,
    error::Error,
    reports::{approval_event, destruction_event},
    store::{Writer, doomed_secret, pending_receipt, shred_receipt},
};

/// Most receipts in one answer or request.
pub const MAX_RECEIPTS: usize = 100;
/// Most bytes in one answer, unless one receipt alone is longer: gRPC refuses 4 MiB.
const MAX_PAGE_BYTES: usize = 2 << 20;
/// A follower that is further ahead than this never followed this custody.
const MAX_LEAD: u64 = 1_000_000;

impl Custody {
    /// Receipts with a greater number, in order; a page.
    ///
    /// # Errors
    /// [`Error::Behind`] where the caller has seen receipts that are not here: then this database is an
    /// old copy, and nothing is released until they are replayed.
    pub async fn list_receipts(&self, after: u64) -> Result<Vec<SignedShredReceipt>, Error> {
        self.claim(after).await?;
        let limit = u64::try_from(MAX_RECEIPTS).unwrap_or(u64::MAX);
        let receipts = shred_receipt::after(self.parts.store.reader(), after, limit).await?;
        let mut bytes = 0;
        let fits = |receipt: &SignedShredReceipt| {
            let first = bytes == 0;
            bytes += receipt.encoded_len();
            first || bytes <= MAX_PAGE_BYTES
        };
        Ok(receipts.into_iter().take_while(fits).collect())
    }

    /// Refuses while receipts have to be replayed first.
    pub(crate) fn check_not_behind(&self) -> Result<(), Error> {
        self.check_has_receipts()?;
        if self.watch().heard.restored { Err(Error::Restored) } else { Ok(()) }
    }

    /// Refuses while somebody has seen receipts that are not here.
    pub(crate) fn check_has_receipts(&self) -> Result<(), Error> {
        let watch = self.watch();
        if watch.receipts < watch.receipts_needed {
            return Err(Error::Behind { have: watch.receipts, need: watch.receipts_needed });
        }
        Ok(())
    }

    /// Step 4 of a destruction (`crate::destruction`): strikes off the secrets that are erased; numbers, signs
    /// and stores the receipts that waited for that, with what the audit log hears of them.
    pub(crate) async fn conclude(&self, erased: &[String]) -> Result<Vec<SignedShredReceipt>, Error> {
        let writer = self.parts.store.write().await?;
        let mut number = shred_receipt::newest(writer.tx()).await?;
        let mut receipts = Vec::new();
        let pending = pending_receipt::all(writer.tx()).await?;
        let (ours, replayed): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|pending| pending.signature.is_empty());
        // The numbers behind those of an old copy are taken: its own wait until no more are replayed.
        let ours = if self.check_may_number().is_ok() { ours } else { Vec::new() };
        for pending in replayed.iter().chain(&ours) {
            number = number.saturating_add(1);
            receipts.push(self.conclude_one(&writer, number, pending).await?);
        }
        doomed_secret::delete(writer.tx(), erased).await?;
        writer.commit().await?;
        self.parts.store.staged();
        self.watch().receipts = number;
        self.parts.secrets.raise_mark(number, &self.receipt_key.public_key())?;
        if !receipts.is_empty() {
            tracing::info!(number, receipts = receipts.len(), "layer keys destroyed; the receipts are made");
        }
        Ok(receipts)
    }

    async fn conclude_one(
        &self,
        writer: &Writer<'_>,
        number: u64,
        pending: &pending_receipt::Model,
    ) -> Result<SignedShredReceipt, Error> {
        let signed = self.signed(number, pending)?;
        let (requested_by, approved_by) = (&pending.requested_by, &pending.approved_by);
        shred_receipt::insert(writer.tx(), number, &signed, requested_by, approved_by).await?;
        pending_receipt::delete(writer.tx(), pending.id).await?;
        for event in self.told(&signed, pending)? {
            staged::stage(writer.tx(), &event).await?;
        }
        Ok(signed)
    }

    /// What the audit log hears of it: the destruction by who asked for it, and the approval by who gave it.
    fn told(
        &self,
        signed: &SignedShredReceipt,
        pending: &pending_receipt::Model,
    ) -> Result<Vec<Event>, Error> {
        let damaged = |_| Error::Damaged { row: format!("pending receipt {}", pending.id) };
        let receipt = ShredReceipt::decode(signed.receipt.clone()).map_err(damaged)?;
        let clock = &self.parts.clock;
        let destruction = destruction_event(clock, signed, &receipt, &pending.requested_by);
        let approval = approval_event(clock, &destruction, &pending.approved_by);
        Ok(std::iter::once(destruction).chain(approval).collect())
    }

    /// A replayed receipt stays as it was signed, under the number that it says; ours gets its number and the time from which on nothing
    /// opens what it names: now, behind the erasing of secrets.
    fn signed(&self, number: u64, pending: &pending_receipt::Model) -> Result<SignedShredReceipt, Error> {
        let damaged = |_| Error::Damaged { row: format!("pending receipt {}", pending.id) };
        let receipt = ShredReceipt::decode(pending.receipt.as_slice()).map_err(damaged)?;
        if !pending.signature.is_empty() {
            if receipt.number != number {
                return Err(Error::Receipt { number: receipt.number, why: "its number is not the next one" });
            }
            let (receipt, signature) = (pending.receipt.clone().into(), pending.signature.clone().into());
            return Ok(SignedShredReceipt { receipt, signature });
        }
        let effective_unix_ns = self.parts.clock.wall().unix_nanos();
        Ok(self.receipt_key.sign(&ShredReceipt { number, effective_unix_ns, ..receipt }))
    }

    /// What a follower has seen is at least how far receipts had come. The database may be further than what is
    /// in memory: another process wrote, or this one did not hear of its own commit.
    async fn claim(&self, seen: u64) -> Result<(), Error> {
        if seen <= self.watch().receipts {
            return Ok(());
        }
        let stored = shred_receipt::newest(self.parts.store.reader()).await?;
        let mut watch = self.watch();
        watch.receipts = watch.receipts.max(stored);
        if seen > watch.receipts.saturating_add(MAX_LEAD) {
            return Err(Error::malformed("receipt number", format!("there are {} receipts", watch.receipts)));
        }
        if seen <= watch.receipts {
            return Ok(());
        }
        if seen > watch.receipts_needed {
            tracing::error!(seen, have = watch.receipts, "a follower has seen receipts that are not here");
            watch.receipts_needed = seen;
        }
        Err(Error::Behind { have: watch.receipts, need: watch.receipts_needed })
    }
}

#[cfg(test)]
mod tests;
