//! Cameras without number, and the benches that measure beside a peer.

pub mod audit;
pub mod cameras;
pub mod index;
pub mod processes;
pub mod report;
pub mod small_disk;
