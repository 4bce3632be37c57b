//! Cameras without number, and the benches that measure beside a peer.

pub mod cameras;
pub mod processes;
pub mod report;
