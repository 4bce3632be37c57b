//! Placement checks, upload and download URLs, the index of packs, runs and gaps.
