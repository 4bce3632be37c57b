//! Signed, versioned configuration that consumers cache on disk, and signed placements.
