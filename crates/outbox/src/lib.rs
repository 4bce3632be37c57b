//! The producer's side of the audit log.
