//! The producer's side of the audit log.
//!
//! What gives access is told through [`AuditLog::append`] and waits for the signed receipt: without
//! it nothing is done. Everything else goes into an [`Outbox`], which never waits for the network
//! and never refuses: recording goes on whatever becomes of the audit log.
//!
//! The path of an event through the outbox, and what a crash leaves:
//!
//! | step | a crash leaves | repaired by |
//! |---|---|---|
//! | counted and put in memory | nothing of the event | the alarm `outbox_unclean_stop`, recorded at the next start |
//! | written to the file, 50 ms later at most | the event, unless the power goes too | as above |
//! | `fdatasync`, 0.5 s later at most | the event | it is sent after the restart |
//! | sent | the event in the file, perhaps also in the log | sent again; the log knows outbox and counter |
//! | acknowledged, removed from memory | the same | the log is asked how far it is before anything is sent |
//! | file written anew without what is done, a minute later at most | the old file or the new one, each whole | nothing: both are right; the next start writes it anew |
//!
//! When it is full, whoever can keep an event is told so and brings it again ([`Outbox::record`]): events that are
//! staged with their change, manifests, searches that then find nothing. Of all others the newest are dropped
//! ([`Outbox::record_or_drop`]). They are counted like all others, the file says so, and an `Overflow` event names
//! their counters as soon as there is room again.

mod actor;
mod backoff;
mod event;
mod file;
mod forgetting;
mod log;
mod metrics;
mod outbox;
mod queue;
mod record;
mod sender;
mod service;
#[cfg(feature = "staged")]
pub mod staged;
#[cfg(test)]
mod tests;
mod writer;

pub use actor::{ActingFor, actor};
pub use event::{event, words};
pub use log::{APPEND_DEADLINE, AuditLog, Error, MAX_BATCH_BYTES, MAX_BATCH_EVENTS};
pub use outbox::{OnOld, OpenError, Outbox};
pub use queue::{Limits, MAX_EVENT_BYTES, Recorded};
pub use service::Reporting;
