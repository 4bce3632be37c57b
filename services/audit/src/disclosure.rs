//! Every reading of the log is an entry of the log, and so is every refusal: who, what, and which indexes.

use std::ops::Range;

use obscura_ids::CameraId;
use obscura_proto::audit::v1::{Event, Outcome, Search, event::Body};

use crate::{error::Error, event_id::EventId, log::Log, roles::Reader};

/// What is told of one reading.
#[derive(Debug)]
pub struct Disclosure {
    reader: Reader,
    camera: Option<[u8; 16]>,
    /// What is read, in words; sealed under the key of the reader.
    words: String,
}

impl Disclosure {
    /// Of what `reader` reads.
    pub const fn new(reader: Reader, camera: Option<[u8; 16]>, words: String) -> Self {
        Self { reader, camera, words }
    }

    /// Tells that entries of these indexes may be read or were read, and how many were given out.
    ///
    /// # Errors
    /// As [`Log::append`]: nothing is read then.
    pub async fn read(&self, log: &Log, indexes: Range<u64>, results: u64) -> Result<(), Error> {
        self.tell(log, Outcome::Success, indexes, results).await
    }

    /// Tells that reading was refused.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn refused(&self, log: &Log, indexes: Range<u64>) -> Result<(), Error> {
        self.tell(log, Outcome::Failure, indexes, 0).await
    }

    async fn tell(
        &self,
        log: &Log,
        outcome: Outcome,
        indexes: Range<u64>,
        results: u64,
    ) -> Result<(), Error> {
        let search = Search {
            subject: "audit".to_owned(),
            camera_ids: self.camera.map(|id| CameraId::from_bytes(id).to_string()).into_iter().collect(),
            span: None,
            query: self.words.clone(),
            results,
            first_index: indexes.start.min(indexes.end),
            end_index: indexes.end,
        };
        let event = Event {
            event_id: EventId::generate().to_string(),
            time_unix_ns: log.parts.clock.wall().unix_nanos(),
            outcome: outcome.into(),
            actor: Some(self.reader.actor()),
            body: Some(Body::Search(search)),
        };
        log.append(self.reader.program(), &event).await.map(drop)
    }
}
