//! `obscura-audit`: the log that nobody can edit.

fn main() {}
