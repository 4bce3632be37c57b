//! The audit service as real processes: killed, paused, replaced, and with its log in a bucket.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test with a line number"
)]

mod bucket;
mod fail_over;
mod kill_storm;
mod machine;
