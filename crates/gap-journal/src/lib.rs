//! Gaps and their reasons as small objects beside the packs, so that a lost index can be rebuilt with them.
//!
//! ```text
//! gap-journal/<yyyy-mm-dd>/<SHA-256 of the object>.gaps
//!
//! "OBSGAPS" 0x01 | records of 59 bytes, by start and id
//! record: gap id 16 | camera id 16 | flags 1 | start 8 | end 8 | reason 2 | writer epoch 8
//! ```
//!
//! Numbers are written highest byte first, times in nanoseconds since the Unix epoch. Flag 1: the gap has ended;
//! flag 2: the recorder is known. What is absent is zero, so that a page has exactly one encoding and its name
//! is the same whoever writes it: writing a page twice changes nothing. All gaps of a page started on its day.
//! There is no personal data in it: which camera was not recorded, when, and why.

mod page;
mod record;

pub use page::{MAX_PAGE_BYTES, MAX_RECORDS, Page, PageName, pages};
pub use record::Record;

/// Why bytes or a name are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The object does not start as a page does.
    #[error("not a page of gaps: it does not start with OBSGAPS and version 1")]
    Magic,
    /// No page is so long.
    #[error("{0} bytes are no page of gaps: it has 1 to 10,000 records of 59 bytes")]
    Length(usize),
    /// One record is wrong.
    #[error("record {index} of the page of gaps: {why}")]
    Record {
        /// Number of the record, from 0.
        index: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is not the key of a page.
    #[error("not the key of a page of gaps: expected gap-journal/<yyyy-mm-dd>/<sha256>.gaps")]
    Name,
    /// The bytes are not those after which the object is named.
    #[error(
        "the page of gaps is not the one after which the object is named: bytes changed, or it was moved"
    )]
    Renamed,
}
