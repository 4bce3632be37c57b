//! Audit events as OCSF in CloudEvents.
