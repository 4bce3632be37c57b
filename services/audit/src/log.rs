//! The log of one zone: from an event to a signed receipt.

use std::{collections::BTreeSet, fmt, sync::Arc};

use obscura_access::receipt_message;
use obscura_clock::{SharedClock, Timestamp};
use obscura_ids::CameraId;
use obscura_ocsf::{Source, Valid};
use obscura_proto::{
    access::v1::{Receipt, SignedReceipt},
    audit::v1::{Event, Outcome, event::Body},
};
use obscura_tlog::{LogKey, leaf_hash};
use prost::Message as _;

use crate::{
    error::Error,
    event_id::EventId,
    fault::Faults,
    persons::{Persons, Sealing},
    roles::Roles,
    sequencer::{Placed, Prepared, Sequencer},
    store::{Producer, Store},
};

/// Longest event as it travels, in bytes. What is sealed grows by a third, and a leaf has at most 65,535.
const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Bytes of a claims hash.
const HASH_BYTES: usize = 32;

/// What the log is made of.
pub struct Parts {
    /// Tables.
    pub store: Arc<Store>,
    /// The one writer.
    pub sequencer: Sequencer,
    /// Persons' keys.
    pub persons: Persons,
    /// Who may read what.
    pub roles: Roles,
    /// Signs checkpoints and receipts.
    pub key: Arc<LogKey>,
    /// Name of the zone.
    pub zone: String,
    /// SPIFFE id of this service, for its own events.
    pub own_id: String,
    /// Time.
    pub clock: SharedClock,
    /// What fails in tests.
    pub faults: Arc<dyn Faults>,
}

/// The log of one zone.
pub struct Log {
    /// What it is made of.
    pub parts: Parts,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("origin", &self.parts.key.origin()).finish_non_exhaustive()
    }
}

/// An event that is durably in the log.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Index of its leaf.
    pub index: u64,
    /// Says so, signed.
    pub receipt: SignedReceipt,
}

impl Log {
    /// The log made of these parts.
    pub const fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Appends an event of `producer` (a SPIFFE id) and returns when it is durable.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an event that cannot be an entry; otherwise it may be appended or not, and
    /// asking again with the same event id settles it.
    pub async fn append(&self, producer: &str, event: &Event) -> Result<Appended, Error> {
        let prepared = self.prepare(producer, event).await?;
        let placed = self.parts.sequencer.append(vec![prepared], None).await?;
        let placed = placed.first().ok_or(Error::Unplaced)?;
        Ok(Appended { index: placed.index, receipt: self.receipt(placed) })
    }

    /// Appends events in their order, together with how far their producer has come.
    ///
    /// # Errors
    /// As [`Log::append`]; of an invalid event nothing is appended at all.
    pub async fn append_all(
        &self,
        producer: &str,
        events: &[Event],
        counter: Option<Producer>,
    ) -> Result<Vec<Placed>, Error> {
        let mut prepared = Vec::with_capacity(events.len());
        for event in events {
            prepared.push(self.prepare(producer, event).await?);
        }
        Ok(self.parts.sequencer.append(prepared, counter).await?)
    }

    /// Appends an event of this service itself.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_own(&self, body: Body) -> Result<Appended, Error> {
        self.append(&self.parts.own_id, &self.own(EventId::generate(), body)).await
    }

    /// An event of this service itself in which no person acted.
    pub fn own(&self, id: EventId, body: Body) -> Event {
        Event {
            event_id: id.to_string(),
            time_unix_ns: self.parts.clock.wall().unix_nanos(),
            outcome: Outcome::Success.into(),
            actor: None,
            body: Some(body),
        }
    }

    /// Encodes and hashes an event. What is about a person is sealed under their key, which is made where
    /// there is none; what is about somebody who was erased since it happened, under one that nobody keeps.
    async fn prepare(&self, producer: &str, event: &Event) -> Result<Prepared, Error> {
        if event.encoded_len() > MAX_EVENT_BYTES {
            return Err(Error::TooLong { bytes: event.encoded_len(), limit: MAX_EVENT_BYTES });
        }
        let valid = Valid::check(event)?;
        let (mut persons, now) = (Vec::new(), self.parts.clock.wall());
        let happened = Timestamp::from_unix_nanos(event.time_unix_ns);
        for id in obscura_ocsf::person_ids(event) {
            let key = self.parts.persons.current(&id, happened, now).await?;
            persons.push((id, key));
        }
        let mut sealing = Sealing { persons: &persons, event_id: &event.event_id };
        let leaf = valid.encode(&self.source(producer), &mut sealing)?;
        let malformed = || Error::malformed("event id", "expected a UUID");
        Ok(Prepared {
            event_id: EventId::parse(&event.event_id).ok_or_else(malformed)?,
            kind: leaf.kind,
            pseudonym: leaf.pseudonym,
            named: leaf.named,
            cameras: cameras(&leaf.camera_ids),
            claims_hash: claims_hash(event),
            leaf_hash: leaf_hash(&leaf.bytes),
            leaf: leaf.bytes.into(),
        })
    }

    fn source(&self, producer: &str) -> Source {
        let (zone, log) = (self.parts.zone.clone(), self.parts.key.origin().to_owned());
        Source { producer: producer.to_owned(), zone, log }
    }

    /// The receipt for an entry; the same entry always gets the same.
    pub fn receipt(&self, placed: &Placed) -> SignedReceipt {
        let receipt = Receipt {
            log: self.parts.key.origin().to_owned(),
            leaf_index: placed.index,
            claims_hash: placed.claims_hash.clone().unwrap_or_default().into(),
            committed_unix_ns: placed.committed.unix_nanos(),
            leaf_hash: placed.leaf_hash.as_bytes().to_vec().into(),
        };
        let bytes = receipt.encode_to_vec();
        let signature = self.parts.key.sign_raw(&receipt_message(&bytes));
        SignedReceipt { receipt: bytes.into(), signature: signature.to_vec().into() }
    }
}

/// Each camera once.
fn cameras(ids: &[String]) -> Vec<[u8; 16]> {
    let ids: BTreeSet<[u8; 16]> =
        ids.iter().filter_map(|id| id.parse::<CameraId>().ok()).map(|id| *id.as_bytes()).collect();
    ids.into_iter().collect()
}

/// What ties a grant to its leaf; only a grant that was given has one.
fn claims_hash(event: &Event) -> Option<Vec<u8>> {
    match &event.body {
        Some(Body::Grant(grant)) if event.outcome() == Outcome::Success => {
            Some(grant.claims_hash.to_vec()).filter(|hash| hash.len() == HASH_BYTES)
        }
        _ => None,
    }
}
