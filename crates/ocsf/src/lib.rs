//! Audit events as OCSF in CloudEvents: the catalogue.
//!
//! A leaf of the audit log is one CloudEvent (structured mode, CloudEvents 1.0) whose `data` is an
//! event of the Open Cybersecurity Schema Framework, valid against versions 1.5.0 and 1.8.0, in
//! canonical JSON (RFC 8785), so that the same event has the same bytes and the same hash wherever
//! it is written.
//!
//! Nothing in a leaf is about a person in clear. The actor is a pseudonym; names, addresses, reasons
//! and the like are sealed under that person's key and stand in `data.unmapped.sealed`, by the JSON
//! pointer (RFC 6901) at which they belong once opened. Destroy the key, and the leaf keeps its hash
//! and says nothing about anyone. Where a change names somebody else, for example who attests a place, that is
//! sealed under the key of whom it names, in `data.unmapped.named`.
//!
//! - [`validate`] says what a producer may send, [`encode`] turns it into a [`Leaf`];
//! - [`read`] gets back from a leaf what it says in clear;
//! - [`examples`] and [`catalogue_markdown`] are the catalogue, for documentation and for the check
//!   against the published schemas.

mod catalogue;
mod class;
mod examples;
pub mod ground;
mod json;
mod leaf;
mod mapping;
mod named;
mod reading;
mod validation;

pub use catalogue::catalogue_markdown;
pub use examples::{ExamplePersons, example_source, examples};
pub use leaf::{Error, Leaf, MAX_LEAF_BYTES, Persons, Source, Valid, encode};
pub use mapping::{KINDS, kind};
pub use named::person_ids;
pub use reading::{Entry, Sealed, Unreadable, read};
pub use validation::{Invalid, MAX_PSEUDONYMS, validate};

#[cfg(test)]
mod tests;
