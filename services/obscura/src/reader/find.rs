//! Where segments are, page by page.

use std::ops::Range;

use obscura_clock::Span;
use obscura_ids::Layer;
use obscura_pack::Entry;
use obscura_proto::{
    footage::v1::Span as SpanMessage,
    storage::v1::{FindSegmentsRequest, SegmentLocation},
};

use super::{
    Wanted,
    fault::{Cause, Fault},
};
use crate::{
    problem::{Problem, Result},
    services::{PATIENT, Services},
};

/// A segment and where it rests.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// Key of the object.
    pub object_key: String,
    /// Position of the sealed bytes in the object.
    pub object_offset: u64,
    /// The entry of the pack's directory, as the index has it.
    pub entry: Entry,
}

impl Located {
    /// The sealed bytes in the object.
    pub fn bytes(&self) -> Range<u64> {
        self.object_offset..self.object_offset.saturating_add(self.entry.length)
    }

    /// Length of the head of the object: entries count from the end of it.
    pub fn head_length(&self) -> u64 {
        self.object_offset.saturating_sub(self.entry.offset)
    }

    /// A fault of this segment.
    pub fn fault(&self, cause: Cause) -> Fault {
        let time = Some(self.entry.span.start());
        Fault { object_key: self.object_key.clone(), bytes: self.bytes(), time, cause }
    }
}

impl TryFrom<SegmentLocation> for Located {
    type Error = Fault;

    fn try_from(message: SegmentLocation) -> Result<Self, Fault> {
        let SegmentLocation { object_key, object_offset, entry, shredded: _ } = message;
        let entry = entry.unwrap_or_default();
        let bytes = object_offset..object_offset.saturating_add(entry.length);
        match Entry::try_from(entry) {
            Ok(entry) => Ok(Self { object_key, object_offset, entry }),
            Err(why) => Err(Fault { object_key, bytes, time: None, cause: Cause::Row(why.to_string()) }),
        }
    }
}

/// One page of the index.
#[derive(Debug, Default)]
pub struct Page {
    /// Segments in the order of time.
    pub segments: Vec<Located>,
    /// Segments whose keys are destroyed, while others keep their object.
    pub shredded: Vec<Located>,
    /// Rows that make no sense.
    pub malformed: Vec<Fault>,
}

/// The pages of one question to the index.
#[derive(Debug)]
pub struct Pages<'a> {
    services: &'a Services,
    request: FindSegmentsRequest,
    more: bool,
}

impl<'a> Pages<'a> {
    /// Asks for what is wanted, and for what is shredded of it where that counts.
    pub fn of(services: &'a Services, wanted: &Wanted, with_shredded: bool) -> Self {
        let request = FindSegmentsRequest {
            camera_id: wanted.camera.to_string(),
            layer: i32::from(Layer::Original.code()),
            span: Some(span_message(wanted.span)),
            page_token: String::new(),
            with_shredded,
        };
        Self { services, request, more: true }
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        if !self.more {
            return Ok(None);
        }
        let mut storage = self.services.storage();
        let call = storage.find_segments(self.request.clone());
        let answer = self.services.ask("storage", "find footage", PATIENT, call).await?;
        if !answer.next_page_token.is_empty() && answer.next_page_token == self.request.page_token {
            return Err(Problem::new("cannot find footage: storage gave the same page twice").next(
                "see the log of storage; `obscura storage reconcile` tells whether the index is whole",
            ));
        }
        self.more = !answer.next_page_token.is_empty();
        self.request.page_token = answer.next_page_token;
        Ok(Some(page(answer.segments)))
    }
}

fn page(messages: Vec<SegmentLocation>) -> Page {
    let mut page = Page::default();
    for message in messages {
        let shredded = message.shredded;
        match Located::try_from(message) {
            Ok(located) if shredded => page.shredded.push(located),
            Ok(located) => page.segments.push(located),
            Err(fault) => page.malformed.push(fault),
        }
    }
    page
}

/// The span as messages carry it.
pub fn span_message(span: Span) -> SpanMessage {
    SpanMessage { start_unix_ns: span.start().unix_nanos(), end_unix_ns: span.end().unix_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_makes_no_sense_is_a_fault_with_its_place_and_does_not_hide_the_others() {
        let (object_key, object_offset) = ("eea/x.pack".into(), 7);
        let nonsense = SegmentLocation { object_key, object_offset, ..SegmentLocation::default() };
        let page = page(vec![nonsense]);
        assert!(page.segments.is_empty());
        assert_eq!(page.malformed[0].object_key, "eea/x.pack");
        assert!(matches!(page.malformed[0].cause, Cause::Row(_)));
    }
}
