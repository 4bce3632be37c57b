//! Packs: individually sealed segments of one camera behind a clear directory.
