//! Proofs about the log, as files that anyone can check offline. Whoever may call gets a proof; the leaf that it is
//! about only where they may read it.

use bytes::Bytes;
use obscura_tlog::{AddCheckpoint, Consistency, Inclusion, LogProof, SignedCheckpoint};

use crate::{
    disclosure::Disclosure,
    error::Error,
    event_id::EventId,
    log::Log,
    projection::{self, Published},
    roles::{Reader, Unseen},
};

/// A proof and what it is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    /// The file.
    pub text: String,
    /// The leaf; nothing for a proof of consistency.
    pub leaf: Option<(u64, Unseen)>,
}

impl Proof {
    /// The leaf, where `reader` may read it; nothing otherwise. Where it is about a person the log hears of it first,
    /// either way.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn leaf_for(self, log: &Log, reader: Reader) -> Result<Bytes, Error> {
        let Some((index, unseen)) = self.leaf else { return Ok(Bytes::new()) };
        if !unseen.is_about_somebody() {
            return Ok(unseen.if_about_nobody().unwrap_or_default());
        }
        let indexes = index..index.saturating_add(1);
        let leaf = match log.parts.roles.leaf_view(&reader) {
            Some(view) => unseen.through(&view, log).await?,
            None => None,
        };
        let disclosure = Disclosure::new(reader, None, "the entry of a proof".to_owned());
        match leaf {
            Some(leaf) => disclosure.read(log, indexes, 1).await.map(|()| leaf),
            None => disclosure.refused(log, indexes).await.map(|()| Bytes::new()),
        }
    }
}

impl Log {
    /// That the entry with this index is in the log, for the published checkpoint where it covers the entry.
    ///
    /// # Errors
    /// [`Error::UnknownEntry`] where it is not in the log or not kept.
    pub async fn prove_entry(&self, index: u64, published: Published) -> Result<Proof, Error> {
        let row = self.parts.store.entry(index).await?.ok_or(Error::UnknownEntry)?;
        let checkpoint = self.checkpoint_above(index, published).await?;
        let plan = Inclusion::new(index, checkpoint.checkpoint().size)?;
        let hashes = plan.prove(&self.parts.store.tiles(&plan.plan()).await?)?;
        let proof = LogProof { extra: Vec::new(), index, hashes, checkpoint };
        Ok(Proof { text: proof.to_string(), leaf: Some((index, Unseen::new(row.leaf))) })
    }

    /// As [`Log::prove_entry`], by the id of the event.
    ///
    /// # Errors
    /// As [`Log::prove_entry`].
    pub async fn prove_event(&self, id: EventId, published: Published) -> Result<Proof, Error> {
        let known = self.parts.store.known(&[id]).await?;
        let row = known.get(&id).ok_or(Error::UnknownEntry)?;
        self.prove_entry(row.index, published).await
    }

    /// That the log of this size is a prefix of the newest one.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the log was never that large.
    pub async fn prove_prefix(&self, old_size: u64, published: Published) -> Result<Proof, Error> {
        let checkpoint = self.checkpoint_above(old_size.saturating_sub(1), published).await?;
        let size = checkpoint.checkpoint().size;
        if old_size > size {
            return Err(Error::malformed("size", "the log was never that large"));
        }
        let hashes = if old_size == 0 || old_size == size {
            Vec::new()
        } else {
            let plan = Consistency::new(old_size, size)?;
            plan.prove(&self.parts.store.tiles(&plan.plan()).await?)?
        };
        let text = AddCheckpoint { old_size, hashes, checkpoint }.to_string();
        Ok(Proof { text, leaf: None })
    }

    /// The published checkpoint with its cosignatures, where it covers the index; else the one of this moment.
    async fn checkpoint_above(&self, index: u64, published: Published) -> Result<SignedCheckpoint, Error> {
        match published.filter(|note| note.checkpoint().size > index) {
            Some(note) => Ok((*note).clone()),
            None => Ok(projection::sign(&self.parts.key, &self.parts.store.head().await?)?),
        }
    }
}
