//! Cameras without number, and the benches that measure beside a peer.
