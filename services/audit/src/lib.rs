//! The log that nobody can edit.
